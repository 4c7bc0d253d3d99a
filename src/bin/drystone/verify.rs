//! `drystone verify`.

use std::process::ExitCode;

use drystone::read::ReadLimits;
use drystone::store::{FlinkPath, Stores};
use drystone::sweep::{Sum, Sweep, SweepSettings};
use drystone::verify::{DeepVerification, FINDINGS_MAX, Finding, Gap, Verification, verify, verify_deep};
use serde_json::{Value, json};

use crate::args::VerifyArguments;
use crate::latest;
use crate::output;
use crate::progress::Bar;

/// More are for machines to read.
const FINDINGS_SHOWN: usize = 20;

pub async fn run(arguments: VerifyArguments) -> anyhow::Result<ExitCode> {
    let (stores, limits) = (arguments.common.stores()?, arguments.common.limits());
    let path = latest::resolve(&arguments.or_latest, &stores, &arguments.path, &limits).await?;
    if arguments.deep {
        return run_deep(&stores, &path, &limits, arguments.common.json).await;
    }
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

async fn run_deep(stores: &Stores, path: &FlinkPath, limits: &ReadLimits, json: bool) -> anyhow::Result<ExitCode> {
    let result = {
        let bar = Bar::new();
        verify_deep(stores, path, limits, &|done, total| bar.show("reading", done, total)).await?
    };
    let hint = match result.checkpoints.iter().find(|checkpoint| !checkpoint.is_sound()) {
        Some(bad) => crate::inspect::moved_hint(stores, &bad.checkpoint, limits).await,
        None => None,
    };
    let dead = dead(stores, path, &result).await?;
    if json {
        output::print_json(&deep_as_json(&result, hint.as_deref(), dead.as_ref()))?;
    } else {
        output::print(&deep_as_text(&result, hint.as_deref(), dead.as_ref()))?;
    }
    Ok(if result.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(crate::BAD) })
}

/// What a sweep of the job's directory would find, or why it would refuse; nothing for a single checkpoint.
async fn dead(
    stores: &Stores,
    path: &FlinkPath,
    result: &DeepVerification,
) -> anyhow::Result<Option<Result<Sum, String>>> {
    let is_one = |only: &Verification| only.checkpoint == *path || path.parent().as_ref() == Some(&only.checkpoint);
    if matches!(result.checkpoints.as_slice(), [only] if is_one(only)) {
        return Ok(None);
    }
    let look = Sweep::look(stores, path, &SweepSettings::default(), crate::sweep::now()?).await;
    Ok(Some(look.map(|sweep| sweep.found().dead_sum()).map_err(|error| error.one_line())))
}

fn deep_as_text(result: &DeepVerification, hint: Option<&str>, dead: Option<&Result<Sum, String>>) -> String {
    let mut text: String = result.checkpoints.iter().map(|checkpoint| as_text(checkpoint, None)).collect();
    text += &hint.map_or_else(String::new, |hint| format!("{hint}\n"));
    let bytes = &result.bytes;
    let bad = result.checkpoints.iter().filter(|checkpoint| !checkpoint.is_sound()).count();
    let verdict = if bad == 0 { "ok".to_owned() } else { format!("bad: {bad} of them") };
    text += &format!(
        "{}: {verdict}: {}, {} of {}; {} read, each byte once\n",
        result.directory,
        output::count(result.checkpoints.len() as u64, "checkpoint"),
        output::count(result.files, "file"),
        output::size(bytes.total()),
        output::size(result.bytes_read),
    );
    text += &format!(
        "  named: {}; only in footers: {}; footers: {}; that nothing explains: {} in {}\n",
        output::size(bytes.named),
        output::size(bytes.footer_only),
        output::size(bytes.footers),
        output::size(bytes.unexplained),
        output::count(result.gaps.len() as u64, "gap"),
    );
    text += &match dead {
        None => String::new(),
        Some(Ok(sum)) => {
            let files = output::count(sum.files, "file");
            format!("  dead for a day, and to be swept: {files} of {} (see drystone sweep)\n", output::size(sum.bytes))
        }
        Some(Err(why)) => format!("  what could be swept can't be told: {why}\n"),
    };
    text
}

fn deep_as_json(result: &DeepVerification, hint: Option<&str>, dead: Option<&Result<Sum, String>>) -> Value {
    let gap = |gap: &Gap| json!({ "file": gap.file.to_string(), "offset": gap.offset, "length": gap.length });
    let dead = dead.map(|dead| match dead {
        Ok(sum) => json!({ "files": sum.files, "bytes": sum.bytes }),
        Err(why) => json!({ "refused": why }),
    });
    json!({
        "directory": result.directory.to_string(),
        "sound": result.is_sound(),
        "checkpoints": result.checkpoints.iter().map(|checkpoint| as_json(checkpoint, None)).collect::<Vec<_>>(),
        "files": result.files,
        "bytes": result.bytes.total(),
        "namedBytes": result.bytes.named,
        "footerOnlyBytes": result.bytes.footer_only,
        "footerBytes": result.bytes.footers,
        "unexplainedBytes": result.bytes.unexplained,
        "gaps": result.gaps.iter().map(gap).collect::<Vec<_>>(),
        "bytesRead": result.bytes_read,
        "dead": dead,
        "hint": hint,
    })
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
