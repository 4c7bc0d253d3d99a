//! A task gets the state that is its, at any parallelism: all of it, once, and of no file more than it needs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixtures;
mod support {
    pub mod packed;
    pub mod runs;
}

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::handle::{DistributionMode, Operator, OperatorSubtasks, Part, StreamHandle};
use drystone::id::OperatorId;
use drystone::read::{
    Content, Finished, KeyedRestore, KeyedState, ReadLimits, Restore, Restored, State, TaskRead, TaskRestore,
    open_handle,
};
use drystone::store::{FlinkPath, Stores};
use futures::TryStreamExt;
use support::packed::{Packed, flipped};
use support::runs;

/// Where in the checkpoint some bytes are: writer, part, local path, key group.
type Whose = (u32, Part, String, Option<u32>);

/// Small reads, so that streams come in pieces.
fn limits() -> ReadLimits {
    ReadLimits { range_bytes_max: 700, gap_bytes_max: 100, memory_bytes_max: 16 << 10, requests_max: 3 }
}

/// All checkpoints and savepoints that Flink left.
fn checkpoints() -> (Stores, Vec<FlinkPath>) {
    let stores = Stores::new().with_rebase(runs::moved_to(runs::data().to_str().unwrap()));
    let names = fixtures::all().into_iter().map(|(name, _)| name).filter(|name| name.ends_with("_metadata"));
    let paths: Vec<_> = names.map(|name| runs::path(runs::data().join(name).to_str().unwrap())).collect();
    assert!(paths.len() > 20, "{}", paths.len());
    (stores, paths)
}

fn parallelisms(operator: &Operator) -> impl Iterator<Item = u32> {
    [1, 2, 3, 4, 5, 7, 16].into_iter().filter(|&p| p <= operator.max_parallelism)
}

fn has_channels(operator: &Operator) -> bool {
    let OperatorSubtasks::Reported(entries) = &operator.subtasks else { return false };
    let mut states = entries.iter().filter_map(|entry| entry.state.as_ref());
    states.any(|state| !state.input_channels.is_empty() || !state.output_channels.is_empty())
}

/// What a task has read, by where it comes from.
fn whose(task: &TaskRestore, restored: &Restored) -> BTreeMap<Whose, Bytes> {
    let mut found = BTreeMap::new();
    for (number, stream) in task.streams().iter().enumerate() {
        let place = stream.place();
        let local_path = place.local_path.as_ref().map(|path| path.to_string()).unwrap_or_default();
        for part in restored.parts(number) {
            let whose = (place.subtask.unwrap(), place.part, local_path.clone(), part.key_group);
            assert!(found.insert(whose.clone(), part.bytes.clone()).is_none(), "{whose:?} twice");
        }
    }
    found
}

/// What the tasks of an operator read, by whose it is; and the key groups of each kind, which must come once.
async fn read_by_all(restore: &Restore, operator: OperatorId, parallelism: u32) -> BTreeMap<Whose, Bytes> {
    let (mut all, mut once) = (BTreeMap::new(), BTreeSet::new());
    for index in 0..parallelism {
        let task = restore.task(operator, index, parallelism).unwrap();
        for (whose, bytes) in whose(&task, &task.read_all().await.unwrap()) {
            assert!(!bytes.is_empty());
            if let (_, part, _, Some(group)) = &whose {
                assert!(task.key_groups.contains(*group), "{whose:?} in {}", task.key_groups);
                assert!(once.insert((*part, *group)), "{whose:?} twice");
            }
            if let Some(before) = all.insert(whose.clone(), bytes.clone()) {
                assert_eq!(before, bytes, "{whose:?}");
            }
        }
    }
    all
}

