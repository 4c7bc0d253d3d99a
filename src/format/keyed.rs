//! Keyed state handles: key groups, incremental sets of files, changelogs.

use super::input::{Input, Within};
use super::output::{KEY_GROUP_OFFSET_MIN, Output};
use super::stream::{self, SIZE_MIN};
use super::{NESTING_MAX, Result};
use crate::handle::{
    ChangelogFilesHandle, ChangelogHandle, ChangelogMemoryHandle, IncrementalHandle, KeyGroupsForm, KeyGroupsHandle,
    KeyedHandle, LocalPathHandle, StateChange,
};

const NULL: u8 = 0;
const KEY_GROUPS_WITHOUT_ID: u8 = 3;
const INCREMENTAL_WITHOUT_ID: u8 = 5;
const KEY_GROUPS_SAVEPOINT: u8 = 7;
const CHANGELOG_WITHOUT_CHECKPOINT: u8 = 8;
const CHANGELOG_MEMORY: u8 = 9;
const CHANGELOG_FILES_WITHOUT_STORAGE: u8 = 10;
const INCREMENTAL: u8 = 11;
const KEY_GROUPS: u8 = 12;
const CHANGELOG_FILES: u8 = 13;
const CHANGELOG: u8 = 14;

/// Empty path, null handle.
const LOCAL_PATH_BYTES_MIN: usize = 2 + 1;
/// Key groups without any group, in an empty segment.
const HANDLE_BYTES_MIN: usize = 1 + 8 + 1;
/// A change of no bytes.
const CHANGE_BYTES_MIN: usize = 4 + 4;
/// An offset and a null stream.
const CHANGELOG_STREAM_BYTES_MIN: usize = 8 + 1;
/// A changelog's list starts no larger, since lists nest and each could claim the whole input.
const NESTED_CAPACITY_MAX: usize = 4;

/// A handle or null.
pub(super) fn read(input: &mut Input) -> Result<Option<KeyedHandle>> {
    read_nested(input, NESTING_MAX)
}

fn read_nested(input: &mut Input, depth: u32) -> Result<Option<KeyedHandle>> {
    let at = input.offset();
    Ok(Some(match input.u8("tag")? {
        NULL => return Ok(None),
        tag @ (KEY_GROUPS | KEY_GROUPS_WITHOUT_ID | KEY_GROUPS_SAVEPOINT) => {
            KeyedHandle::KeyGroups(read_key_groups(input, tag)?)
        }
        tag @ (INCREMENTAL | INCREMENTAL_WITHOUT_ID) => {
            KeyedHandle::Incremental(read_incremental(input, tag == INCREMENTAL)?)
        }
        tag @ (CHANGELOG | CHANGELOG_WITHOUT_CHECKPOINT) => {
            let Some(depth) = depth.checked_sub(1) else {
                return Err(input.error_at(at, "tag", format!("nested more than {NESTING_MAX} deep")));
            };
            KeyedHandle::Changelog(read_changelog(input, tag == CHANGELOG, depth)?)
        }
        CHANGELOG_MEMORY => KeyedHandle::ChangelogMemory(read_changelog_memory(input)?),
        tag @ (CHANGELOG_FILES | CHANGELOG_FILES_WITHOUT_STORAGE) => {
            KeyedHandle::ChangelogFiles(read_changelog_files(input, tag == CHANGELOG_FILES)?)
        }
        tag => return Err(input.error_at(at, "tag", format!("{tag} is no keyed state handle"))),
    }))
}

fn read_key_groups(input: &mut Input, tag: u8) -> Result<KeyGroupsHandle> {
    let range = input.key_groups()?;
    let offsets = input.offsets(range.count as usize, KEY_GROUP_OFFSET_MIN)?;
    let delegate = stream::read(input).within("delegate")?;
    let form = match tag {
        KEY_GROUPS => KeyGroupsForm::WithId(input.utf("handle id")?),
        KEY_GROUPS_SAVEPOINT => KeyGroupsForm::Savepoint,
        _ => KeyGroupsForm::WithoutId,
    };
    Ok(KeyGroupsHandle { form, range, offsets, delegate, checksums: Vec::new() })
}

