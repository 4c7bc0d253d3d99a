//! Rescaled from 3 to 5 to 2 subtasks, with every kind of operator state beside keyed state: each task has what the documents
//! say, and of keyed state it is given its own key groups and nothing else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::config::{ClaimMode, Config};
use drystone::format::{Trailer, decode, encode};
use drystone::handle::{
    DistributionMode, JavaString, KeyGroupsForm, KeyGroupsHandle, KeyedHandle, OperatorStateHandle, StatePartitions,
    StreamHandle, SubtaskState,
};
use drystone::id::{JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec};
use drystone::read::{KeyedState, Partition, ReadLimits, Restore, Restored, TaskPartitions, TaskRestore};
use drystone::repack::{Options, copy, repack};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use drystone::verify::verify;
use drystone::write::WriteSettings;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

const OPERATOR: OperatorId = OperatorId([3; 16]);
const KEY_GROUPS: u32 = 16;
/// Before the key groups, and before the partitions: how to read them.
const HEAD: &[u8] = b"head";

/// A task's state, decoded. Operator state by name.
#[derive(Clone, Debug, Default, PartialEq)]
struct Task {
    keyed: BTreeMap<u32, String>,
    split: BTreeMap<&'static str, Vec<String>>,
    union: Vec<String>,
    broadcast: Vec<String>,
}

const SPLIT: [&str; 3] = ["odd", "one", "splits"];

fn operator(tasks: &[Task]) -> OperatorSpec {
    OperatorSpec::new(OPERATOR, tasks.len() as u32, KEY_GROUPS)
}

/// Takes a checkpoint of these tasks' state in a job of its own, which starts from `from`.
async fn checkpoint(store: &Arc<InMemory>, job: u8, from: Option<&FlinkPath>, tasks: &[Task]) -> (Storage, FlinkPath) {
    let (storage, completed) = checkpoint_as(store, job, from, tasks, |_| {}).await;
    (storage, completed.unwrap())
}

/// As [`checkpoint`], of handles that were changed before they were acknowledged.
async fn checkpoint_as(
    store: &Arc<InMemory>,
    job: u8,
    from: Option<&FlinkPath>,
    tasks: &[Task],
    change: impl Fn(&mut KeyGroupsHandle),
) -> (Storage, drystone::Result<FlinkPath>) {
    let root = FlinkPath::parse("memory:/checkpoints").unwrap();
    let config = Config::from_map([("execution.checkpointing.data-inline-threshold", "0")]);
    let storage = Storage::open_on(store.clone(), &root, &config).unwrap();
    let (spec, job) = (operator(tasks), JobId([job; 16]));
    let coordinator = storage.coordinator(job, vec![spec.clone()]).await.unwrap();
    if let Some(from) = from {
        coordinator.restore(from, ClaimMode::NoClaim).await.unwrap();
    }
    let worker = storage.worker(job, "w").unwrap();
    spec.subtasks().for_each(|subtask| worker.register(subtask));
    let trigger = coordinator.trigger(coordinator.next_checkpoint()).unwrap();
    let mut under_way = Vec::new();
    for (subtask, task) in spec.subtasks().zip(tasks) {
        let snapshot = worker.begin(subtask, &trigger).unwrap();
        let range = KeyGroupRange::of_subtask(subtask.index, spec.parallelism, KEY_GROUPS).unwrap();
        let mut segment = snapshot.segment(Scope::Exclusive, None);
        segment.write_slice(HEAD).await.unwrap();
        let mut offsets = Vec::new();
        for group in task.keyed.values() {
            offsets.push(segment.mark() as i64);
            segment.write(Bytes::copy_from_slice(group.as_bytes())).await.unwrap();
        }
        let checksums = segment.part_checksums();
        let keyed = (segment.finish().await.unwrap(), range, offsets, checksums);
        let named = SPLIT.map(|name| (name, DistributionMode::SplitDistribute, task.split[name].clone()));
        let others = [
            ("everyone's", DistributionMode::Union, task.union.clone()),
            ("rules", DistributionMode::Broadcast, task.broadcast.clone()),
        ];
        let named: Vec<_> = named.into_iter().chain(others).collect();
        let (bytes, mut offsets) = in_parts(named.iter().flat_map(|(_, _, partitions)| partitions));
        let mut segment = snapshot.segment(Scope::Exclusive, None);
        segment.write(bytes).await.unwrap();
        let states = named.iter().map(|(name, mode, partitions)| StatePartitions {
            name: JavaString::new(name).unwrap(),
            mode: *mode,
            offsets: offsets.drain(..partitions.len()).collect(),
        });
        let states: Vec<_> = states.collect();
        let operator = (segment.finish().await.unwrap(), states);
        under_way.push((subtask, keyed, operator, snapshot.finish()));
    }
    for (subtask, (keyed, range, offsets, checksums), (operator, states), ticket) in under_way {
        let durable = ticket.seal().await.unwrap();
        let delegate = durable.handle(&keyed).unwrap().unwrap();
        let mut keyed = KeyGroupsHandle { form: KeyGroupsForm::WithoutId, range, offsets, delegate, checksums };
        change(&mut keyed);
        let delegate = durable.handle(&operator).unwrap().unwrap();
        let state = SubtaskState {
            managed_keyed: Some(KeyedHandle::KeyGroups(keyed)),
            managed_operator: Some(OperatorStateHandle { states, delegate, directories: None }),
            ..SubtaskState::default()
        };
        let (epoch, checkpoint, sealed) = (trigger.epoch, trigger.checkpoint, durable.sealed().to_vec());
        let acknowledgement = Acknowledgement { epoch, checkpoint, subtask, state: Some(Box::new(state)), sealed };
        let acknowledgement = Acknowledgement::from_bytes(acknowledgement.to_bytes().unwrap()).unwrap();
        if let Err(error) = coordinator.acknowledge(acknowledgement) {
            return (storage, Err(error));
        }
    }
    (storage, Ok(coordinator.complete(trigger.checkpoint).await.unwrap().path))
}

