//! Which reads are made for a set of ranges, and how many bytes they hold at a time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod cases;
    pub mod watched_store;
}

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::read::{Fetch, Fetched, ReadLimits, Wanted, fetches, plan};
use drystone::store::{FlinkPath, Location, Stores};
use futures::StreamExt;
use proptest::prelude::*;
use support::cases::cases;
use support::watched_store::{Watch, WatchedStore};

fn limits(gap_bytes_max: u64, range_bytes_max: u64) -> ReadLimits {
    ReadLimits { gap_bytes_max, range_bytes_max, ..ReadLimits::default() }
}

fn want(file: usize, offset: u64, length: u64) -> Wanted {
    Wanted { file, offset, length }
}

fn ranges(fetches: &[Fetch]) -> Vec<(usize, u64, u64)> {
    fetches.iter().map(|f| (f.file, f.range.start, f.range.end)).collect()
}

/// Wanted ranges of a few small files, many of them neighbours, duplicates or overlapping.
fn wanteds() -> impl Strategy<Value = Vec<Wanted>> {
    let length = prop_oneof![1 => Just(0_u64), 8 => 1..40_u64, 2 => 40..400_u64];
    let want = (0..3_usize, 0..2_000_u64, length).prop_map(|(file, offset, length)| want(file, offset, length));
    let chain =
        (0..3_usize, 0..500_u64, prop::collection::vec((1..60_u64, 0..30_u64), 0..30)).prop_map(|(file, at, steps)| {
            let mut at = at;
            let mut chain = Vec::new();
            for (length, gap) in steps {
                chain.push(Wanted { file, offset: at, length });
                at += length + gap;
            }
            chain
        });
    (prop::collection::vec(want, 0..20), prop::collection::vec(chain, 0..3), any::<bool>()).prop_map(
        |(mut all, chains, twice)| {
            all.extend(chains.concat());
            if twice {
                all.extend(all.clone());
            }
            all
        },
    )
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn every_wanted_byte_is_read_once_and_in_order(wanted in wanteds(), gap in 0..50_u64, range in 1..200_u64) {
        let fetches = plan(&wanted, &limits(gap, range));
        let mut position: Vec<u64> = wanted.iter().map(|w| w.offset).collect();
        let mut lasts = vec![0; wanted.len()];
        for fetch in &fetches {
            prop_assert!(!fetch.pieces.is_empty());
            let length = fetch.range.end - fetch.range.start;
            prop_assert!((1..=range).contains(&length));
            for piece in &fetch.pieces {
                let want = wanted[piece.wanted];
                prop_assert_eq!(want.file, fetch.file);
                prop_assert_eq!(fetch.range.start + piece.within.start as u64, position[piece.wanted]);
                prop_assert!(piece.within.start < piece.within.end && piece.within.end as u64 <= length);
                position[piece.wanted] += (piece.within.end - piece.within.start) as u64;
                prop_assert_eq!(piece.last, position[piece.wanted] == want.offset + want.length);
                lasts[piece.wanted] += usize::from(piece.last);
            }
            let starts: Vec<_> = fetch.pieces.iter().map(|p| p.within.start).collect();
            prop_assert!(starts.is_sorted());
        }
        for (i, want) in wanted.iter().enumerate() {
            prop_assert_eq!(position[i], want.offset + want.length);
            prop_assert_eq!(lasts[i], usize::from(want.length > 0));
        }
        let reads = ranges(&fetches);
        prop_assert!(reads.windows(2).all(|w| (w[0].0, w[0].2) <= (w[1].0, w[1].1)), "sorted, and no byte twice");
    }

    #[test]
    fn small_gaps_are_read_and_large_ones_are_not(wanted in wanteds(), gap in 0..50_u64, range in 1..200_u64) {
        let fetches = plan(&wanted, &limits(gap, range));
        for fetch in &fetches {
            let mut end = 0;
            for piece in &fetch.pieces {
                prop_assert!(piece.within.start as u64 <= end + gap, "a gap above {} is read", gap);
                end = end.max(piece.within.end as u64);
            }
            prop_assert_eq!(end, fetch.range.end - fetch.range.start, "ends with a wanted byte");
            prop_assert_eq!(fetch.pieces[0].within.start, 0, "starts with a wanted byte");
        }
        for pair in fetches.windows(2).filter(|pair| pair[0].file == pair[1].file) {
            let between = pair[1].range.start - pair[0].range.end;
            // Where two reads are near, the first piece of the second would have made the first too long.
            let first = &pair[1].pieces[0];
            let whole = wanted[first.wanted].offset + wanted[first.wanted].length;
            let longest = pair[0].range.start + range;
            prop_assert!(between > gap || whole > longest || pair[1].range.end > longest, "{:?} could be one read", pair);
        }
    }

    #[test]
    fn no_range_is_too_far_out(
        wanted in prop::collection::vec((0..2_usize, u64::MAX - 100.., prop_oneof![0..300_u64, Just(u64::MAX)]), 0..20),
        gap in prop_oneof![0..50_u64, Just(u64::MAX)],
        range in prop_oneof![1..50_u64, Just(u64::MAX)],
    ) {
        let wanted: Vec<_> = wanted.into_iter().map(|(file, offset, length)| want(file, offset, length)).collect();
        let fetches = plan(&wanted, &limits(gap, range));
        prop_assert!(fetches.iter().all(|fetch| fetch.range.start < fetch.range.end));
    }
}

