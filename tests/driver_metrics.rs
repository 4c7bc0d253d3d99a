//! What the driver has to show of a job's checkpoints, in paused time over a store in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/gauges.rs"]
mod gauges;
#[path = "support/live.rs"]
mod live;
#[path = "support/paced.rs"]
mod paced;
#[path = "support/rule_store.rs"]
mod rule_store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use drystone::ErrorKind;
use drystone::coordinator::SavepointRequest;
use drystone::driver::Outcome;
use drystone::id::CheckpointId;
use drystone::protocol::{SavepointAction, SavepointFormat};
use drystone::schedule::{Backup, Failure, Kind, RequestId, ScheduleSettings};
use drystone::store::FlinkPath;
use gauges::Gauges;
use live::Live;
use paced::{Paced, every_ten, seconds};
use rule_store::{Act, RuleStore};
use tokio::time::sleep;

const JOB: &str = "01010101010101010101010101010101";

/// All, under way, completed, failed.
fn counts(gauges: &Gauges) -> [f64; 4] {
    let numbers =
        ["InProgress", "Completed", "Failed"].map(|which| gauges.of(&format!("numberOf{which}Checkpoints"), JOB));
    let [under_way, completed, failed] = numbers.map(Option::unwrap);
    [gauges.of("totalNumberOfCheckpoints", JOB).unwrap(), under_way, completed, failed]
}

/// Number, milliseconds, and bytes: new, all, metadata.
fn last(gauges: &Gauges) -> Option<[f64; 5]> {
    let names = ["edCheckpointId", "Duration", "Size", "FullSize", "MetadataSize"];
    let name = |name: &str| match name {
        "edCheckpointId" => "lastCompletedCheckpointId".to_owned(),
        other => format!("lastCheckpoint{other}"),
    };
    let values = names.map(|of| gauges.of(&name(of), JOB));
    values[0]?;
    Some(values.map(Option::unwrap))
}

#[tokio::test(start_paused = true)]
async fn the_gauges_follow_the_checkpoints() {
    let gauges = Gauges::default();
    let _recorder = metrics::set_default_local_recorder(&gauges);
    let store = RuleStore::default();
    let schedule = ScheduleSettings { failures_tolerated: 100, timeout: seconds(25), ..every_ten() };
    let job = Paced::new(Arc::new(store.clone()), schedule).await;
    job.workers.take_so_long(seconds(3));
    job.workers.ignore(2);
    sleep(seconds(1)).await;
    assert_eq!((counts(&gauges), last(&gauges)), ([0.0; 4], None));
    sleep(seconds(10)).await;
    assert_eq!((counts(&gauges), last(&gauges)), ([1.0, 1.0, 0.0, 0.0], None));
    sleep(seconds(5)).await;
    assert_eq!(counts(&gauges), [1.0, 0.0, 1.0, 0.0]);
    let [number, took, new, all, metadata] = last(&gauges).unwrap();
    assert_eq!((number, took, all), (1.0, 3000.0, 300.0), "three subtasks have 100 bytes each");
    let directory = job.coordinator().directory().checkpoint(CheckpointId(1)).unwrap();
    let files = directory.list().await.unwrap();
    let (its, data): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.path.file_name() == Some("_metadata"));
    assert_eq!(metadata, its[0].size as f64);
    assert_eq!(new, data.iter().map(|file| file.size).sum::<u64>() as f64);
    assert!(data.len() == 3 && new > 300.0);

    // The second is ignored, and expires; a request is declined; another's commit fails.
    sleep(seconds(30)).await;
    assert_eq!(counts(&gauges)[3], 1.0);
    assert_eq!(last(&gauges).unwrap()[0], 1.0);
    job.handle.stop().await.unwrap();
    sleep(seconds(5)).await;
    let [begun, under_way, completed, failed] = counts(&gauges);
    assert_eq!((under_way, begun), (0.0, completed + failed));
    job.handle.start().await.unwrap();

    let (directory, format, action) =
        (FlinkPath::parse("memory:/savepoints").unwrap(), SavepointFormat::Native, SavepointAction::None);
    let request = SavepointRequest { directory, format, action, pack: false };
    let saved = job.handle.savepoint(RequestId(1), request.clone()).await.unwrap();
    let Outcome::Completed(saved) = saved else { panic!("{saved}") };
    assert_eq!(counts(&gauges)[2], completed + 1.0, "a savepoint is one, too");
    let metadata = saved.metadata_bytes as f64;
    assert_eq!(last(&gauges).unwrap(), [saved.checkpoint.0 as f64, 3000.0, 0.0, 0.0, metadata]);

    store.rule("put", "_metadata", Act::Fail, usize::MAX);
    let outcome = job.handle.request(RequestId(2), Kind::OnRequest(Backup::Full)).await.unwrap();
    assert!(matches!(outcome, Outcome::Failed { failure: Failure::Commit, .. }), "{outcome}");
    assert_eq!(counts(&gauges)[3], failed + 1.0);
    store.obey();
    job.end().await.unwrap();
    let [begun, under_way, completed, failed] = counts(&gauges);
    assert_eq!((under_way, begun), (0.0, completed + failed));
}

/// Its successor counts under the same name.
#[tokio::test(start_paused = true)]
async fn nothing_is_under_way_of_a_driver_that_was_fenced_off() {
    let gauges = Gauges::default();
    let _recorder = metrics::set_default_local_recorder(&gauges);
    let store = RuleStore::default();
    let job = Paced::new(Arc::new(store.clone()), every_ten()).await;
    job.workers.take_so_long(seconds(3));
    sleep(seconds(11)).await;
    assert_eq!(counts(&gauges), [1.0, 1.0, 0.0, 0.0]);
    let next = AtomicU64::new(1000);
    let tokens = Arc::new(move || next.fetch_add(1, Ordering::Relaxed));
    let _successor = Live::with_tokens(Arc::new(store), 3, live::settings(), tokens).await;
    sleep(seconds(5)).await;
    assert_eq!(counts(&gauges)[1], 0.0);
    assert_eq!(job.end().await.unwrap_err().kind(), ErrorKind::Fenced);
}
