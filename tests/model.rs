//! A model test: work, maintenance and restarts in any order against plain maps, ending with everything released and an
//! empty store.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/cases.rs"]
mod cases;
#[path = "support/live.rs"]
mod live;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cases::cases;
use drystone::coordinator::JobEnd;
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, KeyGroupRange, Scope};
use drystone::ledger::SpacePolicy;
use drystone::protocol::{Acknowledgement, Reuse, Trigger};
use drystone::read::{KeyedState, ReadLimits, Restore};
use drystone::worker::{Worker, WorkerSettings};
use drystone::write::{PoolMode, WriteSettings};
use live::{Chunks, Live, settings};
use object_store::memory::InMemory;
use proptest::prelude::*;

const SUBTASKS: u32 = 3;

/// A database: its files' bytes, and where the last snapshot has them.
type Database = BTreeMap<u8, (Vec<u8>, Option<StreamHandle>)>;

#[derive(Clone, Debug)]
enum Step {
    /// A subtask's database gains, loses and replaces files.
    Write {
        subtask: u32,
        file: u8,
        length: u16,
    },
    Remove {
        subtask: u32,
        file: u8,
    },
    /// All subtasks take the next checkpoint, and it completes.
    Checkpoint,
    /// The same, but given up after so many acknowledgements.
    Abort {
        after: u32,
    },
    /// Two at once: the later one completes, or both do.
    Overlapping {
        both: bool,
    },
    /// Deletes are carried out.
    Settle,
    /// Space is won back in the background.
    Rewrite,
    /// One task dies, and starts again from the latest checkpoint.
    RestartTask {
        subtask: u32,
    },
    /// Everything dies; the databases are what the latest checkpoint has.
    RestartAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..SUBTASKS, 0..12_u8, 0..4000_u16)
            .prop_map(|(subtask, file, length)| Step::Write { subtask, file, length }),
        3 => (0..SUBTASKS, 0..12_u8).prop_map(|(subtask, file)| Step::Remove { subtask, file }),
        6 => Just(Step::Checkpoint),
        1 => (0..=SUBTASKS).prop_map(|after| Step::Abort { after }),
        1 => any::<bool>().prop_map(|both| Step::Overlapping { both }),
        1 => Just(Step::Settle),
        1 => Just(Step::Rewrite),
        1 => (0..SUBTASKS).prop_map(|subtask| Step::RestartTask { subtask }),
        1 => Just(Step::RestartAll),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    retained: usize,
    across: bool,
    blocking: bool,
    amplification_max: Option<f64>,
    inline_bytes_max: u64,
    file_bytes_max: u64,
}

fn setup() -> impl Strategy<Value = Setup> {
    let limit = prop_oneof![Just(None), Just(Some(1.3)), Just(Some(2.0))];
    let sizes = (prop_oneof![Just(0), Just(300_u64)], prop_oneof![Just(6_000_u64), Just(1 << 20)]);
    (1..=3_usize, any::<bool>(), any::<bool>(), limit, sizes).prop_map(
        |(retained, across, blocking, amplification_max, (inline_bytes_max, file_bytes_max))| Setup {
            retained,
            across,
            blocking,
            amplification_max,
            inline_bytes_max,
            file_bytes_max,
        },
    )
}

struct Job {
    live: Live,
    worker: Worker,
    worker_settings: WorkerSettings,
    databases: Vec<Database>,
    /// The plain maps: what each completed checkpoint must hold.
    model: BTreeMap<CheckpointId, Vec<BTreeMap<u8, Vec<u8>>>>,
    workers: u32,
}