fn read_incremental(input: &mut Input, with_id: bool) -> Result<IncrementalHandle> {
    let checkpoint_id = input.i64("checkpoint id")?;
    let backend_id = input.utf("backend id")?;
    let range = input.key_groups()?;
    let persisted_size = if with_id { Some(input.i64_min("persisted size", SIZE_MIN)?) } else { None };
    let meta = stream::read_nullable(input).within("meta")?;
    let shared = input.list("shared", LOCAL_PATH_BYTES_MIN, read_local_path)?;
    let private = input.list("private", LOCAL_PATH_BYTES_MIN, read_local_path)?;
    let persisted = match persisted_size {
        Some(size) => Some((size, input.utf("handle id")?)),
        None => None,
    };
    Ok(IncrementalHandle { checkpoint_id, backend_id, range, persisted, meta, shared, private })
}

fn read_local_path(input: &mut Input) -> Result<LocalPathHandle> {
    Ok(LocalPathHandle { local_path: input.utf("local path")?, handle: stream::read_nullable(input)? })
}

fn read_changelog(input: &mut Input, with_checkpoint: bool, depth: u32) -> Result<ChangelogHandle> {
    Ok(ChangelogHandle {
        range: input.key_groups()?,
        persisted_size: input.i64_min("persisted size", SIZE_MIN)?,
        materialized: read_nested_list(input, "materialized", depth)?,
        changes: read_nested_list(input, "changes", depth)?,
        materialization_id: input.i64("materialization id")?,
        checkpoint_id: if with_checkpoint { Some(input.i64("checkpoint id")?) } else { None },
        id: input.utf("handle id")?,
    })
}

fn read_nested_list(input: &mut Input, field: &str, depth: u32) -> Result<Vec<KeyedHandle>> {
    let count = input.count(field, HANDLE_BYTES_MIN)?;
    let mut handles = Vec::with_capacity(count.min(NESTED_CAPACITY_MAX));
    for index in 0..count {
        let at = input.offset();
        match read_nested(input, depth).within(format_args!("{field}[{index}]"))? {
            Some(handle) => handles.push(handle),
            None => return Err(input.error_at(at, field, format!("null at {index}, where a handle must be"))),
        }
    }
    Ok(handles)
}

fn read_changelog_memory(input: &mut Input) -> Result<ChangelogMemoryHandle> {
    Ok(ChangelogMemoryHandle {
        range: input.key_groups()?,
        from: input.i64_min("from", 0)?,
        to: input.i64_min("to", 0)?,
        changes: input.list("changes", CHANGE_BYTES_MIN, |input| {
            Ok(StateChange { key_group: input.i32_min("key group", -1)?, bytes: input.block("change")? })
        })?,
        id: input.utf("handle id")?,
    })
}

fn read_changelog_files(input: &mut Input, with_storage: bool) -> Result<ChangelogFilesHandle> {
    Ok(ChangelogFilesHandle {
        range: input.key_groups()?,
        streams: input.list("streams", CHANGELOG_STREAM_BYTES_MIN, |input| {
            Ok((input.i64_min("offset", 0)?, stream::read_nullable(input)?))
        })?,
        size: input.i64_min("size", SIZE_MIN)?,
        incremental_size: input.i64_min("incremental size", SIZE_MIN)?,
        id: input.utf("handle id")?,
        storage: if with_storage { Some(input.utf("storage")?) } else { None },
    })
}

/// A handle or null.
pub(super) fn write(output: &mut Output, handle: Option<&KeyedHandle>) -> Result<()> {
    match handle {
        Some(handle) => write_nested(output, handle, NESTING_MAX),
        None => {
            output.u8(NULL);
            Ok(())
        }
    }
}

fn write_nested(output: &mut Output, handle: &KeyedHandle, depth: u32) -> Result<()> {
    match handle {
        KeyedHandle::KeyGroups(groups) => write_key_groups(output, groups),
        KeyedHandle::Incremental(incremental) => write_incremental(output, incremental),
        KeyedHandle::Changelog(changelog) => match depth.checked_sub(1) {
            Some(depth) => write_changelog(output, changelog, depth),
            None => Err(output.error("tag", format!("nested more than {NESTING_MAX} deep"))),
        },
        KeyedHandle::ChangelogMemory(changelog) => write_changelog_memory(output, changelog),
        KeyedHandle::ChangelogFiles(changelog) => write_changelog_files(output, changelog),
    }
}

