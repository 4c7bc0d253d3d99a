//! The words of `drystone stress`: those of the bench it is compared with, and a few of its own.

use clap::{Args, ValueEnum};
use drystone::config::MemorySize;
use drystone::id::Scope;

use super::workload::Sizes;
use crate::args::Packing;

#[derive(Args)]
pub struct StressArguments {
    /// Simulated subtasks.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=32768))]
    pub subtasks: u32,
    /// Subtasks that write at the same time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Chunks that each subtask's snapshot has.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub segments: u32,
    /// Bytes of a chunk: fixed:SIZE or lognormal:MEDIAN:SIGMA[:MAX], sizes as in 4096 or 4kb.
    #[arg(long, value_name = "SIZES", default_value = "lognormal:32768:1.0:1048576")]
    pub size: Sizes,
    /// Checkpoints, one after the other.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub checkpoints: u32,
    /// Checkpoints that are kept.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub retained: u32,
    /// Who may name a chunk: its checkpoint, or later ones too. SHARED where chunks are reused, else EXCLUSIVE.
    #[arg(long, value_enum, ignore_case = true)]
    pub scope: Option<ScopeWord>,
    /// Folds small files of earlier checkpoints forward.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value_t = false, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub across: bool,
    /// One open file for all writers, who wait for it.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value_t = false, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub blocking: bool,
    /// The share of chunks that a checkpoint reuses from the one before.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub reuse: f64,
    /// Bytes in files per byte of live state, above which space is won back; below 1: never.
    #[arg(long, value_name = "RATIO", default_value_t = 2.0, value_parser = ratio)]
    pub max_space_amp: f64,
    /// Up to so many bytes of files, no space is won back; without it, up to one file of --max-file-size.
    #[arg(long, value_name = "SIZE")]
    pub space_floor: Option<MemorySize>,
    #[command(flatten)]
    pub packing: Packing,
    /// What sizes, bytes and reuse are drawn from.
    #[arg(long, value_name = "N", default_value_t = 42, allow_negative_numbers = true)]
    pub seed: i64,
    /// What to run: packed, one object per chunk, or one after the other.
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// A local directory to work below; else a temporary one.
    #[arg(long, value_name = "DIR", group = "place")]
    pub dir: Option<String>,
    /// A place to work below in any other store, as in s3://bucket/stress.
    #[arg(long, value_name = "URL", group = "place")]
    pub store: Option<String>,
    /// Leaves the retained checkpoints behind.
    #[arg(long)]
    pub keep: bool,
    /// Goes on with what an earlier run has kept in that place, however it ended: removes what nothing names, restores
    /// the checkpoints and compares every byte, then writes further ones. By the words of the earlier run; packed only.
    #[arg(long, requires = "place")]
    pub resume: bool,
    /// Prints a line for each checkpoint as soon as it is committed, and one when a resumed run has been read back.
    #[arg(long)]
    pub commits: bool,
    /// Prints one line of JSON for each mode; without --mode only for the packed one.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Packed into few files.
    Merge,
    /// One object per chunk.
    Files,
    /// First one object per chunk, then packed.
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScopeWord {
    #[value(name = "EXCLUSIVE")]
    Exclusive,
    #[value(name = "SHARED")]
    Shared,
}

impl StressArguments {
    pub fn scope(&self) -> Scope {
        match self.scope {
            Some(ScopeWord::Exclusive) => Scope::Exclusive,
            Some(ScopeWord::Shared) => Scope::Shared,
            // A chunk that is private to its checkpoint can't be reused.
            None if self.reuse > 0.0 => Scope::Shared,
            None => Scope::Exclusive,
        }
    }

    pub fn space_floor(&self) -> MemorySize {
        self.space_floor.unwrap_or(self.packing.max_file_size)
    }

    /// What the words ask for and can't have, in a line.
    pub fn remark(&self) -> Option<&'static str> {
        let is_vain = self.scope() == Scope::Exclusive && self.reuse > 0.0;
        is_vain.then_some(
            "exclusive chunks can't be reused: with --scope EXCLUSIVE, --reuse only has those that are inline",
        )
    }

    /// Refuses what doesn't go together.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.resume || self.mode() == Mode::Merge, "--resume goes on with packed checkpoints only");
        anyhow::ensure!(self.resume || self.checkpoints > 0, "--checkpoints 0 only reads back, with --resume");
        Ok(())
    }

    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(if self.json || self.resume { Mode::Merge } else { Mode::Both })
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("not a number from 0 to 1".into()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1e6).contains(&value) => Ok(value),
        _ => Err("not a number from 0 up".into()),
    }
}
