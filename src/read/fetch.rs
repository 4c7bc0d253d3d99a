//! Plans reads and carries them out: side by side, in order, within a memory bound.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;

use super::local::{Copies, Trust, local_limits};
use super::memory::ReadMemory;
use super::plan::{Fetch, Piece, ReadLimits, Wanted, plan};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::crc32c;
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
    pub(super) from: ReadFrom,
    /// Is more than half of it gap?
    is_sparse: bool,
    /// The bytes count against the memory bound until this is dropped.
    _permit: OwnedSemaphorePermit,
}

/// Where a read's bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFrom {
    Store,
    /// A copy on a local disk.
    Copy,
    /// The store, since the copy was no good.
    StoreInstead,
}

/// Where reads go.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) files: Arc<Vec<Location>>,
    pub(super) copies: Copies,
    /// By the number of a wanted range.
    pub(super) trusts: Arc<Vec<Trust>>,
}

impl Fetched {
    /// A piece's bytes. Pieces of a read that brought mostly gap are copied, so that a small one doesn't keep a large
    /// buffer alive.
    pub fn piece(&self, bytes: &Bytes, piece: usize) -> Bytes {
        let within = self.fetch.pieces[piece].within.clone();
        if self.is_sparse { Bytes::copy_from_slice(&bytes[within]) } else { bytes.slice(within) }
    }
}

/// Reads all that is `wanted` of `files`, as few reads as the store asks for.
pub fn fetches(files: Arc<Vec<Location>>, wanted: &[Wanted], limits: &ReadLimits) -> Fetches {
    let sources = Sources { files, copies: Copies::default(), trusts: Arc::default() };
    fetches_from(sources, wanted, limits, &ReadMemory::of(limits))
}

/// As [`fetches`], from copies where they are to be trusted, and within memory that others take from, too.
pub(super) fn fetches_from(sources: Sources, wanted: &[Wanted], limits: &ReadLimits, memory: &ReadMemory) -> Fetches {
    let plan = sources.plan(wanted, limits);
    let memory = memory.clone();
    // Taken one after another, in the consumer's order: the read that is consumed next never waits for one after it.
    let in_order = stream::iter(plan).then(move |(fetch, is_copied)| {
        let permit = memory.clone().take(fetch.range.end - fetch.range.start);
        async move { (permit.await, fetch, is_copied) }
    });
    let read = in_order.filter_map(move |(permit, fetch, is_copied)| {
        let sources = sources.clone();
        std::future::ready(permit.map(|permit| sources.read(fetch, is_copied, permit)))
    });
    read.buffered(limits.requests_max.max(1)).boxed()
}

impl Sources {
    /// The reads, and whether each is of a copy. What is read here and what there is planned by itself.
    fn plan(&self, wanted: &[Wanted], limits: &ReadLimits) -> Vec<(Fetch, bool)> {
        let of_store = if self.files.iter().all(Location::is_local) { local_limits(limits) } else { *limits };
        let is_copied = |number: usize| self.trusts.get(number).is_some_and(|trust| *trust != Trust::Store);
        if !(0..wanted.len()).any(is_copied) {
            return plan(wanted, &of_store).into_iter().map(|fetch| (fetch, false)).collect();
        }
        let only = |copied: bool| -> Vec<Wanted> {
            let length = |number, wanted: &Wanted| if is_copied(number) == copied { wanted.length } else { 0 };
            wanted.iter().enumerate().map(|(i, wanted)| Wanted { length: length(i, wanted), ..*wanted }).collect()
        };
        let mut reads: Vec<_> = plan(&only(true), &local_limits(limits)).into_iter().map(|f| (f, true)).collect();
        reads.extend(plan(&only(false), &of_store).into_iter().map(|fetch| (fetch, false)));
        // The pieces of a stream stay in order, which are all here or all there.
        reads.sort_by_key(|(fetch, _)| (fetch.file, fetch.range.start));
        reads
    }

    async fn read(self, fetch: Fetch, is_copied: bool, permit: OwnedSemaphorePermit) -> Fetched {
        let found = if is_copied { self.read_copy(&fetch).await } else { None };
        let (result, from) = match found {
            Some(found) => (Ok(found), ReadFrom::Copy),
            None => (self.read_store(&fetch).await, if is_copied { ReadFrom::StoreInstead } else { ReadFrom::Store }),
        };
        // Once for all pieces, of which there can be many thousands.
        let wanted: u64 = fetch.pieces.iter().map(|p| p.within.len() as u64).sum();
        let is_sparse = wanted * 2 < fetch.range.end - fetch.range.start;
        Fetched { fetch, result, from, is_sparse, _permit: permit }
    }

    /// What the copy has, if it is right.
    async fn read_copy(&self, fetch: &Fetch) -> Option<(Bytes, u64)> {
        let (copy, range) = (self.copies.of(fetch.file)?.clone(), fetch.range.clone());
        let file_bytes = copy.bytes;
        let bytes = self.copies.patience.ask(move |_| copy.read(&range)).await?.ok()?;
        let is_right = |piece: &Piece| match self.trusts.get(piece.wanted) {
            Some(Trust::Copy) => true,
            Some(Trust::Checked { length, crc32c: crc }) => {
                piece.within.len() as u64 == *length && crc32c(&bytes[piece.within.clone()]) == *crc
            }
            Some(Trust::Store) | None => false,
        };
        fetch.pieces.iter().all(is_right).then(|| (bytes.clone(), file_bytes))
    }

    async fn read_store(&self, fetch: &Fetch) -> Result<(Bytes, u64)> {
        match self.files.get(fetch.file) {
            Some(file) => file.read_sized(fetch.range.clone()).await,
            None => {
                let message = format!("a read of file number {} of {}", fetch.file, self.files.len());
                Err(Error::new(ErrorKind::Invalid, message))
            }
        }
    }
}
