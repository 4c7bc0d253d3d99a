//! What channels had in flight, out of the bytes of a restored stream.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::task::ChannelRestore;
use crate::error::Result;
use crate::format::{MergedChannel, chunks, merged_channels};
use crate::handle::{ChannelHandle, ChannelInfo, MergedChannelHandle};

/// What one channel had in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Of an input, (gate, channel); of an output, (partition, subpartition).
    pub channel: ChannelInfo,
    /// Its chunks, in the order in which they are to go on.
    pub chunks: Vec<Bytes>,
}

impl ChannelRestore {
    /// What each of the handle's channels had in flight, as far as the task needs it, without a copy; `stream` is the whole of
    /// the handle's stream, as [`Restored::bytes`](super::Restored::bytes) has it.
    ///
    /// # Errors
    /// `Damaged`: a chunk doesn't lie within the stream, or the stream or the list of channels isn't as Flink writes them.
    pub fn in_flight(&self, stream: &Bytes) -> Result<Vec<InFlight>> {
        let of = |channel: ChannelInfo, offsets: &[i64]| match chunks(stream, offsets) {
            Ok(chunks) => Ok(InFlight { channel, chunks }),
            Err(error) => {
                let ChannelInfo { outer, inner } = channel;
                Err(error.in_file(format_args!("data in flight of channel {outer}/{inner}")))
            }
        };
        let is_needed = |info: ChannelInfo| self.only.as_ref().is_none_or(|only| only.contains(&info.outer));
        match &self.handle {
            ChannelHandle::Single(single) => Ok(vec![of(single.info, &single.offsets)?]),
            ChannelHandle::Merged(merged) => {
                let channels = channels_of(merged)?;
                let needed = channels.iter().filter(|channel| is_needed(channel.info));
                needed.map(|channel| of(channel.info, &channel.offsets)).collect()
            }
        }
    }
}

/// The gates or partitions of which something was in flight.
pub(super) fn outers(handle: &ChannelHandle) -> Result<BTreeSet<i32>> {
    match handle {
        ChannelHandle::Single(single) if single.offsets.is_empty() => Ok(BTreeSet::new()),
        ChannelHandle::Single(single) => Ok(BTreeSet::from([single.info.outer])),
        ChannelHandle::Merged(merged) => {
            let channels = channels_of(merged)?.into_iter();
            Ok(channels.filter(|channel| !channel.offsets.is_empty()).map(|channel| channel.info.outer).collect())
        }
    }
}

/// The channels of a merged handle.
pub(super) fn channels_of(handle: &MergedChannelHandle) -> Result<Vec<MergedChannel>> {
    merged_channels(handle).map_err(|e| e.in_file("channels of a merged handle"))
}
