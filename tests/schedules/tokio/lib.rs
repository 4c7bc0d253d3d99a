//! What the library uses of tokio, for a schedule explorer: shuttle's, but for time, of which it has no model that fits,
//! and for a task set, of which it lacks a part.

mod join_set;
pub mod time;

pub use shuttle_tokio::*;

pub mod task {
    //! Tasks that the explorer switches between.

    pub use crate::join_set::JoinSet;
    pub use shuttle_tokio::task::*;
}
