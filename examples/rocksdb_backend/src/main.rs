//! The job of `examples/fjall_backend`, on RocksDB.
//!
//! `cargo run --release --manifest-path examples/rocksdb_backend/Cargo.toml [-- --checkpoints 200 --kills 10]`. It builds
//! RocksDB, which takes long, and libclang.

#[path = "../../fjall_backend/database.rs"]
mod database;
#[path = "../../fjall_backend/loss.rs"]
mod loss;
mod on_rocksdb;
#[path = "../../fjall_backend/run.rs"]
mod run;
#[path = "../../fjall_backend/task.rs"]
mod task;
#[path = "../../fjall_backend/watch.rs"]
mod watch;
#[path = "../../fjall_backend/workload.rs"]
mod workload;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    watch::start::<on_rocksdb::RocksDb>().await
}
