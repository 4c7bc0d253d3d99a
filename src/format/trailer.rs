//! Our trailer, behind Flink's part of a metadata file: checksums by section, the files named, epoch and writer.
//!
//! Flink stops reading before it. `design/format.md` has the byte map.

use std::ops::Range;

use bytes::Bytes;

use super::Result;
use super::checksum::{SEAL_BYTES, Seal, crc32c, flipped_bit};
use super::input::{Input, Within};
use super::key_groups::GroupChecksums;
use super::metadata::Encoded;
use super::output::Output;
use super::section::SectionOwner;
use crate::handle::JavaString;
use crate::id::OperatorId;

const MAGIC: u32 = u32::from_be_bytes(*b"DSmt");

/// Of files it has the lengths.
const SEAL_V1: Seal = Seal { name: "metadata trailer", magic: MAGIC, version: 1 };

/// Of files it has the lengths, and of some the checksum; then extensions. Where there is nothing of that, the first version
/// is written, which others may read.
const SEAL_V2: Seal = Seal { version: 2, ..SEAL_V1 };

/// The trailer's length, then the seal.
const TAIL_BYTES: usize = 8 + SEAL_BYTES;

const HEADER: u8 = 0;
const OPERATOR: u8 = 1;
const SUBTASK: u8 = 2;
const PROPERTIES: u8 = 3;

/// What is in an extension.
const GROUPS: &[u8; 4] = b"kgcs";

const SECTION_BYTES_MIN: usize = 1 + 8 + 4;
const FILE_BYTES_MIN: usize = 2 + 8;

/// What our trailer says of the metadata before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The checksums, in file order; together they cover everything before the trailer.
    pub sections: Vec<SectionSum>,
    /// The physical files that the metadata names.
    pub files: Vec<NamedFile>,
    /// The coordinator's epoch.
    pub epoch: u64,
    /// What wrote the file, such as `drystone 0.1.0`.
    pub writer: JavaString,
    /// Checksums of key groups.
    pub groups: Vec<GroupChecksums>,
}

/// The checksum of one section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionSum {
    /// What the section describes.
    pub owner: SectionOwner,
    /// Its length in bytes; it starts where the one before ends.
    pub length: u64,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
}

/// A physical file that metadata names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Where, as the handles have it.
    pub path: JavaString,
    /// Its length in bytes.
    pub size: u64,
    /// CRC-32C of the whole file, where nothing else has it: in a file with a footer each segment has its own.
    pub crc32c: Option<u32>,
}

/// A section whose bytes are not the ones that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What the section describes.
    pub owner: SectionOwner,
    /// Its bytes, as offsets in the file.
    pub range: Range<u64>,
    /// The damaged byte, where a single flipped bit explains the damage.
    pub offset: Option<u64>,
}

/// Looks for a trailer and compares its checksums with the bytes before it: `None` where there is no trailer, an error
/// where the trailer is itself damaged, else the sections that don't match.
pub fn check_trailer(bytes: &Bytes) -> Option<Result<Vec<Damage>>> {
    Trailer::find(bytes).map(|found| found.map(|(_, trailer)| trailer.check(bytes)))
}

impl Trailer {
    /// The whole file: the metadata, then a trailer over it.
    pub fn seal(encoded: &Encoded, files: Vec<NamedFile>, epoch: u64, writer: JavaString) -> Bytes {
        let sections = encoded.sections.iter().map(|section| {
            let bytes = slice(&encoded.bytes, &section.range);
            SectionSum { owner: section.owner, length: bytes.len() as u64, crc32c: crc32c(bytes) }
        });
        let (sections, groups) = (sections.collect(), encoded.groups.clone());
        let trailer = Self { sections, files, epoch, writer, groups };
        let mut output = Output::with_capacity(encoded.bytes.len() + trailer.bytes_about());
        output.raw(&encoded.bytes);
        trailer.write(&mut output);
        output.into_bytes()
    }

