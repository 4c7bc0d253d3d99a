//! Keeps the last value of every gauge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// By name and job.
type Values = Arc<Mutex<BTreeMap<(String, String), f64>>>;

#[derive(Default)]
pub struct Gauges {
    pub described: Mutex<BTreeSet<String>>,
    values: Values,
}

impl Gauges {
    pub fn of(&self, name: &str, job: &str) -> Option<f64> {
        self.values.lock().unwrap().get(&(name.to_owned(), job.to_owned())).copied()
    }
}

struct One((String, String), Values);

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

struct Nothing;

impl CounterFn for Nothing {
    fn increment(&self, _: u64) {}

    fn absolute(&self, _: u64) {}
}

impl HistogramFn for Nothing {
    fn record(&self, _: f64) {}
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.described.lock().unwrap().insert(key.as_str().to_owned());
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Nothing))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let job = key.labels().find(|label| label.key() == "job").map(|label| label.value().to_owned());
        Gauge::from_arc(Arc::new(One((key.name().to_owned(), job.unwrap_or_default()), self.values.clone())))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Nothing))
    }
}
