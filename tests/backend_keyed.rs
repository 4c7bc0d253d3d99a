//! The adapter for state in memory: key groups, those that have changed and all of them, at any parallelism.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod backend_job;
    pub mod cases;
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::backend::keyed::{GroupCounts, KeyGroupBackend, restore};
use drystone::id::{CheckpointId, KeyGroupRange};
use drystone::protocol::{SavepointFormat, Trigger};
use drystone::read::{ReadLimits, Restore, RestoreCounts};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use object_store::memory::InMemory;
use proptest::prelude::*;
use support::backend_job::{BackendJob, KEY_GROUPS, OPERATOR, storage};
use support::cases::cases;

/// By key group.
type State = BTreeMap<u32, Bytes>;

const HEAD: &[u8] = b"counters 1\n";

struct Task {
    backend: KeyGroupBackend,
    state: State,
}

impl Task {
    fn new(index: u32, parallelism: u32) -> Self {
        let range = KeyGroupRange::of_subtask(index, parallelism, KEY_GROUPS).unwrap();
        Self { backend: KeyGroupBackend::new("counters", range, HEAD.into()).unwrap(), state: State::new() }
    }

    fn set(&mut self, group: u32, bytes: Bytes) {
        self.backend.changed(group);
        self.state.insert(group, bytes);
    }
}

fn bytes(group: u32, length: usize, seed: u8) -> Bytes {
    (0..length).map(|at| (at as u8).wrapping_mul(13) ^ seed ^ group as u8).collect::<Vec<u8>>().into()
}

/// The subtasks of a job at work.
struct Tasks {
    job: BackendJob,
    tasks: Vec<Task>,
}

impl Tasks {
    async fn start(storage: &Storage, parallelism: u32) -> Self {
        let job = BackendJob::start(storage, parallelism).await.unwrap();
        Self { job, tasks: (0..parallelism).map(|index| Task::new(index, parallelism)).collect() }
    }

    fn set(&mut self, group: u32, bytes: &Bytes) {
        let task = self.tasks.iter_mut().find(|task| task.backend.range().contains(group));
        task.unwrap().set(group, bytes.clone());
    }

    /// Everything is written and acknowledged.
    async fn snapshot(&self, is_full: bool) -> (CheckpointId, GroupCounts) {
        let trigger = self.job.trigger();
        (trigger.checkpoint, self.take(&trigger, is_full).await)
    }

    async fn take(&self, trigger: &Trigger, is_full: bool) -> GroupCounts {
        let mut sum = GroupCounts::default();
        for (index, task) in (0..).zip(&self.tasks) {
            let snapshot = self.job.worker.begin(self.job.spec.subtask(index), trigger).unwrap();
            let encode = |group| task.state.get(&group).cloned().unwrap_or_default();
            let written = match is_full {
                true => task.backend.write_all(&snapshot, encode).await.unwrap(),
                false => task.backend.write_changed(&snapshot, encode).await.unwrap(),
            };
            let counts = written.counts();
            sum.kept_groups += counts.kept_groups;
            sum.kept_bytes += counts.kept_bytes;
            sum.new_groups += counts.new_groups;
            sum.new_bytes += counts.new_bytes;
            sum.rewritten_groups += counts.rewritten_groups;
            let durable = snapshot.seal().await.unwrap();
            let handle = task.backend.handle(written, &durable).unwrap();
            self.job.acknowledge(trigger, index, handle, &durable);
        }
        sum
    }

    async fn complete(&self, checkpoint: CheckpointId) -> FlinkPath {
        let completed = self.job.complete(checkpoint).await;
        for task in &self.tasks {
            task.backend.confirmed(checkpoint);
            completed.subsumed.iter().for_each(|&older| task.backend.subsumed(older));
        }
        completed.path
    }

    fn abort(&self, checkpoint: CheckpointId, is_told: bool) {
        match is_told {
            true => self.job.abort(checkpoint),
            false => _ = self.job.coordinator.abort(checkpoint),
        }
        self.tasks.iter().filter(|_| is_told).for_each(|task| task.backend.aborted(checkpoint));
    }

    /// Another run from the latest checkpoint; what each task's restore has cost.
    async fn restart(&self, storage: &Storage, parallelism: u32) -> (Self, Vec<RestoreCounts>) {
        self.restart_from(storage, &self.job.coordinator.latest().unwrap().path, parallelism).await
    }

    async fn restart_from(&self, storage: &Storage, path: &FlinkPath, parallelism: u32) -> (Self, Vec<RestoreCounts>) {
        // Nothing is read over, so that every byte that is read is one that was asked for.
        let limits = ReadLimits { gap_bytes_max: 0, ..ReadLimits::default() };
        let restoring = Restore::open(storage.stores(), path, limits).await.unwrap();
        let mut next = Self::start(storage, parallelism).await;
        let mut counts = Vec::new();
        for (index, task) in (0..).zip(&mut next.tasks) {
            let from = restoring.task(OPERATOR, index, parallelism).unwrap();
            let Task { backend, state } = task;
            let restored = restore(&from, |group| {
                assert_eq!(group.head, HEAD);
                assert!(state.insert(group.key_group, group.bytes).is_none(), "once");
                Ok(())
            });
            counts.push(restored.await.unwrap());
            backend.resume(&from);
        }
        (next, counts)
    }

