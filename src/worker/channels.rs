//! Channel state: data in flight, written to a segment of its subtask's own.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::snapshot::{Durable, Snapshot};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{CHUNK_HEADER_BYTES, IN_FLIGHT_HEADER, MergedChannel, chunk_header, encode_merged_channels};
use crate::handle::{ChannelHandle, ChannelInfo, MergedChannelHandle, SingleChannelHandle, StreamHandle};
use crate::write::{SegmentWriter, Written};

/// Writes a subtask's data in flight, of inputs and outputs, one chunk after another into one exclusive segment.
///
/// Dropped before [`finish`](Self::finish) it leaves nothing behind. Nothing is written for a subtask without chunks.
pub struct ChannelWriter {
    segment: SegmentWriter,
    subtask: u32,
    inputs: Channels,
    outputs: Channels,
    has_header: bool,
}

/// By channel: where its chunks start, and its bytes.
type Channels = BTreeMap<ChannelInfo, (Vec<i64>, i64)>;

/// Channel state that is written, and not yet durable.
#[derive(Clone, Debug)]
pub struct WrittenChannels {
    written: Written,
    subtask: i32,
    inputs: Channels,
    outputs: Channels,
}

/// How channels are named in the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelForm {
    /// A handle each; Flink before 2.1 knows no other.
    Single,
    /// One handle for all inputs, one for all outputs: far less metadata, of version 6.
    Merged,
}

/// The handles of a subtask's channel state, as its state has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelHandles {
    /// Of inputs.
    pub inputs: Vec<ChannelHandle>,
    /// Of outputs.
    pub outputs: Vec<ChannelHandle>,
}

impl Snapshot {
    /// Starts the subtask's channel state. To be finished before the snapshot is.
    pub fn channels(&self) -> ChannelWriter {
        ChannelWriter {
            segment: self.channel_segment(),
            subtask: self.subtask().index,
            inputs: Channels::new(),
            outputs: Channels::new(),
            has_header: false,
        }
    }
}

impl ChannelWriter {
    /// Adds a chunk of an input: these buffers, which come back as one. `channel` is (gate, channel).
    ///
    /// Not cancel safe: after a call that was cancelled, or has failed, the writer can only be dropped.
    ///
    /// # Errors
    /// `Invalid`: a negative number, or more than 2 GiB at once. Others: as for [`SegmentWriter::write`].
    pub async fn input(&mut self, channel: ChannelInfo, buffers: &[Bytes]) -> Result<()> {
        let (offset, bytes) = self.chunk(channel, buffers).await?;
        note(&mut self.inputs, channel, offset, bytes);
        Ok(())
    }

    /// As [`input`](Self::input), of an output: `channel` is (partition, subpartition).
    pub async fn output(&mut self, channel: ChannelInfo, buffers: &[Bytes]) -> Result<()> {
        let (offset, bytes) = self.chunk(channel, buffers).await?;
        note(&mut self.outputs, channel, offset, bytes);
        Ok(())
    }

    async fn chunk(&mut self, channel: ChannelInfo, buffers: &[Bytes]) -> Result<(i64, i64)> {
        if channel.outer < 0 || channel.inner < 0 {
            return Err(Error::new(ErrorKind::Invalid, format!("{channel:?}: no number is below 0")));
        }
        let length = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let header = chunk_header(length)
            .map_err(|error| Error::new(ErrorKind::Invalid, format!("{channel:?}: {}", error.problem)))?;
        if !self.has_header {
            self.segment.write_slice(&IN_FLIGHT_HEADER).await?;
            self.has_header = true;
        }
        let offset = self.segment.position() as i64;
        self.segment.write_slice(&header).await?;
        for buffer in buffers {
            self.segment.write(buffer.clone()).await?;
        }
        Ok((offset, (CHUNK_HEADER_BYTES + length) as i64))
    }

    /// Ends it.
    ///
    /// # Errors
    /// As for [`SegmentWriter::finish`].
    pub async fn finish(self) -> Result<WrittenChannels> {
        let Self { segment, subtask, inputs, outputs, .. } = self;
        // Inline, each handle would have all of the bytes.
        let handles = (inputs.len() + outputs.len()).max(1) as u64;
        let written = segment.named_by(handles).finish().await?;
        let subtask = i32::try_from(subtask)
            .map_err(|_| Error::new(ErrorKind::Invalid, format!("subtask {subtask}: Flink's format has 31 bits")))?;
        Ok(WrittenChannels { written, subtask, inputs, outputs })
    }
}

fn note(channels: &mut Channels, channel: ChannelInfo, offset: i64, bytes: i64) {
    let (offsets, size) = channels.entry(channel).or_default();
    offsets.push(offset);
    *size += bytes;
}

impl Durable {
    /// The handles of channel state: none where there was nothing in flight. By the channels' numbers.
    ///
    /// # Errors
    /// `Invalid`: it isn't of this snapshot, or was finished after it.
    pub fn channels(&self, written: &WrittenChannels, form: ChannelForm) -> Result<ChannelHandles> {
        match self.handle(&written.written)? {
            Some(delegate) => written.handles(&delegate, form),
            None => Ok(ChannelHandles::default()),
        }
    }
}

impl WrittenChannels {
    fn handles(&self, delegate: &StreamHandle, form: ChannelForm) -> Result<ChannelHandles> {
        let inputs = self.handles_of(&self.inputs, delegate, form)?;
        Ok(ChannelHandles { inputs, outputs: self.handles_of(&self.outputs, delegate, form)? })
    }

    fn handles_of(
        &self,
        channels: &Channels,
        delegate: &StreamHandle,
        form: ChannelForm,
    ) -> Result<Vec<ChannelHandle>> {
        let (subtask, each) = (self.subtask, channels.iter().map(|(info, (offsets, size))| (*info, offsets, *size)));
        if form == ChannelForm::Single {
            let single = each.map(|(info, offsets, state_size)| {
                let (offsets, delegate) = (offsets.clone(), delegate.clone());
                ChannelHandle::Single(SingleChannelHandle { subtask, info, offsets, state_size, delegate })
            });
            return Ok(single.collect());
        }
        if channels.is_empty() {
            return Ok(Vec::new());
        }
        let state_size = each.clone().map(|(_, _, size)| size).sum();
        let each: Vec<_> = each
            .map(|(info, offsets, state_size)| MergedChannel { info, state_size, offsets: offsets.clone() })
            .collect();
        let channels = encode_merged_channels(&each).map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()))?;
        let delegate = delegate.clone();
        Ok(vec![ChannelHandle::Merged(MergedChannelHandle { subtask, state_size, delegate, channels })])
    }
}
