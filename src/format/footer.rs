//! The footer of a physical file: which segment is where, whose, and with which checksum.
//!
//! Segments lie back to back from the file's first byte, then comes the footer. `design/format.md` has the byte map.

use std::collections::HashMap;

use bytes::Bytes;

use super::Result;
use super::checksum::{SEAL_BYTES, Seal};
use super::input::{Input, Within};
use super::output::Output;
use crate::id::{CheckpointId, FileToken, OperatorId, Scope, Subtask};

const SEAL: Seal = Seal { name: "file footer", magic: u32::from_be_bytes(*b"DSsf"), version: 1 };

/// The bytes at a file's end that tell how long its footer is.
pub const TAIL_BYTES: usize = 8 + 8 + SEAL_BYTES;

/// The longest footer: a file whose footer would be longer takes no more segments. So a reader knows what a tail may
/// claim at most before it reads as much.
pub const FOOTER_BYTES_MAX: u64 = 64 << 20;

const OWNER_BYTES: usize = 8 + 16 + 4 + 4;
const ENTRY_BYTES: usize = 8 + 8 + 4 + 1 + 4;
/// Two counts, the token, the tail.
const FIXED_BYTES: usize = 4 + 4 + 8 + TAIL_BYTES;

/// Stands for the index of no subtask.
const NO_SUBTASK: i32 = -1;

/// The index of a physical file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The file's token.
    pub token: FileToken,
    /// The segments; a segment's place in the list is its ordinal.
    pub segments: Vec<SegmentEntry>,
}

/// One segment of a physical file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
    /// Who may name it.
    pub scope: Scope,
    /// The checkpoint that it was first written for.
    pub checkpoint: CheckpointId,
    /// Who wrote it, where that is known.
    pub subtask: Option<Subtask>,
}

/// The fixed-size end of a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Bytes of segments: the footer's offset.
    pub data_len: u64,
    /// Bytes of the footer, its tail included.
    pub footer_len: u64,
}

/// A footer in the making, which knows its own length at every step.
#[derive(Clone, Debug)]
pub struct FooterBuilder {
    token: FileToken,
    owners: Vec<Owner>,
    owner_indexes: HashMap<Owner, u32>,
    /// Whose the last segment is: most come from the same one as the one before.
    last: Option<(Owner, u32)>,
    entries: Vec<Entry>,
    data_len: u64,
}

type Owner = (CheckpointId, Option<Subtask>);

#[derive(Clone, Debug)]
struct Entry {
    offset: u64,
    length: u64,
    crc32c: u32,
    scope: Scope,
    owner: u32,
}

impl FooterBuilder {
    /// Of a file without segments yet.
    pub fn new(token: FileToken) -> Self {
        let (owners, owner_indexes, entries) = (Vec::new(), HashMap::new(), Vec::new());
        Self { token, owners, owner_indexes, last: None, entries, data_len: 0 }
    }

    /// Adds the segment behind all others, and gives its ordinal. A subtask's index and parallelism fit in 31 bits.
    pub fn push(
        &mut self,
        length: u64,
        crc32c: u32,
        scope: Scope,
        checkpoint: CheckpointId,
        subtask: Option<Subtask>,
    ) -> u32 {
        let owner = (checkpoint, subtask);
        let number = match self.last {
            Some((last, number)) if last == owner => number,
            _ => *self.owner_indexes.entry(owner).or_insert_with(|| {
                self.owners.push(owner);
                self.owners.len() as u32 - 1
            }),
        };
        self.last = Some((owner, number));
        self.entries.push(Entry { offset: self.data_len, length, crc32c, scope, owner: number });
        self.data_len = self.data_len.saturating_add(length);
        self.entries.len() as u32 - 1
    }

    /// Bytes of segments so far: the offset of the next one.
    pub fn data_len(&self) -> u64 {
        self.data_len
    }

    /// Bytes that [`encode`](Self::encode) gives now.
    pub fn encoded_len(&self) -> u64 {
        (FIXED_BYTES + self.owners.len() * OWNER_BYTES + self.entries.len() * ENTRY_BYTES) as u64
    }

    /// Bytes that [`encode`](Self::encode) gives after one more segment.
    pub fn encoded_len_with(&self, checkpoint: CheckpointId, subtask: Option<Subtask>) -> u64 {
        let owner = (checkpoint, subtask);
        let is_known = self.last.is_some_and(|(last, _)| last == owner) || self.owner_indexes.contains_key(&owner);
        let owner_bytes = if is_known { 0 } else { OWNER_BYTES };
        self.encoded_len() + (owner_bytes + ENTRY_BYTES) as u64
    }

    /// The footer, to be written right behind the segments.
    pub fn encode(&self) -> Bytes {
        let mut output = Output::with_capacity(self.encoded_len() as usize);
        output.u32(self.owners.len() as u32);
        for owner in &self.owners {
            write_owner(&mut output, owner);
        }
        output.u32(self.entries.len() as u32);
        for entry in &self.entries {
            output.u64(entry.offset);
            output.u64(entry.length);
            output.u32(entry.crc32c);
            output.u8(match entry.scope {
                Scope::Exclusive => 0,
                Scope::Shared => 1,
            });
            output.u32(entry.owner);
        }
        output.u64(self.token.0);
        output.u64(self.data_len);
        output.u64(self.encoded_len());
        SEAL.close(&mut output, 0);
        output.into_bytes()
    }
}

