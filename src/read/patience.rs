//! How long a local disk is waited for: one that hangs must not hold up a restore, which has the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::backup::LocalDirectories;
use crate::sync::atomic::Ordering::{AcqRel, Relaxed};
use crate::sync::atomic::{AtomicI64, AtomicU8, AtomicU64};

/// A disk from which nothing comes for so long hangs. One that does its best under load needs far less for a read of a
/// megabyte.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Of all that reads there, one restore or several: while a call hangs nobody begins another. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    /// Calls that were waited for in vain, and haven't come back.
    hanging: Arc<AtomicI64>,
    /// No call blocks, so that there is nothing to wait for.
    is_needless: bool,
}

/// Told of each call to a disk that has come back.
pub(super) struct Steps(Arc<AtomicU64>);

/// Where an answer is: whoever is first says so.
const AWAITED: u8 = 0;
const THERE: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Steps {
    pub(super) fn step(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Patience {
    /// With the disks of these directories.
    pub(super) fn with(local: &LocalDirectories) -> Self {
        Self { hanging: local.hanging().clone(), is_needless: !local.disk().blocks() }
    }

    /// The answer of something that blocks; `None` if it hasn't come a step further for [`WAIT_MAX`], or another before it
    /// hadn't and still hasn't. What hangs keeps its thread until the disk goes on, and no more are started.
    pub(super) async fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&Steps) -> T + Send + 'static) -> Option<T> {
        if self.hanging.load(Relaxed) > 0 {
            return None;
        }
        let steps = Arc::new(AtomicU64::new(0));
        let told = Steps(steps.clone());
        if self.is_needless {
            return Some(ask(&told));
        }
        let state = Arc::new(AtomicU8::new(AWAITED));
        let (hanging, answered) = (self.hanging.clone(), state.clone());
        let mut answer = spawn_blocking(move || {
            let answer = ask(&told);
            if answered.swap(THERE, AcqRel) == GIVEN_UP {
                hanging.fetch_sub(1, Relaxed);
            }
            answer
        });
        let mut seen = 0;
        loop {
            if let Ok(answer) = timeout(WAIT_MAX, &mut answer).await {
                return answer.ok();
            }
            let now = steps.load(Relaxed);
            if now == seen && state.compare_exchange(AWAITED, GIVEN_UP, AcqRel, Relaxed).is_ok() {
                if self.hanging.fetch_add(1, Relaxed) == 0 {
                    tracing::warn!(waited = ?WAIT_MAX, "a local disk hangs: the store is read instead of copies on it");
                }
                return None;
            }
            seen = now;
        }
    }
}
