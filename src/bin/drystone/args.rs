//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use drystone::config::{FlinkDuration, MemorySize};
use drystone::id::JobId;
use drystone::read::ReadLimits;
use drystone::store::{FlinkPath, Rebase, Stores};

use crate::stress::StressArguments;

/// Packs the small files of Apache Flink checkpoints into few, and looks after them.
#[derive(Parser)]
#[command(version, about, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Says what a checkpoint, or every checkpoint of a job, is made of, and what packing would save.
    Inspect(InspectArguments),
    /// Checks that everything a checkpoint names is there and undamaged. Exits with 1 if it isn't.
    Verify(VerifyArguments),
    /// Writes a checkpoint again, packed into few files, as DESTINATION/<job id>/chk-N. The source is not changed.
    Repack(RepackArguments),
    /// Copies a checkpoint, file by file, as DESTINATION/<job id>/chk-N, and rewrites its paths.
    Copy(CopyArguments),
    /// Says what nothing names any more in a job's directory, and why, and with --delete deletes it.
    Sweep(SweepArguments),
    /// Lists the jobs, checkpoints and savepoints in a directory: how old, how large, and whether they are complete.
    List(ListArguments),
    /// Prints the path of a job's newest complete checkpoint. Exits with 1 if there is none.
    Latest(LatestArguments),
    /// Says what only a savepoint, or a checkpoint of a job that is over, names, and with --delete deletes that and it.
    Dispose(DisposeArguments),
    /// Lists every option, or checks a file of them.
    Config(ConfigArguments),
    /// Shows what packing does: simulated subtasks write checkpoints, as one object per chunk and packed, and restore them.
    Stress(StressArguments),
}

/// What every command takes.
#[derive(Args)]
pub struct Common {
    /// Looks for files under TO where the metadata names FROM, as in file:/data/flink=/mnt/backup. Repeatable.
    #[arg(long, value_name = "FROM=TO")]
    pub rebase: Vec<String>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// Memory for reads that are under way.
    #[arg(long, value_name = "SIZE", default_value = "64mb")]
    pub read_memory: MemorySize,
    /// Reads under way at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub read_requests: u16,
}

/// For what works on a checkpoint.
#[derive(Args)]
pub struct OrLatest {
    /// The path is a job's directory: takes its newest complete checkpoint. Broken ones are passed over, and named.
    #[arg(long)]
    pub latest: bool,
}

#[derive(Args)]
pub struct InspectArguments {
    /// A checkpoint's or savepoint's directory, its _metadata file, or a job's directory.
    pub path: String,
    #[command(flatten)]
    pub or_latest: OrLatest,
    #[command(flatten)]
    pub common: Common,
    /// Reads every stream, and gives its SHA-256 and length (with --json).
    #[arg(long, requires = "json")]
    pub hash: bool,
    /// Lists every file and every subtask, not only the largest.
    #[arg(long)]
    pub all: bool,
    /// Dollars for 1,000 PUT requests.
    #[arg(long, value_name = "DOLLARS", default_value_t = 0.005, value_parser = price)]
    pub put_price: f64,
    /// Dollars for 1,000 GET requests.
    #[arg(long, value_name = "DOLLARS", default_value_t = 0.0004, value_parser = price)]
    pub get_price: f64,
    /// Time from one checkpoint to the next.
    #[arg(long, value_name = "DURATION", default_value = "1 min", value_parser = interval)]
    pub interval: FlinkDuration,
    /// Restores a month.
    #[arg(long, value_name = "N", default_value_t = 30.0, value_parser = price)]
    pub restores: f64,
    #[command(flatten)]
    pub packing: Packing,
}

