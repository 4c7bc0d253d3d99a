//! As `src/sync.rs`, of the explorer: every use is a point at which it may switch to another task.

pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};

use atomic::{AtomicBool, Ordering::SeqCst};

/// A cell that is set once.
#[derive(Debug, Default)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    /// Only to be looked at.
    touched: AtomicBool,
}

impl<T> OnceLock<T> {
    pub(crate) const fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), touched: AtomicBool::new(false) }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.touched.load(SeqCst);
        self.value.get()
    }

    pub(crate) fn get_or_init(&self, value: impl FnOnce() -> T) -> &T {
        self.touched.store(true, SeqCst);
        // Nobody makes a value that waits.
        self.value.get_or_init(value)
    }
}
