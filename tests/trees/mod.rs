//! Checkpoint trees of every kind of handle, made up.

use bytes::Bytes;
use drystone::format::Properties;
use drystone::format::properties::{NULL, PropertiesKind, SavepointAction, SavepointFormat};
use drystone::handle::{
    ChangelogFilesHandle, ChangelogHandle, ChangelogMemoryHandle, ChannelHandle, ChannelInfo, CheckpointMetadata,
    DistributionMode, FileHandle, IncrementalHandle, InlineHandle, JavaString, KeyGroupsForm, KeyGroupsHandle,
    KeyGroupsStream, KeyedHandle, LocalPathHandle, MasterState, MergedChannelHandle, MergingDirectories, Operator,
    OperatorStateHandle, OperatorSubtasks, SegmentHandle, SingleChannelHandle, StateChange, StatePartitions,
    StreamHandle, SubtaskEntry, SubtaskState,
};
use drystone::id::{CheckpointId, KeyGroupRange, OperatorId, Scope};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

pub fn text() -> impl Strategy<Value = JavaString> {
    prop_oneof![
        4 => "[a-z0-9/:._-]{0,12}".prop_map(|t| JavaString::new(&t).unwrap()),
        1 => any::<Vec<char>>().prop_map(|t| JavaString::new(&t.into_iter().take(8).collect::<String>()).unwrap()),
        1 => Just(JavaString::from_encoded(Bytes::from_static(b"lone \xed\xa0\x80")).unwrap()),
    ]
}

fn block() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn size() -> impl Strategy<Value = i64> {
    prop_oneof![Just(-1), Just(0), Just(i64::MAX), 0..1_000_000_000_i64]
}

fn positive() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(i64::MAX), 0..1_000_000_i64]
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![Just(Scope::Exclusive), Just(Scope::Shared)]
}

fn segment() -> impl Strategy<Value = StreamHandle> {
    (text(), 0..i64::MAX as u64 / 2, 0..i64::MAX as u64 / 2, scope(), text())
        .prop_map(|(path, offset, size, scope, id)| SegmentHandle { path, offset, size, scope, id })
        .prop_map(StreamHandle::Segment)
}

fn key_groups() -> impl Strategy<Value = (KeyGroupRange, Vec<i64>)> {
    (0..1000_u32, vec(-1..i64::MAX, 0..5))
        .prop_map(|(start, offsets)| (KeyGroupRange { start, count: offsets.len() as u32 }, offsets))
}

fn range() -> impl Strategy<Value = KeyGroupRange> {
    (0..40_000_u32, 0..40_000_u32).prop_map(|(start, count)| KeyGroupRange { start, count })
}

fn inline() -> impl Strategy<Value = StreamHandle> {
    (text(), block()).prop_map(|(name, bytes)| StreamHandle::Inline(InlineHandle { name, bytes }))
}

fn stream() -> BoxedStrategy<StreamHandle> {
    let file = || (text(), size()).prop_map(|(path, size)| FileHandle { path, size });
    let leaf = prop_oneof![
        inline(),
        file().prop_map(StreamHandle::File),
        file().prop_map(StreamHandle::Relative),
        segment(),
        Just(StreamHandle::EmptySegment),
    ];
    leaf.prop_recursive(3, 4, 1, |inner| {
        (key_groups(), inner).prop_map(|((range, offsets), delegate)| {
            StreamHandle::KeyGroups(Box::new(KeyGroupsStream { range, offsets, delegate }))
        })
    })
    .boxed()
}

fn operator_state() -> impl Strategy<Value = OperatorStateHandle> {
    let mode = prop_oneof![
        Just(DistributionMode::SplitDistribute),
        Just(DistributionMode::Union),
        Just(DistributionMode::Broadcast)
    ];
    let states =
        (text(), mode, vec(positive(), 0..4)).prop_map(|(name, mode, offsets)| StatePartitions { name, mode, offsets });
    let directories = (text(), text(), any::<bool>()).prop_map(|(task_owned, shared, empty)| MergingDirectories {
        task_owned,
        shared,
        empty,
    });
    let delegate = prop_oneof![
        stream().prop_map(|delegate| (None, delegate)),
        (directories, prop_oneof![segment(), Just(StreamHandle::EmptySegment)]).prop_map(|(d, s)| (Some(d), s)),
    ];
    (vec(states, 0..3), delegate).prop_map(|(states, (directories, delegate))| OperatorStateHandle {
        states,
        directories,
        delegate,
    })
}

fn keyed() -> BoxedStrategy<KeyedHandle> {
    let form = prop_oneof![
        text().prop_map(KeyGroupsForm::WithId),
        Just(KeyGroupsForm::WithoutId),
        Just(KeyGroupsForm::Savepoint)
    ];
    let groups = (form, key_groups(), stream()).prop_map(|(form, (range, offsets), delegate)| {
        KeyedHandle::KeyGroups(KeyGroupsHandle { form, range, offsets, delegate, checksums: Vec::new() })
    });
    let paths = || {
        let path = (text(), option::of(stream()));
        vec(path.prop_map(|(local_path, handle)| LocalPathHandle { local_path, handle }), 0..3)
    };
    let incremental =
        (any::<i64>(), text(), range(), option::of((size(), text())), option::of(stream()), paths(), paths()).prop_map(
            |(checkpoint_id, backend_id, range, persisted, meta, shared, private)| {
                let handle = IncrementalHandle { checkpoint_id, backend_id, range, persisted, meta, shared, private };
                KeyedHandle::Incremental(handle)
            },
        );
    let change = (-1..100_i32, block()).prop_map(|(key_group, bytes)| StateChange { key_group, bytes });
    let memory =
        (range(), positive(), positive(), vec(change, 0..3), text()).prop_map(|(range, from, to, changes, id)| {
            KeyedHandle::ChangelogMemory(ChangelogMemoryHandle { range, from, to, changes, id })
        });
    let streams = vec((positive(), option::of(stream())), 0..3);
    let files = (range(), streams, size(), size(), text(), option::of(text())).prop_map(
        |(range, streams, size, incremental_size, id, storage)| {
            let handle = ChangelogFilesHandle { range, streams, size, incremental_size, id, storage };
            KeyedHandle::ChangelogFiles(handle)
        },
    );
    prop_oneof![groups, incremental, memory, files].prop_recursive(2, 6, 2, changelog).boxed()
}