/// The head, and then these one after another; where each starts.
fn in_parts<'a>(parts: impl IntoIterator<Item = &'a String>) -> (Bytes, Vec<i64>) {
    let (mut bytes, mut offsets) = (HEAD.to_vec(), Vec::new());
    for part in parts {
        offsets.push(bytes.len() as i64);
        bytes.extend_from_slice(part.as_bytes());
    }
    (bytes.into(), offsets)
}

/// Nothing is read for being between two things that are needed.
const EXACT: ReadLimits =
    ReadLimits { gap_bytes_max: 0, range_bytes_max: 8 << 20, memory_bytes_max: 64 << 20, requests_max: 32 };

/// What each task of `parallelism` restores.
async fn restored(storage: &Storage, path: &FlinkPath, parallelism: u32, reads: Reads) -> Vec<Task> {
    let restore = Restore::open(storage.stores(), path, EXACT).await.unwrap();
    let mut tasks = Vec::new();
    for index in 0..parallelism {
        let task = restore.task(OPERATOR, index, parallelism).unwrap();
        let found = task.read_all().await.unwrap();
        assert_eq!((found.counts.unverified_bytes, found.counts.gap_bytes), (0, 0));
        assert!(reads == Reads::Whole || found.counts.read_bytes == found.counts.state_bytes, "{:?}", found.counts);
        let keyed = key_groups(&task, &found);
        let range = KeyGroupRange::of_subtask(index, parallelism, KEY_GROUPS).unwrap();
        assert!(keyed.keys().copied().eq(range.start..range.start + range.count), "{keyed:?}");
        read_alone(&restore, range, &keyed, reads).await;
        read_over_gaps(storage, path, range, &keyed, reads).await;

        let partitions = task.managed_partitions();
        let of = |name: &str| contents(&found, partitions.iter().find(|found| found.name.to_text() == name));
        let split = SPLIT.map(|name| (name, of(name)));
        tasks.push(Task { keyed, split: split.into(), union: of("everyone's"), broadcast: of("rules") });
    }
    tasks
}

fn key_groups(task: &TaskRestore, found: &Restored) -> BTreeMap<u32, String> {
    let mut keyed = BTreeMap::new();
    for handle in &task.managed_keyed {
        let KeyedState::KeyGroups { stream, .. } = &handle.state else { panic!("{handle:?}") };
        for part in found.parts(stream.unwrap()) {
            if let Some(group) = part.key_group {
                assert!(keyed.insert(group, text(&part.bytes)).is_none(), "{group} twice");
            }
        }
    }
    keyed
}

/// What is read of a stream of which some key groups are needed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reads {
    /// These, and the head.
    Needed,
    /// All of it, since nothing else could be checked.
    Whole,
}

