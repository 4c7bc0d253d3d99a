//! Tasks that had finished before a checkpoint: what its metadata says of them, and what a restore makes of that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/finished_job.rs"]
mod finished_job;

use std::collections::BTreeSet;

use drystone::ErrorKind;
use drystone::coordinator::Acknowledged;
use drystone::handle::{DistributionMode, OperatorSubtasks};
use drystone::id::{CheckpointId, OperatorId};
use drystone::read::{Exchange, Finished, Input, Restore, Vertex};
use finished_job::{Job, MIDDLE, SINK, SOURCE};

async fn restore() -> (tempfile::TempDir, Restore) {
    let directory = tempfile::tempdir().unwrap();
    let job = Job::new(directory.path()).await;
    let completed = job.complete().await;
    let restore = job.storage.restore(&completed.path).await.unwrap();
    (directory, restore)
}

#[tokio::test]
async fn the_metadata_says_who_had_finished() {
    let (_directory, restore) = restore().await;
    let [source, middle, sink] = restore.operators() else { panic!("three operators") };
    assert_eq!((source.id, &source.subtasks), (SOURCE, &OperatorSubtasks::FullyFinished));
    // As in Flink, nothing else of it is kept.
    assert_eq!(source.coordinator, None);
    assert_eq!((source.parallelism, source.max_parallelism), (2, 12));
    let entries = |subtasks: &OperatorSubtasks| match subtasks {
        OperatorSubtasks::Reported(entries) => entries.iter().map(|e| (e.index, e.state.is_some())).collect::<Vec<_>>(),
        OperatorSubtasks::FullyFinished => panic!("finished"),
    };
    assert_eq!(entries(&middle.subtasks), [(0, true), (1, true), (2, false)]);
    assert_eq!(entries(&sink.subtasks), [(0, true)]);
    assert!(sink.coordinator.is_some() && middle.coordinator.is_none());
}

#[tokio::test]
async fn what_had_finished_isnt_run_again_and_what_had_in_part_is() {
    let (_directory, restore) = restore().await;
    // At any parallelism.
    for parallelism in [1, 2, 5] {
        let task = restore.task(SOURCE, 0, parallelism).unwrap();
        assert!(task.is_over() && task.has_finished() && task.is_empty(), "{parallelism}");
    }
    // At the same parallelism who had finished begins with nothing.
    let tasks: Vec<_> = (0..3).map(|index| restore.task(MIDDLE, index, 3).unwrap()).collect();
    let seen: Vec<_> = tasks.iter().map(|task| (task.is_over(), task.has_finished(), task.is_empty())).collect();
    assert_eq!(seen, [(false, false, false), (false, false, false), (false, true, true)]);
    assert_eq!(tasks[0].finished, Finished::Subtasks(vec![2]));
    let sink = restore.task(SINK, 0, 1).unwrap();
    assert_eq!((sink.is_over(), &sink.finished), (false, &Finished::Subtasks(vec![])));
}

/// At another parallelism what is left is shared out among all: key groups of who had finished have no state, and the
/// partitions of the others' lists each go to somebody.
#[tokio::test]
async fn what_had_finished_in_part_is_rescaled_without_what_had_finished() {
    let (_directory, restore) = restore().await;
    for parallelism in [1, 2, 4, 6] {
        let (mut groups, mut partitions) = (Vec::new(), 0);
        for index in 0..parallelism {
            let task = restore.task(MIDDLE, index, parallelism).unwrap();
            assert!(task.is_rescaled() && !task.has_finished() && !task.is_over());
            task.read_all().await.unwrap();
            for keyed in &task.managed_keyed {
                groups.extend(keyed.key_groups.start..keyed.key_groups.start + keyed.key_groups.count);
            }
            partitions =
                task.managed_operator.iter().flat_map(|handle| &handle.states).map(|s| s.partitions.len()).sum();
        }
        // The first eight key groups were those of the two that ran.
        assert_eq!(groups, (0..8).collect::<Vec<_>>(), "{parallelism}");
        assert_eq!(partitions, 4, "{parallelism}");
    }
}

#[tokio::test]
async fn union_state_of_an_operator_that_has_finished_in_part_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let job = Job::new(directory.path()).await;
    let checkpoint = job.take(DistributionMode::Union);
    let nobody = BTreeSet::new();
    assert_eq!(job.coordinator.partly_finished_with_union(checkpoint, &nobody), Some(MIDDLE));
    let error = job.coordinator.complete(checkpoint).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(text.contains(&format!("some subtasks of operator {MIDDLE} have finished")), "{text}");
    assert_eq!((job.coordinator.pending(), job.coordinator.completed()), (vec![], vec![]));
    // Broadcast state is the same on all.
    let checkpoint = job.take(DistributionMode::Broadcast);
    assert_eq!(job.coordinator.partly_finished_with_union(checkpoint, &nobody), None);
    assert_eq!(job.coordinator.complete(checkpoint).await.unwrap().checkpoint, CheckpointId(2));
}

