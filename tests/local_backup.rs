//! Copies on local disks are read first on restore, every byte of them checked, and pruned when they are named no more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/backed_job.rs"]
mod backed_job;
#[allow(dead_code, reason = "only a part is wanted here")]
#[path = "support/live.rs"]
mod live;
#[path = "support/seeded.rs"]
mod seeded;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use drystone::id::{JobId, Scope};
use drystone::protocol::{OperatorSpec, SavepointAction, SavepointFormat};
use drystone::read::RestoreCounts;
use drystone::store::FlinkPath;
use object_store::memory::InMemory;

use backed_job::{Job, Site, copies};

/// A job with three local directories.
fn site(root: &tempfile::TempDir) -> Site {
    let directories = ["a", "b", "c"].map(|name| root.path().join(name)).to_vec();
    Site::new(Arc::new(InMemory::new()), directories)
}

fn from_backup_alone(counts: &RestoreCounts) -> bool {
    counts.backup_reads == counts.reads && counts.backup_bytes == counts.read_bytes && counts.backup_refused == 0
}

fn flip(path: &PathBuf, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn what_was_written_is_restored_from_local_disks_in_turn() {
    let root = tempfile::tempdir().unwrap();
    let mut job = site(&root).start("w").await;
    let path = job.round().await.path;
    let counts = job.check(&path).await;
    assert!(from_backup_alone(&counts), "{counts:?}");
    assert_eq!(counts.state_bytes, job.state_bytes());
    assert_eq!(counts.unverified_bytes, 0);
    let each = ["a", "b", "c"].map(|name| copies(&root.path().join(name)).len());
    assert!(
        each.iter().all(|&files| files > 1) && each.iter().max().unwrap() - each.iter().min().unwrap() <= 1,
        "{each:?}"
    );
}

/// Where that is said: a disk that is suspected.
#[tokio::test]
async fn copies_are_written_and_not_read() {
    let root = tempfile::tempdir().unwrap();
    let site = site(&root);
    let mut job = site.clone().with("execution.state-recovery.from-local", "false").start("w").await;
    let path = job.round().await.path;
    assert!(copies(root.path()).values().sum::<u64>() > job.state_bytes());
    let counts = job.check(&path).await;
    assert_eq!((counts.state_bytes, counts.backup_reads, counts.backup_refused), (job.state_bytes(), 0, 0));
    // The same copies are read by who wasn't told.
    assert!(from_backup_alone(&job.check_with(&site.storage(), &path).await));
}

#[tokio::test]
async fn half_the_files_and_one_bit_are_missing_and_the_restore_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let mut job = site(&root).start("w").await;
    for _ in 0..3 {
        job.round().await;
    }
    let path = job.round().await.path;
    let files: Vec<_> = copies(root.path()).into_keys().collect();
    assert!(files.len() >= 8, "{}", files.len());
    for path in files.iter().step_by(2) {
        fs::remove_file(path).unwrap();
    }
    let whole = job.check(&path).await;
    assert!(whole.backup_bytes > 0 && whole.backup_bytes < whole.read_bytes && whole.backup_refused == 0, "{whole:?}");
    // In the largest file that is left, which some segment names.
    let damaged = files.iter().skip(1).step_by(2).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    flip(damaged, 70_000);
    let counts = job.check(&path).await;
    println!("half of the files: {whole:?}\nand one bit: {counts:?}");
    assert_eq!(counts.backup_refused, 1, "one read was no good");
    assert_eq!(counts.state_bytes, job.state_bytes());
    assert!(counts.backup_bytes > 0 && counts.backup_bytes < whole.backup_bytes, "{counts:?}");
    assert_eq!(counts.unverified_bytes, 0);
}

