//! Runs that are cut short on a local disk, or overtaken by another: what is left is taken care of by the next, and
//! never taken from anybody else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/runs.rs"]
mod runs;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use drystone::repack::{self, Options, Phase, Report};
use drystone::store::Stores;
use drystone::write::WriteSettings;
use drystone::{ErrorKind, Result};
use futures::FutureExt;
use synthetic::{Disk, JOB, checkpoint, chunk, contents};
use tokio::runtime::{Builder, Runtime};

const REPACK: bool = true;
const COPY: bool = false;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn options(number: u64) -> Options {
    runs::options(number, WriteSettings { file_bytes_max: 64 << 10, ..runs::all_packed() })
}

fn disk() -> Disk {
    let disk = Disk::new();
    disk.commit(&checkpoint((0..6).map(|n| disk.file(&format!("f{n}"), &chunk(30_000, n))).collect()));
    disk
}

async fn run(disk: &Disk, how: bool, number: u64) -> Result<Report> {
    let (stores, to) = (Stores::new(), disk.named("out"));
    match how {
        REPACK => runs::repack(&stores, &disk.checkpoint(), &to, &options(number)).await,
        COPY => runs::copy(&stores, &disk.checkpoint(), &to, &options(number)).await,
    }
}

/// Polls `polls` times at most, then drops the future.
async fn cut<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(move |context| match left.checked_sub(1) {
        None => Poll::Ready(None),
        Some(fewer) => {
            left = fewer;
            future.as_mut().poll(context).map(Some)
        }
    })
    .await
}

/// Sound, the same as the source, and not a file more than it names.
async fn assert_complete(disk: &Disk, report: &Report) {
    let stores = Stores::new();
    let found = runs::check(&stores, &report.destination).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.findings);
    assert!(contents(&stores, &report.destination).await == contents(&stores, &disk.checkpoint()).await);
    let files = disk.files("out");
    assert_eq!(files.len() as u64, report.after.files + 1, "{:?}", files.keys());
}

fn cut_everywhere(how: bool) {
    for polls in 1.. {
        let disk = disk();
        // A runtime ends only when all blocking work has, so nothing is written any more.
        let done = runtime().block_on(cut(run(&disk, how, 1), polls));
        let left = disk.files("out");
        if let Some(done) = done {
            assert!(polls > 10, "{polls}");
            return runtime().block_on(assert_complete(&disk, &done.unwrap()));
        }
        runtime().block_on(async {
            match run(&disk, how, 2).await {
                Ok(report) => assert_complete(&disk, &report).await,
                // Cut in the last step, when all was done.
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{polls}: {error} {:?}", left.keys());
                    let found =
                        runs::check(&Stores::new(), &runs::path(&disk.named(&format!("out/{JOB}/chk-7")))).await;
                    assert!(found.unwrap().is_sound());
                    assert!(!left.keys().any(|name| name.contains("unfinished")));
                }
            }
        });
    }
}

#[test]
fn a_repack_that_is_dropped_at_any_point_is_made_good_by_the_next() {
    cut_everywhere(REPACK);
}

#[test]
fn a_copy_that_is_dropped_at_any_point_is_made_good_by_the_next() {
    cut_everywhere(COPY);
}

#[tokio::test]
async fn files_in_the_making_of_an_interrupted_run_are_removed() {
    for how in [REPACK, COPY] {
        let disk = disk();
        let at = disk.at(&format!("out/{JOB}/chk-7"));
        fs::create_dir_all(at.join("deeper")).unwrap();
        fs::write(at.join("_drystone-unfinished-00000000000000ff"), b"of an earlier run\n").unwrap();
        for name in [
            "ds1-a0-wrepack.00000000000000ff-c7-n0-0000000000000001",
            "ds1-00000000000000ff#1",
            "_metadata#1",
            "deeper/f0-00000000000000ff",
            "deeper/f1-00000000000000ff#22",
        ] {
            fs::write(at.join(name), b"half").unwrap();
        }
        let report = run(&disk, how, 1).await.unwrap();
        assert_eq!(report.leftovers_removed, 2);
        assert_complete(&disk, &report).await;
    }
}

#[tokio::test]
async fn what_an_interrupted_run_left_goes_before_anything_is_written_where_that_is_asked_for() {
    for how in [REPACK, COPY] {
        let disk = disk();
        let at = disk.at(&format!("out/{JOB}/chk-7"));
        fs::create_dir_all(&at).unwrap();
        for name in ["_drystone-unfinished-00000000000000ff", "f0-00000000000000ff", "f1-00000000000000ff"] {
            fs::write(at.join(name), b"left").unwrap();
        }
        let seen = AtomicBool::new(false);
        let progress = |_: Phase, _: u64, _: u64| {
            let left = fs::read_dir(&at).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().contains("00ff"));
            seen.fetch_or(left, Ordering::Relaxed);
        };
        let (stores, from, to) = (Stores::new(), disk.checkpoint(), runs::path(&disk.named("out")));
        let options = Options { discard_leftovers: true, ..options(1) };
        let report = match how {
            REPACK => repack::repack(&stores, &from, &to, &options, &progress).await.unwrap(),
            COPY => repack::copy(&stores, &from, &to, &options, &progress).await.unwrap(),
        };
        assert!(!seen.into_inner());
        assert_eq!(report.leftovers_removed, 2);
        assert_complete(&disk, &report).await;
    }
}

