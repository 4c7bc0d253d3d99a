//! What the library uses of tokio, for a schedule explorer: shuttle's, but for time, of which it has no model that fits,
//! and for a task set and a channel, of which it lacks a part.

mod join_set;
mod mpsc;
pub mod time;

pub use shuttle_tokio::*;

pub mod task {
    //! Tasks that the explorer switches between.

    pub use crate::join_set::JoinSet;
    pub use shuttle_tokio::task::*;
}

pub mod sync {
    //! What tasks share.

    pub mod mpsc {
        //! Channels with one receiver.

        pub use crate::mpsc::{Receiver, Sender, channel};
        pub use shuttle_tokio::sync::mpsc::*;
    }

    pub use shuttle_tokio::sync::*;
}
