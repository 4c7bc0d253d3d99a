//! The `drystone` command: inspects, verifies, repacks and copies checkpoints, checks configurations, and shows the
//! storage layer at work.
//!
//! Exit codes: 0 good, 1 the answer is "bad", 2 could not do it, 130 interrupted, 143 terminated.

// They panic where nothing can be written: `output` writes.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod config;
mod dispose;
mod inspect;
mod json;
mod latest;
mod list;
mod output;
mod progress;
mod signal;
mod stress;
mod sweep;
mod transfer;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use args::{Arguments, Command};
use signal::Endings;
use stress::Site;

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
    match carry_out(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let disk_threads = match &command {
        // So that each writer can have a write under way.
        Command::Stress(stress) => DISK_THREADS_MAX.max(usize::from(stress.threads)),
        _ => DISK_THREADS_MAX,
    };
    let runtime = runtime.max_blocking_threads(disk_threads).enable_all().build()?;
    // Before anything is made that has to be removed.
    let mut endings = runtime.block_on(async { Endings::listen() })?;
    let site = match &command {
        Command::Stress(stress) => Some(Site::of(stress)?),
        _ => None,
    };
    let writes = matches!(command, Command::Repack(_) | Command::Copy(_));
    let sweeps = matches!(&command, Command::Sweep(sweep) if sweep.delete);
    let disposes = matches!(&command, Command::Dispose(dispose) if dispose.delete);
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            ending = endings.next() => Err(ending),
            result = run(command, site.as_ref()) => Ok(result),
        }
    });
    match site {
        // A write that is under way would put its file back.
        Some(_) => runtime.shutdown_timeout(WRITES_END_MAX),
        // An interrupted run may have a read under way on another thread: there is nothing to wait for.
        None => runtime.shutdown_background(),
    }
    match result {
        Ok(result) => {
            site.into_iter().for_each(Site::end);
            result
        }
        Err(ending) => {
            let advice = match site {
                Some(site) => clear(site),
                None if sweeps => "what was deleted is dead, and the rest stays: run it again".into(),
                None if disposes => "run it again, which deletes the rest".into(),
                None if writes => "run the same command again, which removes or completes what was written".into(),
                None => String::new(),
            };
            let colon = if advice.is_empty() { "" } else { ": " };
            output::remark(&format!("drystone: {ending}{colon}{advice}"));
            Ok(ending.exit_code())
        }
    }
}

/// After a run was cut off. Tells what became of what it wrote, in words.
fn clear(site: Site) -> String {
    let clearing = async {
        let mut endings = Endings::listen()?;
        tokio::select! {
            biased;
            ending = endings.next() => anyhow::bail!("{ending} again"),
            cleared = site.clear() => cleared,
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let cleared = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(clearing));
    let place = site.root().to_string();
    site.end();
    cleared.unwrap_or_else(|error| format!("not all that was written below {place} could be removed: {}", said(&error)))
}

async fn run(command: Command, site: Option<&Site>) -> anyhow::Result<ExitCode> {
    match (command, site) {
        (Command::Inspect(arguments), _) => inspect::run(arguments).await,
        (Command::Verify(arguments), _) => verify::run(arguments).await,
        (Command::Repack(arguments), _) => transfer::repack(arguments).await,
        (Command::Copy(arguments), _) => transfer::copy(arguments).await,
        (Command::Sweep(arguments), _) => sweep::run(arguments).await,
        (Command::Dispose(arguments), _) => dispose::run(arguments).await,
        (Command::List(arguments), _) => list::run(arguments).await,
        (Command::Latest(arguments), _) => latest::run(arguments).await,
        (Command::Config(arguments), _) => config::run(arguments),
        (Command::Stress(arguments), Some(site)) => stress::run_stress(arguments, site).await,
        (Command::Stress(_), None) => anyhow::bail!("no directory to work in"),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    output::remark(&format!("drystone: {}", said(error)));
    ExitCode::from(FAILED)
}

/// In one line.
fn said(error: &anyhow::Error) -> String {
    match error.downcast_ref::<drystone::Error>() {
        Some(error) => error.one_line(),
        None => format!("{error:#}"),
    }
}
