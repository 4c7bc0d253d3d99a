//! Checksums of a segment's parts: what is written in one pass gives those of all its parts, and they give its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;

use std::sync::Arc;

use bytes::Bytes;
use cases::cases;
use drystone::format::checksum::{combined, crc32c, parted};
use drystone::handle::CHECKSUMMED_BYTES_MIN;
use drystone::id::{CheckpointId, Scope};
use drystone::store::names::WorkerName;
use drystone::store::{FlinkPath, Stores};
use drystone::write::{FileNaming, FilePool, Origin, SegmentWriter, WriteSettings, Written};
use proptest::prelude::*;

const ORIGIN: Origin = Origin { checkpoint: CheckpointId(1), subtask: None, scope: Scope::Exclusive };

fn segment() -> SegmentWriter {
    let directory = Stores::new().locate(&FlinkPath::parse("memory:/job/chk-1").unwrap()).unwrap();
    let (worker, checkpoint) = (WorkerName::sanitise("w"), CheckpointId(1));
    let naming = FileNaming { directory, attempt: 0, worker, checkpoint };
    // Some of the segments are streamed.
    let settings = WriteSettings { inline_bytes_max: 0, buffer_bytes_max: 20_000, ..WriteSettings::default() };
    FilePool::new(naming, settings, Arc::new(|| 1)).segment(ORIGIN, None)
}

/// Writes parts, each in pieces, and marks where each but the first begins.
async fn written(parts: &[Vec<u8>], piece_bytes: usize) -> (Vec<u64>, Vec<u32>, Written) {
    let (mut segment, mut marks) = (segment(), Vec::new());
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            marks.push(segment.mark());
        }
        for piece in part.chunks(piece_bytes) {
            match number % 2 {
                0 => segment.write_slice(piece).await.unwrap(),
                _ => segment.write(Bytes::copy_from_slice(piece)).await.unwrap(),
            }
        }
    }
    let checksums = segment.part_checksums();
    (marks, checksums, segment.finish().await.unwrap())
}

/// What is expected of parts.
fn checksums_of(parts: &[Vec<u8>]) -> Vec<u32> {
    let filled: Vec<_> = parts.iter().filter(|part| !part.is_empty()).collect();
    let bytes: usize = filled.iter().map(|part| part.len()).sum();
    match filled.len() > 1 && bytes as u64 / filled.len() as u64 >= CHECKSUMMED_BYTES_MIN {
        true => filled.into_iter().map(|part| crc32c(part)).collect(),
        false => Vec::new(),
    }
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        2 => prop::collection::vec(any::<u8>(), 1..600),
        1 => (any::<u8>(), 1..40_000_usize).prop_map(|(byte, bytes)| vec![byte; bytes]),
    ]
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn parts_have_the_checksums_of_their_bytes(parts in prop::collection::vec(part(), 1..12), piece_bytes in 1..9_000_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (marks, checksums, written) = runtime.block_on(written(&parts, piece_bytes));
        prop_assert_eq!(&checksums, &checksums_of(&parts));
        let starts = parts.iter().scan(0, |at, part| Some(std::mem::replace(at, *at + part.len() as u64)));
        prop_assert!(starts.skip(1).eq(marks));
        if let (Written::Placed(placement), false) = (written, checksums.is_empty()) {
            let filled = parts.iter().filter(|part| !part.is_empty());
            let sum = filled.zip(checksums).fold(0, |sum, (part, crc)| combined(sum, crc, part.len() as u64));
            prop_assert_eq!(sum, placement.id.crc32c);
        }
    }

    #[test]
    fn two_runs_and_both(one in prop::collection::vec(any::<u8>(), 0..300), other in prop::collection::vec(any::<u8>(), 0..3000)) {
        let both = crc32c(&[&one[..], &other].concat());
        prop_assert_eq!(combined(crc32c(&one), crc32c(&other), other.len() as u64), both);
        prop_assert_eq!(parted(both, crc32c(&one), other.len() as u64), crc32c(&other));
    }

    /// Lengths that no test has the bytes for: so many, and so many more, are both together.
    #[test]
    fn lengths_add_up(crc in any::<u32>(), one in 0..1_u64 << 62, other in 0..1_u64 << 62) {
        prop_assert_eq!(combined(combined(crc, 0, one), 0, other), combined(crc, 0, one + other));
    }
}

/// As many key groups as Flink has; one more isn't Flink's.
#[tokio::test]
async fn no_more_parts_than_flink_has_key_groups() {
    for (groups, parts) in [(1 << 15, (1 << 15) + 1), ((1 << 15) + 1, 0)] {
        let mut segment = segment();
        for number in 0..=groups {
            if number > 0 {
                segment.mark();
            }
            segment.write_slice(&[7; 300]).await.unwrap();
        }
        assert_eq!(segment.part_checksums().len(), parts);
    }
}