#[tokio::test]
async fn a_marker_in_the_making_alone_is_no_obstacle() {
    let disk = disk();
    let at = disk.at(&format!("out/{JOB}/chk-7"));
    fs::create_dir_all(&at).unwrap();
    fs::write(at.join("_drystone-unfinished-00000000000000ff#1"), b"").unwrap();
    let report = run(&disk, REPACK, 1).await.unwrap();
    assert_eq!(report.leftovers_removed, 0);
    assert_complete(&disk, &report).await;
}

#[tokio::test]
async fn a_run_that_only_its_marker_was_left_of_is_finished() {
    let disk = disk();
    let first = run(&disk, REPACK, 1).await.unwrap();
    let marker = disk.at(&format!("out/{JOB}/chk-7/_drystone-unfinished-00000000000000ff"));
    fs::write(&marker, b"of an earlier run\n").unwrap();
    let report = run(&disk, REPACK, 2).await.unwrap();
    assert!(report.already_complete && !marker.exists());
    assert_eq!(report.after, first.after);
    assert_complete(&disk, &report).await;
}

#[tokio::test]
async fn a_run_that_fails_leaves_no_directory_that_it_made_and_each_that_was_there() {
    let disk = Disk::new();
    disk.file("one", &chunk(100_000, 1));
    // What reading shows, when the directories have been made.
    disk.commit(&checkpoint(vec![synthetic::relative("one", 99_999)]));
    for to in ["x/y/z", "q"] {
        let existed = disk.at("q").join(JOB).join("chk-7/kept");
        fs::create_dir_all(&existed).unwrap();
        let error = runs::repack(&Stores::new(), &disk.checkpoint(), &disk.named(to), &options(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert_eq!(disk.at(to).join(JOB).exists(), to == "q");
        assert!(!disk.at("x").exists() && existed.is_dir());
        assert!(disk.files(to).is_empty());
    }
}

/// Runs until what was written is to be checked, and not a step further: an unwinding, which prints nothing, cuts it.
fn cut_before_the_check(disk: &Disk, how: bool) {
    let (stores, from, to) = (Stores::new(), disk.checkpoint(), runs::path(&disk.named("out")));
    let progress = |phase: Phase, _: u64, _: u64| {
        if phase == Phase::Checking {
            std::panic::resume_unwind(Box::new("cut"));
        }
    };
    let options = options(2);
    let run = async {
        match how {
            REPACK => repack::repack(&stores, &from, &to, &options, &progress).await,
            COPY => repack::copy(&stores, &from, &to, &options, &progress).await,
        }
    };
    let cut = runtime().block_on(std::panic::AssertUnwindSafe(run).catch_unwind());
    assert!(cut.is_err(), "it came to the check");
}

/// Lets another run have the destination while the first checks what it wrote, then goes on with the first.
fn overtake(how: bool, other_ends: bool) {
    let disk = disk();
    let to = disk.named("out");
    let overtaken = AtomicBool::new(false);
    let progress = |phase: Phase, _: u64, _: u64| {
        if phase == Phase::Checking && !overtaken.swap(true, Ordering::Relaxed) {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| match other_ends {
                    true => runtime().block_on(run(&disk, how, 2)).map(|_| ()).unwrap(),
                    false => cut_before_the_check(&disk, how),
                });
                other.join().unwrap();
            });
        }
    };
    let (stores, options) = (Stores::new(), options(1));
    let from = disk.checkpoint();
    let done = runtime().block_on(async {
        match how {
            REPACK => repack::repack(&stores, &from, &runs::path(&to), &options, &progress).await,
            COPY => repack::copy(&stores, &from, &runs::path(&to), &options, &progress).await,
        }
    });
    assert!(overtaken.into_inner());
    if other_ends {
        assert_eq!(done.unwrap_err().kind(), ErrorKind::Conflict);
        let there = disk.files("out");
        let found = runtime().block_on(runs::check(&stores, &runs::path(&disk.named(&format!("out/{JOB}/chk-7")))));
        assert!(found.unwrap().is_sound());
        assert!(!there.keys().any(|name| name.contains("unfinished")), "{:?}", there.keys());
        assert_eq!(there.len(), if how == REPACK { 4 } else { 7 }, "{:?}", there.keys());
    } else {
        // The other's files are litter now, and its run, should it go on, can't commit.
        runtime().block_on(assert_complete(&disk, &done.unwrap()));
    }
}

#[test]
fn a_repack_leaves_the_result_of_a_run_that_overtook_it() {
    overtake(REPACK, true);
}

#[test]
fn a_copy_leaves_the_result_of_a_run_that_overtook_it() {
    overtake(COPY, true);
}

#[test]
fn a_run_that_commits_clears_away_what_another_left_meanwhile() {
    overtake(REPACK, false);
    overtake(COPY, false);
}

#[tokio::test]
async fn of_two_runs_at_once_one_commits() {
    for how in [REPACK, COPY] {
        for _ in 0..30 {
            let disk = disk();
            match tokio::join!(run(&disk, how, 1), run(&disk, how, 2)) {
                (Ok(one), Ok(other)) => {
                    // One came when the other had just committed.
                    assert!(one.already_complete != other.already_complete);
                    assert_complete(&disk, &one).await;
                }
                (Ok(one), Err(_)) | (Err(_), Ok(one)) => assert_complete(&disk, &one).await,
                (Err(one), Err(other)) => panic!("{one}; {other}"),
            }
        }
    }
}
