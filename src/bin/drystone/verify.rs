//! `drystone verify`.

use std::process::ExitCode;

use drystone::verify::{FINDINGS_MAX, Finding, Verification, verify};
use serde_json::{Value, json};

use crate::args::{self, VerifyArguments};
use crate::output;
use crate::progress::Bar;

/// More are for machines to read.
const FINDINGS_SHOWN: usize = 20;

pub async fn run(arguments: VerifyArguments) -> anyhow::Result<ExitCode> {
    let (stores, path) = (arguments.common.stores()?, args::path(&arguments.path)?);
    let limits = arguments.common.limits();
    let result = {
        let bar = Bar::new();
        verify(&stores, &path, &limits, &|done, total| bar.show("reading", done, total)).await?
    };
    let hint = match result.is_sound() {
        true => None,
        false => crate::inspect::moved_hint(&stores, &path, &limits).await,
    };
    if arguments.common.json {
        output::print_json(&as_json(&result, hint.as_deref()))?;
    } else {
        output::print(&as_text(&result, hint.as_deref()))?;
    }
    Ok(if result.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(crate::BAD) })
}

fn as_text(result: &Verification, hint: Option<&str>) -> String {
    let mut text = String::new();
    for finding in result.findings.iter().take(FINDINGS_SHOWN) {
        text += &format!("BAD {finding}\n");
    }
    let more = result.findings.len().saturating_sub(FINDINGS_SHOWN) as u64 + result.findings_dropped;
    if more > 0 {
        text += &format!("BAD and {more} more (--json lists up to {FINDINGS_MAX})\n");
    }
    text += &hint.map_or_else(String::new, |hint| format!("{hint}\n"));
    let counts = &result.counts;
    let verdict = if result.is_sound() { "ok" } else { "bad" };
    text += &format!(
        "{}: {verdict}: {} in {}; {} read\n",
        result.checkpoint,
        output::count(counts.streams, "stream"),
        output::count(counts.files, "file"),
        output::size(counts.bytes_read),
    );
    let trailer = if counts.trailer { "metadata checked by its trailer" } else { "metadata without checksum" };
    text += &format!(
        "  {trailer}; {} checked by CRC-32C, {} without checksum (readable, no more can be said); {} checked\n",
        output::count(counts.streams_checked, "stream"),
        counts.streams_unchecked,
        output::count(counts.footers, "file footer"),
    );
    text
}

fn as_json(result: &Verification, hint: Option<&str>) -> Value {
    let counts = &result.counts;
    json!({
        "checkpoint": result.checkpoint.to_string(),
        "sound": result.is_sound(),
        "findings": result.findings.iter().map(finding).collect::<Vec<_>>(),
        "findingsDropped": result.findings_dropped,
        "streams": counts.streams,
        "files": counts.files,
        "bytesRead": counts.bytes_read,
        "streamsChecked": counts.streams_checked,
        "streamsUnchecked": counts.streams_unchecked,
        "footersChecked": counts.footers,
        "metadataChecked": counts.trailer,
        "hint": hint,
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "file": finding.file.to_string(),
        "offset": finding.offset,
        "operatorId": finding.operator.map(|o| o.to_string()),
        "subtask": finding.subtask,
        "part": finding.part.map(|p| p.name()),
        "problem": finding.problem,
    })
}
