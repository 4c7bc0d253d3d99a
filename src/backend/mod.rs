//! Adapters for state backends: what a database or a hash map has, as segments of a snapshot, and back.
//!
//! They stand on the public parts of the worker and of the read path, and nothing but `blocking` stands on them: a state
//! backend of another kind does without. [`files`] is for a database whose snapshot is a directory of immutable files, [`keyed`] for
//! state in memory that is grouped by key. Either keeps a book of what the checkpoints under way have, and names again
//! what the last completed one has: tell it how each checkpoint ends.

mod book;
pub mod files;
pub mod keyed;
