//! A savepoint that names no directory goes where the configuration says, as Flink's do, and is refused where it says nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use drystone::ErrorKind;
use drystone::config::Config;
use drystone::coordinator::{Acknowledged, Completed, Coordinator};
use drystone::driver::{Driver, Handle, Order, Outcome, Take};
use drystone::id::{JobId, OperatorId};
use drystone::protocol::{
    Acknowledgement, OperatorSpec, SavepointAction, SavepointFormat, SavepointTarget, SnapshotKind,
};
use drystone::schedule::{Backup, Kind, RequestId, ScheduleSettings};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use object_store::memory::InMemory;
use tokio::sync::mpsc;

const KEY: &str = "execution.checkpointing.savepoint-dir";

struct Job {
    coordinator: Coordinator,
    handle: Handle,
    orders: mpsc::Receiver<Order>,
}

async fn opened(options: &[(&str, &str)]) -> drystone::Result<Job> {
    let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    let root = FlinkPath::parse("memory:/checkpoints").unwrap();
    let storage = Storage::open_on(Arc::new(InMemory::new()), &root, &Config::from_map(options))?;
    let operators = vec![OperatorSpec::new(OperatorId([2; 16]), 2, 128)];
    let coordinator = storage.coordinator(JobId([0xab; 16]), operators).await?;
    let settings = ScheduleSettings::from(storage.settings());
    let (driver, handle, orders) = Driver::new(coordinator.clone(), settings, 0)?;
    drop(tokio::spawn(driver.run()));
    handle.start().await?;
    Ok(Job { coordinator, handle, orders })
}

impl Job {
    /// What comes of a request, and what the workers were told to take.
    async fn ask(&mut self, request: u64, kind: Kind) -> drystone::Result<(Completed, Take)> {
        let (handle, coordinator) = (self.handle.clone(), self.coordinator.clone());
        let workers = async {
            loop {
                let Some(Order::Take(take)) = self.orders.recv().await else { continue };
                let (epoch, checkpoint) = (take.trigger.epoch, take.trigger.checkpoint);
                for &subtask in &take.subtasks {
                    let nothing = Acknowledgement { epoch, checkpoint, subtask, state: None, sealed: vec![] };
                    if coordinator.acknowledge(nothing).unwrap() == Acknowledged::Ready {
                        handle.ready(checkpoint).await.unwrap();
                    }
                }
                return *take;
            }
        };
        let (outcome, take) = tokio::join!(handle.request(RequestId(request), kind), workers);
        let Outcome::Completed(completed) = outcome? else { panic!("it came to nothing") };
        Ok((completed, take))
    }
}

fn target(take: &Take) -> &SavepointTarget {
    match &take.trigger.kind {
        SnapshotKind::Savepoint(target) => target,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_to_the_configured_directory() {
    for key in [KEY, "state.savepoints.dir", "savepoints.state.backend.fs.dir"] {
        for pack in ["false", "true"] {
            let mut job = opened(&[(key, "memory:/savepoints"), ("drystone.savepoint.pack", pack)]).await.unwrap();
            let (completed, take) = job.ask(1, Kind::Savepoint).await.unwrap();
            let name = completed.path.to_string();
            let random = name.strip_prefix("memory:/savepoints/savepoint-ababab-").unwrap();
            assert!(random.len() == 12 && random.bytes().all(|b| b.is_ascii_hexdigit()), "{key}: {name}");
            assert_eq!((target(&take).format, target(&take).pack), (SavepointFormat::Canonical, pack == "true"));
            assert_eq!(job.coordinator.completed(), [], "{key}: it is none of the job's");
        }
    }
}

/// The one that a job is stopped with is a savepoint, too.
#[tokio::test(start_paused = true)]
async fn so_does_the_one_that_a_job_is_stopped_with() {
    for drain in [false, true] {
        let mut job = opened(&[(KEY, "memory:/savepoints")]).await.unwrap();
        let (completed, take) = job.ask(1, Kind::StopWithSavepoint { drain }).await.unwrap();
        assert!(completed.path.to_string().starts_with("memory:/savepoints/savepoint-ababab-"), "{completed:?}");
        assert_eq!((take.kind, target(&take).pack), (Kind::StopWithSavepoint { drain }, false));
        assert_eq!(job.coordinator.completed(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_directory_it_is_refused_by_the_key() {
    let mut job = opened(&[]).await.unwrap();
    for kind in [Kind::Savepoint, Kind::StopWithSavepoint { drain: true }, Kind::StopWithSavepoint { drain: false }] {
        let refused = job.handle.request(RequestId(1), kind).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{kind}: {refused}");
        assert!(refused.to_string().contains(&format!("{KEY} is not set")), "{kind}: {refused}");
    }
    // Nothing has begun, and what names no directory anyway is taken.
    let (completed, take) = job.ask(1, Kind::OnRequest(Backup::Full)).await.unwrap();
    assert_eq!((completed.checkpoint.0, take.trigger.kind), (1, SnapshotKind::Checkpoint));
    // A directory that is named will do.
    let directory = FlinkPath::parse("memory:/named").unwrap();
    let defaults = job.coordinator.savepoint_defaults();
    let named = defaults.request(Some(&directory), SavepointFormat::Native, SavepointAction::None).unwrap();
    assert_eq!(named.directory, directory);
}

#[tokio::test(start_paused = true)]
async fn what_can_be_no_directory_is_refused_at_the_start() {
    let refused = opened(&[(KEY, "s3:")]).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert!(refused.to_string().contains(KEY), "{refused}");
}
