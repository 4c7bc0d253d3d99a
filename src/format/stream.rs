//! Stream handles: inline bytes, files, segments.

use super::input::{Input, Within};
use super::output::{KEY_GROUP_OFFSET_MIN, Output};
use super::{NESTING_MAX, Result};
use crate::handle::{FileHandle, InlineHandle, KeyGroupsStream, SegmentHandle, StreamHandle};
use crate::id::Scope;

const NULL: u8 = 0;
const INLINE: u8 = 1;
const FILE: u8 = 2;
const KEY_GROUPS: u8 = 3;
const RELATIVE: u8 = 6;
const SEGMENT: u8 = 15;
const EMPTY_SEGMENT: u8 = 16;

/// −1 says that the size is unknown.
pub(super) const SIZE_MIN: i64 = -1;

/// A handle or null.
pub(super) fn read_nullable(input: &mut Input) -> Result<Option<StreamHandle>> {
    read_nested(input, NESTING_MAX)
}

/// A handle where null is not allowed.
pub(super) fn read(input: &mut Input) -> Result<StreamHandle> {
    read_required(input, NESTING_MAX)
}

fn read_required(input: &mut Input, depth: u32) -> Result<StreamHandle> {
    let at = input.offset();
    read_nested(input, depth)?.ok_or_else(|| input.error_at(at, "tag", "null, where a stream must be"))
}

fn read_nested(input: &mut Input, depth: u32) -> Result<Option<StreamHandle>> {
    let at = input.offset();
    Ok(Some(match input.u8("tag")? {
        NULL => return Ok(None),
        INLINE => StreamHandle::Inline(InlineHandle { name: input.utf("name")?, bytes: input.block("bytes")? }),
        FILE => {
            let size = input.i64_min("size", SIZE_MIN)?;
            StreamHandle::File(FileHandle { path: input.utf("path")?, size })
        }
        RELATIVE => {
            let path = input.utf("relative path")?;
            StreamHandle::Relative(FileHandle { path, size: input.i64_min("size", SIZE_MIN)? })
        }
        SEGMENT => StreamHandle::Segment(read_segment(input)?),
        EMPTY_SEGMENT => StreamHandle::EmptySegment,
        KEY_GROUPS => {
            let Some(depth) = depth.checked_sub(1) else {
                return Err(input.error_at(at, "tag", format!("nested more than {NESTING_MAX} deep")));
            };
            let range = input.key_groups()?;
            let offsets = input.offsets(range.count as usize, KEY_GROUP_OFFSET_MIN)?;
            let delegate = read_required(input, depth).within("delegate")?;
            StreamHandle::KeyGroups(Box::new(KeyGroupsStream { range, offsets, delegate }))
        }
        tag => return Err(input.error_at(at, "tag", format!("{tag} is no stream handle"))),
    }))
}

fn read_segment(input: &mut Input) -> Result<SegmentHandle> {
    let at = input.offset();
    let (offset, size) = (input.u63("start")?, input.u63("size")?);
    if offset + size > i64::MAX as u64 {
        return Err(input.error_at(at, "size", format!("{size} bytes from {offset} on, which is too far")));
    }
    let at = input.offset();
    let scope = match input.i32("scope")? {
        0 => Scope::Exclusive,
        1 => Scope::Shared,
        other => return Err(input.error_at(at, "scope", format!("{other}, where 0 and 1 are allowed"))),
    };
    Ok(SegmentHandle { offset, size, scope, path: input.utf("path")?, id: input.utf("logical file id")? })
}

/// A handle or null.
pub(super) fn write_nullable(output: &mut Output, handle: Option<&StreamHandle>) -> Result<()> {
    match handle {
        Some(handle) => write(output, handle),
        None => {
            output.u8(NULL);
            Ok(())
        }
    }
}

pub(super) fn write(output: &mut Output, handle: &StreamHandle) -> Result<()> {
    write_nested(output, handle, NESTING_MAX)
}

fn write_nested(output: &mut Output, handle: &StreamHandle, depth: u32) -> Result<()> {
    match handle {
        StreamHandle::Inline(inline) => {
            output.u8(INLINE);
            output.utf(&inline.name);
            output.block("bytes", &inline.bytes)?;
        }
        StreamHandle::File(file) => {
            output.u8(FILE);
            output.i64_min("size", file.size, SIZE_MIN)?;
            output.utf(&file.path);
        }
        StreamHandle::Relative(file) => {
            output.u8(RELATIVE);
            output.utf(&file.path);
            output.i64_min("size", file.size, SIZE_MIN)?;
        }
        StreamHandle::Segment(segment) => write_segment(output, segment)?,
        StreamHandle::EmptySegment => output.u8(EMPTY_SEGMENT),
        StreamHandle::KeyGroups(groups) => {
            let Some(depth) = depth.checked_sub(1) else {
                return Err(output.error("tag", format!("nested more than {NESTING_MAX} deep")));
            };
            output.u8(KEY_GROUPS);
            output.key_group_offsets(groups.range, &groups.offsets)?;
            write_nested(output, &groups.delegate, depth).within("delegate")?;
        }
    }
    Ok(())
}

fn write_segment(output: &mut Output, segment: &SegmentHandle) -> Result<()> {
    let (offset, size) = (segment.offset, segment.size);
    if offset.checked_add(size).is_none_or(|end| end > i64::MAX as u64) {
        return Err(output.error("size", format!("{size} bytes from {offset} on, which is too far")));
    }
    output.u8(SEGMENT);
    output.u63("start", offset)?;
    output.u63("size", size)?;
    output.i32(match segment.scope {
        Scope::Exclusive => 0,
        Scope::Shared => 1,
    });
    output.utf(&segment.path);
    output.utf(&segment.id);
    Ok(())
}
