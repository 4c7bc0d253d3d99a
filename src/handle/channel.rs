//! Channel state: records that were in flight when an unaligned checkpoint was taken.

use bytes::Bytes;

use super::StreamHandle;

/// The in-flight data of one channel, or of several in one handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelHandle {
    /// One channel.
    Single(SingleChannelHandle),
    /// Several channels of one stream (metadata version 6 and later).
    Merged(MergedChannelHandle),
}

/// The in-flight data of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleChannelHandle {
    /// The subtask that it belongs to.
    pub subtask: i32,
    /// The channel.
    pub info: ChannelInfo,
    /// Where its buffers start, relative to the stream.
    pub offsets: Vec<i64>,
    /// Bytes of this channel.
    pub state_size: i64,
    /// The bytes, shared with other channels.
    pub delegate: StreamHandle,
}

/// The in-flight data of several channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedChannelHandle {
    /// The subtask that they belong to.
    pub subtask: i32,
    /// Bytes of all its channels.
    pub state_size: i64,
    /// The bytes.
    pub delegate: StreamHandle,
    /// The channels, in an encoding of their own; kept as it was read.
    pub channels: Bytes,
}

/// Which channel: of an input, (gate, channel); of an output, (partition, subpartition).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelInfo {
    /// Gate or partition.
    pub outer: i32,
    /// Channel or subpartition.
    pub inner: i32,
}

impl ChannelHandle {
    /// The bytes.
    pub fn delegate(&self) -> &StreamHandle {
        match self {
            ChannelHandle::Single(single) => &single.delegate,
            ChannelHandle::Merged(merged) => &merged.delegate,
        }
    }

    /// The bytes, to replace them.
    pub fn delegate_mut(&mut self) -> &mut StreamHandle {
        match self {
            ChannelHandle::Single(single) => &mut single.delegate,
            ChannelHandle::Merged(merged) => &mut merged.delegate,
        }
    }
}
