//! What each version can hold, and what is refused; the properties' templates.

// A test fails by a panic.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "fixtures/mod.rs"]
mod fixtures;

use bytes::Bytes;
use drystone::format::properties::{NULL, PropertiesKind, SavepointAction, SavepointFormat};
use drystone::format::{Properties, PropertiesRead, decode, encode};
use drystone::handle::{
    CheckpointMetadata, FileHandle, JavaString, Operator, OperatorSubtasks, SegmentHandle, StreamHandle, SubtaskEntry,
    SubtaskState,
};
use drystone::id::{CheckpointId, OperatorId, Scope};

fn golden(name: &str) -> CheckpointMetadata {
    decode(fixtures::golden(name)).unwrap().metadata
}

/// Makes it fit the version, but for its channels.
fn lowered(mut metadata: CheckpointMetadata, version: u32) -> CheckpointMetadata {
    metadata.version = version;
    if version < 5 {
        metadata.operators.iter_mut().for_each(|o| (o.name, o.uid) = (None, None));
    }
    if version < 4 {
        metadata.properties = Bytes::new();
    }
    metadata
}

fn refusal(metadata: &CheckpointMetadata) -> String {
    encode(metadata).unwrap_err().to_string()
}

#[test]
fn older_versions_are_written_and_read() {
    for (name, _) in fixtures::all() {
        let Some(name) = name.strip_prefix("golden/").and_then(|n| n.strip_suffix(".bin")) else { continue };
        if name == "g10_channel_state" {
            continue;
        }
        for version in 3..=5 {
            let metadata = lowered(golden(name), version);
            let encoded = encode(&metadata).unwrap();
            assert_eq!(decode(encoded.bytes).unwrap().metadata, metadata, "{name} in version {version}");
        }
    }
}

#[test]
fn untagged_channels_have_no_tag() {
    let mut metadata = golden("g10_channel_state");
    if let OperatorSubtasks::Reported(entries) = &mut metadata.operators[0].subtasks {
        let state = entries[0].state.as_mut().unwrap();
        state.input_channels.truncate(1);
        state.output_channels.truncate(1);
    }
    let tagged = encode(&metadata).unwrap().bytes;
    let metadata = lowered(metadata, 5);
    let untagged = encode(&metadata).unwrap().bytes;
    assert_eq!(untagged.len() + 2, tagged.len());
    assert_eq!(decode(untagged).unwrap().metadata, metadata);
}

#[test]
fn what_a_version_cannot_hold_is_refused() {
    let mut named = golden("g04_operators");
    named.version = 4;
    assert!(refusal(&named).contains("name: needs version 5, not 4"), "{}", refusal(&named));
    let merged = lowered(golden("g10_channel_state"), 5);
    assert!(refusal(&merged).contains("merged channels need version 6, not 5"), "{}", refusal(&merged));
    let mut with_properties = golden("g01_empty");
    with_properties.version = 3;
    assert!(refusal(&with_properties).contains("properties: need version 4"), "{}", refusal(&with_properties));
    for version in [0, 1, 2, 7] {
        with_properties.version = version;
        assert!(refusal(&with_properties).contains("3 to 6 can be written"), "{}", refusal(&with_properties));
    }
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let mut metadata = golden("g01_empty");
    metadata.properties = Bytes::new();
    assert!(refusal(&metadata).contains("properties: end too early"));
    metadata.properties = [NULL, b"x"].concat().into();
    assert!(refusal(&metadata).contains("6 bytes, of which 5 are used"));
    metadata = golden("g01_empty");
    metadata.checkpoint_id = CheckpointId(1 << 63);
    assert!(refusal(&metadata).contains("checkpoint id"));

    let mut metadata = golden("g04_operators");
    metadata.operators[0].coordinator = Some(StreamHandle::EmptySegment);
    assert!(refusal(&metadata).contains("coordinator's state is inline"));
    metadata.operators[0] = metadata.operators[1].clone();
    assert!(refusal(&metadata).contains("two operators"));
    metadata.operators.truncate(1);
    metadata.operators[0].name = Some(JavaString::default());
    assert!(refusal(&metadata).contains("name: empty"));

    let path = JavaString::new("f").unwrap();
    let file = FileHandle { path: path.clone(), size: -2 };
    assert!(refusal(&with_raw(StreamHandle::File(file))).contains("size: -2"));
    let far = SegmentHandle { path: path.clone(), offset: u64::MAX, size: 1, scope: Scope::Shared, id: path };
    let refused = refusal(&with_raw(StreamHandle::Segment(far)));
    assert!(
        refused.contains(
            "operator 0 (00000000000000000000000000000000) / subtask 0 / raw operator state / delegate / size"
        ),
        "{refused}"
    );
}