fn write_key_groups(output: &mut Output, groups: &KeyGroupsHandle) -> Result<()> {
    output.u8(match groups.form {
        KeyGroupsForm::WithId(_) => KEY_GROUPS,
        KeyGroupsForm::WithoutId => KEY_GROUPS_WITHOUT_ID,
        KeyGroupsForm::Savepoint => KEY_GROUPS_SAVEPOINT,
    });
    output.key_group_offsets(groups.range, &groups.offsets)?;
    // They are written elsewhere; but what can't be read there is refused here, where the handle has a name.
    if groups.checksums.len() > groups.offsets.len() + 1 {
        let problem = format!("{} for a head and {} key groups", groups.checksums.len(), groups.offsets.len());
        return Err(output.error("checksums", problem));
    }
    stream::write(output, &groups.delegate).within("delegate")?;
    if let KeyGroupsForm::WithId(id) = &groups.form {
        output.utf(id);
    }
    Ok(())
}

fn write_incremental(output: &mut Output, handle: &IncrementalHandle) -> Result<()> {
    output.u8(if handle.persisted.is_some() { INCREMENTAL } else { INCREMENTAL_WITHOUT_ID });
    output.i64(handle.checkpoint_id);
    output.utf(&handle.backend_id);
    output.key_groups(handle.range)?;
    if let Some((size, _)) = &handle.persisted {
        output.i64_min("persisted size", *size, SIZE_MIN)?;
    }
    stream::write_nullable(output, handle.meta.as_ref()).within("meta")?;
    write_local_paths(output, "shared", &handle.shared)?;
    write_local_paths(output, "private", &handle.private)?;
    if let Some((_, id)) = &handle.persisted {
        output.utf(id);
    }
    Ok(())
}

fn write_local_paths(output: &mut Output, field: &str, paths: &[LocalPathHandle]) -> Result<()> {
    output.count(field, paths.len())?;
    for (index, path) in paths.iter().enumerate() {
        output.utf(&path.local_path);
        stream::write_nullable(output, path.handle.as_ref()).within(format_args!("{field}[{index}]"))?;
    }
    Ok(())
}

fn write_changelog(output: &mut Output, handle: &ChangelogHandle, depth: u32) -> Result<()> {
    output.u8(if handle.checkpoint_id.is_some() { CHANGELOG } else { CHANGELOG_WITHOUT_CHECKPOINT });
    output.key_groups(handle.range)?;
    output.i64_min("persisted size", handle.persisted_size, SIZE_MIN)?;
    for (field, handles) in [("materialized", &handle.materialized), ("changes", &handle.changes)] {
        output.count(field, handles.len())?;
        for (index, handle) in handles.iter().enumerate() {
            write_nested(output, handle, depth).within(format_args!("{field}[{index}]"))?;
        }
    }
    output.i64(handle.materialization_id);
    if let Some(checkpoint_id) = handle.checkpoint_id {
        output.i64(checkpoint_id);
    }
    output.utf(&handle.id);
    Ok(())
}

fn write_changelog_memory(output: &mut Output, handle: &ChangelogMemoryHandle) -> Result<()> {
    output.u8(CHANGELOG_MEMORY);
    output.key_groups(handle.range)?;
    output.i64_min("from", handle.from, 0)?;
    output.i64_min("to", handle.to, 0)?;
    output.count("changes", handle.changes.len())?;
    for (index, change) in handle.changes.iter().enumerate() {
        output.i32_min("key group", change.key_group, -1).within(format_args!("changes[{index}]"))?;
        output.block("change", &change.bytes).within(format_args!("changes[{index}]"))?;
    }
    output.utf(&handle.id);
    Ok(())
}

fn write_changelog_files(output: &mut Output, handle: &ChangelogFilesHandle) -> Result<()> {
    output.u8(if handle.storage.is_some() { CHANGELOG_FILES } else { CHANGELOG_FILES_WITHOUT_STORAGE });
    output.key_groups(handle.range)?;
    output.count("streams", handle.streams.len())?;
    for (index, (offset, stream)) in handle.streams.iter().enumerate() {
        output.i64_min("offset", *offset, 0).within(format_args!("streams[{index}]"))?;
        stream::write_nullable(output, stream.as_ref()).within(format_args!("streams[{index}]"))?;
    }
    output.i64_min("size", handle.size, SIZE_MIN)?;
    output.i64_min("incremental size", handle.incremental_size, SIZE_MIN)?;
    output.utf(&handle.id);
    if let Some(storage) = &handle.storage {
        output.utf(storage);
    }
    Ok(())
}
