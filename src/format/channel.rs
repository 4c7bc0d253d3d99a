//! Channel state handles: one channel each, or several merged (version 6 and later).

use super::Result;
use super::input::{Input, Within};
use super::output::Output;
use super::stream;
use crate::handle::{ChannelHandle, ChannelInfo, MergedChannelHandle, SingleChannelHandle};

/// From this version on, a tag says whether channels are merged.
const TAGGED_SINCE: u32 = 6;

/// A merged handle with nothing in it, the smaller of both kinds.
const BYTES_MIN: usize = 4 + 8 + 1 + 4;

/// Which end of a channel, and so which tags.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Input,
    Output,
}

impl Side {
    fn field(self) -> &'static str {
        match self {
            Side::Input => "input channels",
            Side::Output => "output channels",
        }
    }

    fn single_tag(self) -> u8 {
        match self {
            Side::Input => 1,
            Side::Output => 2,
        }
    }

    fn merged_tag(self) -> u8 {
        match self {
            Side::Input => 3,
            Side::Output => 4,
        }
    }
}

pub(super) fn read_list(input: &mut Input, version: u32, side: Side) -> Result<Vec<ChannelHandle>> {
    input.list(side.field(), BYTES_MIN, |input| read(input, version, side))
}

fn read(input: &mut Input, version: u32, side: Side) -> Result<ChannelHandle> {
    if version < TAGGED_SINCE {
        return read_single(input).map(ChannelHandle::Single);
    }
    let at = input.offset();
    match input.u8("tag")? {
        tag if tag == side.single_tag() => read_single(input).map(ChannelHandle::Single),
        tag if tag == side.merged_tag() => read_merged(input).map(ChannelHandle::Merged),
        tag => Err(input.error_at(at, "tag", format!("{tag} is not of {}", side.field()))),
    }
}

fn read_single(input: &mut Input) -> Result<SingleChannelHandle> {
    let subtask = input.i32_min("subtask", 0)?;
    let info = ChannelInfo {
        outer: input.i32_min("gate or partition", 0)?,
        inner: input.i32_min("channel or subpartition", 0)?,
    };
    let count = input.count("offsets", 8)?;
    let offsets = input.offsets(count, 0)?;
    let state_size = input.i64_min("state size", stream::SIZE_MIN)?;
    let delegate = stream::read(input).within("delegate")?;
    Ok(SingleChannelHandle { subtask, info, offsets, state_size, delegate })
}

fn read_merged(input: &mut Input) -> Result<MergedChannelHandle> {
    let subtask = input.i32_min("subtask", 0)?;
    let state_size = input.i64_min("state size", stream::SIZE_MIN)?;
    let delegate = stream::read(input).within("delegate")?;
    Ok(MergedChannelHandle { subtask, state_size, delegate, channels: input.block("channels")? })
}

pub(super) fn write_list(output: &mut Output, version: u32, side: Side, channels: &[ChannelHandle]) -> Result<()> {
    output.count(side.field(), channels.len())?;
    for (index, channel) in channels.iter().enumerate() {
        write(output, version, side, channel).within(format_args!("{}[{index}]", side.field()))?;
    }
    Ok(())
}

fn write(output: &mut Output, version: u32, side: Side, channel: &ChannelHandle) -> Result<()> {
    let tagged = version >= TAGGED_SINCE;
    match channel {
        ChannelHandle::Single(single) => {
            if tagged {
                output.u8(side.single_tag());
            }
            output.i32_min("subtask", single.subtask, 0)?;
            output.i32_min("gate or partition", single.info.outer, 0)?;
            output.i32_min("channel or subpartition", single.info.inner, 0)?;
            output.count("offsets", single.offsets.len())?;
            output.offsets(&single.offsets, 0)?;
            output.i64_min("state size", single.state_size, stream::SIZE_MIN)?;
            stream::write(output, &single.delegate).within("delegate")
        }
        ChannelHandle::Merged(_) if !tagged => {
            Err(output.error("tag", format!("merged channels need version {TAGGED_SINCE}, not {version}")))
        }
        ChannelHandle::Merged(merged) => {
            output.u8(side.merged_tag());
            output.i32_min("subtask", merged.subtask, 0)?;
            output.i64_min("state size", merged.state_size, stream::SIZE_MIN)?;
            stream::write(output, &merged.delegate).within("delegate")?;
            output.block("channels", &merged.channels)
        }
    }
}

/// One channel of a merged handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedChannel {
    /// Which channel.
    pub info: ChannelInfo,
    /// Bytes of this channel.
    pub state_size: i64,
    /// Where its buffers start, relative to the stream.
    pub offsets: Vec<i64>,
}

/// The channels of a merged handle, which the metadata's reader leaves in an encoding of their own. Offsets in errors
/// are relative to that encoding.
pub fn merged_channels(handle: &MergedChannelHandle) -> Result<Vec<MergedChannel>> {
    const CHANNEL_BYTES_MIN: usize = 4 + 4 + 8 + 4;
    let mut input = Input::new(handle.channels.clone());
    input.list("merged channels", CHANNEL_BYTES_MIN, |input| {
        let info = ChannelInfo {
            outer: input.i32_min("gate or partition", 0)?,
            inner: input.i32_min("channel or subpartition", 0)?,
        };
        let state_size = input.i64_min("state size", stream::SIZE_MIN)?;
        let count = input.count("offsets", 8)?;
        Ok(MergedChannel { info, state_size, offsets: input.offsets(count, 0)? })
    })
}