async fn survives_rescaling(stores: &Stores, path: &FlinkPath) -> usize {
    let restore = Restore::open(stores, path, limits()).await.unwrap();
    let state = State::of(stores, restore.checkpoint()).await.unwrap();
    let mut streams_seen = 0;
    for operator in restore.operators() {
        let before = read_by_all(&restore, operator.id, operator.parallelism).await;
        // At the same parallelism, all bytes of all streams come, in order.
        let mut whole: BTreeMap<_, Vec<u8>> = BTreeMap::new();
        let mut by_offset: BTreeMap<_, Vec<(u64, Bytes)>> = BTreeMap::new();
        for index in 0..operator.parallelism {
            let task = restore.task(operator.id, index, operator.parallelism).unwrap();
            let restored = task.read_all().await.unwrap();
            for (number, stream) in task.streams().iter().enumerate() {
                let place = stream.place();
                let key = (place.subtask, place.part, place.local_path.clone());
                let parts = restored.parts(number).iter().map(|part| (part.offset, part.bytes.clone()));
                by_offset.insert(key, parts.collect());
            }
        }
        for (key, parts) in by_offset {
            whole.insert(key, parts.into_iter().flat_map(|(_, bytes)| bytes.to_vec()).collect());
        }
        for stream in state.streams.iter().filter(|s| s.place.operator == operator.id && s.place.subtask.is_some()) {
            let pieces: Vec<Bytes> =
                open_handle(&state.files, stream, &ReadLimits::default()).try_collect().await.unwrap();
            let key = (stream.place.subtask, stream.place.part, stream.place.local_path.clone());
            if !matches!(stream.content, Content::Placeholder) {
                assert!(whole[&key] == pieces.concat(), "{} of {path}", stream.place);
                streams_seen += 1;
            }
        }
        if has_channels(operator) {
            let error = restore.task(operator.id, 0, operator.parallelism + 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(&format!("operator {} subtask", operator.id)), "{error}");
            continue;
        }
        for parallelism in parallelisms(operator) {
            assert!(before == read_by_all(&restore, operator.id, parallelism).await, "{path} at {parallelism}");
        }
    }
    streams_seen
}

#[tokio::test]
async fn all_that_flink_wrote_is_restored_once_at_any_parallelism() {
    let (stores, paths) = checkpoints();
    let mut streams = 0;
    for path in paths {
        streams += survives_rescaling(&stores, &path).await;
    }
    assert!(streams > 200, "{streams}");
}

#[tokio::test]
async fn all_that_was_packed_is_restored_once_at_any_parallelism() {
    for fixture in [runs::HASHMAP, runs::ACROSS, runs::UNALIGNED, runs::SAVEPOINT] {
        for write in [runs::all_packed(), drystone::write::WriteSettings::default()] {
            let packed = Packed::of(fixture, write).await;
            assert!(survives_rescaling(packed.stores(), &packed.checkpoint).await > 4);
        }
    }
}

#[tokio::test]
async fn what_is_packed_is_checked_and_what_flink_wrote_is_counted_as_unchecked() {
    let packed = Packed::of(runs::HASHMAP, runs::all_packed()).await;
    let stores = Stores::new().with_rebase(runs::moved_to(runs::data().to_str().unwrap()));
    let stock = runs::path(runs::data().join(runs::HASHMAP).to_str().unwrap());
    for (stores, path, is_checked) in [(packed.stores(), &packed.checkpoint, true), (&stores, &stock, false)] {
        let restore = Restore::open(stores, path, limits()).await.unwrap();
        let mut state_bytes = 0;
        for operator in restore.operators() {
            let task = restore.task(operator.id, 0, 5).unwrap();
            let counts = task.read_all().await.unwrap().counts;
            state_bytes += counts.state_bytes;
            assert_eq!(counts.unverified_bytes, if is_checked { 0 } else { counts.state_bytes });
        }
        assert!(state_bytes > 3_000, "{state_bytes}");
    }
}

/// Reads all tasks of all operators; the errors.
async fn errors(packed: &Packed, limits: ReadLimits) -> Vec<drystone::Error> {
    let restore = Restore::open(packed.stores(), &packed.checkpoint, limits).await.unwrap();
    let mut errors = Vec::new();
    for operator in restore.operators() {
        for index in 0..operator.parallelism {
            let task = restore.task(operator.id, index, operator.parallelism).unwrap();
            errors.extend(task.read_all().await.err());
        }
    }
    errors
}

