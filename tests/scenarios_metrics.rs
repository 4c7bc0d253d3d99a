//! What Flink's tests of the metrics of file merging check, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/scenario.rs"]
mod scenario;

extern crate metrics as metrics_crate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use drystone::id::{CheckpointId, Scope};
use metrics_crate::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use scenario::{AMPLIFICATION, Job};

/// Keeps the last value of every gauge.
#[derive(Default)]
struct Gauges {
    described: Mutex<BTreeSet<String>>,
    values: Arc<Mutex<BTreeMap<String, f64>>>,
}

struct One(String, Arc<Mutex<BTreeMap<String, f64>>>);

impl GaugeFn for One {
    fn increment(&self, value: f64) {
        *self.1.lock().unwrap().entry(self.0.clone()).or_default() += value;
    }

    fn decrement(&self, value: f64) {
        GaugeFn::increment(self, -value);
    }

    fn set(&self, value: f64) {
        self.1.lock().unwrap().insert(self.0.clone(), value);
    }
}

impl CounterFn for One {
    fn increment(&self, _: u64) {}

    fn absolute(&self, _: u64) {}
}

impl HistogramFn for One {
    fn record(&self, _: f64) {}
}

impl Gauges {
    fn one(&self, key: &Key) -> Arc<One> {
        Arc::new(One(key.name().to_owned(), self.values.clone()))
    }

    fn now(&self) -> [f64; 4] {
        let values = self.values.lock().unwrap();
        let names = ["physicalFileCount", "logicalFileCount", "physicalFileSize", "logicalFileSize"];
        names.map(|name| values.get(&format!("fileMerging.{name}")).copied().unwrap_or_default())
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.described.lock().unwrap().insert(key.as_str().to_owned());
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}

/// Scenario 18 (testMetricsRegistration): Flink's four gauges have Flink's names, and there are no others under its prefix.
#[test]
fn flinks_four_gauges_have_flinks_names() {
    let gauges = Gauges::default();
    metrics_crate::with_local_recorder(&gauges, drystone::metrics::describe);
    let described = gauges.described.lock().unwrap();
    let flinks: Vec<_> = described.iter().filter(|name| name.starts_with("fileMerging.")).collect();
    let expected = ["logicalFileCount", "logicalFileSize", "physicalFileCount", "physicalFileSize"];
    assert_eq!(flinks, expected.map(|name| format!("fileMerging.{name}")).iter().collect::<Vec<_>>());
}

/// Scenario 19 (testMetricsAreUpdated): the gauges follow what checkpoints name, down to nothing.
#[test]
fn the_gauges_follow_the_checkpoints() {
    let gauges = Gauges::default();
    metrics_crate::with_local_recorder(&gauges, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let job = Job::new(&[(AMPLIFICATION, "0")]).await;
            assert_eq!(gauges.now(), [0.0; 4]);
            let mut round = job.begin();
            round.write(0, Scope::Shared, "a", vec![1; 100]).await;
            let (_, handles) = round.commit().await;
            let bytes = job.coordinator.space().file_bytes as f64;
            assert!(bytes > 100.0);
            assert_eq!(gauges.now(), [1.0, 1.0, bytes, 100.0]);

            let mut round = job.begin();
            round.write(0, Scope::Shared, "b", vec![1; 100]).await;
            round.keep(0, "a", &handles["a"]);
            round.acknowledge().await;
            job.abort(CheckpointId(2)).await;
            assert_eq!(gauges.now(), [1.0, 1.0, bytes, 100.0], "as before the one that was aborted");
            job.begin().commit().await;
            assert_eq!(gauges.now(), [0.0; 4]);
        });
    });
}
