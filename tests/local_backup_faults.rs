//! Local disks that fail in every way: no checkpoint fails with them, no restore does, and no bound is exceeded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "only a part is wanted here")]
#[path = "support/backed_job.rs"]
mod backed_job;
#[path = "support/cases.rs"]
mod cases;
#[allow(dead_code, reason = "only a part is wanted here")]
#[path = "support/live.rs"]
mod live;
#[path = "support/memory_disk.rs"]
mod memory_disk;
#[path = "support/seeded.rs"]
mod seeded;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cases::cases;
use drystone::read::RestoreCounts;
use object_store::memory::InMemory;
use proptest::prelude::*;
use tokio::time::Instant;

use backed_job::{Job, Site, copies};
use memory_disk::{Call, Failing, MemoryDisk};

/// Two directories of one disk.
fn site(disk: &MemoryDisk) -> Site {
    let site = Site::new(Arc::new(InMemory::new()), ["/a", "/b"].map(PathBuf::from).to_vec());
    let site = Site { disk: Some(Arc::new(disk.clone())), ..site };
    site.with("execution.checkpointing.file-merging.max-file-size", "8kb")
}

async fn small_job(site: &Site) -> Job {
    let mut job = site.start("w").await;
    (job.chunks, job.chunk_bytes, job.written_one_in) = (4, 3000, 2);
    job
}

fn from_backup_alone(counts: &RestoreCounts) -> bool {
    counts.backup_reads == counts.reads && counts.backup_refused == 0
}

/// Three checkpoints, each restored.
async fn three_rounds(job: &mut Job) {
    for _ in 0..3 {
        let path = job.round().await.path;
        job.check(&path).await;
    }
}

#[tokio::test]
async fn any_one_call_may_fail() {
    let calls = {
        let disk = MemoryDisk::default();
        let mut job = small_job(&site(&disk)).await;
        three_rounds(&mut job).await;
        disk.calls()
    };
    assert!(calls > 100, "{calls}");
    for call in 0..calls {
        let kind = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::PermissionDenied][call as usize % 3];
        let disk = MemoryDisk::default();
        let mut job = small_job(&site(&disk)).await;
        disk.fail(Failing::One(call, kind));
        three_rounds(&mut job).await;
        disk.fail(Failing::None);
        // Whatever it was, it is over: when a checkpoint has ended, two rounds on all is copied anew, and nothing else is left.
        for _ in 0..2 {
            job.round().await;
        }
        let path = job.round().await.path;
        let counts = job.check(&path).await;
        assert!(from_backup_alone(&counts), "call {call}: {counts:?}");
        let held: u64 = job.worker.backup().unwrap().usage().bytes;
        assert_eq!(disk.bytes(), held, "call {call}: {:?}", disk.files());
    }
}

#[tokio::test]
async fn all_calls_of_a_kind_may_fail() {
    let kinds = [
        ErrorKind::PermissionDenied,
        ErrorKind::StorageFull,
        ErrorKind::NotFound,
        ErrorKind::NotADirectory,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::Other,
    ];
    for call in Call::ALL {
        for kind in kinds {
            let disk = MemoryDisk::default();
            let mut job = small_job(&site(&disk)).await;
            job.round().await;
            disk.fail(Failing::All(call, kind));
            three_rounds(&mut job).await;
            disk.fail(Failing::None);
            // A directory that was stopped by a late copy is tried again when a checkpoint ends; then all is written anew.
            for _ in 0..2 {
                job.round().await;
            }
            let path = job.round().await.path;
            assert!(from_backup_alone(&job.check(&path).await), "{call:?} {kind}");
            let held = job.worker.backup().unwrap().usage().bytes;
            // A delete that claims that there was nothing can't be told from one that found nothing.
            if (call, kind) != (Call::Remove, ErrorKind::NotFound) {
                assert_eq!(disk.bytes(), held, "{call:?} {kind}: {:?}", disk.files());
            }
        }
    }
}

