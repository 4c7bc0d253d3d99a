//! What all pools of one process share: the memory they may hold, and how many files may be on their way.
//!
//! No queue of its own: who would exceed a bound waits here, in order of arrival.

use std::pin::pin;
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::spares::Spares;
use crate::error::{Error, Result};
use crate::metrics::{self, Queue};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use crate::sync::{Mutex, MutexGuard};

/// Bounds on memory and on uploads. Cheap to clone; all clones are the same bounds.
///
/// Counted are the bytes that writers buffer, and those of files that are not durable yet. A writer that would exceed
/// the bound has the fullest open file sealed and waits, in order of arrival, until bytes are released. If nothing is
/// on its way and nothing can be sealed, waiting would be for ever: it goes ahead. So the bound is exceeded by at most
/// one buffer for each writer: its longest buffered segment, or when it streams, five parts of 8 MiB and one write.
#[derive(Clone)]
pub struct Bounds {
    inner: Arc<Inner>,
}

struct Inner {
    buffered_bytes_max: u64,
    uploads_max: usize,
    /// Taken by a seal while it talks to the store.
    permits: Semaphore,
    buffered_bytes: AtomicU64,
    /// Writers that wait for memory; while there are any, nobody overtakes them.
    waiting: AtomicUsize,
    /// Held by the writer whose turn it is; hands itself on in order of arrival.
    turn: tokio::sync::Mutex<()>,
    /// Told when bytes are released to somebody who waits, and when anything on its way has ended.
    changed: Notify,
    /// Never held across an await, nor while another lock is taken.
    under_way: Mutex<UnderWay>,
    spares: Spares,
    /// As `under_way`.
    pools: Mutex<Vec<Weak<dyn Shed>>>,
}

/// What runs in tasks of its own.
#[derive(Default)]
struct UnderWay {
    seals: usize,
    /// Bytes that the seals will release.
    seal_bytes: u64,
    retirements: usize,
    /// The first upload that couldn't be aborted.
    error: Option<Error>,
}

/// A pool that can make room.
pub(super) trait Shed: Send + Sync {
    /// Bytes in memory that sealing its fullest file would release in the end; none if no file is open.
    fn fullest(&self) -> Option<u64>;
    /// Has that file sealed; false if there is none any more.
    fn seal_fullest(self: Arc<Self>) -> bool;
    /// Files being filled, by a lease or not.
    fn open_files(&self) -> usize;
}

impl Bounds {
    /// Bounds for pools that share them: bytes held in memory, and files that talk to the store at once (at least one).
    pub fn new(buffered_bytes_max: u64, uploads_max: usize) -> Self {
        Self::with(buffered_bytes_max, uploads_max, uploads_max.clamp(1, Semaphore::MAX_PERMITS))
    }

    /// For a pool by itself, whose settings bound its memory: a writer waits when it has started one upload too many.
    pub(super) fn alone(uploads_max: usize) -> Self {
        Self::with(u64::MAX, uploads_max, Semaphore::MAX_PERMITS)
    }

