//! A checkpoint in a few figures.

use super::{Checkpoint, Content, State};

/// A checkpoint in a few figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Streams with state, inline ones included.
    pub streams: u64,
    /// Streams that are inline.
    pub inline_streams: u64,
    /// Bytes of state, as the handles say.
    pub state_bytes: u64,
    /// Files that the metadata names.
    pub files: u64,
    /// Bytes of the metadata.
    pub metadata_bytes: u64,
}

impl Totals {
    /// Counts a checkpoint's streams and files.
    pub fn of(checkpoint: &Checkpoint, state: &State) -> Self {
        let mut totals =
            Self { files: state.files.len() as u64, metadata_bytes: checkpoint.bytes.len() as u64, ..Self::default() };
        for stream in &state.streams {
            totals.state_bytes += stream.content.size();
            match stream.content {
                Content::Inline(_) => {
                    totals.streams += 1;
                    totals.inline_streams += 1;
                }
                Content::File(_) => totals.streams += 1,
                Content::Placeholder => {}
            }
        }
        totals
    }
}
