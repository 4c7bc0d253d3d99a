//! A job on a real database: fjall, whose tables are uploaded incrementally while it goes on writing, deleting and
//! compacting. The job is killed now and then and resumed: from what is linked on the local disk, from the worker's copies
//! (local backup), from the store, as far as the kill has left them; with the same parallelism or another. It is compared
//! with a plain map each time.
//!
//! `cargo run --example fjall_backend [-- --checkpoints 200 --kills 10 --seed 1]`. The same on RocksDB is in
//! `examples/rocksdb_backend`.

mod database;
mod loss;
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
