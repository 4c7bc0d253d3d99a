//! A file that one writer has for itself while it streams a long segment.

use bytes::Bytes;

use super::sealing::{Sealing, retire};
use super::state::{PoolState, Slot};
use super::{FilePool, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::write::Origin;
use crate::write::bounds::Held;
use crate::write::file::{OpenFile, Placement};

/// A guard: dropped, it retires the file, which only its own writer has put anything into, and lets the next have its
/// place. So a writer that is abandoned halfway blocks nobody.
pub(in crate::write) struct Lease {
    pool: FilePool,
    /// `None` only when it has been given back.
    file: Option<OpenFile>,
    #[allow(dead_code, reason = "held for its drop")]
    slot: Slot,
}

impl Lease {
    pub(super) fn new(pool: FilePool, file: OpenFile, slot: Slot) -> Self {
        Self { pool, file: Some(file), slot }
    }

    /// Adds bytes of the segment. Not cancel safe: dropped halfway, the lease can only be dropped.
    pub(in crate::write) async fn stream(&mut self, bytes: Vec<Bytes>, held: &mut Held) -> Result<()> {
        self.file()?.stream(bytes, held).await
    }

    /// Enters the segment whose bytes have all been added into the index.
    pub(in crate::write) fn record(&mut self, length: u64, crc32c: u32, origin: &Origin) -> Result<Placement> {
        Ok(self.file()?.record(length, crc32c, origin))
    }

    /// Gives the file back; shorter segments may fill what room is left. A pool that was closed meanwhile must not get
    /// another file, so it is retired.
    pub(in crate::write) async fn give_back(mut self, origin: &Origin) -> Result<()> {
        let shared = self.pool.shared.clone();
        let full = {
            let mut state = shared.state();
            shared.check_open()?;
            let Some(file) = self.file.take() else { return Ok(()) };
            state.leases -= 1;
            shared.take_back(&mut state, file, origin)
        };
        let pool = self.pool.clone();
        // The next may have the slot before an upload ends.
        drop(self);
        pool.settle(full).await
    }

    fn file(&mut self) -> Result<&mut OpenFile> {
        self.file.as_mut().ok_or_else(|| Error::new(ErrorKind::Invalid, "the file was given back"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.pool.shared.state().leases -= 1;
            retire(&self.pool.shared, file);
        }
    }
}

impl Shared {
    fn take_back(
        self: &std::sync::Arc<Self>,
        state: &mut PoolState,
        file: OpenFile,
        origin: &Origin,
    ) -> Option<Box<Sealing>> {
        let group = state.group_of(origin, &self.settings);
        let open = &mut state.groups[group].open;
        open.push(file);
        let index = open.len() - 1;
        self.take_full(state, group, index, origin)
    }
}
