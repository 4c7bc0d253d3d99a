//! Key groups: who gets which, as Flink assigns them, and that of a long segment only those wanted are read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixtures;
mod support {
    pub mod cases;
    pub mod runs;
    pub mod synthetic;
    pub mod watched_store;
}

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::format::checksum::crc32c;
use drystone::format::encode;
use drystone::handle::{
    KeyGroupsForm, KeyGroupsHandle, KeyedHandle, OperatorSubtasks, SegmentHandle, StreamHandle, SubtaskState,
};
use drystone::id::{FileToken, KeyGroupRange, Scope, SegmentId};
use drystone::read::{KeyGroupOffsets, ReadLimits, Restore, Take, TaskRestore};
use drystone::store::Stores;
use proptest::prelude::*;
use support::cases::cases;
use support::synthetic::{OPERATOR, chunk, of_subtasks, text};
use support::watched_store::{Watch, WatchedStore};
use support::{runs, synthetic};

const FILE: &str = "memory:/job/chk-7/file";
/// How many key groups there are, and how long each is.
const GROUPS: u32 = 128;

fn range(start: u32, count: u32) -> KeyGroupRange {
    KeyGroupRange { start, count }
}

#[test]
fn subtasks_get_the_key_groups_that_flink_gives_them() {
    // (parallelism, max parallelism, first key group of each): KeyGroupRangeAssignment of Flink.
    for (parallelism, max_parallelism, starts) in [
        (1, 128, vec![0]),
        (3, 128, vec![0, 43, 86]),
        (4, 10, vec![0, 3, 5, 8]),
        (5, 16, vec![0, 4, 7, 10, 13]),
        (3, 3, vec![0, 1, 2]),
    ] {
        for (index, start) in (0..).zip(&starts) {
            let end = starts.get(index as usize + 1).copied().unwrap_or(max_parallelism);
            let found = KeyGroupRange::of_subtask(index, parallelism, max_parallelism);
            assert_eq!(found, Some(range(*start, end - start)), "{index} of {parallelism} at {max_parallelism}");
        }
    }
    let none = [(0, 0, 128), (3, 3, 128), (0, 129, 128), (0, 1, 0)];
    assert!(none.iter().all(|&(index, p, max)| KeyGroupRange::of_subtask(index, p, max).is_none()));
    let largest = KeyGroupRange::of_subtask(u32::MAX - 1, u32::MAX, u32::MAX);
    assert_eq!(largest, Some(range(u32::MAX - 1, 1)));
}