#[test]
fn ranges_without_a_byte_are_not_read() {
    assert_eq!(plan(&[], &ReadLimits::default()), []);
    assert_eq!(plan(&[want(0, 5, 0), want(1, u64::MAX, 0), want(1, u64::MAX, 9)], &ReadLimits::default()), []);
}

#[test]
fn neighbours_are_read_together_up_to_the_gap() {
    let wanted = [want(0, 0, 10), want(0, 20, 10), want(0, 41, 10), want(1, 51, 1)];
    assert_eq!(ranges(&plan(&wanted, &limits(10, 1_000))), [(0, 0, 30), (0, 41, 51), (1, 51, 52)]);
}

#[test]
fn a_long_range_is_cut_and_its_neighbour_is_not() {
    let wanted = [want(0, 0, 250), want(0, 250, 80)];
    assert_eq!(ranges(&plan(&wanted, &limits(0, 100))), [(0, 0, 100), (0, 100, 200), (0, 200, 250), (0, 250, 330)]);
}

#[test]
fn a_limit_of_nothing_reads_byte_by_byte() {
    assert_eq!(ranges(&plan(&[want(0, 7, 2)], &limits(0, 0))), [(0, 7, 8), (0, 8, 9)]);
}

/// Time isn't measured: a plan whose cost grows with the square of this would not end.
#[test]
fn many_ranges_are_planned() {
    const COUNT: u64 = 300_000;
    let side_by_side: Vec<_> = (0..COUNT).map(|i| want(0, i * 100, 90)).collect();
    assert_eq!(plan(&side_by_side, &limits(20, 1_000)).len() as u64, COUNT / 10);
    // A long range beneath them all stays open over every read.
    let beneath: Vec<_> = side_by_side.iter().copied().chain([want(0, 0, COUNT * 100)]).collect();
    let fetches = plan(&beneath, &limits(20, 1_000));
    let pieces: usize = fetches.iter().map(|fetch| fetch.pieces.len()).sum();
    assert!(pieces as u64 <= 3 * COUNT, "{pieces} pieces");
    let apart: Vec<_> = (0..COUNT).map(|i| want(i as usize % 7, i * 100, 9)).collect();
    assert_eq!(plan(&apart, &limits(0, 1_000)).len() as u64, COUNT);
}

/// Files of `lengths` bytes.
async fn files(lengths: &[usize]) -> (Arc<Vec<Location>>, Arc<Watch>) {
    let watch = Arc::new(Watch::default());
    let store = Arc::new(WatchedStore::new(watch.clone()));
    let stores = Stores::new().with_store(&FlinkPath::parse("memory://job/").unwrap(), store);
    let mut locations = Vec::new();
    for (number, &length) in lengths.iter().enumerate() {
        let location = stores.locate(&FlinkPath::parse(&format!("memory://job/{number}")).unwrap()).unwrap();
        let bytes: Bytes = (0..length).map(|at| (at * 31 + number) as u8).collect();
        location.create(vec![bytes]).await.unwrap();
        locations.push(location);
    }
    (Arc::new(locations), watch)
}

/// Uses a read's bytes up.
fn consume(watch: &Watch, fetched: Fetched) {
    let (bytes, _) = fetched.result.as_ref().unwrap();
    watch.bytes_read.fetch_sub(bytes.len() as u64, SeqCst);
}

#[tokio::test]
async fn reads_never_hold_more_than_the_bound() {
    for (memory, range, at_most) in
        [(1, 10_000, 10_000), (4_096, 10_000, 10_000), (9_000, 4_096, 8_192), (50_000, 10_000, 50_000)]
    {
        let (files, watch) = files(&[100_000, 3_000, 64_000]).await;
        let wanted = [want(0, 0, 100_000), want(1, 0, 3_000), want(2, 500, 63_000)];
        let limits = ReadLimits { memory_bytes_max: memory, requests_max: 32, ..limits(0, range) };
        let plan = plan(&wanted, &limits);
        let mut reads = fetches(files, &wanted, &limits);
        let mut order = Vec::new();
        while let Some(fetched) = reads.next().await {
            order.push(fetched.fetch.clone());
            consume(&watch, fetched);
        }
        assert_eq!(order, plan, "in the order of the plan");
        let held = watch.bytes_read_max.load(SeqCst);
        assert!(held <= at_most, "{held} bytes at once, of which {memory} are allowed");
    }
}