#[tokio::test]
async fn every_damaged_byte_is_an_error_that_says_where() {
    for fixture in [runs::HASHMAP, runs::ACROSS, runs::UNALIGNED] {
        let packed = Packed::of(fixture, runs::all_packed()).await;
        for key in packed.data_keys() {
            for ((start, end), owners) in packed.segments(key) {
                for at in [start, (start + end) / 2, end - 1] {
                    packed.memory.put(key, flipped(&packed.files[key], at, at as u32)).await;
                    let errors = errors(&packed, limits()).await;
                    packed.restore(key).await;
                    assert!(!errors.is_empty(), "{key} at {at}");
                    for error in errors {
                        assert_eq!(error.kind(), ErrorKind::Damaged);
                        let text = error.to_string();
                        let owner = owners.iter().find(|(operator, subtask)| {
                            text.contains(&format!("operator {} subtask {} ", operator.unwrap(), subtask.unwrap()))
                        });
                        assert!(owner.is_some(), "{text}");
                        assert!(text.contains(&format!("in memory:/{key} at offset {start}")), "{text}");
                        assert!(text.starts_with("checkpoint "), "{text}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn missing_and_short_files_are_errors_that_say_whose() {
    let packed = Packed::of(runs::ACROSS, runs::all_packed()).await;
    for key in packed.data_keys() {
        packed.memory.delete(key).await;
        let gone = errors(&packed, limits()).await;
        assert!(!gone.is_empty());
        for error in gone {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(&format!("in memory:/{key} at offset")), "{error}");
        }
        let segments = packed.segments(key);
        for &(_, end) in segments.keys() {
            packed.memory.put(key, packed.files[key].slice(..end - 1)).await;
            for limits in [limits(), ReadLimits::default()] {
                let short = errors(&packed, limits).await;
                assert!(!short.is_empty());
                for error in short {
                    assert_eq!(error.kind(), ErrorKind::Damaged);
                    let text = error.to_string();
                    // Of all that one read was to bring, the error names what the file is too short for.
                    let is_cut = segments.iter().any(|((start, cut), owners)| {
                        let is_owner = |(operator, subtask): &(Option<OperatorId>, Option<u32>)| {
                            text.contains(&format!("operator {} subtask {} ", operator.unwrap(), subtask.unwrap()))
                        };
                        *cut >= end && text.contains(&format!("at offset {start}:")) && owners.iter().any(is_owner)
                    });
                    assert!(is_cut, "{text}");
                }
            }
        }
        packed.restore(key).await;
    }
}

#[tokio::test]
async fn inline_state_is_checked_too() {
    let packed = Packed::of(runs::HASHMAP, drystone::write::WriteSettings::default()).await;
    let mut loaded =
        (*Restore::open(packed.stores(), &packed.checkpoint, limits()).await.unwrap().checkpoint().clone()).clone();
    let mut inline = 0;
    loaded.decoded.metadata.visit_streams_mut(|_, handle| {
        if let StreamHandle::Inline(handle) = handle {
            handle.bytes = flipped(&handle.bytes, 0, 0);
            inline += 1;
        }
    });
    assert!(inline > 0);
    let restore = Restore::of(packed.stores().clone(), loaded.into(), limits());
    let operator = &restore.operators()[0];
    let error = restore.task(operator.id, 0, operator.parallelism).unwrap().read_all().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("subtask 0") && error.to_string().contains("in the metadata"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_never_starts_empty() {
    let (stores, paths) = checkpoints();
    let restore = Restore::open(&stores, &paths[0], limits()).await.unwrap();
    let operator = &restore.operators()[0];
    let unknown = OperatorId([9; 16]);
    assert!(restore.has_operator(operator.id) && !restore.has_operator(unknown));
    let error = restore.task(unknown, 0, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&unknown.to_string()), "{error}");
    for (index, parallelism) in [(1, 1), (0, 0), (0, operator.max_parallelism + 1)] {
        let error = restore.task(operator.id, index, parallelism).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn who_had_finished_is_told() {
    let golden = |name| {
        let bytes = fixtures::golden(name);
        let directory = Stores::new().locate(&runs::path("memory:/job/chk-8")).unwrap();
        let decoded = drystone::format::decode(bytes.clone()).unwrap();
        let loaded = drystone::read::Checkpoint { directory, bytes, decoded };
        Restore::of(Stores::new(), loaded.into(), limits())
    };
    let restore = golden("g04_operators");
    let ids: Vec<_> = restore.operators().iter().map(|o| (o.id, o.parallelism)).collect();
    let finished: Vec<_> =
        (0..3).map(|index| restore.task(ids[0].0, index, ids[0].1).unwrap().has_finished()).collect();
    assert_eq!(finished, [false, false, true]);
    let rescaled = restore.task(ids[0].0, 0, 1).unwrap();
    assert_eq!((rescaled.has_finished(), &rescaled.finished), (false, &Finished::Subtasks(vec![2])));
    let all = restore.task(ids[1].0, 0, 3).unwrap();
    assert_eq!((all.has_finished(), &all.finished, all.is_empty()), (true, &Finished::Operator, true));
}

#[tokio::test]
async fn operator_state_is_shared_as_its_modes_say() {
    let stores = Stores::new().with_rebase(runs::moved_to(runs::data().to_str().unwrap()));
    let path = runs::path(runs::data().join(runs::HASHMAP).to_str().unwrap());
    let restore = Restore::open(&stores, &path, limits()).await.unwrap();
    let operator = restore.operators().iter().find(|o| o.name.as_ref().unwrap().to_text() == "opstate").unwrap();
    // By mode: (writer, name, partitions).
    let of_mode = |task: &TaskRestore, mode| -> Vec<(u32, usize)> {
        let states = task.managed_operator.iter().flat_map(|handle| handle.states.iter().map(|s| (handle.writer, s)));
        states.filter(|(_, s)| s.mode == mode).map(|(writer, s)| (writer, s.partitions.len())).collect()
    };
    let p = operator.parallelism;
    let all = restore.task(operator.id, 0, p + 1).unwrap();
    assert_eq!(all.managed_operator.len() as u32, p);
    for index in 0..p {
        let task = restore.task(operator.id, index, p).unwrap();
        let split = of_mode(&task, DistributionMode::SplitDistribute);
        assert!(split.iter().all(|&(writer, _)| writer == index), "{split:?}");
        let every: Vec<_> = of_mode(&all, DistributionMode::SplitDistribute);
        assert_eq!(split, every.into_iter().filter(|&(writer, _)| writer == index).collect::<Vec<_>>());
        assert_eq!(of_mode(&task, DistributionMode::Union), of_mode(&all, DistributionMode::Union));
        assert_eq!(of_mode(&task, DistributionMode::Broadcast), [(index, 1)]);
        // Partitions lie side by side behind the head, the last of them up to the end.
        let own = task.managed_operator.iter().find(|handle| handle.writer == index).unwrap();
        let mut partitions: Vec<_> = own.states.iter().flat_map(|state| state.partitions.clone()).collect();
        partitions.sort_by_key(|partition| partition.start);
        for pair in partitions.windows(2) {
            assert_eq!(pair[0].end, Some(pair[1].start));
        }
        assert_eq!(partitions.last().unwrap().end, None);
    }
}

#[tokio::test]
async fn a_broadcast_state_that_the_own_subtask_lacks_comes_from_another_once() {
    let stores = Stores::new().with_rebase(runs::moved_to(runs::data().to_str().unwrap()));
    let path = runs::path(runs::data().join(runs::HASHMAP).to_str().unwrap());
    let mut loaded = (**Restore::open(&stores, &path, limits()).await.unwrap().checkpoint()).clone();
    let name = |operator: &Operator| operator.name.as_ref().unwrap().to_text() == "opstate";
    let operator = loaded.decoded.metadata.operators.iter_mut().find(|o| name(o)).unwrap();
    let OperatorSubtasks::Reported(entries) = &mut operator.subtasks else { panic!("finished") };
    entries.iter_mut().find(|entry| entry.index == 0).unwrap().state = None;
    let (id, p) = (operator.id, operator.parallelism);
    let restore = Restore::of(stores, loaded.into(), limits());
    let task = restore.task(id, 0, p).unwrap();
    assert!(task.has_finished());
    let states = task.managed_operator.iter().flat_map(|handle| handle.states.iter().map(|s| (handle.writer, s.mode)));
    let (union, broadcast): (Vec<_>, Vec<_>) = states.partition(|(_, mode)| *mode == DistributionMode::Union);
    assert_eq!(union.len() as u32, p - 1);
    assert_eq!(broadcast, [(1, DistributionMode::Broadcast)]);
}

#[tokio::test]
async fn key_groups_alone_come_without_other_state() {
    let (stores, paths) = checkpoints();
    for path in paths {
        let restore = Restore::open(&stores, &path, limits()).await.unwrap();
        for operator in restore.operators() {
            let all = drystone::id::KeyGroupRange { start: 0, count: operator.max_parallelism };
            let task = restore.key_groups(operator.id, all).unwrap();
            let is_keyed = |part| !matches!(part, Part::ManagedOperator | Part::RawOperator | Part::InputChannel);
            assert!(task.streams().iter().all(|stream| is_keyed(stream.place().part)));
            let covered: u32 = task.managed_keyed.iter().map(|keyed| keyed.key_groups.count).sum();
            assert!(covered == 0 || covered == operator.max_parallelism, "{covered}");
            for index in 0..all.count {
                let one = drystone::id::KeyGroupRange { start: index, count: 1 };
                let task = restore.key_groups(operator.id, one).unwrap();
                assert!(task.managed_keyed.len() <= 1);
            }
            let beyond = drystone::id::KeyGroupRange { start: 1, count: operator.max_parallelism };
            assert_eq!(restore.key_groups(operator.id, beyond).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}

#[tokio::test]
async fn a_changelog_is_picked_by_key_groups_at_every_level() {
    let bytes = fixtures::golden("g11_changelog");
    let directory = Stores::new().locate(&runs::path("memory:/job/chk-15")).unwrap();
    let mut decoded = drystone::format::decode(bytes.clone()).unwrap();
    decoded.metadata.visit_streams_mut(|place, handle| {
        if place.part == Part::Changelog {
            let StreamHandle::File(file) = handle else { panic!("{handle:?}") };
            file.path = drystone::handle::JavaString::new("memory:/dstl/1").unwrap();
        }
    });
    let stores = Stores::new();
    let location = stores.locate(&runs::path("memory:/dstl/1")).unwrap();
    location.create(vec![Bytes::from_static(b"012345")]).await.unwrap();
    let loaded = drystone::read::Checkpoint { directory, bytes, decoded };
    let restore = Restore::of(stores, loaded.into(), limits());
    let operator = restore.operators()[0].id;
    let group = |start| drystone::id::KeyGroupRange { start, count: 1 };
    let changes_of = |keyed: &[KeyedRestore]| -> Vec<i32> {
        let KeyedState::ChangelogMemory(handle) = &keyed[1].state else { panic!("{keyed:?}") };
        handle.changes.iter().map(|change| change.key_group).collect()
    };
    for (start, expected) in [(0, vec![-1]), (1, vec![-1, 1])] {
        let task = restore.key_groups(operator, group(start)).unwrap();
        let KeyedState::Changelog { changes, .. } = &task.managed_keyed[0].state else { panic!("no changelog") };
        assert_eq!(changes_of(changes), expected);
        let KeyedState::ChangelogFiles { streams, .. } = &changes[0].state else { panic!("no files") };
        let restored = task.read_all().await.unwrap();
        assert_eq!(
            restored.bytes(streams[0].unwrap()),
            "345",
            "what comes before the handle's first change isn't read"
        );
    }
    assert!(restore.key_groups(operator, group(2)).unwrap().is_empty());
}

#[tokio::test]
async fn a_task_s_streams_in_one_file_are_one_read() {
    for fixture in [runs::HASHMAP, runs::ACROSS, runs::UNALIGNED] {
        let packed = Packed::of(fixture, runs::all_packed()).await;
        let restore = Restore::open(packed.stores(), &packed.checkpoint, ReadLimits::default()).await.unwrap();
        let mut most = 0;
        for operator in restore.operators() {
            for index in 0..operator.parallelism {
                let task = restore.task(operator.id, index, operator.parallelism).unwrap();
                let files: BTreeSet<_> = task.streams().iter().map(|stream| file_of(&stream.handle)).collect();
                assert_eq!(task.read_all().await.unwrap().counts.reads, files.len() as u64);
                most = most.max(task.streams().len());
            }
        }
        assert!(most > 3, "{most}");
    }
}

fn file_of(handle: &StreamHandle) -> String {
    let StreamHandle::Segment(segment) = handle else { panic!("{handle:?}") };
    segment.path.to_string()
}

#[test]
fn channels_that_share_a_stream_read_it_once() {
    let bytes = fixtures::golden("g10_channel_state");
    let directory = Stores::new().locate(&runs::path("memory:/job/chk-14")).unwrap();
    let mut decoded = drystone::format::decode(bytes.clone()).unwrap();
    decoded.metadata.visit_streams_mut(|_, handle| {
        let StreamHandle::Segment(segment) = handle else { panic!("{handle:?}") };
        segment.path = drystone::handle::JavaString::new("memory:/job/f1").unwrap();
    });
    let loaded = drystone::read::Checkpoint { directory, bytes, decoded };
    let restore = Restore::of(Stores::new(), loaded.into(), limits());
    let task = restore.task(restore.operators()[0].id, 0, 1).unwrap();
    assert_eq!((task.input_channels.len(), task.output_channels.len()), (2, 2));
    let channels = task.input_channels.iter().chain(&task.output_channels);
    assert!(channels.clone().all(|channel| channel.stream == Some(0)), "{:?}", task.input_channels);
    assert_eq!(task.streams().len(), 1);
}

#[tokio::test]
async fn a_single_stream_can_be_read_alone() {
    let packed = Packed::of(runs::ACROSS, runs::all_packed()).await;
    let restore = Restore::open(packed.stores(), &packed.checkpoint, limits()).await.unwrap();
    let operator =
        restore.operators().iter().max_by_key(|o| restore.task(o.id, 0, 1).unwrap().streams().len()).unwrap();
    let task = restore.task(operator.id, 0, 1).unwrap();
    let all = task.read_all().await.unwrap();
    for number in 0..task.streams().len() {
        let pieces: Vec<_> = task.open(number).await.unwrap().pieces().try_collect().await.unwrap();
        assert!(pieces.iter().all(|piece| piece.stream == number));
        assert_eq!(pieces.iter().filter(|piece| piece.last).count(), 1);
        let bytes: Vec<Bytes> = pieces.into_iter().map(|piece| piece.bytes).collect();
        assert!(bytes.concat() == all.bytes(number));
    }
    assert_eq!(task.open(task.streams().len()).await.err().unwrap().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn tasks_read_together_get_what_each_gets_alone() {
    let (stores, paths) = checkpoints();
    for path in paths {
        let restore = Restore::open(&stores, &path, limits()).await.unwrap();
        let at = |operator| parallelisms(operator).map(move |parallelism| (operator.id, parallelism));
        for (operator, parallelism) in restore.operators().iter().flat_map(at) {
            let task = |index| restore.task(operator, index, parallelism).ok();
            // Channel state can't be rescaled.
            let Some(tasks) = (0..parallelism).map(task).collect::<Option<Vec<_>>>() else { continue };
            let mut read = TaskRead::together(&tasks).await.unwrap();
            let mut found: BTreeMap<_, Vec<u8>> = BTreeMap::new();
            while let Some(piece) = read.next().await {
                let piece = piece.unwrap();
                found.entry((piece.task, piece.stream, piece.key_group)).or_default().extend(&piece.bytes);
            }
            found.retain(|_, bytes| !bytes.is_empty());
            for (task, restore) in tasks.iter().enumerate() {
                for (stream, parts) in restore.read_all().await.unwrap().streams.iter().enumerate() {
                    for part in parts {
                        let there = found.remove(&(task, stream, part.key_group)).unwrap();
                        assert!(there == part.bytes, "task {task}, stream {stream} of {path}");
                    }
                }
            }
            assert!(found.is_empty(), "{:?} of {path}", found.keys());
        }
    }
}
