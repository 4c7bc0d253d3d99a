//! The metrics: their reference page is current, and what is recorded arrives under the right name and label.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drystone::metrics::{self, FileMerging, Queue, RequestKind, Rewriting};
use metrics_crate::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

extern crate metrics as metrics_crate;

/// Keeps every value, by metric and label.
#[derive(Default)]
struct Kept {
    values: Arc<Mutex<BTreeMap<String, Vec<f64>>>>,
    described: Mutex<BTreeSet<String>>,
}

struct Series(String, Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

impl Series {
    fn keep(&self, value: f64) {
        self.1.lock().unwrap().entry(self.0.clone()).or_default().push(value);
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.keep(value as f64);
    }

    fn absolute(&self, value: u64) {
        self.keep(value as f64);
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.keep(value);
    }

    fn decrement(&self, value: f64) {
        self.keep(-value);
    }

    fn set(&self, value: f64) {
        self.keep(value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.keep(value);
    }
}

impl Kept {
    fn series(&self, key: &Key) -> Arc<Series> {
        let labels: Vec<_> = key.labels().map(|label| format!(" {}={}", label.key(), label.value())).collect();
        Arc::new(Series(format!("{}{}", key.name(), labels.concat()), self.values.clone()))
    }

    fn describe(&self, name: &KeyName) {
        self.described.lock().unwrap().insert(name.as_str().to_owned());
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}

#[test]
fn the_reference_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("design/metrics.md");
    if std::env::var_os("DRYSTONE_UPDATE").is_some() {
        std::fs::write(&path, metrics::reference()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, metrics::reference(), "DRYSTONE_UPDATE=1 cargo test --test metrics writes it again");
}

#[test]
fn names_are_unique_and_flinks_gauges_have_flinks_names() {
    let names: BTreeSet<_> = metrics::CATALOGUE.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), metrics::CATALOGUE.len());
    for name in ["logicalFileCount", "logicalFileSize", "physicalFileCount", "physicalFileSize"] {
        assert!(names.contains(format!("fileMerging.{name}").as_str()), "{name}");
    }
    for kind in RequestKind::ALL {
        assert_eq!(metrics::REQUESTS.label.unwrap().1[kind as usize], kind.name());
    }
}

#[test]
fn all_are_described_and_recorded_under_their_own_names() {
    let kept = Kept::default();
    metrics_crate::with_local_recorder(&kept, || {
        metrics::describe();
        metrics::request(RequestKind::Get);
        metrics::requests(RequestKind::Copy, 3);
        metrics::uploaded(5);
        metrics::rewritten(Rewriting::Waste, 7);
        metrics::rewritten(Rewriting::Background, 11);
        metrics::inlined(13);
        metrics::waited(Queue::Leases, Duration::from_millis(500));
        metrics::seal_took(Duration::from_secs(2));
        metrics::commit_took(Duration::from_secs(3));
        metrics::delete_failed();
        metrics::delete_retried();
        metrics::orphans_found(17);
        let job = metrics::JobGauges::new("j");
        job.set(FileMerging { logical_files: 19, logical_bytes: 20, physical_files: 29, physical_bytes: 30 });
        job.set(FileMerging::default());
    });
    let described: BTreeSet<_> = metrics::CATALOGUE.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(*kept.described.lock().unwrap(), described);
    let expected: BTreeMap<String, Vec<f64>> = [
        ("drystone.store.requests kind=get", vec![1.0]),
        ("drystone.store.requests kind=copy", vec![3.0]),
        ("drystone.store.bytes_uploaded", vec![5.0]),
        ("drystone.bytes_rewritten reason=waste", vec![7.0]),
        ("drystone.bytes_rewritten reason=background", vec![11.0]),
        ("drystone.inline.bytes", vec![13.0]),
        ("drystone.inline.segments", vec![1.0]),
        ("drystone.wait_seconds queue=leases", vec![0.5]),
        ("drystone.seal_seconds", vec![2.0]),
        ("drystone.commit_seconds", vec![3.0]),
        ("drystone.deletes.failed", vec![1.0]),
        ("drystone.deletes.retried", vec![1.0]),
        ("drystone.orphans_found", vec![17.0]),
        ("drystone.space_amplification job=j", vec![1.5, 1.0]),
        ("fileMerging.logicalFileCount job=j", vec![19.0, 0.0]),
        ("fileMerging.logicalFileSize job=j", vec![20.0, 0.0]),
        ("fileMerging.physicalFileCount job=j", vec![29.0, 0.0]),
        ("fileMerging.physicalFileSize job=j", vec![30.0, 0.0]),
    ]
    .map(|(name, values)| (name.to_owned(), values))
    .into();
    assert_eq!(*kept.values.lock().unwrap(), expected);
}
