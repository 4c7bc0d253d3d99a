//! What Flink's tests of files that hold one checkpoint's segments check, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/scenario.rs"]
mod scenario;

use drystone::id::{CheckpointId, Scope};
use drystone::protocol::{Reason, Reuse, RewriteReason};
use drystone::write::Written;
use scenario::{AMPLIFICATION, Job, MAX_FILE, Round, file_of};

const MB: usize = 1 << 20;

/// Scenario 12 (testCreateAndReuseFiles): within a checkpoint the subtasks of a worker fill common files, one for each
/// scope; a full file is sealed and never filled again, and the next checkpoint starts with files of its own.
#[tokio::test]
async fn a_checkpoints_subtasks_fill_common_files() {
    for scope in [Scope::Shared, Scope::Exclusive] {
        let job = Job::new(&[(MAX_FILE, "64 kb")]).await;
        let (mut zero, mut one) = (job.begin(), job.begin());
        zero.write(0, scope, "f1", vec![1; 1000]).await;
        zero.write(1, scope, "f3", vec![2; 1000]).await;
        zero.write(0, other(scope), "f11", vec![3; 1000]).await;
        one.write(0, scope, "f4", vec![4; 1000]).await;
        zero.write(0, scope, "f5", vec![5; 1000]).await;
        let place = |round: &Round<'_>, index, name| round.provisional(index, name);
        let f1 = place(&zero, 0, "f1");
        assert_eq!(place(&zero, 1, "f3").path, f1.path, "the other subtask's is in the same file");
        assert_eq!(place(&zero, 0, "f5").path, f1.path);
        assert_eq!(place(&zero, 0, "f5").offset, 2000);
        assert_ne!(place(&one, 0, "f4").path, f1.path, "another checkpoint's is not");
        assert_ne!(place(&zero, 0, "f11").path, f1.path, "nor one of another scope");
        assert_eq!(job.worker.usage().open_files, 3);
        // As much as fits: the file is full and on its way.
        zero.write(0, scope, "full", vec![6; 60 * 1024]).await;
        assert_eq!(place(&zero, 0, "full").path, f1.path);
        zero.write(1, scope, "f6", vec![7; 1000]).await;
        assert_ne!(place(&zero, 1, "f6").path, f1.path);
        assert_eq!(job.worker.usage().open_files, 3);
        let handles = zero.acknowledge().await;
        job.complete(CheckpointId(1)).await;
        let full = job.stores.locate(&file_of(&handles["f1"])).unwrap().size().await.unwrap();
        assert!((60 * 1024..=64 * 1024).contains(&full), "{full}");
        one.commit().await;
    }
}

fn other(scope: Scope) -> Scope {
    match scope {
        Scope::Exclusive => Scope::Shared,
        Scope::Shared => Scope::Exclusive,
    }
}

/// Scenario 13 (testCheckpointNotification): a checkpoint's end frees what only it named, at once for all subtasks; an
/// aborted one's files go; notifications may come twice.
#[tokio::test]
async fn ends_of_checkpoints_free_what_only_they_named() {
    let job = Job::new(&[(AMPLIFICATION, "0")]).await;
    let mut round = job.begin();
    round.write(0, Scope::Shared, "1-s1", vec![1; 32]).await;
    round.write(1, Scope::Shared, "1-s2", vec![2; 32]).await;
    round.write(1, Scope::Exclusive, "private", vec![9; 32]).await;
    let (_, first) = round.commit().await;
    assert_eq!(job.counts(), (2, 3), "of which one and one are exclusive");

    let mut round = job.begin();
    assert_eq!(round.reuse(&first["private"]), Reuse::Rewrite(RewriteReason::Exclusive));
    round.write(0, Scope::Shared, "2-s1", vec![3; 32]).await;
    round.write(1, Scope::Shared, "2-s2", vec![4; 32]).await;
    round.keep(1, "1-s2", &first["1-s2"]);
    let second = round.acknowledge().await;
    assert_eq!(job.counts(), (3, 5), "both checkpoints are named until the second is durable");
    assert_eq!(job.complete(CheckpointId(2)).await.subsumed, [CheckpointId(1)]);
    assert_eq!(job.counts(), (2, 3));
    assert!(job.holds(&first["1-s1"]).await, "the other segment of the file is named yet");
    assert!(!job.holds(&first["private"]).await);

    let mut round = job.begin();
    round.write(0, Scope::Shared, "3-s1", vec![5; 32]).await;
    round.write(1, Scope::Shared, "3-s2", vec![6; 32]).await;
    let third = round.acknowledge().await;
    assert_eq!(job.counts(), (3, 5));
    assert!(job.holds(&third["3-s1"]).await);
    job.abort(CheckpointId(3)).await;
    job.abort(CheckpointId(3)).await;
    assert!(!job.holds(&third["3-s1"]).await);
    assert_eq!(job.counts(), (2, 3));
    for handle in second.values().chain([&first["1-s2"]]) {
        job.read(handle).await;
    }
}

