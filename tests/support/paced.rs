//! A job under a driver, in paused time over a store in memory: every order is written down with its time, and carried out
//! as the test says.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drystone::coordinator::{Acknowledged, Coordinator};
use drystone::driver::{Driver, Handle, Order, Take};
use drystone::id::{CheckpointId, Scope};
use drystone::protocol::{Acknowledgement, SnapshotKind};
use drystone::schedule::{Kind, ScheduleSettings};
use object_store::ObjectStore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::live::{Live, settings};

/// What the workers do.
#[derive(Clone, Default)]
pub struct Workers(Arc<Mutex<Habits>>);

#[derive(Default)]
struct Habits {
    /// So long a snapshot takes.
    takes: Duration,
    /// Checkpoints that they never acknowledge.
    ignored: BTreeSet<u64>,
    log: Vec<(Duration, Order)>,
}

pub struct Paced {
    pub live: Arc<Live>,
    pub handle: Handle,
    pub workers: Workers,
    pub driver: JoinHandle<drystone::Result<()>>,
    orders: JoinHandle<()>,
}

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Every ten seconds.
pub fn every_ten() -> ScheduleSettings {
    ScheduleSettings { interval: Some(seconds(10)), timeout: seconds(60), ..ScheduleSettings::default() }
}

impl Paced {
    /// A job of three subtasks, started.
    pub async fn new(store: Arc<dyn ObjectStore>, schedule: ScheduleSettings) -> Self {
        let live = Arc::new(Live::new(store, 3, settings()).await);
        Self::over(live, schedule).await
    }

    pub async fn over(live: Arc<Live>, schedule: ScheduleSettings) -> Self {
        let (driver, handle, orders) = Driver::new(live.coordinator.clone(), schedule, u64::MAX).unwrap();
        let workers = Workers::default();
        let driver = tokio::spawn(driver.run());
        handle.start().await.unwrap();
        let obey = Obeys { live: live.clone(), handle: handle.clone(), workers: workers.clone() };
        let orders = tokio::spawn(obey.run(orders));
        Self { live, handle, workers, driver, orders }
    }

    pub fn coordinator(&self) -> &Coordinator {
        &self.live.coordinator
    }

    /// What was ordered, in words, with the seconds at which it was.
    pub fn log(&self) -> Vec<String> {
        self.workers
            .0
            .lock()
            .unwrap()
            .log
            .iter()
            .map(|(at, order)| format!("{} {}", at.as_secs(), text(order)))
            .collect()
    }

    pub fn take(&self, checkpoint: u64) -> Take {
        let habits = self.workers.0.lock().unwrap();
        let mut takes = habits.log.iter().filter_map(|(_, order)| match order {
            Order::Take(take) if take.trigger.checkpoint.0 == checkpoint => Some(take.as_ref().clone()),
            _ => None,
        });
        takes.next().expect("it was taken")
    }

    /// Nobody receives orders any more; returns when the driver has ended, though it has nothing to order.
    pub async fn orders_are_dropped(self) {
        self.orders.abort();
        let _ = self.orders.await;
        // A handle is left, so that this alone ends it.
        tokio::time::timeout(seconds(1), self.driver).await.expect("it ends by itself").unwrap().unwrap();
    }

    /// Drops the handle, and waits for the driver's end.
    pub async fn end(self) -> drystone::Result<()> {
        drop(self.handle);
        self.orders.abort();
        let _ = self.orders.await;
        self.driver.await.unwrap()
    }
}

impl Workers {
    pub fn take_so_long(&self, takes: Duration) {
        self.0.lock().unwrap().takes = takes;
    }

    pub fn ignore(&self, checkpoint: u64) {
        self.0.lock().unwrap().ignored.insert(checkpoint);
    }
}

struct Obeys {
    live: Arc<Live>,
    handle: Handle,
    workers: Workers,
}

impl Obeys {
    async fn run(self, mut orders: mpsc::Receiver<Order>) {
        let begun = Instant::now();
        let (live, handle) = (self.live, self.handle);
        let mut snapshots = tokio::task::JoinSet::new();
        while let Some(order) = orders.recv().await {
            let (takes, ignored) = {
                let mut habits = self.workers.0.lock().unwrap();
                habits.log.push((begun.elapsed(), order.clone()));
                (habits.takes, habits.ignored.clone())
            };
            let Order::Take(take) = order else { continue };
            if ignored.contains(&take.trigger.checkpoint.0) {
                continue;
            }
            let (live, handle) = (live.clone(), handle.clone());
            snapshots.spawn(async move {
                tokio::time::sleep(takes).await;
                if acknowledge(&live, &take).await {
                    // The driver may have ended meanwhile.
                    let _ = handle.ready(take.trigger.checkpoint).await;
                }
            });
        }
    }
}

/// Has every subtask that is asked take its part. Are all ready by that?
pub async fn acknowledge(live: &Live, take: &Take) -> bool {
    let mut last = None;
    for subtask in &take.subtasks {
        last = Some(acknowledge_one(live, take, subtask.index).await);
    }
    matches!(last, Some(Acknowledged::Ready))
}

pub async fn acknowledge_one(live: &Live, take: &Take, index: u32) -> Acknowledged {
    if take.trigger.kind != SnapshotKind::Checkpoint {
        return acknowledge_nothing(live, take.trigger.checkpoint, index);
    }
    let checkpoint = take.trigger.checkpoint;
    let chunks = live.write(&take.trigger, index, Scope::Exclusive, &[("chunk", &[index as u8; 100])]).await.unwrap();
    live.acknowledge(checkpoint, index, chunks).unwrap()
}

/// The same without state.
pub fn acknowledge_nothing(live: &Live, checkpoint: CheckpointId, index: u32) -> Acknowledged {
    let acknowledgement = Acknowledgement {
        epoch: live.coordinator.epoch(),
        checkpoint,
        subtask: live.subtask(index),
        state: None,
        sealed: vec![],
    };
    live.coordinator.acknowledge(acknowledgement).unwrap()
}

fn text(order: &Order) -> String {
    match order {
        Order::Take(take) => {
            let kind = match take.kind {
                Kind::Periodic => "periodic".to_string(),
                kind => format!("{kind:?}").to_lowercase(),
            };
            format!("take {} {kind}", take.trigger.checkpoint)
        }
        Order::Completed(completed) => format!("completed {}", completed.checkpoint),
        Order::Aborted { checkpoint, failure, .. } => format!("aborted {checkpoint} {failure:?}").to_lowercase(),
        Order::Found(latest) => format!("found {}", latest.checkpoint),
        Order::Release(subtask) => format!("release {}", subtask.index),
        Order::FailJob(why) => format!("fail-job {:?}", why.failure).to_lowercase(),
    }
}
