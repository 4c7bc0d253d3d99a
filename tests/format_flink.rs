//! Files that Flink wrote: read, and written again byte for byte.

// A test fails by a panic.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "fixtures/mod.rs"]
mod fixtures;

use drystone::format::{Properties, PropertiesRead, Section, SectionOwner, decode, encode};
use drystone::handle::{
    ChannelHandle, ChannelInfo, CheckpointMetadata, DistributionMode, JavaString, KeyGroupsForm, KeyedHandle, Operator,
    OperatorSubtasks, StreamHandle, SubtaskState,
};
use drystone::id::{CheckpointId, KeyGroupRange, OperatorId, Scope};
use serde_json::Value;

const SEGMENT_PATH: &str = "s3://b/job/shared/d/f1";
const SEGMENT_ID: &str = "00000000-0000-0000-0000-000000000001";

fn golden(name: &str) -> CheckpointMetadata {
    decode(fixtures::golden(name)).unwrap().metadata
}

fn text(text: &str) -> JavaString {
    JavaString::new(text).unwrap()
}

fn subtasks(operator: &Operator) -> Vec<(u32, bool)> {
    match &operator.subtasks {
        OperatorSubtasks::FullyFinished => panic!("fully finished"),
        OperatorSubtasks::Reported(entries) => entries.iter().map(|e| (e.index, e.state.is_some())).collect(),
    }
}

fn only_state(metadata: &CheckpointMetadata) -> &SubtaskState {
    match &metadata.operators[0].subtasks {
        OperatorSubtasks::Reported(entries) => entries[0].state.as_ref().unwrap(),
        OperatorSubtasks::FullyFinished => panic!("fully finished"),
    }
}

fn assert_segment(handle: &StreamHandle, scope: Scope, offset: u64, size: u64) {
    let StreamHandle::Segment(segment) = handle else { panic!("{handle:?}") };
    assert_eq!((segment.scope, segment.offset, segment.size), (scope, offset, size));
    assert_eq!((segment.path.to_text().as_ref(), segment.id.to_text().as_ref()), (SEGMENT_PATH, SEGMENT_ID));
}

fn assert_inline(handle: &StreamHandle, name: &str, bytes: &[u8]) {
    let StreamHandle::Inline(inline) = handle else { panic!("{handle:?}") };
    assert_eq!((inline.name.to_text().as_ref(), &inline.bytes[..]), (name, bytes));
}

