//! The `_metadata` file as a whole: header, master states, operators, properties, and what comes behind them.

use bytes::Bytes;

use super::input::{Input, Within};
use super::key_groups::GroupChecksums;
use super::output::Output;
use super::properties::{self, Recognised};
use super::section::{Section, SectionOwner, Sections};
use super::trailer::Trailer;
use super::{Result, state};
use crate::handle::{CheckpointMetadata, MasterState};
use crate::id::CheckpointId;

const MAGIC: u32 = 0x4960_672d;
const MASTER_MAGIC: u32 = 0xc96b_1696;

const VERSION_READ_MIN: u32 = 2;
const VERSION_WRITE_MIN: u32 = 3;
const VERSION_MAX: u32 = 6;
const PROPERTIES_SINCE: u32 = 4;

/// Version, empty name, no bytes.
const MASTER_BODY_BYTES_MIN: usize = 4 + 2 + 4;
const MASTER_BYTES_MIN: usize = 4 + 4 + MASTER_BODY_BYTES_MIN;

/// A metadata file, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What Flink reads; and with the handles of key groups the checksums that our trailer has for them.
    pub metadata: CheckpointMetadata,
    /// Whose bytes are where: in file order, without gaps, from 0 up to the end of the properties.
    pub sections: Vec<Section>,
    /// Our trailer, where the file has an intact one. Its checksums have not been compared: [`check_trailer`] does.
    ///
    /// [`check_trailer`]: super::check_trailer
    pub trailer: Option<Trailer>,
    /// Bytes behind the properties that are not a trailer. Flink ignores them; a damaged trailer ends up here.
    pub rest: Bytes,
}

/// A metadata file, written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The file as Flink would write it.
    pub bytes: Bytes,
    /// Whose bytes are where: in file order, without gaps, all of the file.
    pub sections: Vec<Section>,
    /// What the trailer is to hold beside.
    pub groups: Vec<GroupChecksums>,
}

/// Reads a metadata file of version 2 to 6, with or without our trailer. Texts and blocks share `bytes`.
///
/// Stricter than Flink: marks are 0 or 1, ordinals are known ones, and nothing is negative that can't be. An error
/// names the first byte and the field that are wrong. A checksum that doesn't match is none.
pub fn decode(bytes: Bytes) -> Result<Decoded> {
    let (trailer, end) = match Trailer::find(&bytes) {
        Some(Ok((offset, trailer))) => (Some(trailer), usize::try_from(offset).unwrap_or(bytes.len())),
        _ => (None, bytes.len()),
    };
    let mut input = Input::new(bytes.slice(..end));
    let mut sections = Sections::default();
    let version = read_version(&mut input)?;
    let checkpoint_id = CheckpointId(input.u63("checkpoint id")?);
    let master_states = input.list("master states", MASTER_BYTES_MIN, read_master)?;
    let operators = state::read_operators(&mut input, version, &mut sections)?;
    let properties = if version >= PROPERTIES_SINCE { read_properties(&mut input)? } else { Bytes::new() };
    sections.close(SectionOwner::Properties, input.offset());
    let rest = input.take(input.rest().len(), "rest")?;
    let mut metadata = CheckpointMetadata { version, checkpoint_id, master_states, operators, properties };
    if let Some(trailer) = &trailer {
        GroupChecksums::enter(&trailer.groups, &mut metadata);
    }
    Ok(Decoded { metadata, sections: sections.into_list(), trailer, rest })
}

fn read_version(input: &mut Input) -> Result<u32> {
    let magic = input.u32("magic")?;
    if magic != MAGIC {
        return Err(input.error_at(0, "magic", format!("{magic:08x}, where Flink's metadata has {MAGIC:08x}")));
    }
    let at = input.offset();
    match input.u32("version")? {
        version @ VERSION_READ_MIN..=VERSION_MAX => Ok(version),
        other => {
            let problem = format!("{other}, where {VERSION_READ_MIN} to {VERSION_MAX} can be read");
            Err(input.error_at(at, "version", problem))
        }
    }
}

