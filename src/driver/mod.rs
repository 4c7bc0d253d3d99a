//! A [`Schedule`] over a [`Coordinator`], by the runtime's clock: it triggers, completes what is ready, and gives up what
//! takes too long.
//!
//! Three parts: the [`Driver`] runs, as a task of its own or as a branch of the caller's loop; the [`Handle`] is told what
//! happens in the job; the [`Order`]s come out of a channel, for the workers. Acknowledgements go to the coordinator, whose
//! answer says when a checkpoint is [ready](Handle::ready). Nothing here decides anything: the schedule does that.

mod carry_out;
mod handle;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use handle::{Handle, Outcome};

use crate::coordinator::{Completed, Coordinator, Latest, SavepointRequest};
use crate::error::Result;
use crate::id::{CheckpointId, Subtask};
use crate::protocol::Trigger;
use crate::schedule::{Alignment, Event, Failure, JobFailure, Kind, RequestId, Schedule, ScheduleSettings};
use handle::Said;
use watch::Watch;

/// So many messages wait in either direction, and so many orders beyond those in the driver (I8).
const WAITING_MAX: usize = 256;

/// Runs the schedule. Made with [`Driver::new`]; does nothing before [`run`](Self::run), and nothing is triggered before
/// [`Handle::start`].
///
/// ```
/// use drystone::config::Config;
/// use drystone::coordinator::Acknowledged;
/// use drystone::driver::{Driver, Order};
/// use drystone::id::{JobId, OperatorId};
/// use drystone::protocol::{Acknowledgement, OperatorSpec};
/// use drystone::schedule::ScheduleSettings;
/// use drystone::storage::Storage;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path().display();
/// let config = Config::from_yaml(&format!("execution.checkpointing: {{ dir: 'file:{directory}', interval: 10 ms }}"))?;
/// let storage = Storage::open(&config)?;
/// let operators = vec![OperatorSpec::new(OperatorId([2; 16]), 2, 128)];
/// let coordinator = storage.coordinator(JobId([1; 16]), operators).await?;
/// let settings = ScheduleSettings::from(storage.settings());
/// let (driver, handle, mut orders) = Driver::new(coordinator.clone(), settings, 0)?;
/// let running = tokio::spawn(driver.run());
/// handle.start().await?;
/// while let Some(order) = orders.recv().await {
///     match order {
///         Order::Take(take) => {
///             // To the workers. They answer one by one, here without state.
///             let (epoch, checkpoint) = (take.trigger.epoch, take.trigger.checkpoint);
///             for subtask in take.subtasks {
///                 let nothing = Acknowledgement { epoch, checkpoint, subtask, state: None, sealed: vec![] };
///                 if coordinator.acknowledge(nothing)? == Acknowledged::Ready {
///                     handle.ready(checkpoint).await?;
///                 }
///             }
///         }
///         Order::Completed(completed) => {
///             assert_eq!(completed.checkpoint.0, 1);
///             break;
///         }
///         other => panic!("{other:?}"),
///     }
/// }
/// drop((handle, orders));
/// running.await??;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct Driver {
    coordinator: Coordinator,
    schedule: Schedule,
    said: mpsc::Receiver<Said>,
    orders: mpsc::Sender<Order>,
    /// What the channel has no room for yet.
    outbox: VecDeque<Order>,
    /// Those who wait for what they asked for.
    answers: BTreeMap<RequestId, oneshot::Sender<Outcome>>,
    requested: BTreeMap<CheckpointId, RequestId>,
    /// Where the savepoints go that wait to begin.
    savepoints: BTreeMap<RequestId, SavepointRequest>,
    /// Who was at the end of the data when a checkpoint began.
    ended: BTreeMap<CheckpointId, BTreeSet<Subtask>>,
    committing: BTreeSet<CheckpointId>,
    work: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// Commits of which nobody knows whether they happened, as far as the schedule has given them up.
    in_doubt: BTreeSet<CheckpointId>,
    settling: bool,
    watch: Watch,
}

/// What the workers, and whoever runs the job, are to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take a checkpoint.
    Take(Box<Take>),
    /// It is durable: tell the workers, with what it replaced.
    Completed(Completed),
    /// It won't be: tell the workers.
    Aborted {
        /// Which.
        checkpoint: CheckpointId,
        /// Why.
        failure: Failure,
        /// The same in words, with what is known beyond.
        reason: String,
    },
    /// One that was given up because nobody knew whether its commit had happened, or a newer one, is durable after all:
    /// tell the workers.
    Found(Latest),
    /// The subtask, which is at the end of its data, may finish.
    Release(Subtask),
    /// Too many have failed: fail the job, and [`stop`](Handle::stop).
    FailJob(JobFailure),
}

