//! Chunks of every awkward size: where they go, and how many files that makes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/runs.rs"]
mod runs;
#[path = "support/synthetic.rs"]
mod synthetic;

use drystone::handle::{OperatorSubtasks, StreamHandle};
use drystone::inspect::{Prices, inspect, savings};
use drystone::read::{Content, ReadLimits};
use drystone::repack::Report;
use drystone::store::Stores;
use drystone::write::WriteSettings;
use synthetic::{Disk, checkpoint, chunk, contents, handles, inline, load};

const MIB: u64 = 1 << 20;

/// Repacks to `out`; the result is sound and holds the same bytes.
async fn repack(disk: &Disk, write: WriteSettings) -> Report {
    let stores = Stores::new();
    let before = disk.files(synthetic::JOB);
    let options = runs::options(1, write);
    let report = runs::repack(&stores, &disk.checkpoint(), &disk.named("out"), &options).await.unwrap();
    assert_eq!(disk.files(synthetic::JOB), before);
    let found = runs::check(&stores, &report.destination).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.findings);
    assert!(contents(&stores, &disk.checkpoint()).await == contents(&stores, &report.destination).await);
    report
}

/// Lengths of the physical files, in order.
fn lengths(disk: &Disk) -> Vec<u64> {
    let files = disk.files("out");
    let physical = files.iter().filter(|(name, _)| !name.ends_with("_metadata"));
    let mut lengths: Vec<u64> = physical.map(|(_, bytes)| bytes.len() as u64).collect();
    lengths.sort_unstable();
    lengths
}

fn capped(file_bytes_max: u64) -> WriteSettings {
    WriteSettings { file_bytes_max, ..WriteSettings::default() }
}

#[tokio::test]
async fn the_threshold_is_the_last_length_that_goes_inline() {
    let disk = Disk::new();
    let chunks = [20480, 20481, 0, 1].map(|length| disk.file(&format!("f{length}"), &chunk(length, length as u64)));
    disk.commit(&checkpoint(chunks.to_vec()));
    let report = repack(&disk, WriteSettings::default()).await;
    let (loaded, state) = load(&Stores::new(), &report.destination).await;
    let kinds: Vec<bool> = state.streams.iter().map(|s| matches!(s.content, Content::Inline(_))).collect();
    assert_eq!(kinds, [true, false, true, true]);
    assert_eq!(handles(&loaded.decoded.metadata)[2].size(), Some(0));
    assert_eq!(lengths(&disk).len(), 1);
    assert_eq!((report.after.files, report.after.inline_streams, report.after.streams), (1, 3, 4));
}

#[tokio::test]
async fn with_no_budget_for_inline_state_everything_is_packed() {
    for write in [
        WriteSettings { inline_bytes_max: 0, ..WriteSettings::default() },
        WriteSettings { inline_bytes_total_max: 0, ..WriteSettings::default() },
    ] {
        let disk = Disk::new();
        disk.commit(&checkpoint(vec![disk.file("one", b"1"), inline("here", b"22"), disk.file("none", b"")]));
        let report = repack(&disk, write).await;
        // A chunk without a byte can't be a segment.
        assert_eq!((report.after.inline_streams, report.after.streams), (1, 3));
        assert_eq!(lengths(&disk).len(), 1);
    }
}

#[tokio::test]
async fn the_inline_budget_is_not_exceeded() {
    let disk = Disk::new();
    disk.commit(&checkpoint((0..10).map(|n| disk.file(&format!("f{n}"), &chunk(1000, n))).collect()));
    let report = repack(&disk, WriteSettings { inline_bytes_total_max: 3500, ..WriteSettings::default() }).await;
    assert_eq!((report.after.inline_streams, report.after.files), (3, 1));
}

#[tokio::test]
async fn a_chunk_with_many_names_counts_once_for_each() {
    let disk = Disk::new();
    let chunks = [1, 2].map(|n| disk.file(&format!("f{n}"), &chunk(1000, n)));
    let named: Vec<_> = chunks.iter().flat_map(|chunk| vec![chunk.clone(); 3]).collect();
    disk.commit(&checkpoint([named, vec![inline("here", &chunk(400, 3)); 2]].concat()));
    for (budget, inline, files) in [(799, 0, 1), (800, 2, 1), (3799, 2, 1), (3800, 5, 1), (6800, 8, 0)] {
        let write = WriteSettings { inline_bytes_total_max: budget, ..WriteSettings::default() };
        let inspected = inspect(&Stores::new(), &disk.checkpoint(), &ReadLimits::default()).await.unwrap();
        assert_eq!(savings(&inspected.state, &write, &Prices::default()).packed.files, files + 1, "{budget}");
        let report = repack(&disk, write).await;
        assert_eq!((report.after.inline_streams, report.after.files), (inline, files), "{budget}");
        std::fs::remove_dir_all(disk.at("out")).unwrap();
    }
}