#[test]
fn the_ranges_in_all_that_flink_wrote_are_those_of_the_assignment() {
    let mut seen = 0;
    for (name, bytes) in fixtures::all().into_iter().filter(|(name, _)| name.ends_with("_metadata")) {
        for operator in drystone::format::decode(bytes).unwrap().metadata.operators {
            let OperatorSubtasks::Reported(entries) = &operator.subtasks else { continue };
            for (index, state) in entries.iter().filter_map(|e| Some((e.index, e.state.as_ref()?))) {
                let written = match &state.managed_keyed {
                    Some(KeyedHandle::KeyGroups(handle)) => handle.range,
                    Some(KeyedHandle::Incremental(handle)) => handle.range,
                    _ => continue,
                };
                let assigned = KeyGroupRange::of_subtask(index, operator.parallelism, operator.max_parallelism);
                assert_eq!(assigned, Some(written), "{name}");
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "{seen}");
}

/// Offsets as Flink's backends write them, or in an order of their own: a length for each key group, `None` for one
/// without state.
fn offsets(head: u64, lengths: &[Option<u64>], none: i64, backwards: bool) -> (Vec<i64>, u64) {
    let mut at = head;
    let mut offsets = vec![none; lengths.len()];
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    if backwards {
        order.reverse();
    }
    for group in order {
        if let Some(length) = lengths[group] {
            offsets[group] = at as i64;
            at += length;
        }
    }
    (offsets, at)
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn every_key_group_has_one_subtask(max in 1..400_u32, share in 0.0..1.0_f64) {
        let parallelism = 1 + (share * f64::from(max - 1)) as u32;
        let mut next = 0;
        for index in 0..parallelism {
            let found = KeyGroupRange::of_subtask(index, parallelism, max).unwrap();
            prop_assert_eq!(found.start, next);
            prop_assert!((max / parallelism..=max.div_ceil(parallelism)).contains(&found.count));
            // The other direction, as Flink has it.
            prop_assert!((found.start..found.start + found.count).all(|group| group * parallelism / max == index));
            next += found.count;
        }
        prop_assert_eq!(next, max);
    }

    #[test]
    fn an_intersection_is_what_both_hold(a in 0..20_u32, b in 0..20_u32, c in 0..20_u32, d in 0..20_u32) {
        let (one, other) = (range(a, b), range(c, d));
        let both = one.intersection(other);
        prop_assert_eq!(both, other.intersection(one));
        prop_assert_eq!(both.is_empty(), both == KeyGroupRange::EMPTY);
        prop_assert!((0..50).all(|group| both.contains(group) == (one.contains(group) && other.contains(group))));
    }

    #[test]
    fn the_parts_of_all_tasks_are_the_stream(
        lengths in prop::collection::vec(prop::option::weighted(0.7, 0..50_u64), 1..30),
        head in 0..30_u64,
        is_raw in any::<bool>(),
        backwards in any::<bool>(),
        tasks in 1..8_u32,
    ) {
        let (none, offset_min, head) = if is_raw { (-1, 0, head) } else { (0, 1, head + 1) };
        // Where groups are out of order, offsets can't say which of two at one place is the empty one.
        let at_least = |length: Option<u64>| length.map(|length| length.max(u64::from(backwards)));
        let lengths: Vec<_> = lengths.into_iter().map(at_least).collect();
        let (offsets, length) = offsets(head, &lengths, none, backwards);
        let count = lengths.len() as u32;
        let tasks = tasks.min(count);
        let mut bytes_seen = vec![0; length as usize];
        let mut groups_seen = BTreeSet::new();
        for task in 0..tasks {
            let share = KeyGroupRange::of_subtask(task, tasks, count).unwrap();
            let wanted = range(share.start + 5, share.count);
            let take = Take::KeyGroups(KeyGroupOffsets {
                range: range(5, count),
                offsets: offsets.clone(),
                offset_min,
                wanted,
                checksums: Vec::new(),
            });
            let mut end = 0;
            for part in take.parts(length).unwrap() {
                prop_assert!(part.range.start >= end && !part.range.is_empty());
                end = part.range.end;
                match part.key_group {
                    None => prop_assert!(part.range.start == 0),
                    Some(group) => {
                        prop_assert!(wanted.contains(group));
                        prop_assert!(groups_seen.insert(group));
                        let at = (group - 5) as usize;
                        prop_assert_eq!(part.range.start as i64, offsets[at]);
                        prop_assert_eq!(Some(part.range.end - part.range.start), lengths[at]);
                    }
                }
                if part.key_group.is_some() || task == 0 {
                    part.range.for_each(|at| bytes_seen[at as usize] += 1);
                }
            }
        }
        prop_assert!(bytes_seen.iter().all(|&times| times == 1), "{:?}", bytes_seen);
        prop_assert_eq!(groups_seen.len(), lengths.iter().flatten().filter(|&&length| length > 0).count());
    }
}

/// One operator whose keyed state is one segment, in the midst of a file.
struct Segment {
    stores: Stores,
    watch: Arc<Watch>,
    bytes: Bytes,
    offsets: Vec<i64>,
}

const BEFORE: usize = 1000;
const HEAD: usize = 77;

impl Segment {
    async fn new(group_bytes: usize) -> Self {
        let watch = Arc::new(Watch::default());
        let store = Arc::new(WatchedStore::new(watch.clone()));
        let stores = Stores::new().with_store(&runs::path("memory:/"), store);
        let bytes = Bytes::from(chunk(HEAD + GROUPS as usize * group_bytes, 7));
        let offsets = (0..GROUPS as usize).map(|group| (HEAD + group * group_bytes) as i64).collect();
        let made = Self { stores, watch, bytes, offsets };
        made.put(&made.bytes).await;
        made
    }

    async fn put(&self, bytes: &Bytes) {
        let file = [Bytes::from(vec![1; BEFORE]), bytes.clone(), Bytes::from(vec![2; 500])];
        let location = self.stores.locate(&runs::path(FILE)).unwrap();
        location.delete().await.unwrap();
        location.create(file.to_vec()).await.unwrap();
    }

    async fn restore(&self, is_ours: bool) -> Restore {
        let id = SegmentId { file: FileToken(1), ordinal: 0, crc32c: crc32c(&self.bytes) };
        let id = text(&if is_ours { id.to_string() } else { "of-flink".to_owned() });
        let delegate = StreamHandle::Segment(SegmentHandle {
            path: text(FILE),
            offset: BEFORE as u64,
            size: self.bytes.len() as u64,
            scope: Scope::Exclusive,
            id,
        });
        let (form, range) = (KeyGroupsForm::WithId(text("handle")), range(0, GROUPS));
        let handle = KeyGroupsHandle { form, range, offsets: self.offsets.clone(), delegate, checksums: Vec::new() };
        let keyed = Some(KeyedHandle::KeyGroups(handle));
        let metadata = of_subtasks(vec![SubtaskState { managed_keyed: keyed, ..SubtaskState::default() }]);
        let location = self.stores.locate(&runs::path("memory:/job/chk-7/_metadata")).unwrap();
        location.delete().await.unwrap();
        location.create(vec![encode(&metadata).unwrap().bytes]).await.unwrap();
        let restore = Restore::open(&self.stores, &runs::path("memory:/job/chk-7"), limits()).await.unwrap();
        self.watch.gets.count.store(0, SeqCst);
        self.watch.bytes_read.store(0, SeqCst);
        restore
    }

    /// The groups of a task come as they were written. Returns the requests and the bytes they brought.
    async fn check(&self, task: &TaskRestore) -> (u64, u64) {
        let restored = task.read_all().await.unwrap();
        assert_eq!(restored.bytes(0), self.bytes[..HEAD]);
        let parts = &restored.parts(0)[1..];
        let wanted = task.key_groups;
        assert!(parts.iter().map(|part| part.key_group.unwrap()).eq(wanted.start..wanted.start + wanted.count));
        for part in parts {
            let start = self.offsets[part.key_group.unwrap() as usize] as usize;
            let end =
                self.offsets.get(part.key_group.unwrap() as usize + 1).map_or(self.bytes.len(), |&end| end as usize);
            assert!(part.bytes == self.bytes[start..end] && part.offset == start as u64, "{:?}", part.key_group);
        }
        let counts = restored.counts;
        let (requests, bytes) = (self.watch.gets.count.swap(0, SeqCst), self.watch.bytes_read.swap(0, SeqCst));
        assert_eq!((counts.reads, counts.read_bytes), (requests, bytes));
        assert_eq!(counts.state_bytes as usize, HEAD + parts.iter().map(|part| part.bytes.len()).sum::<usize>());
        (requests, bytes)
    }
}

fn limits() -> ReadLimits {
    ReadLimits { range_bytes_max: 16 << 20, ..ReadLimits::default() }
}

#[tokio::test]
async fn of_a_long_segment_only_the_wanted_groups_are_read() {
    let segment = Segment::new(100_000).await;
    let restore = segment.restore(true).await;
    // The first share lies next to the head, the last a long way from it.
    let first = restore.task(OPERATOR, 0, 4).unwrap();
    assert_eq!(segment.check(&first).await, (1, (HEAD + 32 * 100_000) as u64));
    let last = restore.task(OPERATOR, 3, 4).unwrap();
    assert_eq!(segment.check(&last).await, (2, (HEAD + 32 * 100_000) as u64));
    let counts = last.read_all().await.unwrap().counts;
    assert_eq!(counts.unverified_bytes, counts.state_bytes);
}

#[tokio::test]
async fn half_of_a_segment_or_a_short_one_is_read_whole_and_checked() {
    let long = Segment::new(100_000).await;
    let short = Segment::new(8_000).await;
    for (segment, parallelism, is_ours, is_whole) in [
        (&long, 2, true, true),
        (&long, 3, true, false),
        (&long, 2, false, false),
        (&short, 64, true, true),
        (&short, 64, false, false),
    ] {
        let restore = segment.restore(is_ours).await;
        let task = restore.task(OPERATOR, 1, parallelism).unwrap();
        let (_, bytes) = segment.check(&task).await;
        let whole = segment.bytes.len() as u64;
        assert!(if is_whole { bytes == whole } else { bytes < whole }, "{bytes} of {whole}");
        let counts = task.read_all().await.unwrap().counts;
        assert_eq!(counts.unverified_bytes, if is_whole { 0 } else { counts.state_bytes });
    }
}

#[tokio::test]
async fn damage_outside_the_wanted_groups_counts_where_the_whole_is_read() {
    let segment = Segment::new(8_000).await;
    let restore = segment.restore(true).await;
    for at in [0, HEAD, segment.bytes.len() - 1] {
        let mut damaged = segment.bytes.to_vec();
        damaged[at] ^= 1;
        segment.put(&Bytes::from(damaged)).await;
        let task = restore.task(OPERATOR, 1, 4).unwrap();
        let mut read = task.read().await.unwrap();
        let mut last = false;
        let error = loop {
            match read.next().await.unwrap() {
                Ok(piece) => last |= piece.last,
                Err(error) => break error,
            }
        };
        assert!(!last, "the last piece comes only after all is checked");
        assert!(read.next().await.is_none());
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(
            error.to_string().contains("subtask 0 managedKeyed in memory:/job/chk-7/file at offset 1000"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn pieces_come_in_order_and_the_last_says_so() {
    let segment = Segment::new(3_000).await;
    let restore = segment.restore(true).await;
    let small = ReadLimits { range_bytes_max: 10_000, ..limits() };
    let restore = Restore::of(segment.stores.clone(), restore.checkpoint().clone(), small);
    let task = restore.task(OPERATOR, 1, 3).unwrap();
    let mut read = task.read().await.unwrap();
    let (mut end, mut pieces, mut ended) = (0, 0, false);
    while let Some(piece) = read.next().await {
        let piece = piece.unwrap();
        assert!(!ended && piece.offset >= end && !piece.bytes.is_empty());
        let start = piece.offset as usize;
        assert!(piece.bytes == segment.bytes[start..start + piece.bytes.len()]);
        (end, pieces, ended) = (piece.offset + piece.bytes.len() as u64, pieces + 1, piece.last);
    }
    assert!(ended && pieces > 43, "{pieces}");
    assert_eq!(end, segment.offsets[86] as u64);
}

#[tokio::test]
async fn a_stream_in_two_reads_ends_once() {
    let segment = Segment::new(100_000).await;
    let task = segment.restore(true).await.task(OPERATOR, 3, 4).unwrap();
    let mut read = task.read().await.unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = read.next().await {
        pieces.push(piece.unwrap());
    }
    assert_eq!((read.counts().reads, pieces[0].key_group), (2, None));
    assert!(pieces.iter().rev().map(|piece| piece.last).eq(std::iter::once(true).chain(vec![false; pieces.len() - 1])));
}

#[tokio::test]
async fn offsets_that_can_not_be_are_refused() {
    let mut segment = Segment::new(100).await;
    for (group, offset) in [(5, segment.bytes.len() as i64 + 1), (127, i64::MAX)] {
        let before = std::mem::replace(&mut segment.offsets[group], offset);
        let restore = segment.restore(true).await;
        let error = restore.task(OPERATOR, 0, 1).unwrap().read_all().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains(&format!("key group {group} starts at byte {offset}")), "{error}");
        segment.offsets[group] = before;
    }
    let handle = Take::KeyGroups(KeyGroupOffsets {
        range: range(0, 3),
        offsets: vec![1, 2],
        offset_min: 1,
        wanted: range(0, 3),
        checksums: Vec::new(),
    });
    assert_eq!(handle.parts(10).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(Take::From(11).parts(10).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(Take::From(u64::MAX).parts(10).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(Take::From(10).parts(10).unwrap(), []);
}

#[tokio::test]
async fn a_key_group_in_two_handles_is_refused() {
    let handle = |start, count: u32| {
        let offsets = (1..=i64::from(count)).collect();
        let delegate = synthetic::inline("bytes", &[0; 200]);
        let form = KeyGroupsForm::WithoutId;
        let keyed = KeyedHandle::KeyGroups(KeyGroupsHandle {
            form,
            range: range(start, count),
            offsets,
            delegate,
            checksums: Vec::new(),
        });
        SubtaskState { managed_keyed: Some(keyed), ..SubtaskState::default() }
    };
    let disk = synthetic::Disk::new();
    disk.commit(&of_subtasks(vec![handle(0, 65), handle(64, 64)]));
    let restore = Restore::open(&Stores::new(), &disk.checkpoint(), limits()).await.unwrap();
    let error = restore.task(OPERATOR, 0, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("subtask 1") && error.to_string().contains("key group 64"), "{error}");
    // Who doesn't need it isn't concerned.
    assert!(restore.task(OPERATOR, 0, 4).is_ok());
}

#[tokio::test]
async fn groups_without_state_cost_nothing_and_the_head_comes_always() {
    let bytes = chunk(50, 1);
    let keyed = KeyedHandle::KeyGroups(KeyGroupsHandle {
        checksums: Vec::new(),
        form: KeyGroupsForm::Savepoint,
        range: range(0, 4),
        offsets: vec![0, 20, 0, 30],
        delegate: synthetic::inline("bytes", &bytes),
    });
    let raw = KeyedHandle::KeyGroups(KeyGroupsHandle {
        checksums: Vec::new(),
        form: KeyGroupsForm::WithoutId,
        range: range(0, 4),
        offsets: vec![0, 20, -1, 20],
        delegate: synthetic::inline("raw", &bytes),
    });
    let disk = synthetic::Disk::new();
    disk.commit(&of_subtasks(vec![SubtaskState {
        managed_keyed: Some(keyed),
        raw_keyed: Some(raw),
        ..SubtaskState::default()
    }]));
    let restore = Restore::open(&Stores::new(), &disk.checkpoint(), limits()).await.unwrap();
    let mut seen = Vec::new();
    for group in 0..4 {
        let restored = restore.key_groups(OPERATOR, range(group, 1)).unwrap().read_all().await.unwrap();
        let parts = |stream| restored.parts(stream).iter().map(|p| (p.key_group, p.offset, p.bytes.len())).collect();
        let (managed, raw): (Vec<_>, Vec<_>) = (parts(0), parts(1));
        assert_eq!(managed[0], (None, 0, 20));
        seen.push((managed[1..].to_vec(), raw));
    }
    let expected = [
        (vec![], vec![(Some(0), 0, 20)]),
        (vec![(Some(1), 20, 10)], vec![]),
        (vec![], vec![]),
        (vec![(Some(3), 30, 20)], vec![(Some(3), 20, 30)]),
    ];
    assert_eq!(seen, expected);
}