fn with_raw(delegate: StreamHandle) -> CheckpointMetadata {
    let raw = drystone::handle::OperatorStateHandle { states: vec![], directories: None, delegate };
    let state = SubtaskState { raw_operator: Some(raw), ..SubtaskState::default() };
    let operator = Operator {
        name: None,
        uid: None,
        id: OperatorId([0; 16]),
        parallelism: 1,
        max_parallelism: 1,
        coordinator: None,
        subtasks: OperatorSubtasks::Reported(vec![SubtaskEntry { index: 0, state: Some(Box::new(state)) }]),
    };
    CheckpointMetadata { operators: vec![operator], ..golden("g01_empty") }
}

#[test]
fn version_2_is_read() {
    let mut bytes = Vec::new();
    for word in [0x4960_672d_u32, 2, 0, 5, 0, 1] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend([7; 16]);
    for word in [2_u32, 4, 1, 1, 1, u32::MAX, u32::MAX, 0, 1] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend([4, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, b'f']);
    bytes.extend([0, 0, 0, 0, 0, 0]);
    let decoded = decode(bytes.clone().into()).unwrap();
    assert!(decoded.rest.is_empty());
    let operator = &decoded.metadata.operators[0];
    assert_eq!((operator.id, operator.parallelism, operator.max_parallelism), (OperatorId([7; 16]), 2, 4));
    let OperatorSubtasks::Reported(entries) = &operator.subtasks else { panic!("{operator:?}") };
    let state = entries[0].state.as_ref().unwrap();
    assert_eq!((entries[0].index, state.managed_operator.as_ref().unwrap().delegate.size()), (1, Some(9)));
    assert!(encode(&decoded.metadata).is_err());
    for len in 0..bytes.len() {
        assert!(decode(Bytes::copy_from_slice(&bytes[..len])).is_err(), "{len}");
    }
}

fn known(name: &str) -> Properties {
    match Properties::read(&golden(name).properties) {
        PropertiesRead::Known(properties) => properties,
        other => panic!("{other:?}"),
    }
}

#[test]
fn templates_have_flinks_lengths() {
    let retained = known("g01_empty");
    assert_eq!(retained.encode(), golden("g01_empty").properties);
    assert_eq!(retained.kind, PropertiesKind::Checkpoint);
    let savepoint = known("g13_savepoint_canonical");
    assert_eq!(savepoint.encode(), golden("g13_savepoint_canonical").properties);
    assert!(savepoint.forced);
    use SavepointAction::{None, Suspend, Terminate};
    use SavepointFormat::{Canonical, Native};
    for (kind, len) in [
        (PropertiesKind::Checkpoint, 604),
        (PropertiesKind::FullCheckpoint, 600),
        (PropertiesKind::Savepoint(Canonical, None), 745),
        (PropertiesKind::Savepoint(Native, None), 742),
        (PropertiesKind::Savepoint(Canonical, Terminate), 760),
        (PropertiesKind::Savepoint(Native, Suspend), 753),
    ] {
        assert_eq!(Properties { kind, ..retained }.encode().len(), len, "{kind}");
    }
}

#[test]
fn properties_print_as_in_flink() {
    assert_eq!(
        known("g13_savepoint_canonical").to_string(),
        "CheckpointProperties{forced=true, checkpointType=SavepointType{name='Savepoint', postCheckpointAction=NONE, \
         formatType=CANONICAL}, discardSubsumed=false, discardFinished=false, discardCancelled=false, \
         discardFailed=false, discardSuspended=false}"
    );
    assert_eq!(Properties::read(NULL).to_string(), "null");
}

#[test]
fn unknown_properties_are_kept() {
    let known = golden("g01_empty").properties;
    let mut bytes = fixtures::golden("g01_empty").to_vec();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    bytes.extend(b"behind");
    let decoded = decode(bytes.clone().into()).unwrap();
    assert_eq!(decoded.metadata.properties.len(), known.len() + 6);
    assert_eq!(Properties::read(&decoded.metadata.properties), PropertiesRead::Other);
    assert_eq!(encode(&decoded.metadata).unwrap().bytes, bytes);
}

#[test]
fn bytes_behind_known_properties_are_the_rest() {
    let bytes = [&fixtures::golden("g01_empty")[..], b"behind"].concat();
    let decoded = decode(bytes.into()).unwrap();
    assert_eq!((&decoded.rest[..], decoded.metadata), (&b"behind"[..], golden("g01_empty")));
}
