//! The adapters for state backends.
//!
//! What they are given to call (`kind`, `encode`, `take`) is called while they wait, so it can make no blocking call.

pub mod files;
pub mod keyed;