    /// All tasks' state is together what it has to be, and each has its own.
    fn check(&self, expected: &State) {
        let mut found = State::new();
        for task in &self.tasks {
            assert!(task.state.keys().all(|&group| task.backend.range().contains(group)));
            found.extend(task.state.clone());
        }
        found.retain(|_, bytes| !bytes.is_empty());
        assert_eq!(&found, expected);
    }
}

fn packed() -> Storage {
    storage(Arc::new(InMemory::new()), &[("execution.checkpointing.data-inline-threshold", "0 b")])
}

#[tokio::test]
async fn rescaled_from_3_to_5_to_2_each_task_reads_its_own_key_groups_and_nothing_else() {
    let storage = packed();
    let mut tasks = Tasks::start(&storage, 3).await;
    let mut expected = State::new();
    for round in 0..4 {
        // Groups of several checkpoints, so that a task's lie among others' in several files.
        for group in (0..KEY_GROUPS).filter(|group| round == 0 || group % (round + 2) == 0) {
            let bytes = bytes(group, 500 + 37 * group as usize, round as u8);
            tasks.set(group, &bytes);
            expected.insert(group, bytes);
        }
        let (checkpoint, _) = tasks.snapshot(false).await;
        tasks.complete(checkpoint).await;
    }
    for parallelism in [5, 2, 3] {
        let (next, counts) = tasks.restart(&storage, parallelism).await;
        next.check(&expected);
        for (task, counts) in next.tasks.iter().zip(counts) {
            let needed: u64 = task.state.values().map(|bytes| (HEAD.len() + bytes.len()) as u64).sum();
            assert_eq!((counts.read_bytes, counts.unverified_bytes), (needed, 0));
        }
        // It goes on from there: what hasn't changed is named again, whoever wrote it.
        tasks = next;
        let changed = bytes(7, 999, parallelism as u8);
        tasks.set(7, &changed);
        expected.insert(7, changed);
        let (checkpoint, counts) = tasks.snapshot(false).await;
        assert_eq!((counts.new_groups, counts.rewritten_groups), (1, 0));
        assert_eq!(counts.kept_groups, expected.len() as u64 - 1);
        tasks.complete(checkpoint).await;
    }
}

#[tokio::test]
async fn of_all_key_groups_in_one_stream_only_the_needed_ones_are_read() {
    let storage = packed();
    let mut tasks = Tasks::start(&storage, 3).await;
    let mut expected = State::new();
    for group in (0..KEY_GROUPS).filter(|group| group % 8 != 3) {
        let bytes = bytes(group, 200_000, 1);
        tasks.set(group, &bytes);
        expected.insert(group, bytes);
    }
    let (checkpoint, counts) = tasks.snapshot(true).await;
    assert_eq!(counts.new_groups, expected.len() as u64);
    tasks.complete(checkpoint).await;
    let (next, counts) = tasks.restart(&storage, 16).await;
    next.check(&expected);
    for (task, counts) in next.tasks.iter().zip(counts) {
        let needed: u64 = task.state.values().map(|bytes| bytes.len() as u64).sum();
        // Two groups of eleven, and the heads of at most two streams.
        assert!((needed..=needed + 2 * HEAD.len() as u64).contains(&counts.read_bytes), "{counts:?} of {needed}");
        assert_eq!(counts.unverified_bytes, 0);
    }
    // After a full one all is written: its stream is no other checkpoint's.
    let (_, counts) = next.snapshot(false).await;
    assert_eq!((counts.new_groups, counts.kept_groups), (expected.len() as u64, 0));
}

#[tokio::test]
async fn a_job_without_state_has_none_and_an_empty_head_is_refused() {
    let error = KeyGroupBackend::new("x", KeyGroupRange::EMPTY, Bytes::new()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let storage = packed();
    let tasks = Tasks::start(&storage, 2).await;
    let (checkpoint, counts) = tasks.snapshot(false).await;
    assert_eq!(counts, GroupCounts::default());
    tasks.complete(checkpoint).await;
    let (next, _) = tasks.restart(&storage, 1).await;
    next.check(&State::new());
}

/// What may happen to a job.
#[derive(Clone, Debug)]
enum Step {
    /// The group has other bytes, or none.
    Change {
        group: u32,
        length: u16,
        seed: u8,
    },
    Snapshot {
        is_full: bool,
        is_completed: bool,
        /// Else nobody here hears of the end.
        is_told: bool,
    },
    /// Completed; then a restart from it, or the job goes on.
    Savepoint {
        pack: bool,
        parallelism: Option<u32>,
    },
    Restart {
        parallelism: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..KEY_GROUPS, prop_oneof![Just(0_u16), 1..3_000_u16], any::<u8>())
            .prop_map(|(group, length, seed)| Step::Change { group, length, seed }),
        3 => (prop::bool::weighted(0.2), prop::bool::weighted(0.7), prop::bool::weighted(0.8))
            .prop_map(|(is_full, is_completed, is_told)| Step::Snapshot { is_full, is_completed, is_told }),
        1 => (any::<bool>(), prop::option::of(1..5_u32))
            .prop_map(|(pack, parallelism)| Step::Savepoint { pack, parallelism }),
        1 => (1..5_u32).prop_map(|parallelism| Step::Restart { parallelism }),
    ]
}