#[tokio::test]
async fn each_way_in_which_a_copy_is_no_good_costs_a_read_of_the_store() {
    let root = tempfile::tempdir().unwrap();
    let mut job = site(&root).start("w").await;
    let path = job.round().await.path;
    let file = copies(root.path()).into_keys().next().unwrap();
    let good = fs::read(&file).unwrap();
    let other = fs::read(copies(root.path()).into_keys().next_back().unwrap()).unwrap();
    let mut longer = good.clone();
    longer.push(0);
    let cuts = [0, 1, 23, 24, 1000, good.len() - 25, good.len() - 1].map(|length| good[..length].to_vec());
    let spoilt = cuts.into_iter().chain([other, longer, vec![0; good.len()]]);
    for (number, bytes) in spoilt.enumerate() {
        fs::write(&file, &bytes).unwrap();
        let counts = job.check(&path).await;
        assert_eq!(counts.backup_refused, 1, "{number}: {counts:?}");
        assert!(counts.backup_bytes < counts.read_bytes, "{number}");
    }
    // A directory in its place can't be read.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(job.check(&path).await.backup_refused, 1);
    fs::remove_dir(&file).unwrap();
    // Gone: nothing was there to be refused.
    assert_eq!(job.check(&path).await.backup_refused, 0);
    fs::write(&file, &good).unwrap();
    assert!(from_backup_alone(&job.check(&path).await));
    // Nor where a file is in the place of a directory.
    for directory in fs::read_dir(root.path()).unwrap() {
        let directory = directory.unwrap().path();
        fs::remove_dir_all(&directory).unwrap();
        fs::write(&directory, b"a file").unwrap();
    }
    assert_eq!(job.check(&path).await.backup_refused, 0);
}

#[tokio::test]
async fn no_flipped_bit_of_a_copy_gets_through() {
    let root = tempfile::tempdir().unwrap();
    let mut job = site(&root).start("w").await;
    (job.chunks, job.chunk_bytes) = (2, 100);
    let path = job.round().await.path;
    let files: Vec<_> = copies(root.path()).into_iter().collect();
    let (file, bytes) = &files[0];
    assert_eq!(files.len(), 1);
    let mut refused = 0;
    for at in 0..*bytes {
        flip(file, at);
        let counts = job.check(&path).await;
        refused += counts.backup_refused;
        flip(file, at);
    }
    // All of it is one block: whichever bit is wrong, the block is, or its checksum, or the end.
    assert_eq!(refused, *bytes);
}

#[tokio::test]
async fn long_segments_are_copied_as_they_are_streamed_and_fall_back_piece_by_piece() {
    let root = tempfile::tempdir().unwrap();
    let site = site(&root).with("drystone.segment-buffer", "1mb");
    let mut job = site.start("w").await;
    (job.chunks, job.chunk_bytes) = (1, 12 << 20);
    let path = job.round().await.path;
    let whole = job.check(&path).await;
    assert!(from_backup_alone(&whole), "{whole:?}");
    let file = copies(root.path()).into_keys().next().unwrap();
    flip(&file, 5 << 20);
    let counts = job.check(&path).await;
    println!("one bit of {} bytes: {counts:?}", whole.read_bytes);
    assert_eq!(counts.backup_refused, 1);
    let of_store = counts.read_bytes - counts.backup_bytes;
    assert!(of_store > 0 && of_store <= 1 << 20, "no more than was damaged comes from the store: {of_store}");
    // A wrong checksum among those of the blocks: the segment isn't trusted at all.
    flip(&file, 5 << 20);
    let at = fs::metadata(&file).unwrap().len() - 24 - 4 * 100;
    flip(&file, at);
    let counts = job.check(&path).await;
    assert_eq!(counts.backup_refused, 1);
    assert_eq!(counts.read_bytes - counts.backup_bytes, 12 << 20);
}

#[tokio::test]
async fn a_new_process_uses_and_prunes_what_the_last_one_left() {
    let root = tempfile::tempdir().unwrap();
    let site = site(&root);
    let mut job = site.start("w").await;
    job.round().await;
    let path = job.round().await.path;
    let before: BTreeSet<_> = copies(root.path()).into_keys().collect();
    let mut job = job.restart(&site, "w").await;
    assert!(from_backup_alone(&job.check(&path).await));
    // Every chunk is written anew in the end, so that nothing of the last process is named.
    for _ in 0..5 {
        let path = job.round().await.path;
        let counts = job.check(&path).await;
        assert!(from_backup_alone(&counts), "{counts:?}");
    }
    let after: BTreeSet<_> = copies(root.path()).into_keys().collect();
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    let usage = job.worker.backup().unwrap().usage();
    assert_eq!(usage.bytes, copies(root.path()).values().sum::<u64>());
    assert_eq!(usage.files, after.len() as u64);
}