async fn read_alone(restore: &Restore, range: KeyGroupRange, keyed: &BTreeMap<u32, String>, reads: Reads) {
    let alone = restore.key_groups(OPERATOR, range).unwrap();
    let (mut needed, mut read) = (0, 0);
    for handle in &alone.managed_keyed {
        let KeyedState::KeyGroups { handle: whole, .. } = &handle.state else { panic!("{handle:?}") };
        let groups = handle.key_groups.start..handle.key_groups.start + handle.key_groups.count;
        let bytes = (HEAD.len() + groups.map(|group| keyed[&group].len()).sum::<usize>()) as u64;
        needed += bytes;
        read += if reads == Reads::Needed { bytes } else { whole.delegate.size().unwrap() };
    }
    let counts = alone.read_all().await.unwrap().counts;
    assert_eq!((counts.state_bytes, counts.read_bytes), (needed, read));
    assert_eq!((counts.gap_bytes, counts.unverified_bytes), (0, 0));
}

/// With fewer requests: what is read over is counted, and is no more than was allowed.
async fn read_over_gaps(
    storage: &Storage,
    path: &FlinkPath,
    range: KeyGroupRange,
    keyed: &BTreeMap<u32, String>,
    reads: Reads,
) {
    for gap_bytes_max in [1, 5_000, 700_000, 1 << 30] {
        let limits = ReadLimits { gap_bytes_max, ..EXACT };
        let restore = Restore::open(storage.stores(), path, limits).await.unwrap();
        let task = restore.key_groups(OPERATOR, range).unwrap();
        let found = task.read_all().await.unwrap();
        assert!(key_groups(&task, &found) == *keyed, "{range} with gaps of {gap_bytes_max}");
        let counts = found.counts;
        assert_eq!(counts.unverified_bytes, 0);
        // One between head and groups, and one behind each stream.
        assert!(counts.gap_bytes <= gap_bytes_max.saturating_mul(task.managed_keyed.len() as u64 * 2), "{counts:?}");
        let only_checked = counts.read_bytes - counts.gap_bytes - counts.state_bytes;
        assert!(only_checked == 0 || reads == Reads::Whole, "{counts:?}");
    }
}

