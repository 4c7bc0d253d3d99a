//! `drystone stress`: the storage layer at work on synthetic state, and beside it the same state as one object per chunk.

mod arguments;
mod figures;
mod packed;
mod read_back;
mod report;
mod resume;
mod run;
mod sample;
mod side;
mod site;
mod state;
mod unmerged;
mod workload;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use drystone::config::{MemorySize, Retention, Settings};
use drystone::id::CheckpointId;
use drystone::storage::Storage;
use drystone::store::{FlinkPath, Stores};
use serde_json::json;

pub use arguments::StressArguments;
pub use site::Site;

use arguments::Mode;
use figures::Figures;
use packed::Packed;
use resume::{Resumed, resume};
use run::{Plan, run};
use unmerged::Unmerged;
use workload::Workload;

use crate::output;
use crate::progress::Bar;
use crate::transfer::settings;

pub async fn run_stress(arguments: StressArguments, site: &Site) -> anyhow::Result<ExitCode> {
    arguments.check()?;
    if let Some(remark) = arguments.remark().filter(|_| !arguments.json) {
        output::remark(&format!("drystone: {remark}"));
    }
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
                let plan = plan(&arguments, site.root().join("one-object-per-chunk")?)?;
                let side = Arc::new(Unmerged::start(&plan)?);
                cleaned(&plan, site, run(side, &workload, &plan, &bar, CheckpointId(1), BTreeMap::new())).await?
            }
            _ => {
                let plan = plan(&arguments, site.root().join("packed")?)?;
                let running = async {
                    let side = Packed::start(&plan).await?;
                    let resumed = match arguments.resume {
                        true => resume(side.coordinator(), &plan, &workload, &bar).await?,
                        false => Resumed::default(),
                    };
                    report::resumed(&resumed, &arguments)?;
                    if resumed.read_back.bad > 0 {
                        // Nothing sound can be written on top of it.
                        return Ok(Figures { read_back: resumed.read_back, ..Figures::default() });
                    }
                    // A number that was given up is not given again.
                    let first = side.coordinator().next_checkpoint();
                    run(Arc::new(side), &workload, &plan, &bar, first, resumed.retained).await
                };
                cleaned(&plan, site, running).await?
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
    let mut text = report::as_text(arguments, runs);
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
        space_floor: arguments.space_floor,
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
        on_commit: match (arguments.commits, arguments.json) {
            (false, _) => |_, _| Ok(()),
            (true, false) => |checkpoint, path| output::print(&format!("committed {checkpoint}: {path}\n")),
            (true, true) => |checkpoint, path| {
                output::print(&format!("{}\n", json!({"committed": checkpoint.0, "path": path.to_string()})))
            },
        },
        root: storage.job_directory(state::JOB)?.root().clone(),
        storage,
    }))
}

/// Runs where nothing is yet, and leaves nothing behind unless it is to be kept.
async fn cleaned(
    plan: &Plan,
    site: &Site,
    running: impl Future<Output = anyhow::Result<Figures>>,
) -> anyhow::Result<Figures> {
    site.claim(&plan.root).await?;
    let figures = running.await;
    let is_sound = figures.as_ref().is_ok_and(|figures| figures.read_back.bad == 0);
    let released = site.release(&plan.root, is_sound).await;
    // What went wrong first says more.
    figures.and_then(|figures| released.map(|()| figures))
}
