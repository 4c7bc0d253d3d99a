//! How long a local disk is waited for: one that hangs must not hold up a restore, which has the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::backup::LocalDirectories;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU64};

/// A disk from which nothing comes for so long hangs. One that does its best under load needs far less for a read of a
/// megabyte.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Of all reads of copies for one restore: who has waited in vain once waits no more. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    is_over: Arc<AtomicBool>,
    /// No call blocks, so that there is nothing to wait for.
    is_needless: bool,
}

/// Told of each call to a disk that has come back.
pub(super) struct Steps(Arc<AtomicU64>);

impl Steps {
    pub(super) fn step(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Patience {
    /// With the disks of these directories.
    pub(super) fn with(local: &LocalDirectories) -> Self {
        Self { is_needless: !local.disk().blocks(), ..Self::default() }
    }

    /// The answer of something that blocks; `None` if it hasn't come a step further for [`WAIT_MAX`], or another before it
    /// hadn't. What hangs keeps its thread until the disk goes on, and no more are started.
    pub(super) async fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&Steps) -> T + Send + 'static) -> Option<T> {
        if self.is_over.load(Relaxed) {
            return None;
        }
        let steps = Arc::new(AtomicU64::new(0));
        let told = Steps(steps.clone());
        if self.is_needless {
            return Some(ask(&told));
        }
        let mut answer = spawn_blocking(move || ask(&told));
        let mut seen = 0;
        loop {
            if let Ok(answer) = timeout(WAIT_MAX, &mut answer).await {
                return answer.ok();
            }
            let now = steps.load(Relaxed);
            if now == seen {
                if !self.is_over.swap(true, Relaxed) {
                    tracing::warn!(waited = ?WAIT_MAX, "a local disk hangs: the store is read instead of copies on it");
                }
                return None;
            }
            seen = now;
        }
    }
}
