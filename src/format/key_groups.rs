//! The checksums of key groups, which Flink's part of the metadata has no place for: apart from the handles, by their number.

use super::Result;
use super::input::Input;
use super::output::Output;
use crate::handle::{CheckpointMetadata, KeyGroupsHandle, StreamHandle};

/// The checksums of one handle of key groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupChecksums {
    /// Which one: its number among all of the metadata's handles of key groups, in the order of the file.
    pub handle: u32,
    /// CRC-32C of the head and of each group that has bytes, as they lie in the stream.
    pub checksums: Vec<u32>,
}

/// Number, and how many.
const HANDLE_BYTES_MIN: usize = 4 + 4;

impl GroupChecksums {
    /// Those of a checkpoint. None of bytes that are in the metadata themselves.
    pub(super) fn of(metadata: &CheckpointMetadata) -> Vec<Self> {
        let (mut all, mut number) = (Vec::new(), 0);
        metadata.visit_key_groups(|_, handle| {
            if !handle.checksums.is_empty() && may_have(handle, handle.checksums.len()) {
                all.push(Self { handle: number, checksums: handle.checksums.clone() });
            }
            number += 1;
        });
        all
    }

    /// Gives each handle its own. What can't be one's is passed over, as in a file without any.
    pub(super) fn enter(all: &[Self], metadata: &mut CheckpointMetadata) {
        let (mut left, mut number) = (all.iter().peekable(), 0);
        metadata.visit_key_groups_mut(|_, handle| {
            if let Some(own) =
                left.next_if(|own| own.handle == number).filter(|own| may_have(handle, own.checksums.len()))
            {
                handle.checksums.clone_from(&own.checksums);
            }
            number += 1;
        });
    }

    pub(super) fn bytes(all: &[Self]) -> usize {
        4 + all.iter().map(|own| HANDLE_BYTES_MIN + own.checksums.len() * 4).sum::<usize>()
    }

    pub(super) fn write(all: &[Self], output: &mut Output) {
        output.u32(all.len() as u32);
        for own in all {
            output.u32(own.handle);
            output.u32(own.checksums.len() as u32);
            own.checksums.iter().for_each(|&crc32c| output.u32(crc32c));
        }
    }

    /// They come in order, each handle once.
    pub(super) fn read(input: &mut Input) -> Result<Vec<Self>> {
        let mut before = None;
        input.list("handles of key groups", HANDLE_BYTES_MIN, |input| {
            let at = input.offset();
            let handle = input.u32("handle")?;
            if let Some(before) = before.replace(handle).filter(|&before| before >= handle) {
                return Err(input.error_at(at, "handle", format!("number {handle} after {before}")));
            }
            Ok(Self { handle, checksums: input.list("checksums", 4, |input| input.u32("checksum"))? })
        })
    }
}

/// Those of bytes that lie in a file: a head and groups.
fn may_have(handle: &KeyGroupsHandle, checksums: usize) -> bool {
    let is_inline = matches!(handle.delegate.innermost(), StreamHandle::Inline(_) | StreamHandle::EmptySegment);
    !is_inline && checksums <= handle.offsets.len() + 1
}
