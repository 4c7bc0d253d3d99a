//! The interface for callers without a runtime.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::blocking::{Driver, Storage, TaskRead};
use drystone::config::{ClaimMode, Config};
use drystone::coordinator::{Acknowledged, JobEnd, SavepointRequest};
use drystone::driver::{Order, Outcome};
use drystone::handle::{ChannelInfo, KeyGroupsForm, KeyGroupsHandle, KeyedHandle, StreamHandle, SubtaskState};
use drystone::id::{JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec, Reuse, RewriteReason, SavepointAction, SavepointFormat};
use drystone::schedule::{Backup, Failure, Kind, RequestId, ScheduleSettings};
use drystone::store::FlinkPath;
use drystone::worker::{ChannelForm, ChannelHandles};
use object_store::memory::InMemory;

const JOB: JobId = JobId([4; 16]);

fn storage() -> Storage {
    let root = FlinkPath::parse("memory://host/checkpoints").unwrap();
    let config = Config::from_map([("execution.checkpointing.data-inline-threshold", "0")]);
    Storage::open_on(Arc::new(InMemory::new()), &root, &config).unwrap()
}

fn keyed(delegate: StreamHandle) -> SubtaskState {
    let range = KeyGroupRange { start: 0, count: 2 };
    let keyed =
        KeyGroupsHandle { form: KeyGroupsForm::WithoutId, range, offsets: vec![1, 5], delegate, checksums: Vec::new() };
    SubtaskState { managed_keyed: Some(KeyedHandle::KeyGroups(keyed)), ..SubtaskState::default() }
}

#[test]
fn a_checkpoint_and_back_without_a_runtime() {
    let storage = storage();
    let operator = OperatorSpec::new(OperatorId([1; 16]), 1, 2);
    let subtask = operator.subtask(0);
    let coordinator = storage.coordinator(JOB, vec![operator.clone()]).unwrap();
    let worker = storage.worker(JOB, "worker").unwrap();
    worker.register(subtask);

    // One that is given up halfway, with a segment being written.
    let given_up = coordinator.next_checkpoint();
    let trigger = coordinator.trigger(given_up).unwrap();
    let snapshot = worker.begin(subtask, &trigger).unwrap();
    let mut segment = snapshot.segment(Scope::Shared, None);
    segment.write(Bytes::from_static(b"never finished")).unwrap();
    assert_eq!(segment.position().unwrap(), 14);
    drop(segment);
    drop(snapshot);
    worker.abort(trigger.epoch, given_up);
    assert!(coordinator.abort(given_up));

    let checkpoint = coordinator.next_checkpoint();
    let trigger = coordinator.trigger(checkpoint).unwrap();
    let snapshot = worker.begin(subtask, &trigger).unwrap();
    let mut segment = snapshot.segment(Scope::Exclusive, None);
    segment.write_slice(b"-onetwo").unwrap();
    let written = segment.finish().unwrap();
    let provisional = snapshot.provisional(&written).unwrap().unwrap();
    assert_eq!(snapshot.reuse(&provisional).unwrap(), Reuse::Rewrite(RewriteReason::Exclusive));
    let ticket = snapshot.finish().unwrap();
    let durable = ticket.seal().unwrap();
    let handle = durable.handle(&written).unwrap().unwrap();
    assert_eq!(handle, provisional);
    let (state, sealed) = (Some(Box::new(keyed(handle))), durable.sealed().to_vec());
    let acknowledgement = Acknowledgement { epoch: trigger.epoch, checkpoint, subtask, state, sealed };
    assert_eq!(coordinator.acknowledge(acknowledgement).unwrap(), Acknowledged::Ready);
    let completed = coordinator.complete(checkpoint).unwrap();
    worker.complete(trigger.epoch, checkpoint);
    coordinator.settle().unwrap();
    worker.close().unwrap();

    let restore = storage.restore(&completed.path).unwrap();
    let task = restore.task(operator.id, 0, 1).unwrap();
    let restored = task.read_all().unwrap();
    let parts: Vec<_> = restored.parts(0).iter().map(|part| (part.key_group, part.bytes.to_vec())).collect();
    assert_eq!(parts, [(None, b"-".to_vec()), (Some(0), b"onet".to_vec()), (Some(1), b"wo".to_vec())]);
    let pieces: usize = task.read().unwrap().map(|piece| piece.unwrap().bytes.len()).sum();
    assert_eq!(pieces, 7);

    let heir = storage.coordinator(JobId([5; 16]), vec![operator]).unwrap();
    heir.restore(&completed.path, ClaimMode::Claim).unwrap();
    assert_eq!(heir.space().segments, 1);
    coordinator.dispose(JobEnd::Suspended).unwrap();
}

#[test]
fn within_a_runtime_it_refuses_rather_than_block() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let storage = storage();
        let error = storage.coordinator(JOB, Vec::new()).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        // And its own runtime can be let go here, too.
        let worker = storage.worker(JOB, "worker").unwrap();
        worker.abort(1, drystone::id::CheckpointId(1));
        drop((worker, storage));
    });
}

