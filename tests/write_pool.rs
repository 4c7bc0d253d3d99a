//! Packing: whatever segments come, all of them read back, and every file stays within the cap.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod cases;
    pub mod packing;
    pub mod seeded;
    pub mod watched_store;
}

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use drystone::format::FooterBuilder;
use drystone::id::FileToken;
use drystone::write::{WriteSettings, Written};
use proptest::prelude::*;
use support::cases::cases;
use support::packing::{Packing, Segment, origin};
use support::seeded::bytes_of;

const CAP: u64 = 64 << 10;

/// No inlining, the small cap, and buffers as large.
fn packed() -> WriteSettings {
    WriteSettings {
        file_bytes_max: CAP,
        inline_bytes_max: 0,
        inline_bytes_total_max: 0,
        buffer_bytes_max: CAP,
        open_files_max: 2,
        uploads_max: 2,
        ..WriteSettings::default()
    }
}

/// Bytes of a footer with `count` segments of one origin.
fn footer_bytes(count: usize) -> u64 {
    let mut footer = FooterBuilder::new(FileToken(0));
    for _ in 0..count {
        let origin = origin(0);
        footer.push(1, 0, origin.scope, origin.checkpoint, origin.subtask);
    }
    footer.encoded_len()
}

fn placed_in(segment: &Segment) -> FileToken {
    let Written::Placed(placement) = segment.written else { panic!("not placed: {:?}", segment.written) };
    placement.id.file
}

/// A segment to be written.
#[derive(Clone, Debug)]
struct Plan {
    length: usize,
    /// Length of each piece, and whether it is copied from a slice; used again and again.
    cuts: Vec<(usize, bool)>,
    /// The size told beforehand, off by this much.
    hint: Option<i64>,
    origin: u32,
    never_inline: bool,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let length = prop_oneof![
        1 => Just(0_usize),
        6 => 1..2_000_usize,
        4 => 2_000..30_000_usize,
        2 => 30_000..(CAP as usize + 10),
        1 => CAP as usize..3 * CAP as usize,
    ];
    let cuts = prop::collection::vec((1..70_000_usize, any::<bool>()), 1..4);
    let hint = prop_oneof![2 => Just(None), 2 => Just(Some(0_i64)), 1 => (-5_000..5_000_i64).prop_map(Some)];
    let plan = (length, cuts, hint, 0..6_u32, prop::bool::weighted(0.2));
    let plan =
        plan.prop_map(|(length, cuts, hint, origin, never_inline)| Plan { length, cuts, hint, origin, never_inline });
    prop::collection::vec(plan, 0..40)
}

fn settings() -> impl Strategy<Value = WriteSettings> {
    let inline = prop_oneof![Just((0, 0)), Just((300, 2_000)), Just((20_480, 50_000)), Just((20_480, 8 << 20))];
    let buffer = prop_oneof![Just(0), Just(10_000), Just(CAP), Just(4 * CAP)];
    (inline, buffer, 0..4_usize, 0..4_usize).prop_map(|((inline, total), buffer, open, uploads)| WriteSettings {
        file_bytes_max: CAP,
        inline_bytes_max: inline,
        inline_bytes_total_max: total,
        buffer_bytes_max: buffer,
        open_files_max: open,
        uploads_max: uploads,
        ..WriteSettings::default()
    })
}

async fn write(packing: &Packing, seed: u64, plan: &Plan) -> Segment {
    let bytes = bytes_of(seed, plan.length);
    let origin = origin(plan.origin);
    let hint = plan.hint.map(|off| (plan.length as u64).saturating_add_signed(off));
    let mut writer = packing.pool.segment(origin, hint);
    if plan.never_inline {
        writer = writer.never_inline();
    }
    let mut rest = bytes.clone();
    for &(length, as_slice) in plan.cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let piece = rest.split_to(length.min(rest.len()));
        match as_slice {
            true => writer.write_slice(&piece).await.unwrap(),
            false => writer.write(piece).await.unwrap(),
        }
        assert_eq!(writer.position(), (bytes.len() - rest.len()) as u64);
    }
    let written = writer.finish().await.unwrap();
    assert!(!(plan.never_inline && matches!(written, Written::Inline(_))));
    Segment { bytes, origin, written }
}

