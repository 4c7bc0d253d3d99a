#![doc = include_str!("../README.md")]

pub mod backend;
pub mod backup;
pub mod blocking;
pub mod config;
pub mod coordinator;
pub mod dispose;
pub mod driver;
pub mod error;
pub mod format;
pub mod handle;
pub mod id;
pub mod inspect;
pub mod jobs;
pub mod ledger;
pub mod metrics;
mod path;
pub mod protocol;
pub mod read;
pub mod repack;
pub mod schedule;
pub mod storage;
pub mod store;
pub mod sweep;
mod sync;
pub mod verify;
pub mod worker;
pub mod write;

pub use error::{Error, ErrorKind, FormatError, Result};
