//! `drystone repack` and `drystone copy`.

use std::process::ExitCode;
use std::sync::Arc;

use drystone::ErrorKind;
use drystone::config::MemorySize;
use drystone::read::{ReadLimits, Totals};
use drystone::repack::{Options, Report};
use drystone::store::{FlinkPath, Stores};
use drystone::write::WriteSettings;
use serde_json::{Value, json};

use crate::args::{self, CopyArguments, Packing, RepackArguments, TransferArguments};
use crate::inspect::{moved_hint, with_hint};
use crate::latest;
use crate::output;
use crate::progress::Bar;

pub async fn repack(arguments: RepackArguments) -> anyhow::Result<ExitCode> {
    let write = settings(&arguments.packing)?;
    let RepackArguments { transfer, .. } = arguments;
    let (stores, options) = (transfer.common.stores()?, options(&transfer, write));
    let source = latest::resolve(&transfer.or_latest, &stores, &transfer.source, &options.read).await?;
    let destination = args::path(&transfer.destination)?;
    let report = {
        let bar = Bar::new();
        let progress = |phase, done, total| bar.phase(phase, done, total);
        drystone::repack::repack(&stores, &source, &destination, &options, &progress).await
    };
    finish(&transfer, explained(report, &stores, &source, &options.read).await?, "packed")
}

pub async fn copy(arguments: CopyArguments) -> anyhow::Result<ExitCode> {
    let CopyArguments { transfer } = arguments;
    let (stores, options) = (transfer.common.stores()?, options(&transfer, WriteSettings::default()));
    let source = latest::resolve(&transfer.or_latest, &stores, &transfer.source, &options.read).await?;
    let destination = args::path(&transfer.destination)?;
    let report = {
        let bar = Bar::new();
        let progress = |phase, done, total| bar.phase(phase, done, total);
        drystone::repack::copy(&stores, &source, &destination, &options, &progress).await
    };
    finish(&transfer, explained(report, &stores, &source, &options.read).await?, "copied")
}

/// The packing options as settings.
pub fn settings(packing: &Packing) -> anyhow::Result<WriteSettings> {
    const FILE_MIN: u64 = 64 << 10;
    const INLINE_MAX: u64 = 1 << 20;
    let check = |flag: &str, value: MemorySize, allowed: std::ops::RangeInclusive<u64>| {
        let bytes = value.0;
        if allowed.contains(&bytes) {
            return Ok(bytes);
        }
        anyhow::bail!("{flag} {value}: allowed are {} to {}", MemorySize(*allowed.start()), MemorySize(*allowed.end()))
    };
    Ok(WriteSettings {
        file_bytes_max: check("--max-file-size", packing.max_file_size, FILE_MIN..=4 << 30)?,
        inline_bytes_max: check("--inline-threshold", packing.inline_threshold, 0..=INLINE_MAX)?,
        inline_bytes_total_max: check("--inline-budget", packing.inline_budget, 0..=1 << 30)?,
        ..WriteSettings::default()
    })
}

fn options(transfer: &TransferArguments, write: WriteSettings) -> Options {
    Options {
        write,
        read: transfer.common.limits(),
        job_id: transfer.job_id,
        discard_leftovers: transfer.discard_leftovers,
        tokens: Arc::new(rand::random),
    }
}

/// Where files are missing because the checkpoint was moved, says which flag finds them.
async fn explained(
    report: drystone::Result<Report>,
    stores: &Stores,
    source: &FlinkPath,
    limits: &ReadLimits,
) -> anyhow::Result<Report> {
    match report {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
            Err(with_hint(error, moved_hint(stores, source, limits).await))
        }
        report => Ok(report?),
    }
}

fn finish(transfer: &TransferArguments, report: Report, verb: &str) -> anyhow::Result<ExitCode> {
    if transfer.common.json {
        output::print_json(&as_json(&report))?;
    } else {
        output::print(&as_text(&report, verb))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(report: &Report, verb: &str) -> String {
    let mut text = String::new();
    if report.already_complete {
        text +=
            "an earlier run had already written everything and was interrupted after that: checked it, nothing to do\n";
    } else if report.leftovers_removed > 0 {
        let left = output::count(report.leftovers_removed as u64, "file");
        text += &format!(
            "another run was interrupted here, or is being overtaken: started clean, and removed {left} of it\n"
        );
    }
    text += &format!("{verb} {}\n", report.destination);
    let row = |name: &str, t: &Totals| {
        vec![
            name.to_string(),
            (t.files + 1).to_string(),
            t.streams.to_string(),
            t.inline_streams.to_string(),
            output::size(t.state_bytes),
            output::size(t.metadata_bytes),
        ]
    };
    let header = ["", "files>", "streams>", "inline>", "state>", "metadata>"];
    text + &output::table(&header, vec![row("before", &report.before), row("after", &report.after)])
}

fn as_json(report: &Report) -> Value {
    let totals = |t: &Totals| {
        json!({
            "streams": t.streams,
            "inlineStreams": t.inline_streams,
            "stateBytes": t.state_bytes,
            "files": t.files,
            "metadataBytes": t.metadata_bytes,
        })
    };
    json!({
        "destination": report.destination.to_string(),
        "leftoversRemoved": report.leftovers_removed,
        "alreadyComplete": report.already_complete,
        "before": totals(&report.before),
        "after": totals(&report.after),
    })
}
