//! `drystone stress`: the storage layer at work on synthetic state, and beside it the same state as one object per chunk.

mod arguments;
mod figures;
mod packed;
mod read_back;
mod report;
mod run;
mod sample;
mod side;
mod state;
mod unmerged;
mod workload;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use drystone::config::{MemorySize, Retention, Settings};
use drystone::storage::Storage;
use drystone::store::{FlinkPath, Location, Stores};
use futures::stream::TryStreamExt;
use tempfile::TempDir;

pub use arguments::StressArguments;

use arguments::Mode;
use figures::Figures;
use packed::Packed;
use run::{Plan, run};
use unmerged::Unmerged;
use workload::Workload;

use crate::args;
use crate::output;
use crate::progress::Bar;
use crate::transfer::settings;

/// Deletes at the same time, when all is removed.
const DELETES_MAX: usize = 8;

/// A temporary directory, where no other place is named. To be dropped when nothing is under way any more that writes
/// into it; what is to be kept stays.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn of(arguments: &StressArguments) -> anyhow::Result<Option<Self>> {
        if arguments.dir.is_some() || arguments.store.is_some() {
            return Ok(None);
        }
        let made = tempfile::Builder::new().prefix("drystone-stress-").disable_cleanup(arguments.keep).tempdir();
        Ok(Some(Self(made.context("making a temporary directory")?)))
    }
}

pub async fn run_stress(arguments: StressArguments, scratch: Option<&Scratch>) -> anyhow::Result<ExitCode> {
    let root = match (&arguments.dir, &arguments.store, scratch) {
        (Some(dir), ..) => args::path(dir)?,
        (None, Some(store), _) => args::path(store)?,
        (None, None, Some(Scratch(directory))) => args::path(&directory.path().display().to_string())?,
        (None, None, None) => anyhow::bail!("no directory to work in"),
    };
    let workload = Arc::new(Workload::new(arguments.size.clone(), arguments.seed, arguments.reuse));
    let bar = Arc::new(Bar::of_chunks());
    let mut runs = Vec::new();
    for (mode, name) in [(Mode::Files, "one object per chunk"), (Mode::Merge, "packed")] {
        if arguments.mode() != Mode::Both && arguments.mode() != mode {
            continue;
        }
        bar.start(name, total_chunks(&arguments));
        let figures = match mode {
            Mode::Files => {
                let plan = plan(&arguments, root.join("one-object-per-chunk")?)?;
                let side = Arc::new(Unmerged::start(&plan)?);
                cleaned(&plan, arguments.keep, run(side, &workload, &plan, &bar)).await?
            }
            _ => {
                let plan = plan(&arguments, root.join("packed")?)?;
                let running = async { run(Arc::new(Packed::start(&plan).await?), &workload, &plan, &bar).await };
                cleaned(&plan, arguments.keep, running).await?
            }
        };
        runs.push((mode, name, figures));
    }
    drop(bar);
    report(&arguments, &runs)?;
    let is_bad = runs.iter().any(|(_, _, figures)| figures.read_back.bad > 0);
    Ok(if is_bad { ExitCode::from(crate::BAD) } else { ExitCode::SUCCESS })
}

/// Written, and read back.
fn total_chunks(arguments: &StressArguments) -> u64 {
    let checkpoints = arguments.checkpoints + arguments.retained.min(arguments.checkpoints);
    u64::from(checkpoints) * u64::from(arguments.subtasks) * u64::from(arguments.segments)
}

fn report(arguments: &StressArguments, runs: &[(Mode, &str, Figures)]) -> anyhow::Result<()> {
    if arguments.json {
        for (mode, _, figures) in runs {
            let mode = if *mode == Mode::Files { "files" } else { "merge" };
            output::print(&format!("{}\n", report::as_json(figures, arguments, mode)))?;
        }
        return Ok(());
    }
    let named: Vec<_> = runs.iter().map(|(_, name, figures)| (*name, figures)).collect();
    let mut text = report::as_text(arguments, &named);
    if arguments.keep {
        let paths = runs.iter().flat_map(|(_, _, figures)| &figures.retained);
        text += &paths.map(|path| format!("  kept: {path}\n")).collect::<String>();
    }
    output::print(&text)
}

/// What is run below `root`.
fn plan(arguments: &StressArguments, root: FlinkPath) -> anyhow::Result<Arc<Plan>> {
    let packing = settings(&arguments.packing)?;
    let settings = Settings {
        across_checkpoint_boundary: arguments.across,
        max_file_size: MemorySize(packing.file_bytes_max),
        pool_blocking: arguments.blocking,
        max_space_amplification: Some(arguments.max_space_amp).filter(|most| *most >= 1.0),
        num_retained: arguments.retained,
        data_inline_threshold: MemorySize(packing.inline_bytes_max),
        inline_total_max: MemorySize(packing.inline_bytes_total_max),
        // They are removed here, or kept.
        retention: Retention::RetainOnCancellation,
        ..Settings::default()
    };
    let storage = Storage::of(Stores::new(), root, settings)?;
    Ok(Arc::new(Plan {
        operator: state::operator(arguments.subtasks),
        segments: arguments.segments,
        threads: usize::from(arguments.threads),
        checkpoints: u64::from(arguments.checkpoints),
        scope: arguments.scope(),
        root: storage.job_directory(state::JOB)?.root().clone(),
        storage,
    }))
}

/// Runs where nothing is yet, and leaves nothing behind unless it is to be kept.
async fn cleaned(
    plan: &Plan,
    keep: bool,
    running: impl Future<Output = anyhow::Result<Figures>>,
) -> anyhow::Result<Figures> {
    let there = plan.root.list_dir().await?;
    anyhow::ensure!(
        there.files.is_empty() && there.directories.is_empty(),
        "{} is not empty: name another directory, or remove what an earlier run left there",
        plan.root.name()
    );
    let figures = running.await;
    if keep {
        return figures;
    }
    let removed = remove(&plan.root).await.with_context(|| format!("removing {}", plan.root.name()));
    // What went wrong first says more.
    figures.and_then(|figures| removed.map(|()| figures))
}

async fn remove(root: &Location) -> anyhow::Result<()> {
    let files = root.list_stream();
    files
        .try_for_each_concurrent(DELETES_MAX, |file| async move {
            match file.path.relative_to(root.name()) {
                Some(below) => root.join(below)?.delete().await,
                None => Ok(()),
            }
        })
        .await?;
    for directory in [root.parent(), Some(root.clone())].into_iter().flatten() {
        directory.remove_empty_dirs().await?;
    }
    Ok(())
}
