//! Memory for what is read, bounded: who wants some waits for it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::plan::ReadLimits;

/// The memory bound's grain: a semaphore counts 32-bit permits.
const PERMIT_BYTES: u64 = 4096;

/// Memory for reads, which all share that have a clone: the bytes under way or not yet consumed.
#[derive(Clone, Debug)]
pub(crate) struct ReadMemory {
    permits: Arc<Semaphore>,
    permits_max: u32,
    /// Others may have it all, and wait for their consumer: one read may go ahead all the same.
    spare: Option<Arc<Semaphore>>,
}

impl ReadMemory {
    /// So much as `memory_bytes_max` says.
    pub(crate) fn of(limits: &ReadLimits) -> Self {
        let permits_max = u32::try_from(limits.memory_bytes_max / PERMIT_BYTES).unwrap_or(u32::MAX >> 4).max(1);
        Self { permits: Arc::new(Semaphore::new(permits_max as usize)), permits_max, spare: None }
    }

    /// The same memory, and one read more at a time.
    #[must_use]
    pub(crate) fn with_spare(&self) -> Self {
        Self { spare: Some(Arc::new(Semaphore::new(1))), ..self.clone() }
    }

    /// Waits for so much of it, which is given back with the permit; who wants more than there is gets all. Always `Some`: the
    /// semaphore is never closed. In order of the calls' first polls.
    pub(crate) async fn take(self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let permits = bytes.div_ceil(PERMIT_BYTES).min(u64::from(self.permits_max)) as u32;
        let shared = self.permits.acquire_many_owned(permits);
        match self.spare {
            None => shared.await.ok(),
            Some(spare) => tokio::select! {
                biased;
                permit = shared => permit.ok(),
                permit = spare.acquire_owned() => permit.ok(),
            },
        }
    }
}
