//! The file that names the latest checkpoint for other tools: written when asked for, in nobody's way, and only a hint.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/crash_job.rs"]
#[allow(dead_code, reason = "not every test uses all of the support")]
mod crash_job;
#[path = "support/live.rs"]
#[allow(dead_code, reason = "not every test uses all of the support")]
mod live;
#[path = "support/rule_store.rs"]
#[allow(dead_code, reason = "not every test uses all of the support")]
mod rule_store;
#[path = "support/seeded.rs"]
mod seeded;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drystone::ErrorKind;
use drystone::config::{Config, Settings};
use drystone::coordinator::{CoordinatorSettings, JobEnd, SavepointRequest};
use drystone::id::CheckpointId;
use drystone::jobs::{Hint, Latest, latest};
use drystone::ledger::LedgerSettings;
use drystone::protocol::{Acknowledgement, SavepointAction, SavepointFormat};
use drystone::read::ReadLimits;
use drystone::store::{FlinkPath, Stores};
use drystone::sweep::{Sweep, SweepSettings};
use live::Live;
use rule_store::{Act, RuleStore};

fn told() -> CoordinatorSettings {
    let settings = live::settings();
    CoordinatorSettings { latest_file: true, ledger: LedgerSettings { retained: 2, ..settings.ledger }, ..settings }
}

/// A job in memory, and its store.
async fn job(settings: CoordinatorSettings) -> (RuleStore, Live) {
    let store = RuleStore::default();
    let job = Live::new(Arc::new(store.clone()), 1, settings).await;
    (store, job)
}

async fn round(job: &Live) -> CheckpointId {
    job.round(&mut [BTreeMap::new()]).await.unwrap().checkpoint
}

async fn written(job: &Live) -> Option<Hint> {
    let file = job.directory.latest().unwrap();
    let bytes = file.exists().await.unwrap().then_some(file);
    Hint::from_bytes(&bytes?.read_all(1 << 10).await.unwrap())
}

async fn search(job: &Live) -> Latest {
    latest(&job.stores, job.directory.root().name(), &ReadLimits::default()).await.unwrap()
}

#[tokio::test]
async fn each_commit_replaces_it() {
    let (_, job) = job(told()).await;
    for _ in 0..3 {
        let checkpoint = round(&job).await;
        job.coordinator.settle().await.unwrap();
        let hint = written(&job).await.unwrap();
        let path = job.directory.checkpoint(checkpoint).unwrap().name().clone();
        assert_eq!(hint, Hint { path: path.clone(), epoch: job.coordinator.epoch(), checkpoint });
        let bytes = job.directory.latest().unwrap().read_all(1 << 10).await.unwrap();
        assert_eq!(std::str::from_utf8(&bytes).unwrap().lines().next(), Some(path.to_string().as_str()));
        let latest = search(&job).await;
        assert_eq!((latest.found.unwrap().path, latest.hint), (path, Some(hint)));
    }
}

#[tokio::test]
async fn it_costs_one_put_a_commit_and_nothing_where_it_is_not_asked_for() {
    let mut puts = Vec::new();
    for settings in [told(), CoordinatorSettings { latest_file: false, ..told() }] {
        let (store, job) = job(settings).await;
        round(&job).await;
        job.coordinator.settle().await.unwrap();
        store.forget_requests();
        for _ in 0..5 {
            round(&job).await;
            job.coordinator.settle().await.unwrap();
        }
        puts.push([store.count("put", ""), store.count("put", "_drystone/latest"), store.count("", "")]);
        assert_eq!(written(&job).await.is_some(), settings.latest_file);
    }
    assert_eq!(puts[0], [puts[1][0] + 5, 5, puts[1][2] + 5]);
    assert_eq!(puts[1][1], 0);
    assert!(!Settings::default().latest_file);
}

#[tokio::test]
async fn a_store_that_refuses_it_fails_no_checkpoint() {
    let (store, job) = job(told()).await;
    store.rule("put", "_drystone/latest", Act::Fail, 1);
    let first = round(&job).await;
    job.coordinator.settle().await.unwrap();
    assert_eq!(written(&job).await, None);
    assert_eq!(search(&job).await.found.unwrap().checkpoint, first);
    let second = round(&job).await;
    job.coordinator.settle().await.unwrap();
    assert_eq!(written(&job).await.unwrap().checkpoint, second);
}