/// A checkpoint to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// What to tell the workers.
    pub trigger: Trigger,
    /// What kind it is. To the coordinator each is a checkpoint of the job, but the savepoints.
    pub kind: Kind,
    /// How the barriers go.
    pub alignment: Alignment,
    /// Who asked for it; `None` if nobody did.
    pub request: Option<RequestId>,
    /// Those who are to take part. All others have finished, and count as having acknowledged.
    pub subtasks: Vec<Subtask>,
}

/// What comes first.
enum Next {
    /// There is room for an order; `None`: nobody receives them any more.
    Room(Option<mpsc::OwnedPermit<Order>>),
    Done(Done),
    /// `None`: nobody is left who could say anything.
    Said(Option<Said>),
    Tick,
}

/// What has been waited for.
enum Done {
    Commit(CheckpointId, Result<Completed>),
    Settled(Result<()>),
}

impl Driver {
    /// A driver for the coordinator's job, with the handle that it listens to and its orders. `spread` is as for
    /// [`Schedule::new`].
    ///
    /// # Errors
    /// As for [`Schedule::new`].
    pub fn new(
        coordinator: Coordinator,
        settings: ScheduleSettings,
        spread: u64,
    ) -> Result<(Self, Handle, mpsc::Receiver<Order>)> {
        let subtasks: Vec<Subtask> = coordinator.operators().iter().flat_map(|spec| spec.subtasks()).collect();
        let schedule = Schedule::new(settings, subtasks, spread)?;
        let (say, said) = mpsc::channel(WAITING_MAX);
        let (orders, receive) = mpsc::channel(WAITING_MAX);
        let watch = Watch::new(&coordinator);
        let handle = Handle::new(say, coordinator.clone());
        let driver = Self {
            coordinator,
            schedule,
            said,
            orders,
            outbox: VecDeque::new(),
            answers: BTreeMap::new(),
            requested: BTreeMap::new(),
            savepoints: BTreeMap::new(),
            ended: BTreeMap::new(),
            committing: BTreeSet::new(),
            work: FuturesUnordered::new(),
            in_doubt: BTreeSet::new(),
            settling: false,
            watch,
        };
        Ok((driver, handle, receive))
    }

    /// Runs until every handle is dropped, or nobody receives orders any more. Then what is under way is aborted, but what
    /// is being committed; that is waited for. What an earlier driver left under way is aborted first.
    ///
    /// Receive the orders side by side with what is said to the handle: where too many wait nothing else is done.
    ///
    /// # Errors
    /// `Fenced`: a newer coordinator has the job.
    ///
    /// Cancelled, it leaves checkpoints under way, and commits that go on: [`Coordinator::pending`] has them. Who waits for
    /// what was asked for learns that the driver is gone.
    pub async fn run(mut self) -> Result<()> {
        for left in self.coordinator.pending() {
            self.coordinator.abort(left);
        }
        self.watch.show();
        let begun = Instant::now();
        let now = || begun.elapsed();
        loop {
            match self.next(begun).await {
                Next::Room(Some(room)) => {
                    if let Some(order) = self.outbox.pop_front() {
                        room.send(order);
                    }
                }
                Next::Said(Some(said)) => self.hear(said, now())?,
                Next::Done(done) => self.done(done, now())?,
                Next::Tick => self.apply(Event::Tick, now())?,
                Next::Room(None) | Next::Said(None) => break,
            }
        }
        self.end(now()).await
    }

    /// Waits for what comes first. Cancel safe: what has come is returned.
    async fn next(&mut self, begun: Instant) -> Next {
        let wake = self.schedule.next_wake().and_then(|wake| begun.checked_add(wake));
        let has_room = self.outbox.len() < WAITING_MAX;
        tokio::select! {
            biased;
            room = self.orders.clone().reserve_owned(), if !self.outbox.is_empty() => Next::Room(room.ok()),
            () = self.orders.closed(), if self.outbox.is_empty() => Next::Room(None),
            Some(done) = self.work.next(), if !self.work.is_empty() => Next::Done(done),
            said = self.said.recv(), if has_room => Next::Said(said),
            () = tokio::time::sleep_until(wake.unwrap_or(begun)), if has_room && wake.is_some() => Next::Tick,
        }
    }

    async fn end(&mut self, now: Duration) -> Result<()> {
        self.apply(Event::Stop, now)?;
        while let Some(done) = self.work.next().await {
            self.done(done, now)?;
        }
        while let Some(order) = self.outbox.pop_front() {
            if self.orders.send(order).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}