/// A chunk goes inline exactly when it is short enough and the budget lasts.
fn check_inlining(settings: &WriteSettings, plans: &[Plan], segments: &[Segment]) {
    let mut left = settings.inline_bytes_total_max;
    for (plan, segment) in plans.iter().zip(segments) {
        let length = plan.length as u64;
        // What is streamed has left the buffer before it is known to be short.
        let streamed = plan.hint.is_none_or(|off| off < 0) && settings.buffer_bytes_max < length;
        let may = (1..=settings.inline_bytes_max.min(left)).contains(&length) && !plan.never_inline;
        match segment.written {
            Written::Inline(_) => {
                assert!(may);
                left -= length;
            }
            Written::Placed(_) => assert!(!may || streamed),
            Written::Nothing => assert_eq!(length, 0),
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn whatever_is_written_reads_back_from_files_within_the_cap(plans in plans(), settings in settings()) {
        run(async {
            let packing = Packing::new(settings);
            let mut segments = Vec::new();
            for (seed, plan) in plans.iter().enumerate() {
                segments.push(write(&packing, seed as u64, plan).await);
            }
            let sealed = packing.pool.seal().await.unwrap();
            packing.check(&segments, &sealed).await;
            check_inlining(&settings, &plans, &segments);
            assert_eq!(packing.watch.uploads_left.load(SeqCst), 0);
        });
    }

    #[test]
    fn small_segments_fill_their_files(lengths in prop::collection::vec(100..2_000_usize, 500..3_000)) {
        run(async {
            let settings = WriteSettings { file_bytes_max: 1 << 20, ..packed() };
            let packing = Packing::new(settings);
            let mut segments = Vec::new();
            for (seed, &length) in lengths.iter().enumerate() {
                segments.push(packing.write(bytes_of(seed as u64, length), None).await.unwrap());
            }
            let sealed = packing.pool.seal().await.unwrap();
            let bytes: u64 = sealed.files.values().map(|file| file.file_bytes).sum();
            let least = bytes.div_ceil(settings.file_bytes_max) as usize;
            assert!(sealed.files.len() <= least + 1, "{} files, {least} would do", sealed.files.len());
        });
    }
}

#[tokio::test]
async fn the_threshold_is_the_longest_chunk_that_goes_inline() {
    let packing = Packing::new(WriteSettings::default());
    let longest = packing.write(bytes_of(1, 20_480), None).await.unwrap();
    assert!(matches!(longest.written, Written::Inline(_)));
    let longer = packing.write(bytes_of(2, 20_481), None).await.unwrap();
    assert!(matches!(longer.written, Written::Placed(_)));
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&[longest, longer], &sealed).await;
}

#[tokio::test]
async fn past_the_budget_small_chunks_are_packed() {
    let packing = Packing::new(WriteSettings { inline_bytes_total_max: 1_000, ..WriteSettings::default() });
    let first = packing.write(bytes_of(1, 900), None).await.unwrap();
    let past = packing.write(bytes_of(2, 101), None).await.unwrap();
    let last = packing.write(bytes_of(3, 100), None).await.unwrap();
    assert!(matches!(first.written, Written::Inline(_)));
    assert!(matches!(past.written, Written::Placed(_)));
    assert!(matches!(last.written, Written::Inline(_)), "what is left of the budget is used");
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&[first, past, last], &sealed).await;
}

#[tokio::test]
async fn a_segment_that_fits_to_the_byte_shares_its_file() {
    let first = CAP / 2;
    let room = CAP - first - footer_bytes(2);
    for (second, files) in [(room, 1), (room + 1, 2)] {
        let packing = Packing::new(packed());
        let segments = [
            packing.write(bytes_of(1, first as usize), None).await.unwrap(),
            packing.write(bytes_of(2, second as usize), None).await.unwrap(),
        ];
        let sealed = packing.pool.seal().await.unwrap();
        packing.check(&segments, &sealed).await;
        assert_eq!(sealed.files.len(), files, "{second} bytes more");
        let longest = sealed.files.values().map(|file| file.file_bytes).max();
        assert!(files == 2 || longest == Some(CAP), "{longest:?}");
    }
}

#[tokio::test]
async fn a_segment_with_its_footer_fills_a_file_to_the_byte() {
    for (length, file_bytes) in [(CAP - footer_bytes(1), CAP), (CAP - footer_bytes(1) + 1, CAP + 1)] {
        for hint in [None, Some(length)] {
            let packing = Packing::new(packed());
            let segments = [packing.write(bytes_of(1, length as usize), hint).await.unwrap()];
            let sealed = packing.pool.seal().await.unwrap();
            packing.check(&segments, &sealed).await;
            assert_eq!(sealed.files.values().map(|file| file.file_bytes).collect::<Vec<_>>(), [file_bytes]);
        }
    }
}

#[tokio::test]
async fn small_segments_fill_the_room_that_a_streamed_one_leaves() {
    let packing = Packing::new(WriteSettings { buffer_bytes_max: 8_000, ..packed() });
    let mut segments = vec![packing.write(bytes_of(0, 40_000), None).await.unwrap()];
    for seed in 1..=4 {
        segments.push(packing.write(bytes_of(seed, 5_000), None).await.unwrap());
    }
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&segments, &sealed).await;
    assert_eq!(sealed.files.len(), 1);
}