fn write_owner(output: &mut Output, (checkpoint, subtask): &Owner) {
    output.u64(checkpoint.0);
    match subtask {
        Some(subtask) => {
            output.raw(&subtask.operator.0);
            output.u32(subtask.index);
            output.u32(subtask.parallelism);
        }
        None => {
            output.raw(&[0; 16]);
            output.i32(NO_SUBTASK);
            output.u32(0);
        }
    }
}

impl Tail {
    /// Reads the last [`TAIL_BYTES`] of a file that is `file_len` bytes long. What isn't a footer's end, or doesn't add
    /// up to the file, is an error; the checksum is compared by [`Footer::decode`].
    pub fn decode(tail: &[u8], file_len: u64) -> Result<Self> {
        let start = file_len.saturating_sub(tail.len() as u64);
        let mut input = Input::at_offset(Bytes::copy_from_slice(tail), start);
        Self::read(&mut input, file_len).map(|(tail, _)| tail).within("footer")
    }

    fn read(input: &mut Input, file_len: u64) -> Result<(Self, u32)> {
        let at = input.offset();
        let tail = Self { data_len: input.u64("data length")?, footer_len: input.u64("footer length")? };
        let checksum = SEAL.read(input)?;
        let (data_len, footer_len) = (tail.data_len, tail.footer_len);
        if data_len.checked_add(footer_len) != Some(file_len) || footer_len < FIXED_BYTES as u64 {
            let problem = format!("{data_len}, and {footer_len} of the footer, where the file has {file_len} bytes");
            return Err(input.error_at(at, "data length", problem));
        }
        if footer_len > FOOTER_BYTES_MAX {
            let problem = format!("{footer_len} bytes, where {FOOTER_BYTES_MAX} are allowed");
            return Err(input.error_at(at + 8, "footer length", problem));
        }
        Ok((tail, checksum))
    }
}

impl Footer {
    /// Reads a footer: the last [`Tail::footer_len`] bytes of a file that is `file_len` bytes long. Errors give offsets
    /// in the file.
    pub fn decode(footer: Bytes, file_len: u64) -> Result<Self> {
        decode(footer, file_len).within("footer")
    }
}

fn decode(footer: Bytes, file_len: u64) -> Result<Footer> {
    let start = file_len.saturating_sub(footer.len() as u64);
    let tail_at = footer.len().saturating_sub(TAIL_BYTES);
    let mut input = Input::at_offset(footer.slice(tail_at..), start + tail_at as u64);
    let (tail, checksum) = Tail::read(&mut input, file_len)?;
    if tail.footer_len != footer.len() as u64 {
        let problem = format!("{}, where {} bytes were given", tail.footer_len, footer.len());
        return Err(input.error_at(start + tail_at as u64 + 8, "footer length", problem));
    }
    let expected = SEAL.expected(&footer);
    if checksum != expected {
        let (at, problem) = SEAL.mismatch(start, footer.len(), checksum, expected);
        return Err(input.error_at(at, "checksum", problem));
    }
    let mut input = Input::at_offset(footer.slice(..tail_at), start);
    let owners = input.list("owners", OWNER_BYTES, read_owner)?;
    let mut end = 0;
    let segments = input.list("segments", ENTRY_BYTES, |input| read_entry(input, &owners, &mut end))?;
    let at = input.offset();
    let token = FileToken(input.u64("token")?);
    if end != tail.data_len {
        let problem = format!("{end} bytes in all, where the data has {}", tail.data_len);
        return Err(input.error_at(at, "segments", problem));
    }
    match input.rest().len() {
        0 => Ok(Footer { token, segments }),
        more => Err(input.error_at(input.offset(), "footer length", format!("{more} bytes more than its fields take"))),
    }
}

fn read_owner(input: &mut Input) -> Result<Owner> {
    let checkpoint = CheckpointId(input.u64("checkpoint")?);
    let at = input.offset();
    let operator = OperatorId(input.id("operator")?);
    let index = input.i32_min("subtask", NO_SUBTASK)?;
    let parallelism = input.u31("parallelism")?;
    if index != NO_SUBTASK {
        return Ok((checkpoint, Some(Subtask { operator, index: index.unsigned_abs(), parallelism })));
    }
    if operator.0 != [0; 16] || parallelism != 0 {
        return Err(input.error_at(at, "operator", "given, where there is no subtask"));
    }
    Ok((checkpoint, None))
}

/// `end` is where the segment before ended.
fn read_entry(input: &mut Input, owners: &[Owner], end: &mut u64) -> Result<SegmentEntry> {
    let at = input.offset();
    let (offset, length) = (input.u64("offset")?, input.u64("length")?);
    if offset != *end {
        return Err(input.error_at(at, "offset", format!("{offset}, where the segment before ends at {end}")));
    }
    let Some(next) = offset.checked_add(length) else {
        return Err(input.error_at(at + 8, "length", format!("{length} bytes from {offset} on, which is too far")));
    };
    *end = next;
    let crc32c = input.u32("checksum")?;
    let at = input.offset();
    let scope = match input.u8("scope")? {
        0 => Scope::Exclusive,
        1 => Scope::Shared,
        other => return Err(input.error_at(at, "scope", format!("{other}, where 0 and 1 are allowed"))),
    };
    let at = input.offset();
    let owner = input.u32("owner")?;
    let Some(&(checkpoint, subtask)) = owners.get(owner as usize) else {
        return Err(input.error_at(at, "owner", format!("{owner}, where there are {}", owners.len())));
    };
    Ok(SegmentEntry { offset, length, crc32c, scope, checkpoint, subtask })
}