async fn run(steps: Vec<Step>) {
    let storage =
        storage(Arc::new(InMemory::new()), &[("execution.checkpointing.file-merging.max-space-amplification", "0")]);
    let mut tasks = Tasks::start(&storage, 3).await;
    let (mut now, mut completed) = (State::new(), None);
    // Those that the last completed checkpoint doesn't have as they are.
    let all = || (0..KEY_GROUPS).collect::<BTreeSet<u32>>();
    let (mut changed, mut changed_if_restored) = (all(), all());
    for step in steps {
        match step {
            Step::Change { group, length, seed } => {
                let bytes = bytes(group, length.into(), seed);
                tasks.set(group, &bytes);
                changed.insert(group);
                if length == 0 {
                    now.remove(&group)
                } else {
                    now.insert(group, bytes)
                };
            }
            Step::Snapshot { is_full, is_completed, is_told } => {
                let (checkpoint, counts) = tasks.snapshot(is_full).await;
                if !is_full {
                    let new = now.keys().filter(|group| changed.contains(group)).count() as u64;
                    assert_eq!((counts.new_groups, counts.kept_groups), (new, now.len() as u64 - new));
                }
                assert_eq!(counts.kept_bytes + counts.new_bytes, now.values().map(|b| b.len() as u64).sum::<u64>());
                if !is_completed {
                    tasks.abort(checkpoint, is_told);
                    continue;
                }
                match is_told {
                    true => _ = tasks.complete(checkpoint).await,
                    false => _ = tasks.job.coordinator.complete(checkpoint).await.unwrap(),
                }
                completed = Some(now.clone());
                // What the tasks know of isn't kept any more.
                changed = if is_full || !is_told { all() } else { BTreeSet::new() };
                // Of groups without state nothing says that they haven't any.
                changed_if_restored = if is_full { all() } else { BTreeSet::new() };
                changed_if_restored.extend((0..KEY_GROUPS).filter(|group| !now.contains_key(group)));
            }
            Step::Savepoint { pack, parallelism } => {
                let trigger = tasks.job.savepoint("memory://host/savepoints", SavepointFormat::Native, pack);
                let counts = tasks.take(&trigger, false).await;
                assert_eq!((counts.new_groups, counts.kept_groups), (now.len() as u64, 0));
                let path = tasks.complete(trigger.checkpoint).await;
                if let Some(parallelism) = parallelism {
                    tasks = tasks.restart_from(&storage, &path, parallelism).await.0;
                    tasks.check(&now);
                    changed = all();
                }
            }
            Step::Restart { parallelism } => {
                let Some(then) = &completed else { continue };
                tasks = tasks.restart(&storage, parallelism).await.0;
                tasks.check(then);
                (now, changed) = (then.clone(), changed_if_restored.clone());
            }
        }
    }
}

/// Nobody hears how checkpoints and savepoints end, for as long as it takes; with each trigger it turns out that they have.
#[tokio::test]
async fn a_worker_that_hears_of_no_end_goes_on() {
    let mut tasks = Tasks::start(&packed(), 2).await;
    (0..KEY_GROUPS).for_each(|group| tasks.set(group, &bytes(group, 2_000, 1)));
    for _ in 0..40 {
        let (aborted, _) = tasks.snapshot(false).await;
        tasks.abort(aborted, false);
        for is_whole in [true, false] {
            let savepoint = tasks.job.savepoint("memory://host/savepoints", SavepointFormat::Native, true);
            tasks.take(&savepoint, false).await;
            match is_whole {
                true => _ = tasks.job.coordinator.complete(savepoint.checkpoint).await.unwrap(),
                false => tasks.abort(savepoint.checkpoint, false),
            }
        }
    }
    let (checkpoint, _) = tasks.snapshot(false).await;
    assert_eq!(tasks.job.worker.usage().checkpoints, 1);
    // A savepoint says nothing of it.
    tasks.job.coordinator.complete(checkpoint).await.unwrap();
    let savepoint = tasks.job.savepoint("memory://host/savepoints", SavepointFormat::Native, true);
    tasks.take(&savepoint, false).await;
    assert_eq!(tasks.job.worker.usage().checkpoints, 2);
    tasks.tasks.iter().for_each(|task| task.backend.confirmed(checkpoint));
    let (_, counts) = tasks.snapshot(false).await;
    assert_eq!((counts.kept_groups, counts.new_groups), (u64::from(KEY_GROUPS), 0));
    assert_eq!(tasks.job.worker.usage().checkpoints, 2);
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn what_is_restored_is_what_was_and_only_changes_are_written(steps in prop::collection::vec(step(), 1..60)) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(run(steps));
    }
}
