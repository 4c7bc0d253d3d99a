//! Handles that can't be right, though their bytes are whole: refused before they are committed, found by `verify` after.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/runs.rs"]
mod runs;

use drystone::ErrorKind;
use drystone::config::Config;
use drystone::format::{decode, encode};
use drystone::handle::{
    ChannelHandle, ChannelInfo, DistributionMode, JavaString, KeyGroupsForm, KeyGroupsHandle, KeyedHandle,
    OperatorStateHandle, OperatorSubtasks, SingleChannelHandle, StatePartitions, StreamHandle, SubtaskState,
};
use drystone::id::{JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec};
use drystone::storage::Storage;

const OPERATOR: OperatorId = OperatorId([7; 16]);
const STREAM: &[u8; 10] = b"0123456789";

/// Of the subtask with this index, with ten bytes in a file.
type State = fn(u32, StreamHandle) -> SubtaskState;

type Change = fn(&mut KeyGroupsHandle);

fn keyed(start: u32, count: u32, offsets: Vec<i64>, delegate: StreamHandle) -> KeyedHandle {
    let range = KeyGroupRange { start, count };
    KeyedHandle::KeyGroups(KeyGroupsHandle {
        form: KeyGroupsForm::WithoutId,
        range,
        offsets,
        delegate,
        checksums: Vec::new(),
    })
}

fn managed(start: u32, count: u32, offsets: Vec<i64>, delegate: StreamHandle) -> SubtaskState {
    SubtaskState { managed_keyed: Some(keyed(start, count, offsets, delegate)), ..SubtaskState::default() }
}

fn raw(start: u32, count: u32, offsets: Vec<i64>, delegate: StreamHandle) -> SubtaskState {
    SubtaskState { raw_keyed: Some(keyed(start, count, offsets, delegate)), ..SubtaskState::default() }
}

fn operator(offsets: Vec<i64>, delegate: StreamHandle) -> SubtaskState {
    let states =
        vec![StatePartitions { name: JavaString::new("list").unwrap(), mode: DistributionMode::Union, offsets }];
    let handle = OperatorStateHandle { states, directories: None, delegate };
    SubtaskState { managed_operator: Some(handle), ..SubtaskState::default() }
}

fn channel(offsets: Vec<i64>, delegate: StreamHandle) -> SubtaskState {
    let info = ChannelInfo { outer: 1, inner: 2 };
    let single = SingleChannelHandle { subtask: 0, info, offsets, state_size: 6, delegate };
    SubtaskState { output_channels: vec![ChannelHandle::Single(single)], ..SubtaskState::default() }
}

/// What becomes of two subtasks' acknowledgements.
async fn acknowledged(state: State) -> [Result<(), String>; 2] {
    let config = Config::from_map([
        ("execution.checkpointing.dir", "memory://host/checkpoints"),
        ("execution.checkpointing.data-inline-threshold", "0"),
        ("drystone.fencing.proof-rounds", "0"),
        ("drystone.seal.linger", "0 ms"),
    ]);
    let memory = std::sync::Arc::new(object_store::memory::InMemory::new());
    let storage = Storage::open_on(memory, &runs::path("memory://host/checkpoints"), &config).unwrap();
    let spec = OperatorSpec::new(OPERATOR, 2, 128);
    let coordinator = storage.coordinator(JobId([1; 16]), vec![spec.clone()]).await.unwrap();
    let worker = storage.worker(JobId([1; 16]), "w").unwrap();
    spec.subtasks().for_each(|subtask| worker.register(subtask));
    let trigger = coordinator.trigger(coordinator.next_checkpoint()).unwrap();
    let mut answers = [Ok(()), Ok(())];
    for (subtask, answer) in spec.subtasks().zip(&mut answers) {
        let snapshot = worker.begin(subtask, &trigger).unwrap();
        let mut segment = snapshot.segment(Scope::Exclusive, None);
        segment.write_slice(STREAM).await.unwrap();
        let written = segment.finish().await.unwrap();
        let durable = snapshot.seal().await.unwrap();
        let state = Some(Box::new(state(subtask.index, durable.handle(&written).unwrap().unwrap())));
        let (epoch, checkpoint) = (trigger.epoch, trigger.checkpoint);
        let sealed = durable.sealed().to_vec();
        let acknowledgement = Acknowledgement { epoch, checkpoint, subtask, state, sealed };
        let said = coordinator.acknowledge(acknowledgement.clone());
        // Nothing has changed by a refusal, so it is refused again.
        if let Err(error) = &said {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert_eq!(coordinator.acknowledge(acknowledgement).unwrap_err().to_string(), error.to_string());
        }
        *answer = said.map(drop).map_err(|error| error.to_string());
    }
    if answers.iter().all(Result::is_ok) {
        let path = coordinator.complete(trigger.checkpoint).await.unwrap().path;
        let found = runs::check(storage.stores(), &path).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.findings);
        let restore = storage.restore(&path).await.unwrap();
        for index in 0..2 {
            restore.task(OPERATOR, index, 2).unwrap().read_all().await.unwrap();
        }
    }
    answers
}

