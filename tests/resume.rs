//! What a job starts from: all state is asked for or dropped knowingly, and records in flight can be left out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::config::Config;
use drystone::handle::{ChannelInfo, SubtaskState};
use drystone::id::{JobId, OperatorId};
use drystone::protocol::{Acknowledgement, OperatorSpec};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use drystone::worker::ChannelForm;
use object_store::memory::InMemory;

const JOB: JobId = JobId([5; 16]);
const WITH_STATE: OperatorId = OperatorId([1; 16]);
const WITHOUT_STATE: OperatorId = OperatorId([2; 16]);
const IGNORE: &str = "execution.state-recovery.ignore-unclaimed-state";
const WITHOUT: &str = "execution.state-recovery.without-channel-state.checkpoint-id";

fn storage(store: &Arc<InMemory>, options: &[(&str, &str)]) -> Storage {
    let root = FlinkPath::parse("memory:/checkpoints").unwrap();
    Storage::open_on(store.clone(), &root, &Config::from_map(options.iter().copied())).unwrap()
}

fn operators() -> Vec<OperatorSpec> {
    [WITH_STATE, WITHOUT_STATE].map(|id| OperatorSpec::new(id, 2, 8)).into()
}

/// Checkpoint 1, in which one operator has records in flight, and another nothing.
async fn checkpoint(store: &Arc<InMemory>) -> FlinkPath {
    let (storage, operators) = (storage(store, &[]), operators());
    let coordinator = storage.coordinator(JOB, operators.clone()).await.unwrap();
    let worker = storage.worker(JOB, "w").unwrap();
    let trigger = coordinator.trigger(coordinator.next_checkpoint()).unwrap();
    for subtask in operators.iter().flat_map(OperatorSpec::subtasks) {
        let snapshot = worker.begin(subtask, &trigger).unwrap();
        let mut channels = snapshot.channels();
        if subtask.operator == WITH_STATE {
            channels.input(ChannelInfo { outer: 0, inner: 0 }, &[Bytes::from_static(b"record")]).await.unwrap();
        }
        let written = channels.finish().await.unwrap();
        let durable = snapshot.seal().await.unwrap();
        let input_channels = durable.channels(&written, ChannelForm::Single).unwrap().inputs;
        let state = Some(Box::new(SubtaskState { input_channels, ..SubtaskState::default() }));
        let (epoch, checkpoint, sealed) = (trigger.epoch, trigger.checkpoint, durable.sealed().to_vec());
        coordinator.acknowledge(Acknowledgement { epoch, checkpoint, subtask, state, sealed }).unwrap();
    }
    coordinator.complete(trigger.checkpoint).await.unwrap().path
}

#[tokio::test]
async fn state_that_no_operator_asks_for_is_refused_unless_it_may_be_dropped() {
    let store = Arc::new(InMemory::new());
    let path = checkpoint(&store).await;
    let (strict, lax) = (storage(&store, &[]), storage(&store, &[(IGNORE, "true")]));
    let all = operators();
    strict.restore_for(&path, &all).await.unwrap();
    // The other has none that could be lost.
    strict.restore_for(&path, &all[..1]).await.unwrap();
    for job in [&all[1..], &[]] {
        let error = strict.restore_for(&path, job).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let said = error.to_string();
        assert!([IGNORE, &WITH_STATE.to_string()].iter().all(|part| said.contains(part)), "{said}");
        assert!(lax.restore_for(&path, job).await.unwrap().has_operator(WITH_STATE));
    }
    let other = [OperatorSpec::new(WITH_STATE, 2, 16)];
    for storage in [strict, lax] {
        let error = storage.restore_for(&path, &other).await.unwrap_err();
        assert!(error.to_string().contains("max parallelism=16"), "{error}");
    }
}

#[tokio::test]
async fn records_in_flight_are_left_out_of_the_checkpoint_that_is_named_and_of_no_other() {
    let store = Arc::new(InMemory::new());
    let path = checkpoint(&store).await;
    for (id, is_without) in [("1", true), ("2", false), ("-1", false)] {
        let restore = storage(&store, &[(WITHOUT, id)]).restore(&path).await.unwrap();
        let task = restore.task(WITH_STATE, 0, 2).unwrap();
        assert_eq!(task.input_channels.is_empty(), is_without, "{id}");
        // Nothing but those keeps it from being rescaled.
        match restore.task(WITH_STATE, 0, 3) {
            Ok(task) => assert!(is_without && task.streams().is_empty()),
            Err(error) => assert!(!is_without && error.kind() == ErrorKind::Unsupported, "{error}"),
        }
    }
}