impl Job {
    async fn new(setup: Setup) -> Self {
        let mut settings = settings();
        settings.ledger.retained = setup.retained;
        settings.ledger.space = SpacePolicy {
            amplification_max: setup.amplification_max,
            floor_bytes: 2000,
            across: setup.across,
            fold_ratio_max: 1.0,
            file_bytes_max: setup.file_bytes_max,
        };
        let write = WriteSettings {
            file_bytes_max: setup.file_bytes_max,
            inline_bytes_max: setup.inline_bytes_max,
            buffer_bytes_max: 2500,
            uploads_max: 2,
            mode: if setup.blocking { PoolMode::BLOCKING } else { PoolMode::NonBlocking },
            ..WriteSettings::default()
        };
        settings.write = WriteSettings { inline_bytes_max: 0, ..write };
        let live = Live::new(Arc::new(InMemory::new()), SUBTASKS, settings).await;
        let worker_settings = WorkerSettings {
            write,
            channels: None,
            buffered_bytes_total_max: 1 << 20,
            linger: Duration::from_millis(10),
        };
        let worker = Worker::new(live.directory.clone(), "worker-0", worker_settings, live.tokens.clone());
        let databases = vec![Database::new(); SUBTASKS as usize];
        Self { live, worker, worker_settings, databases, model: BTreeMap::new(), workers: 1 }
    }

    async fn run(&mut self, step: &Step) {
        match step {
            Step::Write { subtask, file, length } => {
                let bytes = (0..*length).map(|n| (n as u8).wrapping_mul(*file + 3)).collect();
                self.databases[*subtask as usize].insert(*file, (bytes, None));
            }
            Step::Remove { subtask, file } => {
                self.databases[*subtask as usize].remove(file);
            }
            Step::Checkpoint => {
                let trigger = self.trigger();
                self.snapshots(&trigger, SUBTASKS).await;
                self.complete(trigger.checkpoint).await;
            }
            Step::Abort { after } => {
                let trigger = self.trigger();
                let before = self.databases.clone();
                self.snapshots(&trigger, *after).await;
                assert!(self.live.coordinator.abort(trigger.checkpoint));
                self.worker.abort(self.live.coordinator.epoch(), trigger.checkpoint);
                // What an aborted checkpoint has is not to be named again.
                self.databases = before;
            }
            Step::Overlapping { both } => {
                let (first, second) = (self.trigger(), self.trigger());
                let before = self.databases.clone();
                self.snapshots(&first, SUBTASKS).await;
                self.databases = before;
                self.snapshots(&second, SUBTASKS).await;
                if *both {
                    self.complete(first.checkpoint).await;
                }
                self.complete(second.checkpoint).await;
                assert!(!self.live.coordinator.completed().contains(&first.checkpoint) || *both);
            }
            Step::Settle => self.live.coordinator.settle().await.unwrap(),
            Step::Rewrite => {
                self.live.coordinator.rewrite(10_000).await.unwrap();
            }
            Step::RestartTask { subtask } => {
                let index = *subtask as usize;
                self.worker.forget(self.live.subtask(*subtask));
                self.worker.register(self.live.subtask(*subtask));
                self.databases[index] = match self.live.coordinator.latest() {
                    Some(latest) => self.read(latest.checkpoint).await.swap_remove(index),
                    None => Database::new(),
                };
            }
            Step::RestartAll => self.restart_all().await,
        }
    }

    fn trigger(&self) -> Trigger {
        self.live.coordinator.trigger(self.live.coordinator.next_checkpoint()).unwrap()
    }

    /// The first `count` subtasks, one after another; the files are sealed when all have written.
    async fn snapshots(&mut self, trigger: &Trigger, count: u32) {
        let mut under_way = Vec::new();
        for index in 0..count {
            let snapshot = self.worker.begin(self.live.subtask(index), trigger).unwrap();
            let mut written = Vec::new();
            for (&file, (bytes, handle)) in &self.databases[index as usize] {
                if let Some(handle) = handle
                    && snapshot.reuse(handle) == Reuse::Keep
                {
                    continue;
                }
                let mut segment = snapshot.segment(Scope::Shared, None);
                segment.write_slice(bytes).await.unwrap();
                written.push((file, segment.finish().await.unwrap()));
            }
            under_way.push((index, written, snapshot.finish()));
        }
        for (index, written, ticket) in under_way {
            let durable = ticket.seal().await.unwrap();
            let database = &mut self.databases[index as usize];
            for (file, written) in written {
                database.get_mut(&file).unwrap().1 = durable.handle(&written).unwrap();
            }
            let shared = database.iter().filter_map(|(file, (_, handle))| Some((file.to_string(), handle.clone()?)));
            let chunks = Chunks { shared: shared.collect(), ..Chunks::default() };
            let range = KeyGroupRange::of_subtask(index, SUBTASKS, 128).unwrap();
            let state = Some(Box::new(live::state_of(trigger.checkpoint, index, range, chunks)));
            let (checkpoint, subtask) = (trigger.checkpoint, self.live.subtask(index));
            let sealed = durable.sealed().to_vec();
            self.live
                .coordinator
                .acknowledge(Acknowledgement { epoch: trigger.epoch, checkpoint, subtask, state, sealed })
                .unwrap();
        }
    }