fn contents(found: &Restored, partitions: Option<&TaskPartitions>) -> Vec<String> {
    let partitions = partitions.iter().flat_map(|found| &found.partitions);
    let cut = |(stream, partition): &(usize, Partition)| {
        let whole = found.bytes(*stream);
        text(&whole.slice(partition.start as usize..partition.end.map_or(whole.len(), |end| end as usize)))
    };
    partitions.map(cut).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// As documented: what the tasks of another parallelism have, of what these had.
fn check(before: &[Task], after: &[Task]) {
    let keyed = |tasks: &[Task]| tasks.iter().flat_map(|task| task.keyed.clone()).collect::<BTreeMap<_, _>>();
    assert!(keyed(after) == keyed(before));
    let mut in_all = vec![0; after.len()];
    for name in SPLIT {
        let all = |tasks: &[Task]| {
            let mut all: Vec<String> = tasks.iter().flat_map(|task| task.split[name].clone()).collect();
            all.sort();
            all
        };
        assert_eq!(all(after), all(before), "{name}: each to one task");
        let counts = after.iter().map(|task| task.split[name].len());
        assert!(counts.clone().max().unwrap() - counts.clone().min().unwrap() <= 1, "{name}: evenly");
        in_all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
    }
    assert!(in_all.iter().max().unwrap() - in_all.iter().min().unwrap() <= 1, "over all states, too: {in_all:?}");
    let union: Vec<String> = before.iter().flat_map(|task| task.union.clone()).collect();
    for task in after {
        assert_eq!(task.union, union, "all to every task");
        assert_eq!(task.broadcast, before[0].broadcast, "one copy to every task");
    }
}

/// What three tasks have, with key groups of so many bytes.
fn first(group_bytes: usize) -> Vec<Task> {
    // None as long as another.
    let key_group = |group: u32| format!("{group:03} ").repeat(group_bytes / 4 + group as usize);
    let task = |index| {
        let range = KeyGroupRange::of_subtask(index, 3, KEY_GROUPS).unwrap();
        let of = |name: &str, count: u32| (0..count).map(|n| format!("{name} {index}.{n};")).collect::<Vec<_>>();
        Task {
            keyed: (range.start..range.start + range.count).map(|group| (group, key_group(group))).collect(),
            split: [
                ("splits", of("split", 4 - index)),
                ("odd", of("odd", index)),
                ("one", of("one", u32::from(index == 1))),
            ]
            .into(),
            union: of("union", 2),
            broadcast: vec!["rule 1;".into(), "rule 2;".into()],
        }
    };
    (0..3).map(task).collect()
}

async fn from_three_to_five_to_two(group_bytes: usize, reads: Reads) {
    let store = Arc::new(InMemory::new());
    let first = first(group_bytes);
    let (storage, path) = checkpoint(&store, 1, None, &first).await;
    // The same parallelism: its own, and all of the unions.
    for (before, after) in first.iter().zip(restored(&storage, &path, 3, reads).await) {
        assert!((&after.keyed, &after.split) == (&before.keyed, &before.split));
        assert_eq!(after.union.len(), 6);
        assert_eq!(after.broadcast, before.broadcast);
    }
    let mut five = restored(&storage, &path, 5, reads).await;
    check(&first, &five);

    // Each keeps only what is new of a list that all have; else it would grow with every rescaling.
    for (index, task) in five.iter_mut().enumerate() {
        task.union = vec![format!("union of five {index};")];
    }
    let (storage, path) = checkpoint(&store, 2, Some(&path), &five).await;
    let two = restored(&storage, &path, 2, reads).await;
    check(&five, &two);
    let back = restored(&storage, &path, 3, reads).await;
    check(&five, &back);
}

/// Longer than what would be read whole to be checked.
#[tokio::test]
async fn long_key_groups_are_read_alone_and_checked() {
    from_three_to_five_to_two(600_000, Reads::Needed).await;
}

#[tokio::test]
async fn short_key_groups_are_read_alone_and_checked() {
    from_three_to_five_to_two(400, Reads::Needed).await;
}

/// Checksums of their own would cost more than they save.
#[tokio::test]
async fn key_groups_of_a_few_bytes_are_read_together_and_checked() {
    from_three_to_five_to_two(100, Reads::Whole).await;
}

fn key(path: &str) -> Path {
    Path::from(path.strip_prefix("memory:/").unwrap())
}

/// Flips a bit in the middle of the key group; for `None`, of the first head.
async fn flip(store: &InMemory, storage: &Storage, path: &FlinkPath, group: Option<u32>) {
    let restore = Restore::open(storage.stores(), path, EXACT).await.unwrap();
    let range = KeyGroupRange { start: group.unwrap_or_default(), count: 1 };
    let task = restore.key_groups(OPERATOR, range).unwrap();
    let KeyedState::KeyGroups { handle, .. } = &task.managed_keyed[0].state else { panic!("{task:?}") };
    let StreamHandle::Segment(segment) = &handle.delegate else { panic!("{handle:?}") };
    let within = group.map_or(1, |group| handle.offsets[(group - handle.range.start) as usize] + 200);
    let key = key(&segment.path.to_text());
    let mut bytes = store.get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[segment.offset as usize + within as usize] ^= 0x10;
    store.put(&key, bytes.into()).await.unwrap();
}

/// Whoever needs a key group finds that a bit of it is wrong, and nobody else notices.
#[tokio::test]
async fn a_flipped_bit_is_found_by_who_needs_its_key_group() {
    let store = Arc::new(InMemory::new());
    let (storage, path) = checkpoint(&store, 1, None, &first(600)).await;
    for group in [None].into_iter().chain((0..KEY_GROUPS).map(Some)) {
        flip(&store, &storage, &path, group).await;
        for parallelism in [2, 3, 5] {
            for index in 0..parallelism {
                let restore = Restore::open(storage.stores(), &path, EXACT).await.unwrap();
                let range = KeyGroupRange::of_subtask(index, parallelism, KEY_GROUPS).unwrap();
                // The first head comes with each of the first task's six key groups.
                let is_needed = group.map_or(range.start < 6, |group| range.contains(group));
                let found = restore.task(OPERATOR, index, parallelism).unwrap().read_all().await;
                match found {
                    Ok(found) => assert!(!is_needed && found.counts.unverified_bytes == 0, "{group:?} by {range}"),
                    Err(error) => {
                        assert!(is_needed && error.kind() == ErrorKind::Damaged, "{group:?} by {range}: {error}");
                        let named = group.map_or("the head".to_owned(), |group| format!("key group {group}"));
                        assert!(error.to_string().contains(&format!("damaged bytes of {named}:")), "{error}");
                    }
                }
            }
        }
        flip(&store, &storage, &path, group).await;
    }
}

/// Moved into other files, and into fewer, key groups have the checksums that they had.
#[tokio::test]
async fn repacked_and_copied_they_are_read_alone_and_checked() {
    let store = Arc::new(InMemory::new());
    let first = first(3_000);
    let (storage, path) = checkpoint(&store, 1, None, &first).await;
    let next = AtomicU64::new(1);
    let options = Options {
        write: WriteSettings { inline_bytes_max: 0, ..WriteSettings::default() },
        read: EXACT,
        job_id: None,
        tokens: Arc::new(move || next.fetch_add(1, Relaxed)),
        discard_leftovers: false,
    };
    for how in ["packed", "copied"] {
        let to = FlinkPath::parse(&format!("memory:/{how}")).unwrap();
        let report = match how {
            "packed" => repack(storage.stores(), &path, &to, &options, &|_, _, _| {}).await,
            _ => copy(storage.stores(), &path, &to, &options, &|_, _, _| {}).await,
        };
        let there = report.unwrap().destination;
        check(&first, &restored(&storage, &there, 5, Reads::Needed).await);
        let found = verify(storage.stores(), &there, &EXACT, &|_, _| {}).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.findings);
    }
}