#[test]
fn records_in_flight_and_tasks_together_without_a_runtime() {
    let storage = storage();
    let operator = OperatorSpec::new(OperatorId([1; 16]), 2, 4);
    let coordinator = storage.coordinator(JOB, vec![operator.clone()]).unwrap();
    let worker = storage.worker(JOB, "worker").unwrap();
    operator.subtasks().for_each(|subtask| worker.register(subtask));
    let checkpoint = coordinator.next_checkpoint();
    let trigger = coordinator.trigger(checkpoint).unwrap();
    let channel = ChannelInfo { outer: 0, inner: 1 };
    let snapshots = operator.subtasks().map(|subtask| {
        let snapshot = worker.begin(subtask, &trigger).unwrap();
        let mut channels = snapshot.channels();
        channels.input(channel, &[Bytes::from(format!("to {}", subtask.index))]).unwrap();
        channels.output(channel, &[Bytes::from(format!("from {}", subtask.index))]).unwrap();
        (subtask, channels.finish().unwrap(), snapshot.finish().unwrap())
    });
    for (subtask, written, ticket) in snapshots.collect::<Vec<_>>() {
        let durable = ticket.seal().unwrap();
        let ChannelHandles { inputs, outputs } = durable.channels(&written, ChannelForm::Merged).unwrap();
        let state = SubtaskState { input_channels: inputs, output_channels: outputs, ..SubtaskState::default() };
        let (epoch, state, sealed) = (trigger.epoch, Some(Box::new(state)), durable.sealed().to_vec());
        coordinator.acknowledge(Acknowledgement { epoch, checkpoint, subtask, state, sealed }).unwrap();
    }
    let path = coordinator.complete(checkpoint).unwrap().path;
    let restore = storage.restore(&path).unwrap();
    let tasks = [0, 1].map(|index| restore.task(operator.id, index, 2).unwrap());
    assert_eq!(TaskRead::together(&[]).err().unwrap().kind(), ErrorKind::Invalid);
    for piece in TaskRead::together(&tasks).unwrap() {
        let piece = piece.unwrap();
        let task = &tasks[piece.task];
        let mut found = Vec::new();
        for channel in task.input_channels.iter().chain(&task.output_channels) {
            found.extend(channel.in_flight(&piece.bytes).unwrap());
        }
        let texts: Vec<_> = found.iter().map(|found| String::from_utf8(found.chunks.concat()).unwrap()).collect();
        assert_eq!(texts, [format!("to {}", piece.task), format!("from {}", piece.task)]);
    }
}

/// Checkpoints are taken until a savepoint is there.
#[test]
fn a_schedule_without_a_runtime() {
    let storage = storage();
    let operator = OperatorSpec::new(OperatorId([1; 16]), 2, 2);
    let coordinator = storage.coordinator(JOB, vec![operator.clone()]).unwrap();
    let settings = ScheduleSettings { interval: Some(Duration::from_millis(10)), ..ScheduleSettings::default() };
    let (driver, handle, mut orders) = Driver::new(&coordinator, settings, 0).unwrap();
    let running = std::thread::spawn(move || driver.run());
    handle.start().unwrap();
    let (asking, directory) = (handle.clone(), FlinkPath::parse("memory://host/savepoints").unwrap());
    let asked = std::thread::spawn(move || {
        let (format, action) = (SavepointFormat::Native, SavepointAction::None);
        asking.savepoint(RequestId(1), SavepointRequest { directory, format, action, pack: false })
    });
    let (mut completed, mut has_saved) = (0, false);
    while completed < 3 || !has_saved {
        match orders.recv().unwrap().unwrap() {
            Order::Take(take) => {
                let (epoch, checkpoint) = (take.trigger.epoch, take.trigger.checkpoint);
                // A checkpoint now and then is declined.
                if take.request.is_none() && checkpoint.0.is_multiple_of(3) {
                    handle.declined(epoch, checkpoint, operator.subtask(0), Failure::TaskNotReady, "not yet").unwrap();
                    continue;
                }
                for subtask in take.subtasks {
                    let nothing = Acknowledgement { epoch, checkpoint, subtask, state: None, sealed: vec![] };
                    if coordinator.acknowledge(nothing).unwrap() == Acknowledged::Ready {
                        handle.ready(checkpoint).unwrap();
                    }
                }
            }
            Order::Completed(done) if done.path.to_string().contains("/savepoint-") => has_saved = true,
            Order::Completed(_) => completed += 1,
            Order::Aborted { checkpoint, failure, .. } => {
                assert!(checkpoint.0.is_multiple_of(3) && failure == Failure::TaskNotReady);
            }
            other => panic!("{other:?}"),
        }
    }
    let Outcome::Completed(saved) = asked.join().unwrap().unwrap() else { panic!("no savepoint") };
    assert!(saved.path.to_string().starts_with("memory://host/savepoints/savepoint-"), "{}", saved.path);
    storage.restore(&saved.path).unwrap();
    handle.stop().unwrap();
    let refused = handle.request(RequestId(2), Kind::OnRequest(Backup::Full)).unwrap();
    assert!(matches!(refused, Outcome::Refused { .. }), "{refused}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let refused = runtime.block_on(async { handle.start() });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    drop(handle);
    running.join().unwrap().unwrap();
    while orders.recv().unwrap().is_some() {}
    assert_eq!(orders.try_recv(), None);
    assert_eq!(coordinator.pending(), []);
}