#[tokio::test]
async fn small_segments_follow_a_streamed_one_that_was_sent_in_parts() {
    let settings = WriteSettings { file_bytes_max: 32 << 20, buffer_bytes_max: 1 << 20, ..packed() };
    let packing = Packing::new(settings);
    let mut segments = vec![packing.write(bytes_of(0, 18 << 20), None).await.unwrap()];
    segments.push(packing.write(bytes_of(1, 900_000), None).await.unwrap());
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&segments, &sealed).await;
    assert_eq!(sealed.files.len(), 1);
    assert_eq!(packing.watch.parts.count.load(SeqCst), 3);
    assert_eq!(packing.watch.uploads_left.load(SeqCst), 0);
}

#[tokio::test]
async fn a_segment_goes_to_the_file_that_it_fits_best() {
    let packing = Packing::new(packed());
    let large = packing.write(bytes_of(1, 50_000), None).await.unwrap();
    let medium = packing.write(bytes_of(2, 40_000), None).await.unwrap();
    let beside_large = packing.write(bytes_of(3, 6_000), None).await.unwrap();
    let beside_medium = packing.write(bytes_of(4, 20_000), None).await.unwrap();
    assert_ne!(placed_in(&large), placed_in(&medium));
    assert_eq!(placed_in(&beside_large), placed_in(&large));
    assert_eq!(placed_in(&beside_medium), placed_in(&medium));
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&[large, medium, beside_large, beside_medium], &sealed).await;
}

#[tokio::test]
async fn a_pool_can_be_sealed_again_and_written_to_in_between() {
    let packing = Packing::new(packed());
    let mut segments = vec![packing.write(bytes_of(1, 5_000), None).await.unwrap()];
    let first = packing.pool.seal().await.unwrap();
    packing.check(&segments, &first).await;
    assert_eq!(packing.pool.seal().await.unwrap().files, first.files);
    segments.push(packing.write(bytes_of(2, 5_000), None).await.unwrap());
    assert_ne!(placed_in(&segments[0]), placed_in(&segments[1]), "a sealed file takes nothing");
    packing.check(&segments, &packing.pool.seal().await.unwrap()).await;
}

#[tokio::test]
async fn a_pool_without_segments_leaves_no_file() {
    let packing = Packing::new(packed());
    let nothing = packing.write(Bytes::new(), Some(0)).await.unwrap();
    assert_eq!(nothing.written, Written::Nothing);
    assert!(packing.pool.seal().await.unwrap().files.is_empty());
    assert!(packing.files().await.is_empty());
}

#[tokio::test]
async fn a_segment_unknown_to_the_sealed_files_has_no_handle() {
    let (packing, other) = (Packing::new(packed()), Packing::new(packed()));
    let before = packing.write(bytes_of(1, 5_000), None).await.unwrap();
    let sealed = other.pool.seal().await.unwrap();
    let Written::Placed(placement) = before.written else { panic!("not placed") };
    assert!(sealed.handle(&placement).unwrap_err().to_string().contains("no sealed file"));
}

#[tokio::test]
async fn long_pieces_reach_the_store_without_a_copy() {
    let packing = Packing::new(WriteSettings { file_bytes_max: 1 << 20, ..packed() });
    let (long, short) = (bytes_of(1, 64 << 10), bytes_of(2, 500));
    packing.write(short, None).await.unwrap();
    packing.write(long.clone(), None).await.unwrap();
    packing.pool.seal().await.unwrap();
    let payloads = packing.watch.payloads.lock().unwrap();
    let pieces: Vec<&Bytes> = payloads.iter().flat_map(|payload| payload.iter()).collect();
    assert!(pieces.iter().any(|piece| piece.as_ptr() == long.as_ptr() && piece.len() == long.len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_a_pool() {
    let settings =
        WriteSettings { file_bytes_max: 1 << 20, inline_bytes_max: 200, inline_bytes_total_max: 8_000, ..packed() };
    let packing = Arc::new(Packing::new(settings));
    let writers: Vec<_> = (0..16_u64)
        .map(|task| {
            let packing = packing.clone();
            tokio::spawn(async move {
                let mut segments = Vec::new();
                for number in 0..200_u64 {
                    let seed = task * 1_000 + number;
                    let plan = Plan {
                        length: (seed * 7_919 % 9_000) as usize,
                        cuts: vec![(4_000, false), (700, true)],
                        hint: number.is_multiple_of(3).then_some(0),
                        origin: (task % 6) as u32,
                        never_inline: number.is_multiple_of(5),
                    };
                    segments.push(write(&packing, seed, &plan).await);
                }
                segments
            })
        })
        .collect();
    let mut segments = Vec::new();
    for writer in writers {
        segments.extend(writer.await.unwrap());
    }
    let sealed = packing.pool.seal().await.unwrap();
    packing.check(&segments, &sealed).await;
}