#[derive(Args)]
pub struct VerifyArguments {
    /// A checkpoint's or savepoint's directory, or its _metadata file; with --deep also a job's directory.
    pub path: String,
    #[command(flatten)]
    pub or_latest: OrLatest,
    /// Checks every checkpoint of a job's directory at once: reads every byte of every file that any of them names, each
    /// once, and accounts for it.
    #[arg(long)]
    pub deep: bool,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
pub struct SweepArguments {
    /// A job's directory: the one that holds chk-N, shared and taskowned.
    pub path: String,
    /// Deletes what is dead. Without it nothing is changed.
    #[arg(long)]
    pub delete: bool,
    /// Leaves alone what was written less than this ago: longer than any checkpoint takes, and than the time between two.
    #[arg(long, value_name = "DURATION", default_value = "1 d")]
    pub grace: FlinkDuration,
    /// Sweeps also where no checkpoint is left. Only where the job is over, and no other has taken its checkpoints over.
    #[arg(long)]
    pub abandoned: bool,
    /// A checkpoint, or a directory of jobs or of their checkpoints elsewhere, that may name files of this job, as after a
    /// restore from here. Repeatable; jobs beside this one are looked at anyway.
    #[arg(long, value_name = "PATH")]
    pub named_by: Vec<String>,
    /// Lists every file, not only the first.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
pub struct ListArguments {
    /// A directory of jobs, a job's directory, one of savepoints, or a checkpoint's.
    pub path: String,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
pub struct LatestArguments {
    /// A job's directory: the one that holds chk-N.
    pub path: String,
    /// The path is a directory of jobs: takes, of the newest complete checkpoints of all its jobs, the one written last.
    #[arg(long)]
    pub across_jobs: bool,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
pub struct DisposeArguments {
    /// A savepoint's or checkpoint's directory, or its _metadata file; or the directory of a savepoint of Drystone's that never
    /// had metadata, since its job died before.
    pub path: String,
    /// Deletes it. Without it nothing is changed.
    #[arg(long)]
    pub delete: bool,
    /// Takes the job of a checkpoint for alive, and refuses, if its coordinator has written anything within this time: longer
    /// than the time between two checkpoints. So with a savepoint that has no metadata, if anything in it was written since.
    #[arg(long, value_name = "DURATION", default_value = "1 d")]
    pub grace: FlinkDuration,
    /// The job is over, and no other has taken its checkpoints over, nor claimed the savepoint: its signs of life don't count.
    #[arg(long)]
    pub abandoned: bool,
    /// Deletes files in taskowned, too, which are otherwise left to the tasks.
    #[arg(long)]
    pub task_owned: bool,
    /// A checkpoint, or a directory of jobs or of their checkpoints elsewhere, that may name the same files. Repeatable;
    /// what lies beside this one is looked at anyway.
    #[arg(long, value_name = "PATH")]
    pub named_by: Vec<String>,
    /// Lists every file, not only the first.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
pub struct RepackArguments {
    #[command(flatten)]
    pub transfer: TransferArguments,
    #[command(flatten)]
    pub packing: Packing,
}

#[derive(Args)]
pub struct CopyArguments {
    #[command(flatten)]
    pub transfer: TransferArguments,
}

#[derive(Args)]
pub struct TransferArguments {
    /// A checkpoint's or savepoint's directory, or its _metadata file.
    pub source: String,
    #[command(flatten)]
    pub or_latest: OrLatest,
    /// The directory to write below; any store.
    pub destination: String,
    /// Removes what interrupted runs left at the destination first, not last: where there is no room for both. Only when
    /// no other run to the same place is alive.
    #[arg(long)]
    pub discard_leftovers: bool,
    /// The job's id in 32 lower-case hexadecimal digits, where the source's path doesn't have it.
    #[arg(long, value_name = "ID")]
    pub job_id: Option<JobId>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConfigArguments {
    #[command(subcommand)]
    pub command: Option<ConfigCommand>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// Prints Markdown.
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Says what a file amounts to, and what is wrong with it. Exits with 1 if anything is.
    Check(ConfigCheckArguments),
}

#[derive(Args)]
pub struct ConfigCheckArguments {
    /// Flink's config.yaml, or any .yaml or .yml; flink-conf.yaml, and any other name, is in the old line format.
    pub file: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// How to pack.
#[derive(Args)]
pub struct Packing {
    /// The largest physical file.
    #[arg(long, value_name = "SIZE", default_value = "32mb")]
    pub max_file_size: MemorySize,
    /// Chunks up to this size go into the metadata; at most 1mb.
    #[arg(long, value_name = "SIZE", default_value = "20kb")]
    pub inline_threshold: MemorySize,
    /// Bytes that go into the metadata in all; past it, small chunks are packed, too.
    #[arg(long, value_name = "SIZE", default_value = "8mb")]
    pub inline_budget: MemorySize,
}

fn interval(text: &str) -> Result<FlinkDuration, String> {
    match text.parse::<FlinkDuration>() {
        Ok(interval) if interval.0.is_zero() => Err("no time at all: allowed is every duration above 0".into()),
        Ok(interval) => Ok(interval),
        Err(error) => Err(error.to_string()),
    }
}

fn price(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1e12).contains(&value) => Ok(value),
        _ => Err("not a number from 0 up".into()),
    }
}

impl Common {
    /// The stores, with the rebase rules.
    pub fn stores(&self) -> anyhow::Result<Stores> {
        let rules = self.rebase.iter().map(|text| rebase(text)).collect::<anyhow::Result<_>>()?;
        Ok(Stores::new().with_rebase(rules))
    }

    pub fn limits(&self) -> ReadLimits {
        let requests_max = usize::from(self.read_requests);
        ReadLimits { memory_bytes_max: self.read_memory.0, requests_max, ..ReadLimits::default() }
    }
}

/// A path as a user types it: in Flink's spelling, or relative to the working directory.
pub fn path(text: &str) -> anyhow::Result<FlinkPath> {
    let cwd = std::env::current_dir().context("the working directory")?;
    Ok(FlinkPath::parse_argument(text, &cwd)?)
}

/// `FROM=TO`; TO may be relative to the working directory.
fn rebase(text: &str) -> anyhow::Result<Rebase> {
    let whole = Rebase::from_str(text);
    if let (Err(_), Some((from, to))) = (&whole, text.split_once('=')) {
        let from = FlinkPath::parse(from).context("the FROM of --rebase")?;
        return Ok(Rebase { from, to: path(to)? });
    }
    Ok(whole?)
}