    fn with(buffered_bytes_max: u64, uploads_max: usize, permits: usize) -> Self {
        let inner = Inner {
            buffered_bytes_max,
            uploads_max,
            permits: Semaphore::new(permits),
            buffered_bytes: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            under_way: Mutex::default(),
            spares: Spares::default(),
            pools: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Bytes that writers buffer, and those of files that are not durable yet.
    pub fn buffered_bytes(&self) -> u64 {
        self.inner.buffered_bytes.load(SeqCst)
    }

    /// Files being sealed.
    pub fn uploads(&self) -> usize {
        self.inner.under_way().seals
    }

    /// Files being filled, in all pools.
    pub fn open_files(&self) -> usize {
        self.inner.pools().iter().map(|pool| pool.open_files()).sum()
    }

    /// Waits until nothing is on its way: no seal, and no upload that is being aborted.
    ///
    /// # Errors
    /// `Store`: an upload couldn't be aborted since the last call; the store's own rules have to remove its parts.
    pub async fn settled(&self) -> Result<()> {
        self.until(|under_way| under_way.seals == 0 && under_way.retirements == 0).await;
        self.inner.under_way().error.take().map_or(Ok(()), Err)
    }

    /// Waits while more files are on their way than may be.
    pub(super) async fn uploads_bounded(&self) {
        let most = self.inner.uploads_max;
        if self.inner.under_way().seals > most {
            let started = Instant::now();
            self.until(|under_way| under_way.seals <= most).await;
            metrics::waited(Queue::Uploads, started.elapsed());
        }
    }

    /// Nothing held yet.
    pub(super) fn hold(&self) -> Held {
        Held { bounds: self.clone(), bytes: 0 }
    }

    pub(super) fn register(&self, pool: Weak<dyn Shed>) {
        let mut pools = self.inner.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    /// Counts a seal that releases so many bytes, until the guard is dropped.
    pub(super) fn sealing(&self, bytes: u64) -> OnItsWay {
        let mut under_way = self.inner.under_way();
        under_way.seals += 1;
        under_way.seal_bytes += bytes;
        OnItsWay { bounds: self.clone(), what: What::Seal { bytes } }
    }

    /// Counts an upload that is being aborted, until the guard is dropped.
    pub(super) fn retiring(&self) -> OnItsWay {
        self.inner.under_way().retirements += 1;
        OnItsWay { bounds: self.clone(), what: What::Retirement { error: None } }
    }

    async fn until(&self, holds: impl Fn(&UnderWay) -> bool) {
        loop {
            // Registered before the look, so that no end falls in between.
            let mut changed = pin!(self.inner.changed.notified());
            changed.as_mut().enable();
            if holds(&self.inner.under_way()) {
                return;
            }
            changed.await;
        }
    }

    /// Takes bytes when it is this writer's turn and there is room, or nothing to wait for.
    async fn take(&self, bytes: u64) {
        let inner = &*self.inner;
        let _waiting = Waiting::new(inner);
        let _turn = inner.turn.lock().await;
        loop {
            let mut changed = pin!(inner.changed.notified());
            changed.as_mut().enable();
            if inner.try_take(bytes) {
                return;
            }
            let will_fit = inner.make_room(bytes);
            if inner.under_way().seals > 0 {
                changed.await;
            } else if !will_fit && !inner.will_fit(bytes) {
                inner.buffered_bytes.fetch_add(bytes, SeqCst);
                return;
            }
            // Else what was on its way has ended since, and there may be room now.
        }
    }
}

impl Inner {
    fn try_take(&self, bytes: u64) -> bool {
        let grown = |held: u64| held.checked_add(bytes).filter(|&held| held <= self.buffered_bytes_max);
        self.buffered_bytes.fetch_update(SeqCst, SeqCst, grown).is_ok()
    }

    /// Is there room once all that is on its way has arrived?
    fn will_fit(&self, bytes: u64) -> bool {
        let released = self.under_way().seal_bytes;
        let held = self.buffered_bytes.load(SeqCst).saturating_sub(released);
        held.saturating_add(bytes) <= self.buffered_bytes_max
    }

    /// Has files sealed until there will be room; false if nothing is left to be sealed, and there won't be.
    fn make_room(&self, bytes: u64) -> bool {
        while !self.will_fit(bytes) {
            if !self.seal_fullest() {
                return false;
            }
        }
        true
    }

    fn seal_fullest(&self) -> bool {
        let fullest = self.pools().into_iter().filter_map(|pool| Some((pool.fullest()?, pool)));
        fullest.max_by_key(|(bytes, _)| *bytes).is_some_and(|(_, pool)| pool.seal_fullest())
    }

    fn pools(&self) -> Vec<Arc<dyn Shed>> {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.iter().filter_map(Weak::upgrade).collect()
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.waiting.fetch_add(1, SeqCst);
        Self(inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

/// Bytes in memory, released on drop.
pub(super) struct Held {
    bounds: Bounds,
    bytes: u64,
}

impl Held {
    /// Holds more; waits while there is no room. Cancelled, it holds what it held before.
    pub(super) async fn grow(&mut self, bytes: u64) {
        let inner = &*self.bounds.inner;
        if inner.waiting.load(SeqCst) > 0 || !inner.try_take(bytes) {
            let started = Instant::now();
            self.bounds.take(bytes).await;
            metrics::waited(Queue::Memory, started.elapsed());
        }
        self.bytes += bytes;
    }

    /// Takes over what another holds of the same bounds.
    pub(super) fn absorb(&mut self, other: &mut Held) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Releases all but so many bytes.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        let released = self.bytes.saturating_sub(bytes);
        if released > 0 {
            self.bytes -= released;
            let inner = &*self.bounds.inner;
            inner.buffered_bytes.fetch_sub(released, SeqCst);
            if inner.waiting.load(SeqCst) > 0 {
                inner.changed.notify_waiters();
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Buffers to be filled again.
    pub(super) fn spares(&self) -> &Spares {
        &self.bounds.inner.spares
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Something that runs in a task of its own; counted until it is dropped.
pub(super) struct OnItsWay {
    bounds: Bounds,
    what: What,
}

enum What {
    Seal { bytes: u64 },
    Retirement { error: Option<Error> },
}

impl OnItsWay {
    /// Waits for its turn to talk to the store. The permit goes back with the future that holds it.
    pub(super) async fn permit(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // Never closed, so there is always one.
        self.bounds.inner.permits.acquire().await.ok()
    }

    /// The upload couldn't be aborted.
    pub(super) fn failed(&mut self, failure: Error) {
        if let What::Retirement { error } = &mut self.what {
            *error = Some(failure);
        }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let mut under_way = self.bounds.inner.under_way();
        match &mut self.what {
            What::Seal { bytes } => {
                under_way.seals -= 1;
                under_way.seal_bytes -= *bytes;
            }
            What::Retirement { error } => {
                under_way.retirements -= 1;
                if let Some(error) = error.take() {
                    under_way.error.get_or_insert(error);
                }
            }
        }
        drop(under_way);
        self.bounds.inner.changed.notify_waiters();
    }
}
