//! From metadata to the reads of its tasks, without a store that holds anything.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use drystone::format::decode;
use drystone::handle::{Operator, StreamHandle};
use drystone::read::{Checkpoint, Content, KeyedRestore, KeyedState, ReadLimits, Restore, State, StreamPart};
use drystone::read::{TaskRestore, Totals, Wanted, plan};
use drystone::store::{FlinkPath, Rebase, Stores};
use drystone::{Error, ErrorKind};

/// Enough for every way through it.
const OPERATORS_MAX: usize = 3;

/// Every stream is somewhere or refused, and each task's reads stay within what its handles name.
pub fn plan_tasks(input: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(input);
    let Ok(decoded) = decode(bytes.clone()) else { return false };
    let stores = Stores::new().with_rebase(into_memory(&decoded.metadata));
    let directory = stores.locate(&FlinkPath::parse("memory:/job/chk-7").unwrap()).unwrap();
    let checkpoint = Checkpoint { directory, bytes, decoded };
    collect(&stores, &checkpoint);
    let restore = Restore::of(stores, Arc::new(checkpoint), ReadLimits::default());
    for operator in restore.operators().iter().take(OPERATORS_MAX) {
        for parallelism in [operator.parallelism, 1, operator.parallelism / 2, operator.max_parallelism] {
            let subtasks = [0, parallelism / 2, parallelism.saturating_sub(1), parallelism];
            for subtask in BTreeSet::from(subtasks) {
                match restore.task(operator.id, subtask, parallelism) {
                    Ok(task) => holds_together(&task, operator),
                    Err(error) => says_what_to_do(&error),
                }
            }
        }
    }
    true
}

/// One rule for each store that is named.
fn into_memory(metadata: &drystone::handle::CheckpointMetadata) -> Vec<Rebase> {
    let mut roots = BTreeSet::new();
    metadata.visit_streams(|_, handle| {
        let path = match handle {
            StreamHandle::File(file) => file.path.to_text(),
            StreamHandle::Segment(segment) => segment.path.to_text(),
            _ => return,
        };
        let path = FlinkPath::parse(&path).ok();
        roots.extend(path.and_then(|path| std::iter::successors(Some(path), FlinkPath::parent).last()));
    });
    let to = FlinkPath::parse("memory:/").unwrap();
    roots.into_iter().map(|from| Rebase { from, to: to.clone() }).collect()
}

fn collect(stores: &Stores, checkpoint: &Checkpoint) {
    let (state, refused) = at_once(State::collect(stores, checkpoint));
    let mut handles = 0;
    checkpoint.decoded.metadata.visit_streams(|_, _| handles += 1);
    assert_eq!(state.streams.len() + refused.len(), handles);
    refused.iter().for_each(|(_, error)| says_what_to_do(error));
    let totals = Totals::of(checkpoint, &state);
    assert!(totals.streams <= handles as u64 && totals.inline_streams <= totals.streams);
    let mut named = 0;
    for ranges in state.live_ranges() {
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0), "{ranges:?}");
        named += ranges.iter().map(|(_, length)| length).sum::<u64>();
    }
    assert_eq!(state.live_bytes().iter().sum::<u64>(), named);
    let files = state.streams.iter().filter(|stream| matches!(stream.content, Content::File(_)));
    assert!(named <= files.map(|stream| stream.content.size()).sum());
}

/// The store is in memory: nothing is waited for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("a store in memory made its caller wait"),
    }
}

fn says_what_to_do(error: &Error) {
    let known = [ErrorKind::Damaged, ErrorKind::NotFound, ErrorKind::Invalid, ErrorKind::Unsupported];
    assert!(known.contains(&error.kind()) && !error.one_line().is_empty(), "{error:?}");
}

fn holds_together(task: &TaskRestore, operator: &Operator) {
    let all_groups = u64::from(operator.max_parallelism);
    assert!(task.key_groups.end() <= all_groups, "{} of {all_groups}", task.key_groups);
    for keyed in task.managed_keyed.iter().chain(&task.raw_keyed) {
        numbers_exist(keyed, task);
    }
    let operators = task.managed_operator.iter().chain(&task.raw_operator).filter_map(|o| o.stream);
    let channels = task.input_channels.iter().chain(&task.output_channels).filter_map(|channel| channel.stream);
    assert!(operators.chain(channels).all(|number| number < task.streams().len()));

    let mut wanted = Vec::new();
    for (file, stream) in task.streams().iter().enumerate() {
        let Some(length) = stream.handle.size() else { continue };
        let offset = match &stream.handle {
            StreamHandle::Segment(segment) => segment.offset,
            _ => 0,
        };
        match stream.take.parts(length) {
            Ok(parts) => {
                are_in_order(&parts, length);
                let wants = parts.iter().map(|p| (offset + p.range.start, p.range.end - p.range.start));
                wanted.extend(wants.map(|(offset, length)| Wanted { file, offset, length }));
            }
            Err(error) => says_what_to_do(&error),
        }
    }
    reads_are_within(&wanted);
}

fn numbers_exist(keyed: &KeyedRestore, task: &TaskRestore) {
    let exists = |number: &Option<usize>| number.is_none_or(|number| number < task.streams().len());
    assert!(!keyed.key_groups.is_empty() && keyed.key_groups.intersection(task.key_groups) == keyed.key_groups);
    match &keyed.state {
        KeyedState::KeyGroups { stream, .. } => assert!(exists(stream)),
        KeyedState::Incremental { handle, meta, shared, private } => {
            assert_eq!((shared.len(), private.len()), (handle.shared.len(), handle.private.len()));
            assert!([meta].into_iter().chain(shared).chain(private).all(exists));
        }
        KeyedState::Changelog { materialized, changes, .. } => {
            materialized.iter().chain(changes).for_each(|keyed| numbers_exist(keyed, task));
        }
        KeyedState::ChangelogMemory(_) => {}
        KeyedState::ChangelogFiles { streams, .. } => assert!(streams.iter().all(exists)),
    }
}

fn are_in_order(parts: &[StreamPart], length: u64) {
    let mut at = 0;
    for part in parts {
        assert!(part.range.start >= at && part.range.end > part.range.start, "{parts:?}");
        at = part.range.end;
    }
    assert!(at <= length, "{parts:?} of {length}");
}

/// Every wanted byte is read once, and no read is longer than it may be.
fn reads_are_within(wanted: &[Wanted]) {
    // A length that is only claimed would make as many reads; the lengths of such files are looked at before.
    let longest = wanted.iter().map(|want| want.length).max().unwrap_or(0);
    let range_bytes_max = (longest / 16).max(1 << 10);
    let fetches = plan(wanted, &ReadLimits { gap_bytes_max: 1 << 8, range_bytes_max, ..ReadLimits::default() });
    let mut read = vec![0; wanted.len()];
    for fetch in &fetches {
        let length = fetch.range.end - fetch.range.start;
        assert!((1..=range_bytes_max).contains(&length) && !fetch.pieces.is_empty());
        for piece in &fetch.pieces {
            let want = wanted[piece.wanted];
            assert_eq!(
                (want.file, fetch.range.start + piece.within.start as u64),
                (fetch.file, want.offset + read[piece.wanted])
            );
            assert!(piece.within.end as u64 <= length);
            read[piece.wanted] += (piece.within.end - piece.within.start) as u64;
            assert_eq!(piece.last, read[piece.wanted] == want.length);
        }
    }
    assert!(read.iter().zip(wanted).all(|(read, want)| *read == want.length));
}
