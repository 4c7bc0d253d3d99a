//! A task's state, all of it in memory.

use bytes::{Bytes, BytesMut};

use super::task::StreamNumber;
use super::task_read::{RestoreCounts, RestoredPiece, TaskRead};
use crate::error::Result;

/// A task's state, all of it in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// What was read of each stream, by its number.
    pub streams: Vec<Vec<RestoredPart>>,
    /// What it has cost.
    pub counts: RestoreCounts,
}

/// A part of a stream: a key group, the head before all key groups, or all that is needed of a stream without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredPart {
    /// The key group.
    pub key_group: Option<u32>,
    /// Where it starts, relative to the stream.
    pub offset: u64,
    /// All its bytes.
    pub bytes: Bytes,
}

impl Restored {
    /// The bytes of a stream without key groups, or the head before them; none where it has none.
    pub fn bytes(&self, stream: StreamNumber) -> Bytes {
        let part = self.parts(stream).iter().find(|part| part.key_group.is_none());
        part.map(|part| part.bytes.clone()).unwrap_or_default()
    }

    /// The parts of a stream, in order; no part is empty.
    pub fn parts(&self, stream: StreamNumber) -> &[RestoredPart] {
        self.streams.get(stream).map_or(&[], Vec::as_slice)
    }
}

/// Reads all of it.
pub(super) async fn gather(mut read: TaskRead, streams: usize) -> Result<Restored> {
    let mut restored = Restored { streams: vec![Vec::new(); streams], ..Restored::default() };
    // The pieces of the part of each stream that is not whole yet.
    let mut open: Vec<Vec<RestoredPiece>> = vec![Vec::new(); streams];
    while let Some(piece) = read.next().await {
        let piece = piece?;
        let (stream, last) = (piece.stream, piece.last);
        if open[stream].first().is_some_and(|first| first.key_group != piece.key_group) {
            restored.streams[stream].extend(join(std::mem::take(&mut open[stream])));
        }
        open[stream].push(piece);
        if last {
            restored.streams[stream].extend(join(std::mem::take(&mut open[stream])));
        }
    }
    restored.counts = read.counts();
    Ok(restored)
}

/// The pieces of one part; without a copy where there is but one.
fn join(mut pieces: Vec<RestoredPiece>) -> Option<RestoredPart> {
    let first = pieces.first()?;
    let (key_group, offset) = (first.key_group, first.offset);
    let bytes = match pieces.len() {
        1 => pieces.pop()?.bytes,
        _ => {
            let mut bytes = BytesMut::with_capacity(pieces.iter().map(|piece| piece.bytes.len()).sum());
            pieces.iter().for_each(|piece| bytes.extend_from_slice(&piece.bytes));
            bytes.freeze()
        }
    };
    (!bytes.is_empty()).then_some(RestoredPart { key_group, offset, bytes })
}