#[tokio::test]
async fn what_a_dead_worker_of_another_name_left_is_taken_over_and_pruned() {
    let root = tempfile::tempdir().unwrap();
    let site = site(&root);
    let mut job = site.start("pod-1").await;
    job.round().await;
    let before: BTreeSet<_> = copies(root.path()).into_keys().collect();
    let mut job = job.restart(&site, "pod-2").await;
    for _ in 0..5 {
        job.round().await;
    }
    let after: BTreeSet<_> = copies(root.path()).into_keys().collect();
    assert!(!after.is_empty() && before.is_disjoint(&after), "{before:?} {after:?}");
}

#[tokio::test]
async fn workers_and_jobs_that_share_directories_leave_each_others_copies_alone() {
    let root = tempfile::tempdir().unwrap();
    let site = site(&root);
    let mut jobs: Vec<Job> = Vec::new();
    for (job, worker) in [(1, "w"), (2, "w"), (3, "v")] {
        jobs.push(Site { job: JobId([job; 16]), ..site.clone() }.start(worker).await);
    }
    // Another worker of the first job, which lives and has copies of its own.
    let other = site.storage().worker(site.job, "other").unwrap();
    let subtask = OperatorSpec::new(live::OPERATOR, 2, 128).subtask(0);
    let trigger = jobs[0].coordinator.trigger(jobs[0].coordinator.next_checkpoint()).unwrap();
    let snapshot = other.begin(subtask, &trigger).unwrap();
    let mut segment = snapshot.segment(Scope::Shared, None);
    segment.write_slice(&[7; 5000]).await.unwrap();
    segment.finish().await.unwrap();
    snapshot.seal().await.unwrap();
    other.backup().unwrap().settled().await;
    assert!(jobs[0].coordinator.abort(trigger.checkpoint));
    let of_other: Vec<_> = copies(root.path()).into_keys().collect();
    assert_eq!(of_other.len(), 1);
    for _ in 0..6 {
        for job in &mut jobs {
            let path = job.round().await.path;
            assert!(from_backup_alone(&job.check(&path).await));
        }
    }
    assert!(of_other[0].exists(), "it is another worker's, which lives");
    let all = copies(root.path()).len() as u64;
    let own: u64 = jobs.iter().map(|job| job.worker.backup().unwrap().usage().files).sum();
    assert_eq!(own + 1, all);
    // The second of one name keeps none.
    let second = site.storage().worker(site.job, "other").unwrap();
    second.subsume(jobs[0].coordinator.epoch(), drystone::id::CheckpointId(1000));
    second.backup().unwrap().settled().await;
    assert!(of_other[0].exists());
    for job in &jobs {
        job.worker.backup().unwrap().discard();
        job.worker.backup().unwrap().settled().await;
    }
    assert_eq!(copies(root.path()).into_keys().collect::<Vec<_>>(), of_other);
}

#[tokio::test]
async fn an_aborted_checkpoint_leaves_no_copies_and_what_the_last_names_stays() {
    let root = tempfile::tempdir().unwrap();
    let mut job = site(&root).start("w").await;
    let path = job.round().await.path;
    let before = copies(root.path());
    let held = job.held.clone();
    let committed = job.commit().await;
    job.held = held;
    // As if it hadn't been committed.
    job.worker.abort(job.coordinator.epoch(), committed.checkpoint);
    job.worker.backup().unwrap().settled().await;
    assert_eq!(copies(root.path()), before);
    drop(path);
}

#[tokio::test]
async fn a_savepoint_has_no_copies_and_takes_none_away() {
    let root = tempfile::tempdir().unwrap();
    let mut job = site(&root).start("w").await;
    let path = job.round().await.path;
    let before = copies(root.path());
    let directory = FlinkPath::parse("memory://host/savepoints").unwrap();
    let request = job.storage.savepoint(Some(&directory), SavepointFormat::Native, SavepointAction::None).unwrap();
    let trigger = job.coordinator.trigger_savepoint(job.coordinator.next_checkpoint(), &request).unwrap();
    let snapshot = job.worker.begin(OperatorSpec::new(live::OPERATOR, 2, 128).subtask(0), &trigger).unwrap();
    let mut segment = snapshot.segment(Scope::Exclusive, None);
    segment.write_slice(&[7; 100_000]).await.unwrap();
    segment.finish().await.unwrap();
    assert_eq!(snapshot.seal().await.unwrap().sealed().len(), 1);
    job.worker.complete(trigger.epoch, trigger.checkpoint);
    job.worker.backup().unwrap().settled().await;
    assert_eq!(copies(root.path()), before);
    assert!(from_backup_alone(&job.check(&path).await));
}