fn changelog(inner: BoxedStrategy<KeyedHandle>) -> impl Strategy<Value = KeyedHandle> {
    let handles = || vec(inner.clone(), 0..3);
    (range(), size(), handles(), handles(), any::<i64>(), option::of(any::<i64>()), text()).prop_map(
        |(range, persisted_size, materialized, changes, materialization_id, checkpoint_id, id)| {
            KeyedHandle::Changelog(ChangelogHandle {
                range,
                persisted_size,
                materialized,
                changes,
                materialization_id,
                checkpoint_id,
                id,
            })
        },
    )
}

fn channels(version: u32) -> impl Strategy<Value = Vec<ChannelHandle>> {
    let single = (0..9_i32, 0..9_i32, 0..9_i32, vec(positive(), 0..3), size(), stream()).prop_map(
        |(subtask, outer, inner, offsets, state_size, delegate)| {
            let info = ChannelInfo { outer, inner };
            ChannelHandle::Single(SingleChannelHandle { subtask, info, offsets, state_size, delegate })
        },
    );
    let merged = (0..9_i32, size(), stream(), block()).prop_map(|(subtask, state_size, delegate, channels)| {
        ChannelHandle::Merged(MergedChannelHandle { subtask, state_size, delegate, channels })
    });
    let either = if version >= 6 { prop_oneof![single, merged].boxed() } else { single.boxed() };
    vec(either, 0..3)
}

fn subtask(version: u32) -> impl Strategy<Value = SubtaskState> {
    (
        option::of(operator_state()),
        option::of(operator_state()),
        option::of(keyed()),
        option::of(keyed()),
        channels(version),
        channels(version),
    )
        .prop_map(|(managed_operator, raw_operator, managed_keyed, raw_keyed, input_channels, output_channels)| {
            SubtaskState { managed_operator, raw_operator, managed_keyed, raw_keyed, input_channels, output_channels }
        })
}

fn operator(version: u32) -> impl Strategy<Value = Operator> {
    let name = move || {
        let present = text().prop_map(move |name| Some(name).filter(|name| version >= 5 && !name.is_empty()));
        prop_oneof![Just(None), present]
    };
    let entries = btree_map(0..8_u32, option::of(subtask(version)), 0..3).prop_map(|entries| {
        entries.into_iter().map(|(index, state)| SubtaskEntry { index, state: state.map(Box::new) }).collect()
    });
    let reported = (option::of(inline()), entries).prop_map(|(c, entries)| (c, OperatorSubtasks::Reported(entries)));
    let subtasks = prop_oneof![4 => reported, 1 => Just((None, OperatorSubtasks::FullyFinished))];
    (name(), name(), any::<[u8; 16]>(), 8..100_u32, 100..40_000_u32, subtasks).prop_map(
        |(name, uid, id, parallelism, max_parallelism, (coordinator, subtasks))| Operator {
            name,
            uid,
            id: OperatorId(id),
            parallelism,
            max_parallelism,
            coordinator,
            subtasks,
        },
    )
}

pub fn properties() -> impl Strategy<Value = Properties> {
    let format = prop_oneof![Just(SavepointFormat::Canonical), Just(SavepointFormat::Native)];
    let action =
        prop_oneof![Just(SavepointAction::None), Just(SavepointAction::Terminate), Just(SavepointAction::Suspend)];
    let kind = prop_oneof![
        Just(PropertiesKind::Checkpoint),
        Just(PropertiesKind::FullCheckpoint),
        (format, action).prop_map(|(format, action)| PropertiesKind::Savepoint(format, action)),
    ];
    (kind, any::<[bool; 7]>()).prop_map(|(kind, [a, b, c, d, e, f, g])| Properties {
        kind,
        discard_cancelled: a,
        discard_failed: b,
        discard_finished: c,
        discard_subsumed: d,
        discard_suspended: e,
        forced: f,
        unclaimed: g,
    })
}

/// A tree that the version can hold.
pub fn metadata(version: u32) -> impl Strategy<Value = CheckpointMetadata> {
    let master =
        (any::<i32>(), text(), block()).prop_map(|(version, name, bytes)| MasterState { version, name, bytes });
    let properties = match version {
        3 => Just(Bytes::new()).boxed(),
        _ => prop_oneof![
            properties().prop_map(|p| p.encode()),
            Just(Bytes::from_static(NULL)),
            Just(Bytes::from_static(b"\xac\xed\x00\x05sr\x00\x01X and more")),
        ]
        .boxed(),
    };
    let operators = vec(operator(version), 0..3);
    (0..i64::MAX as u64, vec(master, 0..3), operators, properties).prop_map(
        move |(checkpoint_id, master_states, operators, properties)| CheckpointMetadata {
            version,
            checkpoint_id: CheckpointId(checkpoint_id),
            master_states,
            operators,
            properties,
        },
    )
}