#[tokio::test]
async fn what_can_not_be_restored_is_not_committed() {
    let refused: [(State, [Option<&str>; 2]); 11] = [
        (
            |index, file| managed(index * 128, 128, vec![1; 128], file),
            [None, Some("managedKeyed: has the key groups 128..256; the operator has 0..128")],
        ),
        (|_, file| managed(0, 0, vec![], file), [Some("has the key groups 0..0; the operator has 0..128"); 2]),
        (
            |index, file| managed(index * 40, 64, vec![1; 64], file),
            [None, Some("managedKeyed: the key groups 40..64 are in the state of subtask 0, too")],
        ),
        (
            |index, file| raw(40 - index * 40, 64, vec![1; 64], file),
            [None, Some("rawKeyed: the key groups 40..64 are in the state of subtask 0, too")],
        ),
        (
            |index, file| managed(index * 64, 64, vec![11; 64], file),
            [
                Some("managedKeyed: key group 0 starts at byte 11 of a stream of 10 bytes"),
                Some("managedKeyed: key group 64 starts at byte 11 of a stream of 10 bytes"),
            ],
        ),
        (
            |index, file| managed(index * 64, 64, vec![-1; 64], file),
            [Some("starts at byte -1 of a stream of 10 bytes"); 2],
        ),
        (|index, file| managed(index * 64, 64, vec![1; 63], file), [Some("63 offsets for the key groups"); 2]),
        (|_, file| operator(vec![11], file), [Some("managedOperator: a partition of state list starts at byte 11"); 2]),
        (|_, file| operator(vec![3, -4], file), [Some("a partition of state list starts at byte -4"); 2]),
        (
            |_, file| channel(vec![4, 11], file),
            [Some("outputChannel: data in flight of channel 1/2 starts at byte 11 of a stream of 10 bytes"); 2],
        ),
        (
            |index, file| managed(index * 128, 64, vec![1; 64], file),
            [None, Some("managedKeyed: has the key groups 128..192")],
        ),
    ];
    for (state, wanted) in refused {
        let answers = acknowledged(state).await;
        for (index, (answer, wanted)) in answers.iter().zip(wanted).enumerate() {
            match (answer, wanted) {
                (Ok(()), None) => {}
                (Err(error), Some(wanted)) => {
                    assert!(error.contains(wanted), "{error} for {wanted}");
                    assert!(error.contains(&format!("operator {OPERATOR} subtask {index}")), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn what_looks_odd_and_is_right_is_taken() {
    let taken: [State; 6] = [
        |index, file| managed(index * 64, 64, vec![10; 64], file),
        // Not the shares that subtasks would get, but each group once; in any order.
        |index, file| managed(100 - index * 100, 28, vec![0; 28], file),
        |index, file| raw(index * 64, 64, vec![-1; 64], file),
        // The same key groups in managed and in raw state.
        |index, file| SubtaskState {
            raw_keyed: raw(index * 64, 64, vec![1; 64], file.clone()).raw_keyed,
            ..managed(index * 64, 64, vec![1; 64], file)
        },
        |_, file| operator(vec![5, 2, 10], file),
        |_, _| SubtaskState::default(),
    ];
    for state in taken {
        assert_eq!(acknowledged(state).await, [Ok(()), Ok(())]);
    }
}

/// In Flink's files, with handles that were changed.
#[tokio::test]
async fn verify_finds_them_in_what_is_there() {
    const FIXTURE: &str = "v2-hashmap-plain";
    let memory = runs::Memory::with_flink(FIXTURE).await;
    let all = memory.contents("flink").await;
    let (key, bytes) = all.into_iter().find(|(key, _)| key.ends_with("_metadata")).unwrap();
    let path = runs::path(&format!("memory:/{}", key.trim_end_matches("/_metadata")));
    assert!(runs::check(&memory.stores, &path).await.unwrap().is_sound());
    let changes: [(Change, &str); 3] = [
        (|handle| handle.range.start += 100, "has the key groups"),
        (|handle| handle.range.start = 0, "are in the state of subtask 0, too"),
        (|handle| handle.offsets[0] = 1 << 40, "starts at byte 1099511627776 of a stream of"),
    ];
    for (change, problem) in changes {
        let mut metadata = decode(bytes.clone()).unwrap().metadata;
        let mut changed = 0;
        for operator in &mut metadata.operators {
            let OperatorSubtasks::Reported(entries) = &mut operator.subtasks else { continue };
            for state in entries.iter_mut().filter(|entry| entry.index > 0).filter_map(|entry| entry.state.as_mut()) {
                if let Some(KeyedHandle::KeyGroups(handle)) = &mut state.managed_keyed {
                    change(handle);
                    changed += 1;
                }
            }
        }
        assert!(changed > 0);
        memory.put(&key, encode(&metadata).unwrap().bytes).await;
        let findings = runs::check(&memory.stores, &path).await.unwrap().findings;
        let found = findings.iter().filter(|finding| finding.to_string().contains(problem)).count();
        assert!(found >= changed, "{findings:?}");
    }
}
