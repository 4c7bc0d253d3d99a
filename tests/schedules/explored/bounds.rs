//! Pools that share what memory and what uploads there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use drystone::id::Scope;
use drystone::write::{Bounds, FilePool, PoolMode, Written};
use futures::future::{BoxFuture, join_all};
use object_store::memory::InMemory;

use crate::explore::explore;
use crate::scheduled_store::ScheduledStore;
use crate::site::{Segment, Site, write, write_settings};

/// Requests at the same time, now and at most.
#[derive(Default)]
struct InFlight {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A store in which a request takes its time.
fn slow_store(in_flight: &Arc<InFlight>) -> Arc<ScheduledStore> {
    let in_flight = in_flight.clone();
    let before = move |_| -> BoxFuture<'static, ()> {
        let in_flight = in_flight.clone();
        Box::pin(async move {
            let now = in_flight.now.fetch_add(1, SeqCst) + 1;
            in_flight.most.fetch_max(now, SeqCst);
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
            in_flight.now.fetch_sub(1, SeqCst);
        })
    };
    Arc::new(ScheduledStore::new(Arc::new(InMemory::new()), Arc::new(before)))
}

struct Shared {
    site: Site,
    pools: [FilePool; 2],
    bounds: Bounds,
    bytes_max: u64,
}

impl Shared {
    async fn write(self: Arc<Self>, index: u32, lengths: &[usize]) -> Vec<(usize, Segment)> {
        let mut segments = Vec::new();
        for (number, &length) in lengths.iter().enumerate() {
            let pool = (index as usize + number) % 2;
            let seed = u64::from(index) * 10 + number as u64;
            segments.push((pool, write(&self.pools[pool], index, seed, length).await.unwrap()));
            let held = self.bounds.buffered_bytes();
            assert!(held <= self.bytes_max, "{held} bytes are held, of {} at most", self.bytes_max);
        }
        segments
    }
}

/// `bytes` and `uploads` are the bounds; beyond the former there may be `excess`.
async fn within(bytes: u64, uploads: usize, excess: u64, writers: &[&'static [usize]]) {
    let in_flight = Arc::new(InFlight::default());
    let (site, bounds) = (Site::new(slow_store(&in_flight)), Bounds::new(bytes, uploads));
    let settings = write_settings(PoolMode::NonBlocking);
    let pools = [Scope::Shared, Scope::Exclusive].map(|scope| site.pool(scope, settings, &bounds));
    let shared = Arc::new(Shared { site, pools, bounds, bytes_max: bytes + excess });
    let tasks = writers.iter().enumerate().map(|(index, lengths)| {
        let shared = shared.clone();
        tokio::spawn(shared.write(index as u32, lengths))
    });
    let done = join_all(tasks.collect::<Vec<_>>()).await;
    let [first, second] = &shared.pools;
    let sealed = [first.seal().await.unwrap(), second.seal().await.unwrap()];
    shared.bounds.settled().await.unwrap();
    assert_eq!((shared.bounds.buffered_bytes(), shared.bounds.uploads(), shared.bounds.open_files()), (0, 0, 0));
    // Beside the uploads nobody has asked for anything yet.
    let most = in_flight.most.load(SeqCst);
    assert!(most <= uploads, "{most} uploads at a time, of {uploads} at most");
    for (pool, (written, bytes)) in done.into_iter().flat_map(Result::unwrap) {
        let Written::Placed(placement) = written else { panic!("{written:?}") };
        assert_eq!(shared.site.read(&sealed[pool].handle(&placement).unwrap()).await, bytes);
    }
    shared.site.files().await;
}

#[test]
fn what_can_be_sealed_is_sealed_before_more_is_held_than_may_be() {
    // Each of the three holds 3,000 bytes that it hasn't placed: with these alone all fit.
    explore("bounds, bytes", || within(9_000, 2, 0, &[&[3_000; 3], &[3_000; 3], &[3_000; 2]]));
}

#[test]
fn where_nothing_can_be_sealed_nobody_waits_for_ever() {
    // No room for one buffer: each exceeds it by its own.
    explore("bounds, too tight", || within(2_000, 1, 9_000, &[&[3_000; 2], &[3_000; 2], &[3_000; 2]]));
}

#[test]
fn uploads_wait_for_their_turn() {
    explore("bounds, uploads", || within(u64::MAX, 1, 0, &[&[3_500; 6], &[3_500; 6]]));
}
