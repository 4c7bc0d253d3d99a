//! A driver that hears of acknowledgements, declines, requests and the job's end in any order, and whose time is over at any
//! moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drystone::Result;
use drystone::coordinator::{Acknowledged, CoordinatorSettings, JobEnd, SavepointRequest};
use drystone::driver::{Driver, Handle, Order, Outcome, Take};
use drystone::id::{CheckpointId, Scope};
use drystone::protocol::{Acknowledgement, SavepointAction, SavepointFormat, SnapshotKind};
use drystone::schedule::{Backup, Failure, Kind, RequestId, ScheduleSettings};
use drystone::store::FlinkPath;
use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::NEVER;

use crate::commits::check;
use crate::explore::explore;
use crate::live::{Live, contents, settings};
use crate::rule_store::{Act, RuleStore};

const SUBTASKS: u32 = 2;

struct Site {
    live: Arc<Live>,
    store: RuleStore,
    handle: Handle,
    /// The workers' own, until nobody has anything to say any more.
    workers: Shared,
    driver: JoinHandle<Result<()>>,
    orders: JoinHandle<Vec<Order>>,
}

type Shared = Arc<Mutex<Option<Handle>>>;

/// What the workers do with the first checkpoint that they are asked for.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Acknowledged,
    Declined,
    /// Not by all: its time runs out.
    Forgotten,
}

impl Site {
    async fn new(timeout: Duration, first: First) -> Self {
        let (store, settings) = (RuleStore::default(), CoordinatorSettings { file_timeout: NEVER, ..settings() });
        let live = Arc::new(Live::new(Arc::new(store.clone()), SUBTASKS, settings).await);
        let schedule = ScheduleSettings { interval: None, timeout, ..ScheduleSettings::default() };
        let (driver, handle, orders) = Driver::new(live.coordinator.clone(), schedule, 0).unwrap();
        let driver = tokio::spawn(driver.run());
        let workers = Arc::new(Mutex::new(Some(handle.clone())));
        let orders = tokio::spawn(obey(live.clone(), workers.clone(), orders, first));
        handle.start().await.unwrap();
        Self { live, store, handle, workers, driver, orders }
    }

    fn ask(&self, request: u64) -> JoinHandle<Result<Outcome>> {
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.request(RequestId(request), Kind::OnRequest(Backup::Full)).await })
    }

    fn save(&self, request: u64, action: SavepointAction) -> JoinHandle<Result<Outcome>> {
        let (handle, directory) = (self.handle.clone(), FlinkPath::parse("memory:/savepoints").unwrap());
        let savepoint = SavepointRequest { directory, format: SavepointFormat::Native, action, pack: false };
        tokio::spawn(async move { handle.savepoint(RequestId(request), savepoint).await })
    }

    /// Each is answered. Then nothing is left under way, and what was ordered agrees with the answers.
    async fn end(self, requests: Vec<JoinHandle<Result<Outcome>>>) {
        let answers: Vec<Outcome> = join_all(requests).await.into_iter().map(|done| done.unwrap().unwrap()).collect();
        drop((self.handle, self.workers.lock().unwrap().take()));
        let orders = self.orders.await.unwrap();
        self.driver.await.unwrap().unwrap();
        self.store.obey();
        // What was on its way when it was given up, too.
        self.live.coordinator.settle().await.unwrap();
        self.live.coordinator.remove_leftovers().await.unwrap();
        check(&self.live).await;
        assert_eq!(self.live.coordinator.pending(), []);
        let ends = ends(&orders);
        for answer in &answers {
            match answer {
                Outcome::Completed(completed) => assert_eq!(ends[&completed.checkpoint], None, "{answer}"),
                Outcome::Failed { checkpoint, failure, .. } => assert_eq!(ends[checkpoint], Some(*failure), "{answer}"),
                Outcome::Refused { .. } => {}
            }
        }
        let begun = answers.iter().filter(|answer| !matches!(answer, Outcome::Refused { .. })).count();
        assert_eq!(ends.len(), begun, "{answers:?}: {orders:?}");
        self.live.coordinator.dispose(JobEnd::Finished).await.unwrap();
    }
}

/// How each ended, none where it completed. Each that begins ends once, and only one of the job's own is under way at a time.
fn ends(orders: &[Order]) -> BTreeMap<CheckpointId, Option<Failure>> {
    let (mut under_way, mut ends) = (BTreeMap::new(), BTreeMap::new());
    for order in orders {
        let (checkpoint, end) = match order {
            Order::Take(take) => {
                let is_own = take.trigger.kind == SnapshotKind::Checkpoint;
                assert!(!is_own || !under_way.values().any(|own| *own), "{orders:?}");
                assert!(under_way.insert(take.trigger.checkpoint, is_own).is_none(), "{orders:?}");
                continue;
            }
            Order::Completed(completed) => (completed.checkpoint, None),
            Order::Aborted { checkpoint, failure, .. } => (*checkpoint, Some(*failure)),
            Order::Found(_) | Order::Release(_) | Order::FailJob(_) => continue,
        };
        assert!(under_way.remove(&checkpoint).is_some(), "{checkpoint} ends without having begun: {orders:?}");
        assert!(ends.insert(checkpoint, end).is_none(), "{checkpoint} ends twice: {orders:?}");
    }
    assert!(under_way.is_empty(), "{under_way:?} never end: {orders:?}");
    ends
}