    async fn complete(&mut self, checkpoint: CheckpointId) {
        let completed = self.live.coordinator.complete(checkpoint).await.unwrap();
        self.worker.complete(self.live.coordinator.epoch(), checkpoint);
        completed.aborted.iter().for_each(|&id| self.worker.abort(self.live.coordinator.epoch(), id));
        completed.subsumed.iter().for_each(|&id| self.worker.subsume(self.live.coordinator.epoch(), id));
        let plain = self.databases.iter().map(|database| {
            let files = database.iter().filter(|(_, (bytes, _))| !bytes.is_empty());
            files.map(|(&file, (bytes, _))| (file, bytes.clone())).collect()
        });
        self.model.insert(checkpoint, plain.collect());
        self.check().await;
    }

    /// Every retained checkpoint is what the plain maps say.
    async fn check(&self) {
        for checkpoint in self.live.coordinator.completed() {
            let found = self.read(checkpoint).await;
            let plain: Vec<BTreeMap<u8, Vec<u8>>> =
                found.iter().map(|d| d.iter().map(|(&f, (bytes, _))| (f, bytes.clone())).collect()).collect();
            assert!(plain == self.model[&checkpoint], "checkpoint {checkpoint}");
        }
        assert!(self.live.coordinator.latest().map(|l| l.checkpoint) == self.model.keys().next_back().copied());
    }

    async fn read(&self, checkpoint: CheckpointId) -> Vec<Database> {
        let path = self.live.directory.checkpoint(checkpoint).unwrap();
        let restore = Restore::open(&self.live.stores, path.name(), ReadLimits::default()).await.unwrap();
        let mut databases = Vec::new();
        for index in 0..SUBTASKS {
            let task = restore.task(self.live.spec.id, index, SUBTASKS).unwrap();
            let restored = task.read_all().await.unwrap();
            let mut database = Database::new();
            for keyed in &task.managed_keyed {
                let KeyedState::Incremental { handle, shared, .. } = &keyed.state else { panic!("{keyed:?}") };
                for (file, stream) in handle.shared.iter().zip(shared) {
                    let bytes = restored.bytes(stream.unwrap()).to_vec();
                    let name = file.local_path.to_string().parse().unwrap();
                    database.insert(name, (bytes, file.handle.clone()));
                }
            }
            databases.push(database);
        }
        databases
    }

    fn new_worker(&mut self) {
        self.workers += 1;
        let name = format!("worker-{}", self.workers);
        self.worker = Worker::new(self.live.directory.clone(), &name, self.worker_settings, self.live.tokens.clone());
    }

    async fn restart_all(&mut self) {
        // A dead process doesn't settle; what it left undone is found by the next.
        self.live.restart().await.unwrap();
        self.new_worker();
        self.databases = match self.live.coordinator.latest() {
            Some(latest) => self.read(latest.checkpoint).await,
            None => vec![Database::new(); SUBTASKS as usize],
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..cases(150) })]

    #[test]
    fn work_maintenance_and_restarts_against_plain_maps(
        setup in setup(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut job = Job::new(setup).await;
            for step in &steps {
                job.run(step).await;
            }
            job.live.coordinator.settle().await.unwrap();
            job.check().await;
            job.worker.close().await.unwrap();
            assert_eq!(job.worker.usage().buffered_bytes, 0);
            job.live.coordinator.dispose(JobEnd::Finished).await.unwrap();
            assert_eq!(job.live.coordinator.space(), Default::default());
            assert_eq!(job.live.files().await, BTreeMap::new(), "everything was released");
        });
    }
}
