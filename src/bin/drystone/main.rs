//! The `drystone` command: inspects, verifies, repacks and copies checkpoints, checks configurations, and shows the
//! storage layer at work.
//!
//! Exit codes: 0 good, 1 the answer is "bad", 2 could not do it.

mod args;
mod config;
mod inspect;
mod json;
mod output;
mod progress;
mod stress;
mod transfer;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use args::{Arguments, Command};

/// The answer is "bad".
const BAD: u8 = 1;
/// Could not do it.
const FAILED: u8 = 2;

/// Threads for a local disk's reads and writes. Each has a heap of its own from most allocators, and what a thread read
/// is freed elsewhere: with as many threads as there are reads, half as much memory again was taken, for no more speed.
const DISK_THREADS_MAX: usize = 4;

/// How long writes that are under way may take, before what they wrote is removed.
const WRITES_END_MAX: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let disk_threads = match &arguments.command {
        // So that each writer can have a write under way.
        Command::Stress(stress) => DISK_THREADS_MAX.max(usize::from(stress.threads)),
        _ => DISK_THREADS_MAX,
    };
    let runtime = match runtime.max_blocking_threads(disk_threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let scratch = match &arguments.command {
        Command::Stress(stress) => stress::Scratch::of(stress),
        _ => Ok(None),
    };
    let scratch = match scratch {
        Ok(scratch) => scratch,
        Err(error) => return failed(&error),
    };
    let writes = matches!(arguments.command, Command::Repack(_) | Command::Copy(_));
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                match writes {
                    true => anyhow::bail!("interrupted: run the same command again, which removes or completes what was written"),
                    false => anyhow::bail!("interrupted"),
                }
            }
            result = run(arguments.command, scratch.as_ref()) => result,
        }
    });
    match scratch {
        // A write that is under way would put its file back.
        Some(_) => runtime.shutdown_timeout(WRITES_END_MAX),
        // An interrupted run may have a read under way on another thread: there is nothing to wait for.
        None => runtime.shutdown_background(),
    }
    drop(scratch);
    match result {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn run(command: Command, scratch: Option<&stress::Scratch>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inspect(arguments) => inspect::run(arguments).await,
        Command::Verify(arguments) => verify::run(arguments).await,
        Command::Repack(arguments) => transfer::repack(arguments).await,
        Command::Copy(arguments) => transfer::copy(arguments).await,
        Command::Config(arguments) => config::run(arguments),
        Command::Stress(arguments) => stress::run_stress(arguments, scratch).await,
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    let line = match error.downcast_ref::<drystone::Error>() {
        Some(error) => error.one_line(),
        None => format!("{error:#}"),
    };
    eprintln!("drystone: {line}");
    ExitCode::from(FAILED)
}
