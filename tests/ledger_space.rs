//! What the plan comes to, checkpoint after checkpoint: space, bytes written again, files.
//!
//! `cargo test --test ledger_space -- --nocapture` prints the tables of `design/space.md`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod ledger_job;
}

use drystone::ledger::SpacePolicy;
use support::ledger_job::{Dice, Job, SEGMENT_BYTES, Shape};

const MIB: u64 = 1 << 20;
/// What survives is a matter of chance, so less may than the outlook says: by so much of the bound, here.
const TOLERANCE: f64 = 0.03;

/// Segments of 64 KiB that survive at random; those that live long, for longer.
fn bound_holds(workers: usize, segments: usize, file_bytes_max: u64) {
    for retained in [1, 3] {
        for (survival, checkpoints) in [(0.5, 60), (0.9, 60), (0.99, 160)] {
            for across in [false, true] {
                let shape =
                    Shape { workers, segments: segments / workers, ..Shape::new(retained, file_bytes_max, across) };
                let mut job = Job::new(shape, 1);
                (0..checkpoints).for_each(|_| drop(job.run(survival, shape.segments)));
                let (seen, ratio, files) = (job.seen, job.seen.write_ratio(), job.files());
                println!(
                    "| {workers} | {} of {} | {retained} | {survival} | {across} | {:.2} | {:.1} % | {ratio:.2} | {files} |",
                    file_bytes_max / MIB,
                    segments as u64 * SEGMENT_BYTES / MIB,
                    seen.peak,
                    seen.excess * 100.0,
                );
                assert!(seen.excess <= TOLERANCE, "{seen:?}");
                assert!(ratio <= 0.505, "{seen:?}");
            }
        }
    }
}

#[test]
fn the_bound_holds_with_one_worker_and_small_files() {
    bound_holds(1, 512, MIB);
}

#[test]
fn the_bound_holds_with_one_worker_and_large_files() {
    bound_holds(1, 2048, 32 * MIB);
}

#[test]
fn the_bound_holds_with_many_workers_and_small_files() {
    bound_holds(16, 1024, MIB);
}

#[test]
fn the_bound_holds_with_many_workers_and_large_files() {
    bound_holds(16, 1024, 32 * MIB);
}

/// The number of files after `checkpoints` of a state that lives long, of one segment a worker and checkpoint or so.
fn files_after(checkpoints: usize, workers: usize, across: bool, fold_ratio_max: f64) -> usize {
    let shape = Shape::new(1, 4 * MIB, across);
    let space = SpacePolicy { fold_ratio_max, ..shape.space };
    let shape = Shape { workers, segments: 1024 / workers, space, ..shape };
    let mut job = Job::new(shape, 5);
    (0..checkpoints).for_each(|_| drop(job.run(0.995, shape.segments)));
    let (files, ratio) = (job.files(), job.seen.write_ratio());
    println!("| {workers} | {across} | {fold_ratio_max} | {checkpoints} | {files} | {ratio:.2} |");
    assert!(ratio <= fold_ratio_max + 0.02, "{ratio}");
    files
}

#[test]
fn folding_keeps_files_few() {
    // 64 MiB are 16 full files.
    for (workers, most) in [(1, 16 + 16 + 16), (8, 16 + 16 + 8 * 16)] {
        let apart = files_after(200, workers, false, 0.5);
        let within = files_after(200, workers, true, 0.5);
        let folded = files_after(200, workers, true, 3.0);
        assert!(within < apart, "{within} files, and {apart} without");
        assert!(folded <= most && 2 * folded < apart, "{folded} files, and {apart} without");
    }
}

/// After a sudden drop to 1 % the bound is restored by the first commit after which all is gone that is older than
/// the plan: that of the next checkpoint, or as many later as are retained.
#[test]
fn a_sudden_drop_is_made_good_in_a_round() {
    for retained in [1, 2, 3] {
        for across in [false, true] {
            let mut job = Job::new(Shape::new(retained, 4 * MIB, across), 3);
            (0..10).for_each(|_| drop(job.run(0.95, 2048)));
            job.run(0.01, 20);
            let dropped = job.checkpoint;
            let wasted = job.ledger.usage().wasted_bytes();
            assert_eq!(job.ledger.latest().map(|id| id.0), Some(dropped));
            while job.ledger.completed().next().is_some_and(|oldest| oldest.0 <= dropped) {
                job.run(0.95, 20);
            }
            assert_eq!(job.checkpoint, dropped + retained as u64);
            let usage = job.ledger.usage();
            assert_eq!(job.excess(&usage), 0.0, "{usage:?}, {wasted} bytes were wasted");
            assert!(usage.file_bytes <= 4 * MIB, "{usage:?}");
        }
    }
}

/// Where survival changes without warning, the excess is what the outlook was wrong by, and gone a round later.
#[test]
fn what_comes_as_a_surprise_is_made_good() {
    let mut dice = Dice::new(11);
    for retained in [1, 3] {
        let mut job = Job::new(Shape::new(retained, MIB, false), 12);
        let (mut most, mut since) = (0.0_f64, 0);
        let mut survival = 0.9;
        for _ in 0..150 {
            since += 1;
            if dice.chance(0.1) {
                survival = [0.3, 0.6, 0.9, 0.99][dice.next() as usize % 4];
                since = 0;
            }
            job.run(survival, 1024);
            let excess = job.excess(&job.ledger.usage());
            most = most.max(excess);
            // One round to learn of it, one to act, and then for the older ones to go.
            assert!(since < 2 + retained || excess <= 0.05, "{excess} after {since} checkpoints of {survival}");
        }
        println!("retained {retained}: at most {:.1} % beyond the bound", most * 100.0);
        assert!(most < 0.5, "the limit is 2, and nothing new wastes: {most}");
    }
}

#[test]
fn without_a_limit_nothing_is_planned() {
    let shape = Shape::new(1, MIB, false);
    let space = SpacePolicy { amplification_max: None, ..shape.space };
    let mut job = Job::new(Shape { space, ..shape }, 1);
    (0..30).for_each(|_| assert!(job.run(0.9, 512).is_empty()));
    assert_eq!(job.seen.rewritten_bytes, 0);
}

/// No waste at all can't be had, as what dies is known only afterwards; but it is never named twice.
#[test]
fn the_tightest_limit_leaves_what_dies_in_a_round() {
    let shape = Shape::new(1, MIB, false);
    let space = SpacePolicy { amplification_max: Some(1.0), floor_bytes: 0, ..shape.space };
    let mut job = Job::new(Shape { space, ..shape }, 1);
    for _ in 0..30 {
        job.run(0.9, 1024);
        let usage = job.ledger.usage();
        assert!(usage.amplification() <= 1.02 + 0.1 + TOLERANCE, "{usage:?}");
        assert_eq!(usage.segment_bytes, 1024 * SEGMENT_BYTES);
    }
}