#[tokio::test]
async fn killed_at_any_call_the_next_process_goes_on_with_what_is_there() {
    let calls = {
        let disk = MemoryDisk::default();
        three_rounds(&mut small_job(&site(&disk)).await).await;
        disk.calls()
    };
    for call in 0..calls {
        let disk = MemoryDisk::default();
        let dying = site(&disk);
        let mut job = small_job(&dying).await;
        disk.fail(Failing::From(call));
        three_rounds(&mut job).await;
        let path = job.round().await.path;
        let found = disk.survivor();
        let next = Site { disk: Some(Arc::new(found.clone())), ..dying };
        let mut job = job.restart(&next, "w").await;
        job.check(&path).await;
        job.round().await;
        let path = job.round().await.path;
        assert!(from_backup_alone(&job.check(&path).await), "call {call}");
        assert_eq!(found.bytes(), job.worker.backup().unwrap().usage().bytes, "call {call}: {:?}", found.files());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_disk_that_hangs_holds_up_nothing_and_little_memory() {
    let disk = MemoryDisk::default();
    let site = site(&disk).with("drystone.write-memory", "64kb").with("drystone.segment-buffer", "16kb");
    let mut job = small_job(&site).await;
    disk.hang(true);
    for _ in 0..10 {
        let completed = job.commit().await;
        job.worker.complete(job.coordinator.epoch(), completed.checkpoint);
        let usage = job.worker.backup().unwrap().usage();
        assert!(usage.lag_bytes <= 16 << 10, "{usage:?}");
        job.check(&completed.path).await;
    }
    // Of each directory two writes, and no more threads.
    assert!(disk.hanging() <= 4, "{}", disk.hanging());
    disk.hang(false);
    job.worker.backup().unwrap().settled().await;
    assert_eq!(job.worker.backup().unwrap().usage().lag_bytes, 0);
    job.round().await;
    let path = job.round().await.path;
    let counts = job.check(&path).await;
    assert!(counts.backup_reads > 0 && counts.backup_refused == 0, "{counts:?}");
}

/// The end of a runtime cuts copies and deletes that wait for their turn; with the next one both go on.
#[test]
fn what_the_end_of_a_runtime_cuts_goes_on_with_the_next() {
    let left = |cuts: bool| {
        let disk = MemoryDisk::default();
        let site = site(&disk);
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (first, second) = (runtime(), runtime());
        let (mut job, completed) = first.block_on(async {
            let mut job = small_job(&site).await;
            job.chunks = 16;
            job.round().await;
            disk.hang(cuts);
            let completed = job.commit().await;
            (job, completed)
        });
        let last = if cuts { first.handle().clone() } else { second.handle().clone() };
        first.shutdown_background();
        {
            let _entered = last.enter();
            job.worker.complete(job.coordinator.epoch(), completed.checkpoint);
        }
        disk.hang(false);
        second.block_on(async {
            three_rounds(&mut job).await;
            job.round().await;
            let path = job.round().await.path;
            assert!(from_backup_alone(&job.check(&path).await));
            let usage = job.worker.backup().unwrap().usage();
            assert_eq!((usage.bytes, usage.lag_bytes), (disk.bytes(), 0));
            // Those that are to go among them.
            disk.files().len()
        })
    };
    assert_eq!(left(true), left(false));
}

/// Whatever it hangs at: at the look for copies, at their checksums, or at what they hold.
#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_while_it_is_read_costs_a_restore_the_time_that_it_is_waited_for() {
    let disk = MemoryDisk::default();
    // Short segments, which are checked as they are read, and some that are longer than a read.
    let site = site(&disk).with("execution.checkpointing.file-merging.max-file-size", "4mb");
    let mut job = small_job(&site).await;
    job.round().await;
    job.chunk_bytes = 1_200_000;
    let path = job.round().await.path;
    let whole = job.check(&path).await;
    assert!(from_backup_alone(&whole), "{whole:?}");
    let (mut after, mut hung) = (0, 0);
    loop {
        // Of its own, since what hangs goes on when it is let go.
        let disk = disk.survivor();
        let storage = Site { disk: Some(Arc::new(disk.clone())), ..site.clone() }.storage();
        disk.hang_reads(Some(after));
        let started = Instant::now();
        let counts = {
            let mut checking = pin!(job.check_with(&storage, &path));
            loop {
                tokio::select! {
                    biased;
                    counts = &mut checking => break counts,
                    // The clock of a test stands still while a thread is at work.
                    () = tokio::task::yield_now(), if disk.hanging() == 0 => {}
                    () = tokio::time::advance(Duration::from_secs(1)), if disk.hanging() > 0 => {}
                }
            }
        };
        let has_hung = disk.hanging() > 0;
        assert!(started.elapsed() <= Duration::from_secs(25), "{:?} after {after} reads", started.elapsed());
        assert_eq!(counts.state_bytes, whole.state_bytes);
        assert_eq!(counts.backup_refused > 0, has_hung, "{counts:?} after {after} reads");
        assert!(counts.backup_bytes < whole.backup_bytes || !has_hung, "{counts:?} after {after} reads");
        if has_hung {
            let again = Instant::now();
            assert_eq!(job.check_with(&storage, &path).await.backup_bytes, 0, "{after} reads");
            assert!(again.elapsed() < Duration::from_secs(1), "waited for again after {after} reads");
        }
        disk.hang_reads(None);
        if !has_hung {
            break;
        }
        (after, hung) = (after + 1, hung + 1);
    }
    assert!(hung > 20, "{hung}");
    assert!(from_backup_alone(&job.check(&path).await), "as before");
}

#[tokio::test]
async fn a_full_disk_is_passed_over_until_there_is_room_again() {
    let disk = MemoryDisk::default();
    let mut job = small_job(&site(&disk)).await;
    disk.limit(Path::new("/a"), 1000);
    three_rounds(&mut job).await;
    let below = |directory: &str| disk.files().keys().filter(|path| path.starts_with(directory)).count();
    assert_eq!(below("/a"), 0, "nothing is left of what didn't fit");
    assert!(below("/b") > 0, "the other one goes on");
    disk.limit(Path::new("/a"), u64::MAX);
    for _ in 0..2 {
        job.round().await;
    }
    let path = job.round().await.path;
    assert!(from_backup_alone(&job.check(&path).await));
    assert!(below("/a") > 0);
}

#[tokio::test]
async fn directories_that_are_files_or_vanish_are_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let directories = ["file", "gone", "good"].map(|name| root.path().join(name));
    fs::write(&directories[0], "in the way").unwrap();
    let site = Site::new(Arc::new(InMemory::new()), directories.to_vec());
    let site = site.with("execution.checkpointing.file-merging.max-file-size", "8kb");
    let mut job = small_job(&site).await;
    job.chunks = 12;
    job.round().await;
    assert!(!copies(&directories[1]).is_empty() && !copies(&directories[2]).is_empty());
    fs::remove_dir_all(&directories[1]).unwrap();
    three_rounds(&mut job).await;
    // Made anew, and the file in the way taken away.
    fs::remove_file(&directories[0]).unwrap();
    job.round().await;
    job.round().await;
    let path = job.round().await.path;
    assert!(from_backup_alone(&job.check(&path).await));
    let each = directories.each_ref().map(|directory| copies(directory).len());
    assert!(each.iter().all(|&files| files > 0), "{each:?}");
    // All of it goes in the middle of a restore.
    fs::remove_dir_all(root.path()).unwrap();
    assert_eq!(job.check(&path).await.backup_reads, 0);
    fs::create_dir(root.path()).unwrap();
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn the_bound_is_never_exceeded(
        bytes_max in prop_oneof![0..2000u64, 2000..60_000u64],
        rounds in prop::collection::vec((1..6u32, 1..9000usize, 1..4u64, any::<bool>()), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let disk = MemoryDisk::default();
            let site = site(&disk).with("drystone.local-backup.max-size", &bytes_max.to_string());
            let mut job = small_job(&site).await;
            for (chunks, chunk_bytes, written_one_in, is_restarted) in rounds {
                (job.chunks, job.chunk_bytes, job.written_one_in) = (chunks, chunk_bytes, written_one_in);
                job.held.iter_mut().for_each(|held| held.clear());
                let path = job.round().await.path;
                job.check(&path).await;
                let usage = job.worker.backup().unwrap().usage();
                assert_eq!(usage.bytes, disk.bytes());
                assert!(disk.bytes_max() <= bytes_max, "{} of {bytes_max}", disk.bytes_max());
                if is_restarted {
                    job = job.restart(&site, "w").await;
                }
            }
        });
    }
}