/// The workers: each subtask in a task of its own.
async fn obey(live: Arc<Live>, workers: Shared, mut orders: mpsc::Receiver<Order>, first: First) -> Vec<Order> {
    let (mut seen, mut subtasks) = (Vec::new(), Vec::new());
    while let Some(order) = orders.recv().await {
        seen.push(order.clone());
        let Order::Take(take) = order else { continue };
        let first = if take.trigger.checkpoint == CheckpointId(1) { first } else { First::Acknowledged };
        let asked =
            take.subtasks.iter().map(|subtask| subtask.index).filter(|&index| first != First::Forgotten || index > 0);
        let Some(handle) = workers.lock().unwrap().clone() else { continue };
        let part = |index| tokio::spawn(take_part(live.clone(), handle.clone(), take.clone(), index, first));
        subtasks.extend(asked.map(part));
    }
    for subtask in subtasks {
        subtask.await.unwrap();
    }
    seen
}

async fn take_part(live: Arc<Live>, handle: Handle, take: Box<Take>, index: u32, first: First) {
    let (checkpoint, epoch) = (take.trigger.checkpoint, take.trigger.epoch);
    if first == First::Declined && index == 0 {
        let _ = handle.declined(epoch, checkpoint, live.subtask(index), Failure::TaskNotReady, "not yet").await;
        return;
    }
    let acknowledged = if take.trigger.kind == SnapshotKind::Checkpoint {
        let bytes = contents(checkpoint, index);
        let chunks = live.write(&take.trigger, index, Scope::Exclusive, &[("p", &bytes)]).await.unwrap();
        live.acknowledge(checkpoint, index, chunks)
    } else {
        let subtask = live.subtask(index);
        live.coordinator.acknowledge(Acknowledgement { epoch, checkpoint, subtask, state: None, sealed: vec![] })
    };
    if acknowledged.unwrap() == Acknowledged::Ready {
        // The driver may have ended meanwhile.
        let _ = handle.ready(checkpoint).await;
    }
}

#[test]
fn each_of_several_requests_is_answered_once() {
    explore("driver, requests", || async {
        let site = Site::new(NEVER, First::Acknowledged).await;
        let requests = vec![site.ask(1), site.save(2, SavepointAction::None), site.ask(3)];
        site.end(requests).await;
    });
}

#[test]
fn time_runs_out_at_any_moment() {
    explore("driver, expiry", || async {
        let site = Site::new(Duration::from_secs(60), First::Acknowledged).await;
        let requests = vec![site.ask(1), site.save(2, SavepointAction::None)];
        site.end(requests).await;
    });
}

#[test]
fn one_that_somebody_never_acknowledges_expires() {
    explore("driver, forgotten", || async {
        let site = Site::new(Duration::from_secs(60), First::Forgotten).await;
        let requests = vec![site.ask(1), site.ask(2)];
        site.end(requests).await;
    });
}

#[test]
fn a_decline_beside_acknowledgements_and_expiry() {
    explore("driver, decline", || async {
        let site = Site::new(Duration::from_secs(60), First::Declined).await;
        let requests = vec![site.ask(1), site.save(2, SavepointAction::None)];
        site.end(requests).await;
    });
}

#[test]
fn the_job_stops_at_any_moment_with_a_savepoint_or_without() {
    explore("driver, stop", || async {
        let site = Site::new(NEVER, First::Acknowledged).await;
        let requests = vec![site.ask(1), site.save(2, SavepointAction::Suspend), site.ask(3)];
        let stopping = site.handle.clone();
        let stop = tokio::spawn(async move { stopping.stop().await });
        stop.await.unwrap().unwrap();
        site.end(requests).await;
    });
}

/// The store takes no metadata for as long as a commit tries, or a little less.
#[test]
fn commits_are_in_doubt() {
    explore("driver, doubt", || async {
        let site = Site::new(Duration::from_secs(60), First::Acknowledged).await;
        site.store.rule("put", "_metadata", Act::LoseAnswer, 4);
        site.store.rule("get", "_metadata", Act::Fail, 6);
        let requests = vec![site.ask(1), site.save(2, SavepointAction::None), site.ask(3)];
        site.end(requests).await;
    });
}
