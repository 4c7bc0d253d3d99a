//! The read path: from a checkpoint's path to its streams, verified.
//!
//! `checkpoint` loads the metadata, `state` says which byte ranges of which files its streams are, `plan` turns ranges
//! into few reads, `fetch` carries them out within a memory bound, `stream` reads a single handle.
//! Nothing here writes, and nothing here decides what lives.

mod checkpoint;
mod fetch;
mod moved;
mod plan;
mod state;
mod stream;
mod totals;

pub use checkpoint::{Checkpoint, METADATA_BYTES_MAX};
pub use fetch::{Fetched, Fetches, fetches};
pub use moved::suggest_rebase;
pub use plan::{Fetch, Piece, ReadLimits, Wanted, plan};
pub use state::{Content, State, StateFile, StateStream};
pub use stream::{HandleStream, open_handle};
pub use totals::Totals;
