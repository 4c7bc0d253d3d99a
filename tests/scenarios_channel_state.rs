//! What Flink's test of merged channel state checks, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/heir.rs"]
mod heir;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/scenario.rs"]
mod scenario;

use bytes::Bytes;
use drystone::config::ClaimMode;
use drystone::format::{MergedChannel, encode_merged_channels};
use drystone::handle::{
    ChannelHandle, ChannelInfo, MergedChannelHandle, SingleChannelHandle, StreamHandle, SubtaskState,
};
use drystone::id::{CheckpointId, Scope};
use drystone::read::{InFlight, ReadLimits, Restore, TaskRestore};
use heir::Heir;
use runs::{Memory, UNALIGNED, data};
use scenario::{JOB, Job, OPERATOR, memory, path};
use serde_json::Value;

const UNALIGNED_MERGED: &str = "v2-unaligned-rocksdb-merged/ckpt/00f1f1f1f1f1f1f17b1ef4d467952d9e/chk-2";

/// The checkpoint as Flink's own classes list it.
fn listed(fixture: &str) -> Value {
    let folder = data().join(fixture.split('/').next().unwrap());
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let file = fixture.split_once('/').unwrap().1.to_owned() + "/_metadata";
    let checkpoints = expected["checkpoints"].as_array().unwrap();
    checkpoints.iter().find(|checkpoint| checkpoint["metadataFile"] == file).unwrap().clone()
}

