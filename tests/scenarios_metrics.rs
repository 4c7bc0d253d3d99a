//! What Flink's tests of the metrics of file merging check, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/gauges.rs"]
mod gauges;
#[path = "support/scenario.rs"]
mod scenario;

use drystone::id::{CheckpointId, Scope};
use gauges::Gauges;
use scenario::{AMPLIFICATION, JOB, Job};

/// Flink's own four.
fn now(gauges: &Gauges) -> [f64; 4] {
    let names = ["physicalFileCount", "logicalFileCount", "physicalFileSize", "logicalFileSize"];
    names.map(|name| gauges.of(&format!("fileMerging.{name}"), &JOB.to_string()).unwrap_or_default())
}

/// Scenario 18 (testMetricsRegistration): Flink's four gauges have Flink's names, and there are no others under its prefix.
#[test]
fn flinks_four_gauges_have_flinks_names() {
    let gauges = Gauges::default();
    metrics::with_local_recorder(&gauges, drystone::metrics::describe);
    let described = gauges.described.lock().unwrap();
    let flinks: Vec<_> = described.iter().filter(|name| name.starts_with("fileMerging.")).collect();
    let expected = ["logicalFileCount", "logicalFileSize", "physicalFileCount", "physicalFileSize"];
    assert_eq!(flinks, expected.map(|name| format!("fileMerging.{name}")).iter().collect::<Vec<_>>());
}

/// Scenario 19 (testMetricsAreUpdated): the gauges follow what checkpoints name, down to nothing.
#[test]
fn the_gauges_follow_the_checkpoints() {
    let gauges = Gauges::default();
    metrics::with_local_recorder(&gauges, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let job = Job::new(&[(AMPLIFICATION, "0")]).await;
            assert_eq!(now(&gauges), [0.0; 4]);
            let mut round = job.begin();
            round.write(0, Scope::Shared, "a", vec![1; 100]).await;
            let (_, handles) = round.commit().await;
            let bytes = job.coordinator.space().file_bytes as f64;
            assert!(bytes > 100.0);
            assert_eq!(now(&gauges), [1.0, 1.0, bytes, 100.0]);

            let mut round = job.begin();
            round.write(0, Scope::Shared, "b", vec![1; 100]).await;
            round.keep(0, "a", &handles["a"]);
            round.acknowledge().await;
            job.abort(CheckpointId(2)).await;
            assert_eq!(now(&gauges), [1.0, 1.0, bytes, 100.0], "as before the one that was aborted");
            job.begin().commit().await;
            assert_eq!(now(&gauges), [0.0; 4]);
        });
    });
}