#[tokio::test]
async fn bytes_count_until_they_are_used_up() {
    let (files, watch) = files(&[40_960]).await;
    let limits = ReadLimits { memory_bytes_max: 8_192, ..limits(0, 4_096) };
    let mut reads = fetches(files, &[want(0, 0, 40_960)], &limits);
    let (first, second) = (reads.next().await.unwrap(), reads.next().await.unwrap());
    assert!(futures::poll!(reads.next()).is_pending(), "both are still held");
    assert_eq!(watch.gets.count.load(SeqCst), 2);
    drop(second);
    assert!(reads.next().await.is_some());
    drop(first);
    assert_eq!(reads.count().await, 7);
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_allowed() {
    let (files, watch) = files(&[100_000]).await;
    let limits = ReadLimits { requests_max: 3, ..limits(0, 1_000) };
    watch.gets.gate.forget_permits(usize::MAX);
    let mut reads = fetches(files, &[want(0, 0, 100_000)], &limits);
    assert!(futures::poll!(reads.next()).is_pending());
    assert_eq!(watch.gets.in_flight.load(SeqCst), 3);
    watch.gets.gate.add_permits(1_000);
    assert_eq!(reads.count().await, 100);
    assert_eq!(watch.gets.in_flight_max.load(SeqCst), 3);
}

#[tokio::test]
async fn one_read_fails_and_the_others_go_on() {
    let (files, watch) = files(&[1_000, 10, 1_000]).await;
    let wanted = [want(0, 0, 1_000), want(1, 0, 1_000), want(2, 0, 1_000), want(3, 0, 1)];
    let reads: Vec<_> = fetches(files, &wanted, &ReadLimits::default()).collect().await;
    let failures: BTreeMap<usize, ErrorKind> =
        reads.iter().filter_map(|read| Some((read.fetch.file, read.result.as_ref().err()?.kind()))).collect();
    assert_eq!(reads.len(), 4);
    assert_eq!(failures, BTreeMap::from([(1, ErrorKind::Damaged), (3, ErrorKind::Invalid)]));
    assert_eq!(watch.gets.count.load(SeqCst), 3);
}

/// There each read is as good as any other, and a short one is checked while the next is made.
#[tokio::test]
async fn a_local_disk_is_read_in_shorter_pieces() {
    let disk = tempfile::tempdir().unwrap();
    let file =
        Stores::new().locate(&FlinkPath::parse(&format!("file:{}/file", disk.path().display())).unwrap()).unwrap();
    file.create(vec![vec![7; 5 << 20].into()]).await.unwrap();
    let (elsewhere, _) = files(&[5 << 20]).await;
    let wanted = [want(0, 0, 5 << 20)];
    let lengths = async |files, limits: ReadLimits| {
        let reads: Vec<_> = fetches(files, &wanted, &limits).collect().await;
        reads.iter().map(|read| read.result.as_ref().unwrap().0.len()).collect::<Vec<_>>()
    };
    let here = Arc::new(vec![file]);
    assert_eq!(lengths(here.clone(), ReadLimits::default()).await, [1 << 20; 5]);
    let limits = ReadLimits { range_bytes_max: 2_500 << 10, ..ReadLimits::default() };
    assert_eq!(lengths(here.clone(), limits).await, [1 << 20; 5]);
    let limits = ReadLimits { range_bytes_max: 5 << 18, ..ReadLimits::default() };
    assert_eq!(lengths(here, ReadLimits { range_bytes_max: 5 << 17, ..limits }).await, [5 << 17; 8]);
    assert_eq!(lengths(elsewhere, limits).await, [5 << 18; 4]);
}

/// A read more costs less there than the copy of what lies between.
#[tokio::test]
async fn a_local_disk_is_not_read_over_long_gaps() {
    let disk = tempfile::tempdir().unwrap();
    let file =
        Stores::new().locate(&FlinkPath::parse(&format!("file:{}/file", disk.path().display())).unwrap()).unwrap();
    file.create(vec![vec![7; 1 << 20].into()]).await.unwrap();
    let wanted = [want(0, 0, 4096), want(0, 20_000, 4096), want(0, 200_000, 4096)];
    let reads: Vec<_> = fetches(Arc::new(vec![file]), &wanted, &ReadLimits::default()).collect().await;
    assert_eq!(reads.iter().map(|read| read.fetch.range.clone()).collect::<Vec<_>>(), [0..24_096, 200_000..204_096]);
    let (elsewhere, _) = files(&[1 << 20]).await;
    let reads: Vec<_> = fetches(elsewhere, &wanted, &ReadLimits::default()).collect().await;
    assert_eq!(reads.len(), 1);
}
