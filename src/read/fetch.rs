//! Plans reads and carries them out: side by side, in order, within a memory bound.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::plan::{Fetch, ReadLimits, Wanted, plan};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Location;

/// The results of a plan's reads, in the plan's order.
///
/// Reads start when the stream is polled; dropping it ends them. It never holds more bytes than
/// [`ReadLimits::memory_bytes_max`], counting those that the consumer has not dropped its [`Fetched`] of.
pub type Fetches = Pin<Box<dyn Stream<Item = Fetched> + Send>>;

/// One read's result.
pub struct Fetched {
    /// What was read.
    pub fetch: Fetch,
    /// The bytes, and the length of the whole file.
    pub result: Result<(Bytes, u64)>,
    /// Is more than half of it gap?
    is_sparse: bool,
    /// The bytes count against the memory bound until this is dropped.
    _permit: OwnedSemaphorePermit,
}

/// Memory for reads, which all share that have a clone: the bytes under way or not yet consumed.
#[derive(Clone, Debug)]
pub struct ReadMemory {
    permits: Arc<Semaphore>,
    permits_max: u32,
    /// Others may have it all, and wait for their consumer: one read may go ahead all the same.
    spare: Option<Arc<Semaphore>>,
}

impl ReadMemory {
    /// So much as [`ReadLimits::memory_bytes_max`] says.
    pub fn of(limits: &ReadLimits) -> Self {
        let permits_max = u32::try_from(limits.memory_bytes_max / PERMIT_BYTES).unwrap_or(u32::MAX >> 4).max(1);
        Self { permits: Arc::new(Semaphore::new(permits_max as usize)), permits_max, spare: None }
    }

    /// The same memory, and one read more at a time.
    #[must_use]
    pub fn with_spare(&self) -> Self {
        Self { spare: Some(Arc::new(Semaphore::new(1))), ..self.clone() }
    }

    /// A read longer than all of it takes all.
    async fn take(self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let permits = bytes.div_ceil(PERMIT_BYTES).min(u64::from(self.permits_max)) as u32;
        let shared = self.permits.acquire_many_owned(permits);
        // Neither is ever closed.
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

impl Fetched {
    /// A piece's bytes. Pieces of a read that brought mostly gap are copied, so that a small one doesn't keep a large
    /// buffer alive.
    pub fn piece(&self, bytes: &Bytes, piece: usize) -> Bytes {
        let within = self.fetch.pieces[piece].within.clone();
        if self.is_sparse { Bytes::copy_from_slice(&bytes[within]) } else { bytes.slice(within) }
    }
}

/// Of one read of a local disk, which costs next to nothing to ask: what was read is checked while the next is made, and
/// its memory is still in the processor's cache.
const LOCAL_RANGE_BYTES_MAX: u64 = 1 << 20;

/// A local disk isn't asked to read over longer gaps than this: a read more costs less than the copy.
const LOCAL_GAP_BYTES_MAX: u64 = 32 << 10;

/// Reads all that is `wanted` of `files`, as few reads as the store asks for.
pub fn fetches(files: Arc<Vec<Location>>, wanted: &[Wanted], limits: &ReadLimits) -> Fetches {
    fetches_within(files, wanted, limits, &ReadMemory::of(limits))
}

/// As [`fetches`], within memory that others take from, too, instead of the limits'.
pub fn fetches_within(
    files: Arc<Vec<Location>>,
    wanted: &[Wanted],
    limits: &ReadLimits,
    memory: &ReadMemory,
) -> Fetches {
    let plan = match files.iter().all(Location::is_local) {
        true => {
            let range_bytes_max = limits.range_bytes_max.min(LOCAL_RANGE_BYTES_MAX);
            let gap_bytes_max = limits.gap_bytes_max.min(LOCAL_GAP_BYTES_MAX);
            plan(wanted, &ReadLimits { range_bytes_max, gap_bytes_max, ..*limits })
        }
        false => plan(wanted, limits),
    };
    let memory = memory.clone();
    // Taken one after another, in the consumer's order: the read that is consumed next never waits for one after it.
    let in_order = stream::iter(plan).then(move |fetch| {
        let permit = memory.clone().take(fetch.range.end - fetch.range.start);
        async move { (permit.await, fetch) }
    });
    let read = in_order.filter_map(move |(permit, fetch)| {
        let files = files.clone();
        std::future::ready(permit.map(|permit| read_one(files, fetch, permit)))
    });
    read.buffered(limits.requests_max.max(1)).boxed()
}

/// The memory bound's grain: a semaphore counts 32-bit permits.
const PERMIT_BYTES: u64 = 4096;

async fn read_one(files: Arc<Vec<Location>>, fetch: Fetch, permit: OwnedSemaphorePermit) -> Fetched {
    let result = match files.get(fetch.file) {
        Some(file) => file.read_sized(fetch.range.clone()).await,
        None => Err(Error::new(ErrorKind::Invalid, format!("a read of file number {} of {}", fetch.file, files.len()))),
    };
    // Once for all pieces, of which there can be many thousands.
    let wanted: u64 = fetch.pieces.iter().map(|p| p.within.len() as u64).sum();
    let is_sparse = wanted * 2 < fetch.range.end - fetch.range.start;
    Fetched { fetch, result, is_sparse, _permit: permit }
}