/// Who will have finished by a checkpoint does so together with all others, where there is union state.
#[tokio::test]
async fn union_state_of_an_operator_of_which_some_are_about_to_finish_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let job = Job::new(directory.path()).await;
    let checkpoint = job.trigger();
    for index in 0..3 {
        job.acknowledge(checkpoint, job.subtask(MIDDLE, index), DistributionMode::Union);
    }
    for index in 0..2 {
        job.acknowledge(checkpoint, job.subtask(SOURCE, index), DistributionMode::SplitDistribute);
    }
    let found = |who: &[(OperatorId, u32)]| {
        let ended = who.iter().map(|&(operator, index)| job.subtask(operator, index)).collect();
        job.coordinator.partly_finished_with_union(checkpoint, &ended)
    };
    assert_eq!(found(&[]), None);
    assert_eq!(found(&[(MIDDLE, 1)]), Some(MIDDLE));
    assert_eq!(found(&[(MIDDLE, 0), (MIDDLE, 1), (MIDDLE, 2)]), None);
    assert_eq!(found(&[(SOURCE, 1)]), None);
}

#[tokio::test]
async fn who_acknowledges_and_then_finishes_has_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let job = Job::new(directory.path()).await;
    let checkpoint = job.trigger();
    let mode = DistributionMode::SplitDistribute;
    let all: Vec<_> = job.specs.iter().flat_map(|spec| spec.subtasks()).collect();
    for &subtask in &all {
        job.acknowledge(checkpoint, subtask, mode);
        assert_eq!(
            job.coordinator.finished(job.coordinator.epoch(), checkpoint, subtask).unwrap(),
            Acknowledged::Repeated
        );
    }
    let completed = job.coordinator.complete(checkpoint).await.unwrap();
    let restore = job.storage.restore(&completed.path).await.unwrap();
    for subtask in all {
        assert!(!restore.task(subtask.operator, subtask.index, subtask.parallelism).unwrap().is_empty());
    }
}

fn vertex(name: &str, operators: &[OperatorId], inputs: &[(usize, Exchange)]) -> Vertex {
    let inputs = inputs.iter().map(|&(from, exchange)| Input { from, exchange }).collect();
    Vertex { name: name.into(), operators: operators.to_vec(), inputs }
}

/// Flink's rules for a job that is changed between a checkpoint and the restore.
#[tokio::test]
async fn a_job_must_not_have_changed_around_what_had_finished() {
    use Exchange::{AllToAll, Pointwise};
    let (_directory, restore) = restore().await;
    let unknown = OperatorId([0x66; 16]);
    let (source, sink) = (vertex("source", &[SOURCE], &[]), vertex("sink", &[SINK], &[(1, AllToAll)]));
    let fine = |exchange| vec![source.clone(), vertex("middle", &[MIDDLE], &[(0, exchange)]), sink.clone()];
    for job in [fine(Pointwise), fine(AllToAll), vec![], vec![vertex("new", &[unknown], &[]), source.clone()]] {
        restore.check_finished(&job).unwrap();
    }
    let new = vertex("new", &[unknown], &[]);
    for (job, problem) in [
        (
            vec![vertex("source", &[SOURCE], &[(1, Pointwise)]), new.clone()],
            "vertex source had finished when it was taken, but new, which sends to it, was running",
        ),
        (
            vec![vertex("source", &[SOURCE], &[(1, Pointwise)]), vertex("middle", &[MIDDLE], &[])],
            "vertex source had finished when it was taken, but middle, which sends to it, had finished in part",
        ),
        (
            vec![vertex("middle", &[MIDDLE], &[(1, Pointwise)]), new.clone()],
            "vertex middle had finished in part when it was taken, but new, which sends to it, was running",
        ),
        (
            vec![vertex("middle", &[MIDDLE], &[(0, AllToAll)])],
            "vertex middle had finished in part when it was taken, but middle, which sends to it, had finished in part",
        ),
        (
            vec![vertex("chain", &[SOURCE, unknown], &[])],
            "vertex chain: one of its operators had finished when it was taken, and another was running",
        ),
        (vec![vertex("chain", &[SINK, MIDDLE], &[])], "another had finished in part"),
        (
            vec![vertex("middle", &[MIDDLE], &[(7, Pointwise)])],
            "vertex middle has an input from vertex 7: there is none",
        ),
    ] {
        let error = restore.check_finished(&job).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(problem), "{error}");
    }
    // Pointwise, part of the senders may have finished, too.
    let partly = vertex("middle", &[MIDDLE], &[(0, Pointwise)]);
    restore.check_finished(&[partly]).unwrap();
}
