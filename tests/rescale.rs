//! Rescaled from 3 to 5 to 2 subtasks, with every kind of operator state beside keyed state: each task has what the documents
//! say, and of keyed state it is given its own key groups and nothing else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use drystone::config::{ClaimMode, Config};
use drystone::handle::{
    DistributionMode, JavaString, KeyGroupsForm, KeyGroupsHandle, KeyedHandle, OperatorStateHandle, StatePartitions,
    SubtaskState,
};
use drystone::id::{JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec};
use drystone::read::{KeyedState, Partition, ReadLimits, Restore, Restored, TaskPartitions, TaskRestore};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use object_store::memory::InMemory;

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
        let (keyed, offsets) = in_parts(task.keyed.values());
        let mut segment = snapshot.segment(Scope::Exclusive, None);
        segment.write(keyed).await.unwrap();
        let keyed = (segment.finish().await.unwrap(), range, offsets);
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
    for (subtask, (keyed, range, offsets), (operator, states), ticket) in under_way {
        let durable = ticket.seal().await.unwrap();
        let delegate = durable.handle(&keyed).unwrap().unwrap();
        let keyed = KeyGroupsHandle { form: KeyGroupsForm::WithoutId, range, offsets, delegate };
        let delegate = durable.handle(&operator).unwrap().unwrap();
        let state = SubtaskState {
            managed_keyed: Some(KeyedHandle::KeyGroups(keyed)),
            managed_operator: Some(OperatorStateHandle { states, delegate, directories: None }),
            ..SubtaskState::default()
        };
        let (epoch, checkpoint, sealed) = (trigger.epoch, trigger.checkpoint, durable.sealed().to_vec());
        let acknowledgement = Acknowledgement { epoch, checkpoint, subtask, state: Some(Box::new(state)), sealed };
        coordinator.acknowledge(acknowledgement).unwrap();
    }
    (storage, coordinator.complete(trigger.checkpoint).await.unwrap().path)
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

/// What each task of `parallelism` restores.
async fn restored(storage: &Storage, path: &FlinkPath, parallelism: u32) -> Vec<Task> {
    // Nothing is read for being between two things that are needed.
    let limits = ReadLimits { gap_bytes_max: 0, ..ReadLimits::default() };
    let restore = Restore::open(storage.stores(), path, limits).await.unwrap();
    let mut tasks = Vec::new();
    for index in 0..parallelism {
        let task = restore.task(OPERATOR, index, parallelism).unwrap();
        let found = task.read_all().await.unwrap();
        let mut keyed = BTreeMap::new();
        for handle in &task.managed_keyed {
            let KeyedState::KeyGroups { stream, .. } = &handle.state else { panic!("{handle:?}") };
            for part in found.parts(stream.unwrap()) {
                if let Some(group) = part.key_group {
                    assert!(keyed.insert(group, text(&part.bytes)).is_none(), "{group} twice");
                }
            }
        }
        let range = KeyGroupRange::of_subtask(index, parallelism, KEY_GROUPS).unwrap();
        assert!(keyed.keys().copied().eq(range.start..range.start + range.count), "{keyed:?}");
        read_no_more_than(&restore.key_groups(OPERATOR, range).unwrap(), &keyed).await;

        let partitions = task.managed_partitions();
        let of = |name: &str| contents(&found, partitions.iter().find(|found| found.name.to_text() == name));
        let split = SPLIT.map(|name| (name, of(name)));
        tasks.push(Task { keyed, split: split.into(), union: of("everyone's"), broadcast: of("rules") });
    }
    tasks
}

/// Its key groups, and the head of each stream: nothing else, but for streams of which half or more is needed, which are read
/// whole and checked.
async fn read_no_more_than(alone: &TaskRestore, keyed: &BTreeMap<u32, String>) {
    let (mut delivered, mut read) = (0, 0);
    for handle in &alone.managed_keyed {
        let KeyedState::KeyGroups { handle: whole, .. } = &handle.state else { panic!("{handle:?}") };
        let groups = handle.key_groups.start..handle.key_groups.start + handle.key_groups.count;
        let needed = HEAD.len() + groups.map(|group| keyed[&group].len()).sum::<usize>();
        let size = whole.delegate.size().unwrap();
        delivered += needed as u64;
        read += if needed as u64 * 2 >= size { size } else { needed as u64 };
    }
    let counts = alone.read_all().await.unwrap().counts;
    assert_eq!((counts.state_bytes, counts.read_bytes), (delivered, read));
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

#[tokio::test]
async fn from_three_to_five_to_two() {
    let store = Arc::new(InMemory::new());
    // Longer than what is read whole to be checked.
    let key_group = |group: u32| format!("{group:02} ").repeat(200_000);
    let first: Vec<Task> = (0..3)
        .map(|index| {
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
        })
        .collect();
    let (storage, path) = checkpoint(&store, 1, None, &first).await;
    // The same parallelism: its own, and all of the unions.
    for (before, after) in first.iter().zip(restored(&storage, &path, 3).await) {
        assert!((&after.keyed, &after.split) == (&before.keyed, &before.split));
        assert_eq!(after.union.len(), 6);
        assert_eq!(after.broadcast, before.broadcast);
    }
    let mut five = restored(&storage, &path, 5).await;
    check(&first, &five);

    // Each keeps only what is new of a list that all have; else it would grow with every rescaling.
    for (index, task) in five.iter_mut().enumerate() {
        task.union = vec![format!("union of five {index};")];
    }
    let (storage, path) = checkpoint(&store, 2, Some(&path), &five).await;
    let two = restored(&storage, &path, 2).await;
    check(&five, &two);
    let back = restored(&storage, &path, 3).await;
    check(&five, &back);
}