#[test]
fn every_file_is_written_as_it_was_read() {
    let files = fixtures::all();
    assert_eq!(files.len(), 14 + 28);
    for (name, bytes) in files {
        let decoded = decode(bytes.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(decoded.rest.is_empty() && decoded.trailer.is_none(), "{name}");
        let encoded = encode(&decoded.metadata).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(encoded.bytes, bytes, "{name}");
        assert_eq!(encoded.sections, decoded.sections, "{name}");
        assert_contiguous(&encoded.sections, bytes.len() as u64);
    }
}

fn assert_contiguous(sections: &[Section], len: u64) {
    assert_eq!(sections[0].owner, SectionOwner::Header);
    assert_eq!(sections.last().unwrap().owner, SectionOwner::Properties);
    let end = sections.iter().fold(0, |end, section| {
        assert_eq!(section.range.start, end);
        section.range.end
    });
    assert_eq!(end, len);
}

#[test]
fn empty_and_master_state() {
    let empty = golden("g01_empty");
    assert_eq!((empty.version, empty.checkpoint_id), (6, CheckpointId(42)));
    assert!(empty.operators.is_empty() && empty.master_states.is_empty());
    assert_eq!(Properties::read(&golden("g02_null_props").properties), PropertiesRead::Null);
    let master = &golden("g03_master").master_states[0];
    assert_eq!((master.version, &master.name, &master.bytes[..]), (5, &text("mé"), &[1, 2, 3][..]));
    let master = &golden("g12_modified_utf8").master_states[0];
    assert_eq!(master.name, text("\0\u{1f600}\u{20ac}"));
    assert_eq!(master.name.to_text(), "\0\u{1f600}\u{20ac}");
}

#[test]
fn operators_and_subtasks() {
    let metadata = golden("g04_operators");
    let [first, second] = &metadata.operators[..] else { panic!("{metadata:?}") };
    assert_eq!(first.id.to_string(), "01020304050607081112131415161718");
    assert_eq!((first.name.clone(), first.uid.clone()), (Some(text("map")), Some(text("uid-1"))));
    assert_eq!((first.parallelism, first.max_parallelism), (3, 128));
    assert_inline(first.coordinator.as_ref().unwrap(), "coord", &[9, 8]);
    assert_eq!(subtasks(first), [(0, true), (2, false)]);
    assert_eq!((&second.name, &second.uid, second.parallelism, second.max_parallelism), (&None, &None, 2, 64));
    assert_eq!(second.subtasks, OperatorSubtasks::FullyFinished);
    let ordered = golden("g14_subtask_order");
    assert_eq!(subtasks(&ordered.operators[0]), (0..20).map(|index| (index, false)).collect::<Vec<_>>());
}

#[test]
fn sections_of_operators() {
    let decoded = decode(fixtures::golden("g04_operators")).unwrap();
    let [first, second] = [decoded.metadata.operators[0].id, decoded.metadata.operators[1].id];
    let owners: Vec<_> = decoded.sections.iter().map(|section| section.owner).collect();
    assert_eq!(
        owners,
        [
            SectionOwner::Header,
            SectionOwner::Operator(first),
            SectionOwner::Subtask(first, 0),
            SectionOwner::Subtask(first, 2),
            SectionOwner::Operator(second),
            SectionOwner::Properties,
        ]
    );
    assert_eq!(decoded.sections[0].range, 0..24);
    assert_eq!(decoded.sections[5].range, 137..741);
}

#[test]
fn operator_state() {
    let metadata = golden("g05_opstate_bytestream");
    let state = only_state(&metadata);
    let managed = state.managed_operator.as_ref().unwrap();
    let states: Vec<_> = managed.states.iter().map(|s| (s.name.to_string(), s.mode, s.offsets.clone())).collect();
    let expected = [
        ("A".to_owned(), DistributionMode::SplitDistribute, vec![0, 10, 20]),
        ("B".to_owned(), DistributionMode::Union, vec![30]),
        ("C".to_owned(), DistributionMode::Broadcast, vec![]),
    ];
    assert_eq!(states, expected);
    assert_inline(&managed.delegate, "h", &[1, 2, 3]);
    let raw = state.raw_operator.as_ref().unwrap();
    let StreamHandle::File(file) = &raw.delegate else { panic!("{raw:?}") };
    assert_eq!((raw.states.len(), file.path.to_text().as_ref(), file.size), (0, "file:/tmp/x/f", 77));

    let metadata = golden("g06_opstate_filemerging");
    let merged = only_state(&metadata).managed_operator.as_ref().unwrap();
    let directories = merged.directories.as_ref().unwrap();
    assert_eq!(
        (&directories.task_owned, &directories.shared),
        (&text("s3://b/job/taskowned/t"), &text("s3://b/job/shared/d"))
    );
    assert!(!directories.empty);
    assert_segment(&merged.delegate, Scope::Exclusive, 100, 50);

    let metadata = golden("g07_opstate_filemerging_empty");
    let empty = only_state(&metadata).managed_operator.as_ref().unwrap();
    assert!(empty.directories.as_ref().unwrap().empty && empty.states.is_empty());
    assert_eq!(empty.delegate, StreamHandle::EmptySegment);
}

#[test]
fn keyed_state() {
    let metadata = golden("g08_keygroups");
    let state = only_state(&metadata);
    let Some(KeyedHandle::KeyGroups(managed)) = &state.managed_keyed else { panic!("{state:?}") };
    assert_eq!(
        (&managed.form, managed.range),
        (&KeyGroupsForm::WithId(text("id-1")), KeyGroupRange { start: 4, count: 3 })
    );
    assert_eq!(managed.offsets, [0, 11, 22]);
    let StreamHandle::Relative(file) = &managed.delegate else { panic!("{managed:?}") };
    assert_eq!((file.path.to_text().as_ref(), file.size), ("rel", 33));
    let Some(KeyedHandle::KeyGroups(raw)) = &state.raw_keyed else { panic!("{state:?}") };
    assert_eq!((&raw.form, &raw.offsets[..]), (&KeyGroupsForm::Savepoint, &[5][..]));
    assert_inline(&raw.delegate, "k", &[7]);

    let metadata = golden("g09_incremental_segments");
    let Some(KeyedHandle::Incremental(files)) = &only_state(&metadata).managed_keyed else { panic!("{metadata:?}") };
    assert_eq!((files.checkpoint_id, files.range), (13, KeyGroupRange { start: 0, count: 128 }));
    assert_eq!(files.backend_id, text("00000000-0000-0000-0000-0000000000aa"));
    assert_eq!(files.persisted, Some((125, text("id-2"))));
    assert_segment(files.meta.as_ref().unwrap(), Scope::Exclusive, 0, 20);
    let names: Vec<_> = files.shared.iter().chain(&files.private).map(|f| f.local_path.to_string()).collect();
    assert_eq!(names, ["000010.sst", "000009.sst", "MANIFEST-1"]);
    assert_segment(files.shared[0].handle.as_ref().unwrap(), Scope::Shared, 0, 100);
    let Some(StreamHandle::File(old)) = &files.shared[1].handle else { panic!("{files:?}") };
    assert_eq!((old.path.to_text().as_ref(), old.size), ("s3://b/job/shared/old", 9));
    assert_segment(files.private[0].handle.as_ref().unwrap(), Scope::Shared, 100, 5);
}

#[test]
fn channel_state() {
    let metadata = golden("g10_channel_state");
    let state = only_state(&metadata);
    let [ChannelHandle::Single(single), ChannelHandle::Merged(merged)] = &state.input_channels[..] else {
        panic!("{state:?}")
    };
    assert_eq!((single.info, &single.offsets[..]), (ChannelInfo { outer: 1, inner: 2 }, &[0, 8][..]));
    assert_eq!((single.subtask, single.state_size), (0, 16));
    assert_segment(&single.delegate, Scope::Exclusive, 0, 40);
    assert_eq!((merged.state_size, merged.channels.len()), (24, 68));
    assert_segment(&merged.delegate, Scope::Exclusive, 0, 40);
    let [ChannelHandle::Single(single), ChannelHandle::Merged(merged)] = &state.output_channels[..] else {
        panic!("{state:?}")
    };
    assert_eq!((single.info, &single.offsets[..]), (ChannelInfo { outer: 0, inner: 1 }, &[24][..]));
    assert_eq!((merged.state_size, merged.channels.len()), (16, 32));
}

#[test]
fn changelog() {
    let metadata = golden("g11_changelog");
    let Some(KeyedHandle::Changelog(changelog)) = &only_state(&metadata).managed_keyed else { panic!("{metadata:?}") };
    assert_eq!((changelog.range, changelog.persisted_size), (KeyGroupRange { start: 0, count: 2 }, 99));
    assert_eq!((changelog.materialization_id, changelog.checkpoint_id, &changelog.id), (3, Some(15), &text("id-7")));
    assert!(matches!(&changelog.materialized[..], [KeyedHandle::KeyGroups(_)]));
    let [KeyedHandle::ChangelogFiles(files), KeyedHandle::ChangelogMemory(memory)] = &changelog.changes[..] else {
        panic!("{changelog:?}")
    };
    assert_eq!((files.size, files.incremental_size, files.storage.clone()), (30, 10, Some(text("filesystem"))));
    let [(3, Some(StreamHandle::File(file)))] = &files.streams[..] else { panic!("{files:?}") };
    assert_eq!(file.size, 6);
    assert_eq!((memory.from, memory.to, &memory.id), (5, 7, &text("id-5")));
    let changes: Vec<_> = memory.changes.iter().map(|c| (c.key_group, &c.bytes[..])).collect();
    assert_eq!(changes, [(-1, &[1][..]), (1, &[2, 3][..])]);
}

/// Every stream of every fixture, as Flink's own classes listed it.
#[test]
fn streams_are_those_that_flink_lists() {
    let mut checkpoints = 0;
    for folder in std::fs::read_dir(fixtures::root()).unwrap() {
        let folder = folder.unwrap().path();
        let Ok(expected) = std::fs::read(folder.join("expected.json")) else { continue };
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        for checkpoint in expected["checkpoints"].as_array().unwrap() {
            let path = folder.join(checkpoint["metadataFile"].as_str().unwrap());
            assert_checkpoint(&decode(std::fs::read(path).unwrap().into()).unwrap().metadata, checkpoint);
            checkpoints += 1;
        }
    }
    assert_eq!(checkpoints, 28);
}

fn assert_checkpoint(metadata: &CheckpointMetadata, expected: &Value) {
    assert_eq!(u64::from(metadata.version), expected["version"].as_u64().unwrap());
    assert_eq!(metadata.checkpoint_id.0, expected["checkpointId"].as_u64().unwrap());
    assert_eq!(Properties::read(&metadata.properties).to_string(), expected["properties"].as_str().unwrap());
    let operators = expected["operators"].as_array().unwrap();
    assert_eq!(metadata.operators.len(), operators.len());
    for (operator, expected) in metadata.operators.iter().zip(operators) {
        assert_eq!(operator.id, expected["operatorId"].as_str().unwrap().parse::<OperatorId>().unwrap());
        assert_eq!(operator.name.as_ref().map(JavaString::to_string).as_deref(), expected["name"].as_str());
        assert_eq!(operator.uid.as_ref().map(JavaString::to_string).as_deref(), expected["uid"].as_str());
        assert_eq!(u64::from(operator.parallelism), expected["parallelism"].as_u64().unwrap());
        assert_eq!(u64::from(operator.max_parallelism), expected["maxParallelism"].as_u64().unwrap());
        let expected: Vec<_> =
            expected["subtasks"].as_array().unwrap().iter().map(|s| s["subtask"].as_u64().unwrap()).collect();
        assert_eq!(subtasks(operator).iter().map(|&(index, _)| u64::from(index)).collect::<Vec<_>>(), expected);
    }
    let mut streams = Vec::new();
    metadata.visit_streams(|place, handle| {
        let operator = metadata.operators.iter().position(|o| o.id == place.operator).unwrap();
        streams.push((operator, place.subtask.is_none(), handle));
    });
    // The list leaves empty segments out, and names a coordinator behind its operator's subtasks.
    streams.retain(|(_, _, handle)| **handle != StreamHandle::EmptySegment);
    streams.sort_by_key(|&(operator, is_coordinator, _)| (operator, is_coordinator));
    let expected = expected["streams"].as_array().unwrap();
    assert_eq!(streams.len(), expected.len());
    for ((_, _, stream), expected) in streams.into_iter().zip(expected) {
        assert_stream(stream, expected);
    }
}

fn assert_stream(stream: &StreamHandle, expected: &Value) {
    let size = expected["stateSize"].as_u64();
    match (stream, expected["type"].as_str().unwrap()) {
        (StreamHandle::Segment(segment), "SegmentFileStateHandle") => {
            assert_eq!(Some(segment.offset), expected["startPos"].as_u64());
            assert_eq!(segment.path.to_text(), expected["path"].as_str().unwrap());
            assert_eq!(segment.id.to_text(), expected["logicalFileId"].as_str().unwrap());
            assert_eq!(segment.scope.to_string(), expected["scope"].as_str().unwrap());
        }
        (StreamHandle::Relative(file), "RelativeFileStateHandle") => {
            assert_eq!(file.path.to_text(), expected["relativePath"].as_str().unwrap());
        }
        (StreamHandle::File(file), "FileStateHandle") => {
            assert_eq!(file.path.to_text(), expected["path"].as_str().unwrap());
        }
        (StreamHandle::Inline(inline), "ByteStreamStateHandle") => {
            assert_eq!(inline.name.to_text(), expected["handleName"].as_str().unwrap());
        }
        (stream, kind) => panic!("{stream:?} is listed as {kind}"),
    }
    assert_eq!(stream.size(), size);
}
