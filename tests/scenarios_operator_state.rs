//! What Flink's tests of operator state without any state, and of the registry of shared state check, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/scenario.rs"]
mod scenario;

use std::path::Path;

use drystone::coordinator::JobEnd;
use drystone::handle::{MergingDirectories, OperatorStateHandle, OperatorSubtasks, StreamHandle, SubtaskState};
use drystone::id::CheckpointId;
use drystone::protocol::Acknowledgement;
use scenario::{JOB, Job, OPERATOR, RETENTION, text};

/// Scenario 35 (testFileMergingSnapshotEmpty): a subtask without state names nothing and says nothing of directories, and
/// its checkpoint can be restored.
#[tokio::test]
async fn a_subtask_without_state_names_nothing() {
    let job = Job::new(&[]).await;
    let checkpoint = job.coordinator.trigger(CheckpointId(1)).unwrap().checkpoint;
    for (index, state) in [None, Some(Box::default())].into_iter().enumerate() {
        let subtask = job.subtask(index);
        let acknowledgement =
            Acknowledgement { epoch: job.coordinator.epoch(), checkpoint, subtask, state, sealed: Vec::new() };
        job.coordinator.acknowledge(acknowledgement).unwrap();
    }
    let path = job.complete(checkpoint).await.path;
    assert_eq!(job.counts(), (0, 0));
    assert_eq!(job.files().await.keys().collect::<Vec<_>>(), ["chk-1/_metadata"]);
    let restore = job.storage.restore(&path).await.unwrap();
    for index in 0..2 {
        let task = restore.task(OPERATOR, index, 2).unwrap();
        assert!(task.is_empty() && !task.has_finished() && task.managed_operator.is_empty());
    }
    assert!(restore.task(OPERATOR, 0, 1).unwrap().is_empty(), "nor at another parallelism");
}

fn with_file(directory: &Path) -> String {
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join("b6d9ad07-0a0f-4b4d-a11d-5a5c95b5b2a1"), "another's").unwrap();
    format!("file:{}", directory.display())
}

/// Scenario 36 (testFireMergingOperatorStateRegister): directories that a handle of Flink's names come through unchanged, and
/// are never deleted, with the checkpoint or with the job: we delete files by their names.
#[tokio::test]
async fn directories_that_a_handle_names_are_never_deleted() {
    let disk = tempfile::tempdir().unwrap();
    let stores = drystone::store::Stores::new();
    let options = [(RETENTION, "DELETE_ON_CANCELLATION")];
    let job = Job::at(&stores, disk.path().to_str().unwrap(), JOB, 1, &options).await;
    let root = disk.path().join(JOB.to_string());
    let shared = with_file(&root.join("shared/job_x_op_y_0_1"));
    let task_owned = with_file(&root.join("taskowned/job_x_tm_Testing"));
    let directories = MergingDirectories { task_owned: text(&task_owned), shared: text(&shared), empty: true };
    let operator = OperatorStateHandle {
        states: Vec::new(),
        directories: Some(directories),
        delegate: StreamHandle::EmptySegment,
    };
    let state = SubtaskState { managed_operator: Some(operator.clone()), ..SubtaskState::default() };
    let trigger = job.coordinator.trigger(CheckpointId(1)).unwrap();
    job.acknowledge(trigger.checkpoint, 0, state, Vec::new());
    let path = job.complete(trigger.checkpoint).await.path;
    assert_eq!(job.counts(), (0, 0));
    let restore = job.storage.restore(&path).await.unwrap();
    let OperatorSubtasks::Reported(entries) = &restore.operators()[0].subtasks else { panic!() };
    assert_eq!(entries[0].state.as_ref().unwrap().managed_operator, Some(operator));

    let are_there = || {
        let directories = [&shared, &task_owned].map(|directory| directory.trim_start_matches("file:").to_owned());
        directories.iter().all(|directory| std::fs::read_dir(directory).unwrap().count() == 1)
    };
    for _ in 0..2 {
        job.begin().commit().await;
        assert!(are_there());
    }
    job.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
    assert!(are_there());
    assert!(job.files().await.keys().all(|file| file.contains("job_x_")), "all that is ours has gone");
}