/// Scenario 14 (testSpaceControl): above the limit, the files that are mostly dead are to be written again, and the bound
/// holds after the next checkpoint.
#[tokio::test]
async fn what_is_mostly_dead_is_written_again() {
    let job = Job::new(&[(AMPLIFICATION, "2")]).await;
    let mut round = job.begin();
    for number in 1..=6 {
        round.write(0, Scope::Shared, &format!("h{number}"), vec![number; 4 * MB]).await;
    }
    let (_, first) = round.commit().await;
    assert_eq!(job.counts(), (1, 6));

    let mut round = job.begin();
    for number in 7..=9 {
        round.write(0, Scope::Shared, &format!("h{number}"), vec![number; 4 * MB]).await;
    }
    round.keep(0, "h1", &first["h1"]);
    let second = round.acknowledge().await;
    assert_eq!(job.counts(), (2, 9));
    job.complete(CheckpointId(2)).await;
    let space = job.coordinator.space();
    assert_eq!((job.counts(), space.segment_bytes), ((2, 4), 16 << 20));
    assert!(space.amplification() > 2.0, "{}", space.amplification());

    let mut round = job.begin();
    assert_eq!(round.reuse(&first["h1"]), Reuse::Rewrite(RewriteReason::Planned(Reason::Waste)));
    round.keep(0, "h7", &second["h7"]);
    for number in 10..=11 {
        round.write(0, Scope::Shared, &format!("h{number}"), vec![number; 4 * MB]).await;
    }
    let third = round.acknowledge().await;
    assert_eq!(job.counts(), (3, 6), "the four of before, and two new ones");
    job.complete(CheckpointId(3)).await;
    assert_eq!(job.counts(), (2, 3));
    assert!(!job.holds(&first["h1"]).await);
    assert!(job.coordinator.space().amplification() < 2.0);
    assert!(job.holds(&third["h10"]).await && job.holds(&second["h7"]).await);
}

/// Scenario 12 (testCreateAndReuseFiles), the cap: Flink's files may be over it, ours are not.
#[tokio::test]
async fn only_a_single_longer_segment_is_over_the_cap() {
    let job = Job::new(&[(MAX_FILE, "64 kb")]).await;
    let mut round = job.begin();
    for (name, kb) in [("a", 60), ("b", 60), ("c", 100), ("d", 3)] {
        round.write(0, Scope::Shared, name, vec![1; kb * 1024]).await;
    }
    let writer = round.snapshot(0).segment(Scope::Shared, None);
    assert_eq!(writer.finish().await.unwrap(), Written::Nothing);
    let (_, handles) = round.commit().await;
    let files: Vec<_> = handles.values().map(file_of).collect();
    assert!(files.iter().enumerate().all(|(number, file)| !files[..number.min(3)].contains(file)), "{files:?}");
    for (name, file) in handles.keys().zip(&files) {
        let size = job.stores.locate(file).unwrap().size().await.unwrap();
        assert_eq!(size > 64 * 1024, name == "c", "{name}: {size}");
    }
}
