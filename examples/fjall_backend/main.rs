//! A job on a real database: fjall, whose tables are uploaded incrementally while it goes on writing, deleting and
//! compacting. The job is killed now and then, resumed from the local disk or from the store alone, with the same parallelism
//! or another, and compared with a plain map each time.
//!
//! `cargo run --example fjall_backend [-- --checkpoints 200 --kills 10]`. The same on RocksDB is in
//! `examples/rocksdb_backend`.

mod database;
mod on_fjall;
mod run;
mod task;
mod watch;
mod workload;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    watch::start::<on_fjall::Fjall>().await
}
