//! What Flink's tests of files that hold several checkpoints' segments check, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/scenario.rs"]
mod scenario;

use drystone::id::{CheckpointId, Scope};
use drystone::protocol::{Reason, Reuse, RewriteReason};
use scenario::{ACROSS, AMPLIFICATION, FOLDING, Handles, Job, file_of};

const MB: usize = 1 << 20;

/// Rounds that each write one small chunk and name all before; what the worker says is written again. Returns bytes
/// written again.
async fn grow(job: &Job, rounds: u64) -> (u64, Handles) {
    let (mut live, mut rewritten) = (Handles::new(), 0);
    for number in 1..=rounds {
        let mut round = job.begin();
        let mut next = Handles::new();
        for (name, handle) in &live {
            match round.reuse(handle) {
                Reuse::Keep => {
                    round.keep(0, name, handle);
                    next.insert(name.clone(), handle.clone());
                }
                Reuse::Rewrite(reason) => {
                    assert_eq!(reason, RewriteReason::Planned(Reason::Fold));
                    let bytes = job.read(handle).await;
                    rewritten += bytes.len() as u64;
                    round.write(0, Scope::Shared, name, bytes).await;
                }
            }
        }
        round.write(0, Scope::Shared, &format!("{number:03}"), vec![number as u8; 10_000]).await;
        next.extend(round.commit().await.1);
        live = next;
    }
    (rewritten, live)
}

/// Scenario 15 (testCreateAndReuseFiles): no file is opened again for a later checkpoint; small files of earlier ones are
/// folded forward instead, within a budget of bytes written again.
#[tokio::test]
async fn small_files_of_earlier_checkpoints_are_folded_into_one() {
    const ROUNDS: u64 = 48;
    let within = Job::new(&[(AMPLIFICATION, "0")]).await;
    assert_eq!(grow(&within, ROUNDS).await.0, 0);
    assert_eq!(within.counts(), (ROUNDS, ROUNDS), "without it each checkpoint's file stays");

    // Each byte may be written again so often, in the mean: the more, the fewer files are left.
    for (ratio, files_max) in [(0.5, 32), (3.0, 12)] {
        let options = [(AMPLIFICATION, "0"), (ACROSS, "true"), (FOLDING, &ratio.to_string())];
        let across = Job::new(&options).await;
        let (rewritten, live) = grow(&across, ROUNDS).await;
        let (files, segments) = across.counts();
        assert_eq!(segments, ROUNDS);
        assert!(files <= files_max, "{files} files at {ratio}");
        let budget = (ROUNDS as f64 * 10_000.0 * ratio) as u64;
        assert!(rewritten > 0 && rewritten <= budget, "{rewritten} bytes of {budget} written again");
        for (name, handle) in &live {
            let bytes = across.read(handle).await;
            assert_eq!(bytes, vec![name.parse::<u8>().unwrap(); 10_000]);
        }
    }
}

/// Scenario 15 (testCreateAndReuseFiles), the files: a new checkpoint never writes behind what an older one has sealed.
#[tokio::test]
async fn a_sealed_file_is_never_opened_again() {
    for scope in [Scope::Shared, Scope::Exclusive] {
        let job = Job::new(&[(ACROSS, "true")]).await;
        let (mut one, mut two) = (job.begin(), job.begin());
        one.write(0, scope, "f1", vec![1; 1000]).await;
        two.write(0, scope, "f4", vec![2; 1000]).await;
        one.write(1, scope, "f2", vec![3; 1000]).await;
        assert_eq!(one.provisional(1, "f2").path, one.provisional(0, "f1").path);
        assert_ne!(two.provisional(0, "f4").path, one.provisional(0, "f1").path);
        assert_eq!(two.provisional(0, "f4").offset, 0);
        let (_, first) = one.commit().await;
        two.write(1, scope, "f5", vec![4; 1000]).await;
        assert_ne!(two.provisional(1, "f5").path, scenario::segment(&first["f1"]).path);
        two.commit().await;
    }
}

/// Scenario 16 (testCheckpointNotification): a file goes with its last segment, and an abort takes only what is its own.
#[tokio::test]
async fn an_aborted_checkpoint_takes_nothing_of_another() {
    let job = Job::new(&[(AMPLIFICATION, "0"), (ACROSS, "true")]).await;
    let mut rounds = Vec::new();
    for number in 1..=3 {
        let mut round = job.begin();
        round.write(0, Scope::Shared, "s1", vec![number; 32]).await;
        round.write(1, Scope::Shared, "s2", vec![number + 10; 32]).await;
        rounds.push(round.acknowledge().await);
        match number {
            1 => assert_eq!(job.counts(), (1, 2)),
            _ => assert_eq!(job.counts(), (2, 4)),
        }
        if number == 3 {
            job.abort(CheckpointId(3)).await;
            job.worker.abort(job.coordinator.epoch(), CheckpointId(3));
        } else {
            job.complete(CheckpointId(number.into())).await;
            assert_eq!(job.counts(), (1, 2), "the older one's file has gone with it");
        }
    }
    assert_eq!(job.counts(), (1, 2));
    for (number, kept) in [(0, false), (1, true), (2, false)] {
        assert_eq!(job.holds(&rounds[number]["s1"]).await, kept, "{number}");
        assert_eq!(job.holds(&rounds[number]["s2"]).await, kept, "{number}");
    }
}

/// Scenario 17 (testSpaceControl): the limit holds across checkpoints, too.
#[tokio::test]
async fn space_is_won_back_across_checkpoints() {
    let job = Job::new(&[(AMPLIFICATION, "2"), (ACROSS, "true")]).await;
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
    assert_eq!(file_of(&second["h7"]), file_of(&second["h9"]));
    assert_ne!(file_of(&second["h7"]), file_of(&first["h1"]));
    job.complete(CheckpointId(2)).await;
    assert_eq!(job.counts(), (2, 4));

    let mut round = job.begin();
    assert_eq!(round.reuse(&first["h1"]), Reuse::Rewrite(RewriteReason::Planned(Reason::Waste)));
    assert_eq!(round.reuse(&second["h7"]), Reuse::Keep);
    assert_eq!(round.reuse(&second["h9"]), Reuse::Keep);
    for number in 10..=12 {
        round.write(0, Scope::Shared, &format!("h{number}"), vec![number; 4 * MB]).await;
    }
    round.acknowledge().await;
    assert_eq!(job.counts(), (3, 7));
    job.complete(CheckpointId(3)).await;
    let space = job.coordinator.space();
    assert_eq!((space.files, space.segments, space.segment_bytes), (1, 3, 12 << 20));
    assert!(space.file_bytes < (12 << 20) + 1024, "{space:?}");
}