#[tokio::test]
async fn no_commit_waits_for_it() {
    let (store, job) = job(told()).await;
    store.rule("put", "_drystone/latest", Act::Hang, 1);
    let mut last = round(&job).await;
    while store.count("put", "_drystone/latest") == 0 {
        tokio::task::yield_now().await;
    }
    // Others complete while it hangs, and what they replace goes later.
    for _ in 0..3 {
        last = round(&job).await;
    }
    assert_eq!((written(&job).await, search(&job).await.found.unwrap().checkpoint), (None, last));
    store.obey();
    job.coordinator.settle().await.unwrap();
    assert_eq!(written(&job).await.unwrap().checkpoint, last);
}

/// What it says of the epoch is that of the checkpoint, which a predecessor has completed.
#[tokio::test(start_paused = true)]
async fn a_savepoint_changes_nothing_of_it() {
    let (store, mut job) = job(told()).await;
    round(&job).await;
    job.coordinator.settle().await.unwrap();
    let hint = written(&job).await;
    job.restart().await.unwrap();
    for refused in [0, 9] {
        let directory = FlinkPath::parse("memory:/savepoints").unwrap();
        let (format, action) = (SavepointFormat::Native, SavepointAction::None);
        let request = SavepointRequest { directory, format, action, pack: false };
        let trigger = job.coordinator.trigger_savepoint(job.coordinator.next_checkpoint(), &request).unwrap();
        let (epoch, checkpoint, subtask) = (trigger.epoch, trigger.checkpoint, job.subtask(0));
        let nothing = Acknowledgement { epoch, checkpoint, subtask, state: None, sealed: vec![] };
        job.coordinator.acknowledge(nothing).unwrap();
        // In doubt, it is for settling to say that it is there.
        store.rule("put", "savepoints/", Act::Fail, refused);
        assert_eq!(job.coordinator.complete(checkpoint).await.is_err(), refused > 0);
        store.obey();
        job.coordinator.settle().await.unwrap();
        assert_eq!(job.coordinator.pending(), []);
        assert_eq!(written(&job).await, hint);
    }
}

#[tokio::test]
async fn one_of_a_coordinator_that_was_taken_over_deceives_nobody() {
    let (store, mut job) = job(told()).await;
    // The older one is about to tell of its checkpoint, and sleeps.
    store.rule("put", "_drystone/latest", Act::Hang, 1);
    let older = round(&job).await;
    let zombie = job.coordinator.clone();
    while store.count("put", "_drystone/latest") == 0 {
        tokio::task::yield_now().await;
    }
    job.restart().await.unwrap();
    let newer = round(&job).await;
    job.coordinator.settle().await.unwrap();
    assert_eq!(written(&job).await.unwrap().checkpoint, newer);
    store.obey();
    while written(&job).await.unwrap().checkpoint == newer {
        tokio::task::yield_now().await;
    }
    let hint = written(&job).await.unwrap();
    assert_eq!((hint.checkpoint, hint.epoch), (older, zombie.epoch()));
    assert_eq!(search(&job).await.found.unwrap().checkpoint, newer);
    // The next commit puts it right.
    let newest = round(&job).await;
    job.coordinator.settle().await.unwrap();
    assert_eq!(written(&job).await.unwrap().checkpoint, newest);
}