#[tokio::test]
async fn a_coordinators_state_stays_inline_whatever_its_length() {
    let disk = Disk::new();
    let mut metadata = checkpoint(vec![disk.file("f", &chunk(30_000, 1))]);
    metadata.operators[0].coordinator = Some(inline("coordinator", &chunk(100_000, 2)));
    disk.commit(&metadata);
    let report = repack(&disk, WriteSettings { inline_bytes_max: 0, ..WriteSettings::default() }).await;
    let (loaded, _) = load(&Stores::new(), &report.destination).await;
    let coordinator = loaded.decoded.metadata.operators[0].coordinator.as_ref().unwrap();
    assert!(matches!(coordinator, StreamHandle::Inline(state) if state.bytes == chunk(100_000, 2)));
}

#[tokio::test]
async fn a_chunk_longer_than_the_cap_has_a_file_of_its_own() {
    let disk = Disk::new();
    let mut chunks = vec![disk.file("long", &chunk(3 * MIB as usize, 1))];
    chunks.extend((2..12).map(|n| disk.file(&format!("f{n}"), &chunk(50_000, n))));
    disk.commit(&checkpoint(chunks));
    repack(&disk, capped(MIB)).await;
    let lengths = lengths(&disk);
    assert_eq!(lengths.len(), 2);
    assert!(lengths[0] < MIB && lengths[1] > 3 * MIB && lengths[1] < 3 * MIB + 200, "{lengths:?}");
}

#[tokio::test]
async fn two_chunks_that_nearly_fill_the_cap_make_two_files() {
    let disk = Disk::new();
    let chunks = (1..=2).map(|n| disk.file(&format!("f{n}"), &chunk(MIB as usize / 32 * 31, n))).collect();
    disk.commit(&checkpoint(chunks));
    repack(&disk, capped(MIB)).await;
    let lengths = lengths(&disk);
    assert!(lengths.len() == 2 && lengths.iter().all(|&length| length <= MIB), "{lengths:?}");
}

#[tokio::test]
async fn chunks_around_the_cap_to_the_byte() {
    let footer = {
        let disk = Disk::new();
        disk.commit(&checkpoint(vec![disk.file("f", &chunk(30_000, 1))]));
        repack(&disk, WriteSettings::default()).await;
        lengths(&disk)[0] - 30_000
    };
    for (more, fits) in [(-1_i64, true), (0, true), (1, false)] {
        let length = (MIB - footer).checked_add_signed(more).unwrap();
        let disk = Disk::new();
        disk.commit(&checkpoint(vec![disk.file("f", &chunk(length as usize, 1))]));
        repack(&disk, capped(MIB)).await;
        assert_eq!(lengths(&disk), [length + footer]);
        assert_eq!(lengths(&disk)[0] <= MIB, fits);
    }
}

#[tokio::test]
async fn many_small_chunks_fill_their_files() {
    for (count, length, cap) in [(400, 9_000, MIB), (150, 21_000, 256 << 10), (90, 60_000, 128 << 10)] {
        let disk = Disk::new();
        disk.commit(&checkpoint((0..count).map(|n| disk.file(&format!("f{n}"), &chunk(length, n))).collect()));
        repack(&disk, WriteSettings { inline_bytes_max: 0, ..capped(cap) }).await;
        let lengths = lengths(&disk);
        let total: u64 = lengths.iter().sum();
        assert!(lengths.iter().all(|&length| length <= cap), "{lengths:?}");
        let least = (cap / length as u64).max(1);
        let files = (count.div_ceil(least), total.div_ceil(cap) + 1);
        assert!((lengths.len() as u64) <= files.0.max(files.1), "{files:?} {lengths:?}");
    }
}

#[tokio::test]
async fn chunks_of_mixed_length_waste_less_than_a_file() {
    let disk = Disk::new();
    let chunks = (0..120_u64).map(|n| disk.file(&format!("f{n}"), &chunk(500 + (n * 7919 % 40_000) as usize, n)));
    disk.commit(&checkpoint(chunks.collect()));
    repack(&disk, WriteSettings { inline_bytes_max: 0, ..capped(512 << 10) }).await;
    let lengths = lengths(&disk);
    let total: u64 = lengths.iter().sum();
    assert!(lengths.iter().all(|&length| length <= 512 << 10), "{lengths:?}");
    assert!(lengths.len() as u64 <= total.div_ceil(512 << 10) + 1, "{lengths:?}");
}

#[tokio::test]
async fn a_checkpoint_without_any_state_is_repacked() {
    let disk = Disk::new();
    let mut metadata = checkpoint(vec![]);
    metadata.operators[0].parallelism = 1;
    disk.commit(&metadata);
    assert_eq!(repack(&disk, WriteSettings::default()).await.after.streams, 0);
    assert!(lengths(&disk).is_empty());
    let disk = Disk::new();
    metadata.operators[0].subtasks = OperatorSubtasks::FullyFinished;
    disk.commit(&metadata);
    repack(&disk, WriteSettings::default()).await;
    let disk = Disk::new();
    metadata.operators.clear();
    disk.commit(&metadata);
    repack(&disk, WriteSettings::default()).await;
}