    fn bytes_about(&self) -> usize {
        let files: usize = self.files.iter().map(|file| file.path.encoded().len() + FILE_BYTES_MIN + 5).sum();
        let groups = GroupChecksums::bytes(&self.groups);
        self.sections.len() * (SECTION_BYTES_MIN + 20) + files + groups + self.writer.encoded().len() + 64
    }

    fn write(&self, output: &mut Output) {
        let start = output.len();
        output.u32(self.sections.len() as u32);
        for section in &self.sections {
            write_owner(output, section.owner);
            output.u64(section.length);
            output.u32(section.crc32c);
        }
        output.u32(self.files.len() as u32);
        let has_checksums = self.files.iter().any(|file| file.crc32c.is_some()) || !self.groups.is_empty();
        let seal = if has_checksums { &SEAL_V2 } else { &SEAL_V1 };
        for file in &self.files {
            output.utf(&file.path);
            output.u64(file.size);
            if seal.version == SEAL_V2.version {
                write_checksum(output, file.crc32c);
            }
        }
        output.u64(self.epoch);
        output.utf(&self.writer);
        if !self.groups.is_empty() {
            extend(output, GROUPS, GroupChecksums::bytes(&self.groups), |output| {
                GroupChecksums::write(&self.groups, output);
            });
        }
        output.u64((output.len() - start + TAIL_BYTES) as u64);
        seal.close(output, start);
    }

    /// Looks for a trailer at the end of a metadata file.
    ///
    /// `None` where the file doesn't end with one; an error where it does and the trailer is damaged, of another
    /// version, or over another number of bytes than are there; else where it starts, and the trailer. The checksums of
    /// the sections are not compared: [`check`](Self::check) does.
    pub fn find(bytes: &Bytes) -> Option<Result<(u64, Self)>> {
        SEAL_V1.ends(bytes).then(|| read(bytes).within("trailer"))
    }

    /// The sections whose bytes don't match their checksum. `bytes` is the whole file.
    pub fn check(&self, bytes: &[u8]) -> Vec<Damage> {
        let mut damaged = Vec::new();
        let mut start = 0_u64;
        for section in &self.sections {
            let range = start..start.saturating_add(section.length);
            start = range.end;
            let difference = crc32c(slice(bytes, &range)) ^ section.crc32c;
            if difference != 0 {
                let offset = flipped_bit(difference, section.length).map(|at| range.start + at);
                damaged.push(Damage { owner: section.owner, range, offset });
            }
        }
        damaged
    }
}

/// The bytes of a range, as far as they are there.
fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[clamp(range.start)..clamp(range.end)]
}

/// An extension, of which whoever doesn't know it sees how long it is.
fn extend(output: &mut Output, tag: &[u8; 4], length: usize, write: impl FnOnce(&mut Output)) {
    output.raw(tag);
    output.u64(length as u64);
    write(output);
}

fn read(bytes: &Bytes) -> Result<(u64, Trailer)> {
    let seal = SEAL_V2.in_version_of(bytes, SEAL_V1.version);
    let tail_at = bytes.len().saturating_sub(TAIL_BYTES);
    let mut tail = Input::at_offset(bytes.slice(tail_at..), tail_at as u64);
    let length = tail.u64("length")?;
    let checksum = seal.read(&mut tail)?;
    let start = match usize::try_from(length) {
        Ok(length) if (TAIL_BYTES..=bytes.len()).contains(&length) => bytes.len() - length,
        _ => {
            let problem = format!("{length} bytes, where the file has {}", bytes.len());
            return Err(tail.error_at(tail_at as u64, "length", problem));
        }
    };
    let expected = seal.expected(&bytes[start..]);
    if checksum != expected {
        let (at, problem) = seal.mismatch(start as u64, bytes.len() - start, checksum, expected);
        return Err(tail.error_at(at, "checksum", problem));
    }
    let mut input = Input::at_offset(bytes.slice(start..tail_at), start as u64);
    let mut trailer = read_fields(&mut input, seal.version)?;
    while seal.version == SEAL_V2.version && !input.rest().is_empty() {
        read_extension(&mut input, &mut trailer)?;
    }
    match input.rest().len() {
        0 => Ok((start as u64, trailer)),
        more => Err(input.error_at(input.offset(), "length", format!("{more} bytes more than its fields take"))),
    }
}

