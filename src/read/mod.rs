//! The read path: from a checkpoint's path to its streams, verified.
//!
//! `checkpoint` loads the metadata, `state` says which byte ranges of which files its streams are, `plan` turns ranges
//! into few reads, `fetch` carries them out within a memory bound, `stream` reads a single handle.
//! `restore` is for the tasks of a new run: `select` picks the handles that one of them needs (`task`), `part` the bytes
//! of each, `sharing` says whose data in flight a task gets, `task_read` reads them all with one plan, which `opening` has
//! the ranges of after `lengths` has looked at files that need it, `local` says what copies on local disks can be trusted
//! with, and `restored` is the outcome for those who want it whole. `shape` says what handles can't.
//! Nothing here writes, and nothing here decides what lives.

mod channel;
mod checkpoint;
mod fetch;
mod finished;
mod lengths;
mod local;
mod memory;
mod moved;
mod opening;
mod part;
mod patience;
mod plan;
mod reading;
mod redistribute;
mod restore;
mod restored;
mod select;
mod shape;
mod sharing;
mod state;
mod stream;
mod task;
mod task_read;
mod totals;

pub use channel::InFlight;
pub use checkpoint::{Checkpoint, METADATA_BYTES_MAX};
pub use fetch::{Fetched, Fetches, fetches};
pub use finished::{Exchange, Input, Vertex};
pub(crate) use memory::ReadMemory;
pub use moved::suggest_rebase;
pub(crate) use part::checksums_fit;
pub use part::{KeyGroupOffsets, StreamPart, Take};
pub use plan::{Fetch, Piece, ReadLimits, Wanted, plan};
pub use redistribute::TaskPartitions;
pub use restore::Restore;
pub use restored::{Restored, RestoredPart};
pub(crate) use shape::{KeyGroupOwners, Misfit, check_shape};
pub use sharing::{ChannelSharing, ChannelSharings};
pub(crate) use state::merged;
pub use state::{Content, State, StateFile, StateStream};
pub(crate) use stream::check_crc;
pub use stream::{HandleStream, open_handle};
pub use task::{
    ChannelRestore, Finished, KeyedRestore, KeyedState, OperatorRestore, Partition, StateRestore, StreamNumber,
    TaskRestore, TaskStream,
};
pub use task_read::{RestoreCounts, RestoredPiece, TaskRead};
pub use totals::Totals;