/// The trailer of a checkpoint's metadata is made anew, with other checksums of key groups.
async fn reseal(store: &InMemory, path: &FlinkPath, change: impl Fn(&mut KeyGroupsHandle)) {
    let metadata = key(&format!("{path}/_metadata"));
    let mut decoded = decode(store.get(&metadata).await.unwrap().bytes().await.unwrap()).unwrap();
    decoded.metadata.visit_key_groups_mut(|_, handle| {
        assert_eq!(handle.checksums.len(), handle.offsets.len() + 1);
        change(handle);
    });
    let trailer = decoded.trailer.unwrap();
    let encoded = encode(&decoded.metadata).unwrap();
    let sealed = Trailer::seal(&encoded, trailer.files, trailer.epoch, trailer.writer);
    store.put(&metadata, sealed.into()).await.unwrap();
}

/// Checksums that aren't those of the key groups are refused; and where they came to be, the state is restored without.
#[tokio::test]
async fn what_was_marked_elsewhere_is_refused_and_found_and_does_no_harm() {
    let store = Arc::new(InMemory::new());
    let first = first(3_000);
    let too_few: fn(&mut KeyGroupsHandle) = |handle| handle.checksums.truncate(1);
    let exchanged: fn(&mut KeyGroupsHandle) = |handle| handle.checksums.swap(2, 3);
    for (job, change) in [(1, too_few), (2, exchanged)] {
        let (_, refused) = checkpoint_as(&store, job, None, &first, change).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains("subtask 0 managedKeyed: the checksums"), "{refused}");

        let (storage, path) = checkpoint(&store, job + 10, None, &first).await;
        reseal(&store, &path, change).await;
        let found = verify(storage.stores(), &path, &EXACT, &|_, _| {}).await.unwrap();
        assert_eq!(found.findings.len(), 3, "{:?}", found.findings);
        assert!(found.findings[0].problem.contains("don't add up"), "{:?}", found.findings);
        check(&first, &restored(&storage, &path, 5, Reads::Whole).await);
    }
}

/// As an earlier Drystone wrote it: short streams are read whole and checked, and of long ones what is needed is read and can't
/// be checked, where it is less than half.
#[tokio::test]
async fn without_checksums_it_restores_as_before() {
    for (group_bytes, is_checked) in [(600, true), (600_000, false)] {
        let store = Arc::new(InMemory::new());
        let first = first(group_bytes);
        let (storage, path) = checkpoint(&store, 1, None, &first).await;
        reseal(&store, &path, |handle| handle.checksums.clear()).await;
        let bytes = store.get(&key(&format!("{path}/_metadata"))).await.unwrap().bytes().await.unwrap();
        assert!(bytes.ends_with(&1_u32.to_be_bytes()));

        let restore = Restore::open(storage.stores(), &path, EXACT).await.unwrap();
        // The last of the first task's six key groups.
        let task = restore.key_groups(OPERATOR, KeyGroupRange { start: 5, count: 1 }).unwrap();
        let found = task.read_all().await.unwrap();
        assert_eq!(key_groups(&task, &found)[&5], first[0].keyed[&5]);
        let (whole, needed) = (
            HEAD.len() + first[0].keyed.values().map(String::len).sum::<usize>(),
            HEAD.len() + first[0].keyed[&5].len(),
        );
        let (read, unverified) = if is_checked { (whole, 0) } else { (needed, needed) };
        assert_eq!((found.counts.read_bytes, found.counts.unverified_bytes), (read as u64, unverified as u64));
    }
}