fn read_fields(input: &mut Input, version: u32) -> Result<Trailer> {
    let start = input.offset();
    let sections = input.list("sections", SECTION_BYTES_MIN, |input| {
        Ok(SectionSum { owner: read_owner(input)?, length: input.u64("length")?, crc32c: input.u32("checksum")? })
    })?;
    let covered = sections.iter().fold(0_u64, |sum, section| sum.saturating_add(section.length));
    if covered != start {
        let problem = format!("{covered} bytes in all, where {start} bytes come before the trailer");
        return Err(input.error_at(start, "sections", problem));
    }
    let files = input.list("files", FILE_BYTES_MIN, |input| {
        let (path, size) = (input.utf("path")?, input.u64("size")?);
        let crc32c = if version == SEAL_V1.version { None } else { read_checksum(input)? };
        Ok(NamedFile { path, size, crc32c })
    })?;
    let (epoch, writer) = (input.u64("epoch")?, input.utf("writer")?);
    Ok(Trailer { sections, files, epoch, writer, groups: Vec::new() })
}

/// One that isn't known is passed over: what it says can be done without.
fn read_extension(input: &mut Input, trailer: &mut Trailer) -> Result<()> {
    let tag = input.take(4, "extension")?;
    let (length_at, length) = (input.offset(), input.u64("length")?);
    let at = input.offset();
    let content = match usize::try_from(length) {
        Ok(length) => input.take(length, "extension")?,
        Err(_) => return Err(input.error_at(length_at, "length", format!("{length} bytes of an extension"))),
    };
    let mut content = Input::at_offset(content, at);
    match tag.first_chunk() {
        Some(GROUPS) if trailer.groups.is_empty() => trailer.groups = GroupChecksums::read(&mut content)?,
        Some(GROUPS) => return Err(input.error_at(length_at - 4, "extension", "the second one of this kind")),
        _ => return Ok(()),
    }
    match content.rest().len() {
        0 => Ok(()),
        more => Err(content.error_at(content.offset(), "extension", format!("{more} bytes more than its fields take"))),
    }
}

fn write_checksum(output: &mut Output, crc32c: Option<u32>) {
    output.u8(u8::from(crc32c.is_some()));
    if let Some(crc32c) = crc32c {
        output.u32(crc32c);
    }
}

fn read_checksum(input: &mut Input) -> Result<Option<u32>> {
    Ok(if input.flag("mark of a checksum")? { Some(input.u32("checksum")?) } else { None })
}

fn write_owner(output: &mut Output, owner: SectionOwner) {
    match owner {
        SectionOwner::Header => output.u8(HEADER),
        SectionOwner::Operator(operator) => {
            output.u8(OPERATOR);
            output.raw(&operator.0);
        }
        SectionOwner::Subtask(operator, subtask) => {
            output.u8(SUBTASK);
            output.raw(&operator.0);
            output.u32(subtask);
        }
        SectionOwner::Properties => output.u8(PROPERTIES),
    }
}

fn read_owner(input: &mut Input) -> Result<SectionOwner> {
    let at = input.offset();
    Ok(match input.u8("owner")? {
        HEADER => SectionOwner::Header,
        OPERATOR => SectionOwner::Operator(OperatorId(input.id("operator")?)),
        SUBTASK => SectionOwner::Subtask(OperatorId(input.id("operator")?), input.u32("subtask")?),
        PROPERTIES => SectionOwner::Properties,
        other => return Err(input.error_at(at, "owner", format!("{other}, where 0 to 3 are allowed"))),
    })
}
