//! Where files lie: paths in Flink's spelling, and the stores behind them.
//!
//! The only module that knows the crate that talks to stores; everything above sees a [`Location`] and this crate's own
//! errors. It owns what a path means, how a file is made durable, and what the files of a checkpoint are called. It
//! must not look into a file.

mod cause;
mod create;
mod job_directory;
mod listing;
mod local;
mod location;
pub mod names;
mod open;
mod proof;
mod read;
mod rebase;
mod requests;
mod stores;
mod upload;
mod uploads;
#[cfg(feature = "aws")]
mod uploads_s3;

/// What lies there.
pub use crate::path::FlinkPath;
pub use job_directory::JobDirectory;
/// What a store has to be, to be handed in ready made.
pub use object_store::ObjectStore;

pub use listing::{Directory, Listed};
pub use location::Location;
pub use proof::CreateOnly;
pub use rebase::Rebase;
pub use requests::Requests;
pub use stores::Stores;
pub use upload::Upload;
pub use uploads::{UnfinishedUpload, UploadLog};
