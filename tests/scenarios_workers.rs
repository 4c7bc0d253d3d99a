//! What Flink's tests of the task managers' registry of managers check, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/scenario.rs"]
mod scenario;

use drystone::id::{CheckpointId, JobId, Scope};
use drystone::store::names::PhysicalFileName;
use drystone::worker::Worker;
use drystone::write::Written;
use scenario::{JOB, Job, memory, segment};

/// One chunk, and where it will lie.
async fn place(job: &Job, worker: &Worker, subtask: usize) -> String {
    let trigger = drystone::protocol::Trigger::new(job.coordinator.epoch(), CheckpointId(1));
    let snapshot = worker.begin(job.subtask(subtask), &trigger).unwrap();
    let mut writer = snapshot.segment(Scope::Shared, None);
    writer.write_slice(&[1; 100]).await.unwrap();
    let written: Written = writer.finish().await.unwrap();
    segment(&snapshot.provisional(&written).unwrap().unwrap()).path.to_text().into_owned()
}

/// Scenario 34 (testCheckpointScope): all of one worker's subtasks share its files; no two workers share one, whatever they
/// are called; each job has a directory of its own; what comes after a closed worker is another one.
#[tokio::test]
async fn a_worker_is_one_jobs_and_one_processs() {
    let stores = memory();
    let job = Job::at(&stores, "memory:/checkpoints", JOB, 2, &[]).await;
    let other_job = Job::at(&stores, "memory:/checkpoints", JobId([2; 16]), 2, &[]).await;
    let first = place(&job, &job.worker, 0).await;
    assert_eq!(place(&job, &job.worker.clone(), 1).await, first, "a clone is the same worker");
    let namesake = job.storage.worker(JOB, "Testing").unwrap();
    let second = place(&job, &namesake, 0).await;
    assert_ne!(second, first, "a worker of the same name is another");
    let elsewhere = place(&other_job, &other_job.worker, 0).await;
    let in_job = |text: &str, job: &Job| job.directory.holds(&scenario::path(text));
    assert!(in_job(&first, &job) && in_job(&second, &job) && in_job(&elsewhere, &other_job));
    assert!(!in_job(&first, &other_job) && !in_job(&elsewhere, &job));

    job.worker.close().await.unwrap();
    assert_eq!(other_job.worker.usage().open_files, 1, "the other job's goes on");
    let again = job.storage.worker(JOB, "Testing").unwrap();
    let third = place(&job, &again, 0).await;
    assert!(![&first, &second].contains(&&third), "{third}");
    let token = |text: &str| text.split('/').next_back().unwrap().parse::<PhysicalFileName>().unwrap().token;
    assert_ne!(token(&third), token(&first));
}
