//! The bytes of channel state: a header, then chunks, each of which some channel's handle has the offset of.
//!
//! ```text
//! i32 version = 0, then of each chunk: i32 length, its bytes
//! ```

use bytes::Bytes;

use super::Result;
use super::channel::MergedChannel;
use super::output::Output;
use super::stream;
use crate::error::FormatError;

/// What every stream of channel state begins with.
pub const IN_FLIGHT_HEADER: [u8; 4] = [0; 4];

/// Bytes before a chunk's own.
pub const CHUNK_HEADER_BYTES: u64 = 4;

/// What a chunk of so many bytes begins with.
///
/// # Errors
/// More bytes than 31 bits can count.
pub fn chunk_header(length: u64) -> Result<[u8; 4], FormatError> {
    match i32::try_from(length) {
        Ok(length) => Ok(length.to_be_bytes()),
        Err(_) => Err(FormatError {
            offset: 0,
            field: "chunk".into(),
            problem: format!("{length} bytes, where {} are the most", i32::MAX),
        }),
    }
}

/// The chunks at these offsets of a whole stream of channel state, without a copy.
///
/// # Errors
/// The stream is of another version, or a chunk doesn't lie within it.
pub fn chunks(stream: &Bytes, offsets: &[i64]) -> Result<Vec<Bytes>, FormatError> {
    if stream.get(..4) != Some(&IN_FLIGHT_HEADER) {
        let problem = format!("{:?}, where {IN_FLIGHT_HEADER:?} is known", stream.get(..4).unwrap_or(stream));
        return Err(FormatError { offset: 0, field: "version".into(), problem });
    }
    offsets.iter().map(|&offset| chunk(stream, offset)).collect()
}

fn chunk(stream: &Bytes, offset: i64) -> Result<Bytes, FormatError> {
    let found = usize::try_from(offset).ok().and_then(|start| {
        let data = start.checked_add(4)?;
        let length = i32::from_be_bytes(stream.get(start..data)?.try_into().ok()?);
        let end = data.checked_add(usize::try_from(length).ok()?)?;
        // The header's bytes are of no chunk.
        (start >= 4 && end <= stream.len()).then(|| stream.slice(data..end))
    });
    found.ok_or_else(|| {
        let problem = format!("none lies there within the {} bytes of the stream", stream.len());
        FormatError { offset: offset.max(0) as u64, field: "chunk".into(), problem }
    })
}

/// The encoding of its own that the channels of a merged handle have: the counterpart of
/// [`merged_channels`](super::merged_channels).
///
/// # Errors
/// A number that can't be written: an offset below 0, more channels than 31 bits can count.
pub fn encode_merged_channels(channels: &[MergedChannel]) -> Result<Bytes, FormatError> {
    let mut output = Output::default();
    output.count("merged channels", channels.len())?;
    for channel in channels {
        output.i32_min("gate or partition", channel.info.outer, 0)?;
        output.i32_min("channel or subpartition", channel.info.inner, 0)?;
        output.i64_min("state size", channel.state_size, stream::SIZE_MIN)?;
        output.count("offsets", channel.offsets.len())?;
        output.offsets(&channel.offsets, 0)?;
    }
    Ok(output.into_bytes())
}
