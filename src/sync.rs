//! The locks, the atomics and the cells of whatever runs side by side: the standard library's.
//!
//! They have one home so that the same sources can be built on others: `tests/schedules` has those of a schedule explorer.

pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock, atomic};