#[tokio::test]
async fn one_that_knows_that_it_was_taken_over_says_nothing_more() {
    let (_, mut job) = job(told()).await;
    round(&job).await;
    let zombie = job.coordinator.clone();
    let spec = job.spec.clone();
    job.restart().await.unwrap();
    let newer = round(&job).await;
    job.coordinator.settle().await.unwrap();
    let trigger = zombie.trigger(zombie.next_checkpoint()).unwrap();
    zombie.finished(trigger.epoch, trigger.checkpoint, spec.subtask(0)).unwrap();
    assert_eq!(zombie.complete(trigger.checkpoint).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(zombie.settle().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(written(&job).await.unwrap().checkpoint, newer);
}

#[tokio::test]
async fn it_stays_as_long_as_the_job_and_goes_with_it() {
    let (_, job) = job(told()).await;
    round(&job).await;
    job.coordinator.settle().await.unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33);
    let sweep = Sweep::look(&job.stores, job.directory.root().name(), &SweepSettings::default(), now).await.unwrap();
    assert_eq!((sweep.found().dead.len(), sweep.found().unknown.len()), (0, 0));
    job.coordinator.remove_leftovers().await.unwrap();
    assert!(written(&job).await.is_some());
    // The job keeps nothing, by its retention.
    job.coordinator.dispose(JobEnd::Finished).await.unwrap();
    assert_eq!(written(&job).await, None);
    assert!(!job.directory.latest().unwrap().exists().await.unwrap());
}

#[test]
fn what_is_no_hint_is_none() {
    let hint = Hint { path: FlinkPath::parse("/a b/chk-7").unwrap(), epoch: 2, checkpoint: CheckpointId(7) };
    let bytes = hint.to_bytes();
    for length in 0..bytes.len() {
        assert_eq!(Hint::from_bytes(&bytes[..length]), None, "{length}");
    }
    for text in [
        "",
        "x\n",
        "relative\nepoch=1 checkpoint=2\n",
        "/x\nepoch=1 checkpoint=two\n",
        "/x\nepoch=1\n",
        "/x\r\nepoch=1 checkpoint=2\n",
    ] {
        assert_eq!(Hint::from_bytes(text.as_bytes()), None, "{text}");
    }
}

#[tokio::test]
async fn a_stream_processor_starts_from_the_latest() {
    use crash_job::{JOB, Job, settings, storage};
    let root = FlinkPath::parse("memory:/checkpoints").unwrap();
    let stores = Stores::new().with_store(&root, Arc::new(RuleStore::default()));
    let open = storage(stores, &root, Settings { latest_file: true, ..settings() }, 1).unwrap();
    assert_eq!(open.latest(JOB).await.unwrap_err().kind(), ErrorKind::NotFound, "there is no such job");
    let mut job = Job::start(open.clone(), Arc::default()).await.unwrap();
    assert_eq!(open.latest(JOB).await.unwrap(), Latest { found: None, passed_over: vec![], hint: None });
    assert_eq!(open.restore_latest(JOB).await.unwrap_err().kind(), ErrorKind::NotFound);
    for _ in 0..2 {
        job.change(&[3000, 900], |_| true);
        job.checkpoint().await.unwrap();
    }
    job.coordinator.settle().await.unwrap();
    let directory = job.coordinator.directory().checkpoint(CheckpointId(2)).unwrap();
    let restored = open.restore_latest(JOB).await.unwrap();
    assert_eq!(restored.checkpoint().directory.name(), directory.name());
    // The same by the directory, and by the metadata in it.
    for path in [directory.name().clone(), directory.join("_metadata").unwrap().name().clone()] {
        assert_eq!(open.restore(&path).await.unwrap().checkpoint().bytes, restored.checkpoint().bytes);
    }
    directory.join("_metadata").unwrap().replace("damaged".into()).await.unwrap();
    let restored = open.restore_latest(JOB).await.unwrap();
    assert_eq!(restored.checkpoint().decoded.metadata.checkpoint_id, CheckpointId(1));
    let latest = open.latest(JOB).await.unwrap();
    assert_eq!(latest.passed_over.iter().map(|passed| passed.checkpoint.0).collect::<Vec<_>>(), [2]);
    assert_eq!(latest.hint.unwrap().checkpoint, CheckpointId(2));
}

#[test]
fn callers_without_a_runtime_have_it_too() {
    let directory = tempfile::tempdir().unwrap();
    let root = format!("file:{}", directory.path().display());
    let config = Config::from_map([("execution.checkpointing.dir", root.as_str()), ("drystone.latest-file", "true")]);
    let storage = drystone::blocking::Storage::open(&config).unwrap();
    let coordinator = storage.coordinator(live::JOB, vec![]).unwrap();
    let checkpoint = coordinator.next_checkpoint();
    coordinator.trigger(checkpoint).unwrap();
    let completed = coordinator.complete(checkpoint).unwrap();
    coordinator.settle().unwrap();
    assert_eq!(storage.latest(live::JOB).unwrap().found.unwrap().path, completed.path);
    storage.restore_latest(live::JOB).unwrap();
    let file = directory.path().join(live::JOB.to_string()).join("_drystone/latest");
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().next(), Some(format!("{root}/{}/chk-1", live::JOB).as_str()));
}