fn read_master(input: &mut Input) -> Result<MasterState> {
    let at = input.offset();
    let magic = input.u32("magic")?;
    if magic != MASTER_MAGIC {
        return Err(input.error_at(at, "magic", format!("{magic:08x}, where {MASTER_MAGIC:08x} must be")));
    }
    let body = input.block("state")?;
    let mut body = Input::at_offset(body.clone(), input.offset() - body.len() as u64);
    let master = MasterState { version: body.i32("version")?, name: body.utf("name")?, bytes: body.block("bytes")? };
    match body.rest().len() {
        0 => Ok(master),
        more => Err(body.error_at(body.offset(), "state", format!("{more} bytes more than its fields take"))),
    }
}

fn read_properties(input: &mut Input) -> Result<Bytes> {
    let len = match properties::recognise(input.rest()) {
        Recognised::Null => properties::NULL.len(),
        Recognised::Known(_, len) => len,
        Recognised::Other => input.rest().len(),
        Recognised::CutShort => {
            let end = input.offset() + input.rest().len() as u64;
            return Err(input.error_at(end, "properties", "end too early"));
        }
        Recognised::NotJava => {
            return Err(input.error_at(input.offset(), "properties", "no object that Java serialised"));
        }
    };
    input.take(len, "properties")
}

/// Writes a metadata file of version 3 to 6, as Flink would.
///
/// Refuses what the version can't hold and what [`decode`] would refuse; the error's offset is where the field would
/// have been.
pub fn encode(metadata: &CheckpointMetadata) -> Result<Encoded> {
    let version = metadata.version;
    let mut output = Output::default();
    let mut sections = Sections::default();
    output.u32(MAGIC);
    if !(VERSION_WRITE_MIN..=VERSION_MAX).contains(&version) {
        let problem = format!("{version}, where {VERSION_WRITE_MIN} to {VERSION_MAX} can be written");
        return Err(output.error("version", problem));
    }
    output.u32(version);
    output.u63("checkpoint id", metadata.checkpoint_id.0)?;
    output.count("master states", metadata.master_states.len())?;
    for (index, master) in metadata.master_states.iter().enumerate() {
        write_master(&mut output, master).within(format_args!("master states[{index}]"))?;
    }
    state::write_operators(&mut output, version, &metadata.operators, &mut sections)?;
    write_properties(&mut output, version, &metadata.properties)?;
    sections.close(SectionOwner::Properties, output.len() as u64);
    let groups = GroupChecksums::of(metadata);
    Ok(Encoded { bytes: output.into_bytes(), sections: sections.into_list(), groups })
}

fn write_master(output: &mut Output, master: &MasterState) -> Result<()> {
    output.u32(MASTER_MAGIC);
    output.count("state", MASTER_BODY_BYTES_MIN + master.name.encoded().len() + master.bytes.len())?;
    output.i32(master.version);
    output.utf(&master.name);
    output.block("bytes", &master.bytes)
}

fn write_properties(output: &mut Output, version: u32, properties: &Bytes) -> Result<()> {
    if version < PROPERTIES_SINCE {
        return match properties.is_empty() {
            true => Ok(()),
            false => {
                Err(output.error("properties", format!("need version {PROPERTIES_SINCE} or later, not {version}")))
            }
        };
    }
    let len = match properties::recognise(properties) {
        Recognised::Null => properties::NULL.len(),
        Recognised::Known(_, len) => len,
        Recognised::Other => properties.len(),
        Recognised::CutShort => return Err(output.error("properties", "end too early")),
        Recognised::NotJava => return Err(output.error("properties", "no object that Java serialised")),
    };
    if len != properties.len() {
        return Err(output.error("properties", format!("{} bytes, of which {len} are used", properties.len())));
    }
    output.raw(properties);
    Ok(())
}
