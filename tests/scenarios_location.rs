//! What Flink's tests of its checkpoint storage location check, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/scenario.rs"]
mod scenario;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::handle::{KeyGroupsForm, KeyGroupsHandle, KeyedHandle, StreamHandle, SubtaskState};
use drystone::id::{CheckpointId, KeyGroupRange, Scope};
use drystone::read::KeyedState;
use scenario::{INLINE, JOB, Job, OPERATOR, file_of, segment};

/// Scenario 29 (testWriteMultipleStateFilesWithinCheckpoint): several short states lie in one file; below the threshold,
/// which Flink's merging ignores, they need none.
#[tokio::test]
async fn short_states_share_a_file_or_go_inline() {
    for (threshold, inline) in [("0", false), ("1024 b", true)] {
        let job = Job::new(&[(INLINE, threshold)]).await;
        let mut round = job.begin();
        for (name, length) in [("a", 2), ("b", 9), ("c", 16)] {
            round.write(0, Scope::Shared, name, vec![7; length]).await;
        }
        let (_, handles) = round.commit().await;
        assert_eq!(job.counts(), if inline { (0, 0) } else { (1, 3) });
        for handle in handles.values() {
            match handle {
                StreamHandle::Inline(handle) => assert!(inline, "{handle:?}"),
                handle => assert_eq!((inline, file_of(handle)), (false, file_of(&handles["a"]))),
            }
        }
        assert!(handles.values().map(|handle| handle.size().unwrap()).eq([2, 9, 16]));
    }
}

/// Scenario 30 (testCheckpointStreamClosedExceptionally): an abandoned writer leaves no file, however much it has sent, and
/// does its neighbours no harm.
#[tokio::test]
async fn an_abandoned_writer_leaves_nothing() {
    let disk = tempfile::tempdir().unwrap();
    let stores = drystone::store::Stores::new();
    let job = Job::at(&stores, disk.path().to_str().unwrap(), JOB, 2, &[]).await;
    let mut round = job.begin();
    let mut long = round.snapshot(0).segment(Scope::Shared, None);
    long.write(vec![1; 20 << 20].into()).await.unwrap();
    assert_eq!(job.stores.requests().multipart_create, 1);
    drop(long);
    let mut short = round.snapshot(0).segment(Scope::Shared, None);
    short.write(vec![1; 100].into()).await.unwrap();
    drop(short);
    round.write(1, Scope::Exclusive, "good", vec![2; 100]).await;
    let (_, handles) = round.commit().await;
    job.worker.close().await.unwrap();
    assert_eq!(job.stores.requests().multipart_abort, 1);
    let files = job.files().await;
    assert_eq!(files.len(), 2, "the metadata and the file of the good one: {files:?}");
    assert_eq!(job.read(&handles["good"]).await, vec![2; 100]);
    let shared = job.directory.root().name().join("shared").unwrap();
    let left = std::fs::read_dir(disk.path().join(JOB.to_string()).join("shared")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "{shared} has no partial file");
}

/// Scenario 31 (testWritingToClosedStream): a writer that outlives its checkpoint's end can't write into it.
#[tokio::test]
async fn nothing_is_written_into_a_checkpoint_that_is_complete() {
    let job = Job::new(&[]).await;
    let mut round = job.begin();
    let mut late = round.snapshot(1).segment(Scope::Shared, None);
    late.write_slice(&[1]).await.unwrap();
    round.write(0, Scope::Shared, "state", vec![1; 100]).await;
    round.commit().await;
    let (files, error) = (job.files().await, late.write_slice(&[2]).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("checkpoint 1 has completed"), "{error}");
    assert_eq!(late.finish().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(job.files().await, files);
}

/// 64 bytes that belong to no key group, then a byte for each of ten; the positions are where those start.
async fn with_positions(job: &Job, checkpoint: u8) -> (drystone::worker::Snapshot, drystone::write::Written, Vec<i64>) {
    let trigger = job.coordinator.trigger(CheckpointId(checkpoint.into())).unwrap();
    let snapshot = job.worker.begin(job.subtask(0), &trigger).unwrap();
    // Something else comes first in the file.
    let mut before = snapshot.segment(Scope::Shared, None);
    before.write_slice(&[0xee; 33]).await.unwrap();
    before.finish().await.unwrap();
    let mut writer = snapshot.segment(Scope::Shared, None);
    writer.write_slice(&[checkpoint; 64]).await.unwrap();
    let mut positions = Vec::new();
    for group in 0..10 {
        positions.push(writer.position() as i64);
        writer.write_slice(&[checkpoint * 16 + group, group]).await.unwrap();
    }
    (snapshot, writer.finish().await.unwrap(), positions)
}

/// Scenario 32 (testWriteAndReadPositionInformation): positions within a segment lead to the same bytes when it is
/// restored, wherever in a file it lies.
#[tokio::test]
async fn positions_within_a_segment_hold_when_it_is_restored() {
    let stores = scenario::memory();
    let job = Job::at(&stores, "memory:/checkpoints", JOB, 1, &[]).await;
    for checkpoint in 1..=9 {
        let (snapshot, written, positions) = with_positions(&job, checkpoint).await;
        let durable = snapshot.seal().await.unwrap();
        let handle = durable.handle(&written).unwrap().unwrap();
        assert_eq!((segment(&handle).offset, positions[0]), (33, 64));
        let range = KeyGroupRange { start: 0, count: 10 };
        let (form, offsets, id) = (KeyGroupsForm::WithoutId, positions, CheckpointId(checkpoint.into()));
        let keyed =
            KeyedHandle::KeyGroups(KeyGroupsHandle { form, range, offsets, delegate: handle, checksums: Vec::new() });
        let state = SubtaskState { managed_keyed: Some(keyed), ..SubtaskState::default() };
        job.acknowledge(id, 0, state, durable.sealed().to_vec());
        let path = job.complete(id).await.path;

        let restore = job.storage.restore(&path).await.unwrap();
        for (start, count) in [(0, 10), (3, 1), (7, 3)] {
            let task = restore.key_groups(OPERATOR, KeyGroupRange { start, count }).unwrap();
            let KeyedState::KeyGroups { stream: Some(stream), .. } = task.managed_keyed[0].state else { panic!() };
            let restored = task.read_all().await.unwrap();
            assert_eq!(restored.bytes(stream), vec![checkpoint; 64], "the head");
            let groups = restored.parts(stream).iter().filter_map(|part| Some((part.key_group?, part.bytes.clone())));
            let expected = (start..start + count).map(|group| {
                let group_byte = group as u8;
                (group, Bytes::from(vec![checkpoint * 16 + group_byte, group_byte]))
            });
            assert_eq!(groups.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
    }
}