/// The bytes of a listed delegate, straight from the disk.
fn bytes_of(fixture: &str, delegate: &Value) -> Bytes {
    let folder = data().join(fixture.split('/').next().unwrap());
    let file = Bytes::from(std::fs::read(folder.join(delegate["relativeToFixture"].as_str().unwrap())).unwrap());
    let start = delegate["startPos"].as_u64().unwrap_or_default() as usize;
    file.slice(start..start + delegate["stateSize"].as_u64().unwrap() as usize)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The task's channels against the list: offsets, contents and sizes. Returns the bytes of their delegates.
async fn check(task: &TaskRestore, fixture: &str, listed: &Value) -> usize {
    let restored = task.read_all().await.unwrap();
    let of = |kind: &str| listed[kind].as_array().cloned().unwrap_or_default();
    let (inputs, outputs) = (of("inputChannelState"), of("resultSubpartitionState"));
    assert_eq!((task.input_channels.len(), task.output_channels.len()), (inputs.len(), outputs.len()));
    let mut all = 0;
    let channels = task.input_channels.iter().chain(&task.output_channels);
    for (channel, listed) in channels.zip(inputs.iter().chain(&outputs)) {
        let ChannelHandle::Merged(merged) = &channel.handle else { panic!("{channel:?}") };
        assert_eq!(merged.state_size, listed["stateSize"].as_i64().unwrap());
        assert_eq!(hex(&merged.channels), listed["serializedChannelOffsetsHex"].as_str().unwrap());
        let bytes = restored.bytes(channel.stream.unwrap());
        assert!(bytes == bytes_of(fixture, &listed["delegate"]), "{merged:?}");
        let found = channel.in_flight(&bytes).unwrap();
        let listed = listed["channels"].as_array().unwrap();
        assert_eq!(found.len(), listed.len());
        for (InFlight { channel, chunks }, listed) in found.iter().zip(listed) {
            let info = listed["info"].as_str().unwrap();
            assert!(
                info.contains(&format!("={}, ", channel.outer)) && info.ends_with(&format!("={}}}", channel.inner))
            );
            for (chunk, offset) in chunks.iter().zip(listed["offsets"].as_array().unwrap()) {
                let at = offset.as_u64().unwrap() as usize + 4;
                assert_eq!(bytes[at..at + chunk.len()], chunk[..]);
            }
            let with_headers: usize = chunks.iter().map(|chunk| chunk.len() + 4).sum();
            assert_eq!(with_headers as u64, listed["stateSize"].as_u64().unwrap());
        }
        all += bytes.len();
    }
    all
}

/// All of a checkpoint's channel state, as a task finds it.
async fn check_all(restore: &Restore, fixture: &str) -> usize {
    let (listed, mut all) = (listed(fixture), 0);
    for (operator, listed) in restore.operators().iter().zip(listed["operators"].as_array().unwrap()) {
        assert_eq!(operator.id.to_string(), listed["operatorId"].as_str().unwrap());
        for (index, listed) in listed["subtasks"].as_array().unwrap().iter().enumerate() {
            let task = restore.task(operator.id, index as u32, operator.parallelism).unwrap();
            all += check(&task, fixture, listed).await;
        }
    }
    all
}

/// Scenario 39 (FileMergingChannelStateITCase): the records in flight of a checkpoint of Flink's are restored to the byte;
/// written again by our worker, each of their delegates is a segment, and they are restored from there just so.
#[tokio::test]
async fn records_in_flight_survive_a_restore_and_a_checkpoint_of_ours() {
    for fixture in [UNALIGNED, UNALIGNED_MERGED] {
        let flinks = Memory::with_flink(fixture).await;
        let from = path(&format!("memory:/flink/{fixture}"));
        let restore = Restore::open(&flinks.stores, &from, ReadLimits::default()).await.unwrap();
        let bytes = check_all(&restore, fixture).await;
        assert!(bytes > 0, "there are records in flight");

        let mut heir = Heir::new(&flinks.stores, "memory:/new", &from, ClaimMode::NoClaim, &[]).await;
        let (completed, _) = heir.round(false).await;
        let restore = heir.storage.restore(&completed.path).await.unwrap();
        assert_eq!(restore.checkpoint().decoded.metadata.version, 6, "the first that has merged channels");
        assert_eq!(check_all(&restore, fixture).await, bytes);
        let channels = heir.states.values().flat_map(|state| state.input_channels.iter().chain(&state.output_channels));
        let delegates: Vec<_> = channels.map(|channel| scenario::segment(channel.delegate()).clone()).collect();
        assert!(delegates.iter().all(|segment| segment.scope == Scope::Exclusive));
        assert_eq!(delegates.iter().map(|segment| segment.size as usize).sum::<usize>(), bytes);
    }
}

fn single(inner: i32, offsets: Vec<i64>, delegate: &StreamHandle) -> ChannelHandle {
    let info = ChannelInfo { outer: 0, inner };
    let state_size = offsets.len() as i64 * 10;
    ChannelHandle::Single(SingleChannelHandle { subtask: 0, info, offsets, state_size, delegate: delegate.clone() })
}

/// Scenario 39 (FileMergingChannelStateITCase), both forms: channels that share a segment, one by one or in one handle, are
/// read back with their offsets, and the segment counts once and dies with its checkpoint.
#[tokio::test]
async fn channels_share_a_segment_in_either_form() {
    for merged in [false, true] {
        let job = Job::at(&memory(), "memory:/checkpoints", JOB, 1, &[]).await;
        let trigger = job.coordinator.trigger(CheckpointId(1)).unwrap();
        let snapshot = job.worker.begin(job.subtask(0), &trigger).unwrap();
        let buffers: Vec<u8> = (0..50).collect();
        let (mut input, mut output) =
            (snapshot.segment(Scope::Exclusive, None), snapshot.segment(Scope::Exclusive, None));
        input.write_slice(&buffers).await.unwrap();
        output.write_slice(&[9; 30]).await.unwrap();
        let (input, output) = (input.finish().await.unwrap(), output.finish().await.unwrap());
        let durable = snapshot.seal().await.unwrap();
        let handle = |written| durable.handle(written).unwrap().unwrap();
        let (input, output) = (handle(&input), handle(&output));
        let input_channels = match merged {
            false => vec![single(0, vec![0, 20], &input), single(1, vec![10, 30, 40], &input)],
            true => {
                let of = |inner, state_size, offsets| MergedChannel {
                    info: ChannelInfo { outer: 0, inner },
                    state_size,
                    offsets,
                };
                let channels = encode_merged_channels(&[of(0, 20, vec![0, 20]), of(1, 30, vec![10, 30, 40])]).unwrap();
                let merged = MergedChannelHandle { subtask: 0, state_size: 50, delegate: input.clone(), channels };
                vec![ChannelHandle::Merged(merged)]
            }
        };
        let output_channels = vec![single(0, vec![0], &output)];
        let state = SubtaskState { input_channels, output_channels, ..SubtaskState::default() };
        job.acknowledge(CheckpointId(1), 0, state.clone(), durable.sealed().to_vec());
        let path = job.complete(CheckpointId(1)).await.path;
        assert_eq!((job.counts(), job.coordinator.space().segment_bytes), ((1, 2), 80));

        let restore = job.storage.restore(&path).await.unwrap();
        assert_eq!(restore.checkpoint().decoded.metadata.version, if merged { 6 } else { 4 });
        let task = restore.task(OPERATOR, 0, 1).unwrap();
        let handles = |channels: &[drystone::read::ChannelRestore]| {
            channels.iter().map(|channel| channel.handle.clone()).collect::<Vec<_>>()
        };
        assert_eq!(handles(&task.input_channels), state.input_channels);
        assert_eq!(handles(&task.output_channels), state.output_channels);
        let restored = task.read_all().await.unwrap();
        for channel in &task.input_channels {
            assert_eq!(restored.bytes(channel.stream.unwrap()), buffers);
        }
        assert_eq!(restored.bytes(task.output_channels[0].stream.unwrap()), vec![9; 30]);
        job.begin().commit().await;
        assert_eq!(job.files().await.len(), 1, "it has gone with its checkpoint");
    }
}
