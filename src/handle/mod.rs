//! The vocabulary of a checkpoint: handles, which point to state, and the tree that a `_metadata` file holds.
//!
//! Plain values, as close to the file as they can be without repeating its encoding: every text and number that was
//! read is kept, so that writing gives the same bytes again. Nothing here does I/O; `format` reads and writes them.

mod channel;
mod key_groups;
mod keyed;
mod operator;
mod stream;
mod text;
mod tree;
mod visit;

pub use channel::{ChannelHandle, ChannelInfo, MergedChannelHandle, SingleChannelHandle};
pub use keyed::{
    CHECKSUMMED_BYTES_MIN, ChangelogFilesHandle, ChangelogHandle, ChangelogMemoryHandle, IncrementalHandle,
    KeyGroupsForm, KeyGroupsHandle, KeyedHandle, LocalPathHandle, StateChange,
};
pub use operator::{DistributionMode, MergingDirectories, OperatorStateHandle, StatePartitions};
pub use stream::{FileHandle, InlineHandle, KeyGroupsStream, SegmentHandle, StreamHandle};
pub use text::{JavaString, JavaStringError};
pub use tree::{CheckpointMetadata, MasterState, Operator, OperatorSubtasks, SubtaskEntry, SubtaskState};
pub use visit::{Part, Place};
