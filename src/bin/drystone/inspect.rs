//! `drystone inspect`.

use std::process::ExitCode;

use drystone::ErrorKind;
use drystone::inspect::{
    FileUsage, Inspection, JobDirectory, Prices, Requests, RetainedCheckpoint, Savings, SizeBucket, inspect,
    inspect_job, savings,
};
use drystone::read::{Checkpoint, Content, ReadLimits, open_handle};
use drystone::store::{FlinkPath, Stores, names};
use futures::stream::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::args::InspectArguments;
use crate::json::{ContentHash, Listing, hex};
use crate::latest;
use crate::output::{self, count, size};
use crate::progress::Bar;
use crate::transfer::settings;

/// How many files and subtasks are listed unless all are asked for.
const ROWS: usize = 10;

/// Streams that are read side by side.
const HASHED_AT_ONCE: usize = 4;

pub async fn run(arguments: InspectArguments) -> anyhow::Result<ExitCode> {
    let stores = arguments.common.stores()?;
    let path = latest::resolve(&arguments.or_latest, &stores, &arguments.path, &arguments.common.limits()).await?;
    let inspection = match inspect(&stores, &path, &arguments.common.limits()).await {
        Ok(inspection) => inspection,
        Err(error) if error.kind() == ErrorKind::NotFound && !has_metadata(&stores, &path).await? => {
            let job = inspect_job(&stores, &path).await?;
            anyhow::ensure!(
                !arguments.hash,
                "--hash reads the streams of one checkpoint, and {path} holds {}: name one",
                count(job.checkpoints.len() as u64, "checkpoint")
            );
            match arguments.common.json {
                true => output::print_json(&job_as_json(&job))?,
                false => output::print(&job_as_text(&job))?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    let prices = Prices {
        put_per_1000: arguments.put_price,
        get_per_1000: arguments.get_price,
        interval_seconds: arguments.interval.0.as_secs_f64(),
        restores_per_month: arguments.restores,
    };
    let savings = savings(&inspection.state, &settings(&arguments.packing)?, &prices);
    if arguments.common.json {
        let hashes = match arguments.hash {
            true => Some(hashes(&inspection, &arguments).await?),
            false => None,
        };
        output::print_json(&as_json(&inspection, &savings, hashes.as_deref())?)?;
    } else {
        output::print(&as_text(&inspection, &savings, &arguments)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Is there a checkpoint's metadata, whatever it says?
async fn has_metadata(stores: &Stores, path: &FlinkPath) -> anyhow::Result<bool> {
    match Checkpoint::read(stores, path).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// For a checkpoint some of whose files are missing, but found beside the metadata: what to say.
pub async fn moved_hint(stores: &Stores, path: &FlinkPath, limits: &ReadLimits) -> Option<String> {
    let inspection = inspect(stores, path, limits).await.ok()?;
    hint(&inspection)
}

/// The error, and on a line of its own the hint, if there is one.
pub fn with_hint(error: drystone::Error, hint: Option<String>) -> anyhow::Error {
    match hint {
        Some(hint) => anyhow::anyhow!("{}\n{hint}", error.one_line()),
        None => error.into(),
    }
}

fn hint(inspection: &Inspection) -> Option<String> {
    let moved = inspection.moved.as_ref()?;
    Some(format!(
        "the metadata names files under {}, where they are missing; the same relative paths exist beside it: \
         try --rebase {}={}",
        moved.from, moved.from, moved.to
    ))
}

async fn hashes(inspection: &Inspection, arguments: &InspectArguments) -> anyhow::Result<Vec<Option<ContentHash>>> {
    let bar = Bar::new();
    let limits = arguments.common.limits();
    // Each reader is given its share.
    let memory_bytes_max = limits.memory_bytes_max / HASHED_AT_ONCE as u64;
    let requests_max = (limits.requests_max / HASHED_AT_ONCE).max(1);
    let limits = ReadLimits { memory_bytes_max, requests_max, ..limits };
    let (total, mut done) = (inspection.totals.state_bytes, 0);
    let streams = futures::stream::iter(&inspection.state.streams).map(|stream| {
        let mut bytes = open_handle(&inspection.state.files, stream, &limits);
        async move {
            if stream.content == Content::Placeholder {
                return Ok(None);
            }
            let (mut sha256, mut length) = (Sha256::new(), 0);
            while let Some(bytes) = bytes.try_next().await? {
                sha256.update(&bytes);
                length += bytes.len() as u64;
            }
            Ok::<_, drystone::Error>(Some(ContentHash { sha256: hex(&sha256.finalize()), length }))
        }
    });
    let mut streams = streams.buffered(HASHED_AT_ONCE);
    let mut hashes = Vec::with_capacity(inspection.state.streams.len());
    while let Some(hash) = streams.next().await {
        let hash = hash.map_err(|error| with_hint(error, hint(inspection)))?;
        done += hash.as_ref().map_or(0, |h| h.length);
        bar.show("hashing", done, total);
        hashes.push(hash);
    }
    Ok(hashes)
}

fn as_json(
    inspection: &Inspection,
    savings: &Savings,
    hashes: Option<&[Option<ContentHash>]>,
) -> anyhow::Result<Value> {
    let metadata = &inspection.checkpoint.decoded.metadata;
    let directory = inspection.checkpoint.directory.name();
    let real = inspection.checkpoint.directory.real();
    let listing = Listing::new(directory, hashes).checkpoint(metadata);
    let mut listing = listing.map_err(|e| e.context(format!("{real}/{}", names::METADATA)))?;
    let totals = &inspection.totals;
    listing.insert("files".into(), inspection.files.iter().map(file_json).collect());
    let (physical, live) = (inspection.physical_bytes(), inspection.live_bytes());
    let summary = json!({
        "directory": real.to_string(),
        "properties": properties(inspection),
        "writer": inspection.checkpoint.decoded.trailer.as_ref().map(|t| t.writer.to_string()),
        "metadataBytes": totals.metadata_bytes,
        "streams": totals.streams,
        "inlineStreams": totals.inline_streams,
        "stateBytes": totals.state_bytes,
        "files": totals.files,
        "missingFiles": inspection.missing().count(),
        "physicalBytes": physical,
        "liveBytes": live,
        "deadBytes": physical.saturating_sub(live),
        "spaceAmplification": inspection.space_amplification(),
        "histogram": inspection.histogram.iter().map(|b| json!({
            "bytesMax": (b.bytes_max != u64::MAX).then_some(b.bytes_max),
            "chunks": b.chunks,
            "inlineChunks": b.inline_chunks,
            "bytes": b.bytes,
        })).collect::<Vec<_>>(),
        "operators": inspection.operators.iter().map(|o| json!({
            "operatorId": o.id.to_string(),
            "stateBytes": o.state_bytes,
            "chunks": o.chunks,
            "subtasks": o.subtasks.iter().map(|s| json!({
                "subtask": s.index,
                "finished": s.finished,
                "stateBytes": s.state_bytes,
                "chunks": s.chunks,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "savings": {"now": requests_json(&savings.now), "packed": requests_json(&savings.packed)},
        "rebase": inspection.moved.as_ref().map(|m| format!("{}={}", m.from, m.to)),
    });
    listing.insert("summary".into(), summary);
    Ok(Value::Object(listing))
}

fn requests_json(requests: &Requests) -> Value {
    json!({
        "files": requests.files,
        "puts": requests.puts,
        "gets": requests.gets,
        "nameNodeBytes": requests.namenode_bytes,
        "dollarsPerMonth": requests.dollars_per_month,
    })
}

fn file_json(file: &FileUsage) -> Value {
    json!({
        "path": file.name.to_string(),
        "length": file.file_bytes,
        "liveBytes": file.live_bytes,
        "deadBytes": file.file_bytes.map(|length| length.saturating_sub(file.live_bytes)),
        "streams": file.streams,
        "liveRanges": file.live_ranges,
    })
}

fn properties(inspection: &Inspection) -> Option<String> {
    use drystone::format::{Properties, PropertiesRead};
    match Properties::read(&inspection.checkpoint.decoded.metadata.properties) {
        PropertiesRead::Known(properties) => Some(properties.to_string()),
        _ => None,
    }
}

fn as_text(inspection: &Inspection, savings: &Savings, arguments: &InspectArguments) -> anyhow::Result<String> {
    let metadata = &inspection.checkpoint.decoded.metadata;
    let totals = &inspection.totals;
    let writer = match &inspection.checkpoint.decoded.trailer {
        Some(trailer) => trailer.writer.to_string(),
        None => "Flink".to_string(),
    };
    let mut text = format!(
        "checkpoint {} at {}\n  metadata version {}, {}, written by {writer}\n",
        metadata.checkpoint_id,
        inspection.checkpoint.directory.real(),
        metadata.version,
        size(totals.metadata_bytes),
    );
    text += &properties(inspection).map_or_else(String::new, |p| format!("  {p}\n"));
    let (physical, live) = (inspection.physical_bytes(), inspection.live_bytes());
    text += &format!(
        "  {} of state in {} ({} inline), {}\n",
        size(totals.state_bytes),
        count(totals.streams, "stream"),
        totals.inline_streams,
        count(totals.files, "physical file"),
    );
    if totals.files > 0 {
        text += &format!(
            "  {} in files, {} live and {} dead: space amplification {:.2}\n",
            size(physical),
            size(live),
            size(physical.saturating_sub(live)),
            inspection.space_amplification(),
        );
    }
    let missing = inspection.missing().count();
    if missing > 0 {
        text += &format!("  MISSING: {} of {}\n", count(missing as u64, "file"), totals.files);
        text += &hint(inspection).map_or_else(String::new, |hint| format!("  {hint}\n"));
    }
    text += &format!("\n{}", operators_text(inspection, arguments.all));
    text += &format!("\n{}", histogram_text(&inspection.histogram));
    if !inspection.files.is_empty() {
        text += &format!("\n{}", files_text(inspection, arguments.all));
    }
    text += &format!("\n{}", savings_text(savings, arguments));
    Ok(text)
}

fn operators_text(inspection: &Inspection, all: bool) -> String {
    let mut rows = Vec::new();
    for operator in &inspection.operators {
        let name = operator.name.as_ref().map(|n| n.to_string()).unwrap_or_default();
        let finished = if operator.fully_finished { " (finished)" } else { "" };
        rows.push(vec![
            format!("{}{finished}", operator.id),
            name,
            format!("{}/{}", operator.parallelism, operator.max_parallelism),
            operator.chunks.to_string(),
            size(operator.state_bytes),
        ]);
        let mut subtasks: Vec<_> = operator.subtasks.iter().collect();
        let left_out = if all { 0 } else { subtasks.len().saturating_sub(ROWS) };
        if left_out > 0 {
            subtasks.sort_by_key(|s| std::cmp::Reverse((s.state_bytes, s.chunks)));
            subtasks.truncate(ROWS);
            subtasks.sort_by_key(|s| s.index);
        }
        for subtask in subtasks {
            let finished = if subtask.finished { " (finished)" } else { "" };
            let name = format!("  subtask {}{finished}", subtask.index);
            rows.push(vec![name, String::new(), String::new(), subtask.chunks.to_string(), size(subtask.state_bytes)]);
        }
        if left_out > 0 {
            rows.push(vec![format!("  and {left_out} smaller ones (--all lists them)")]);
        }
    }
    output::table(&["operator", "name", "parallelism", "chunks>", "state>"], rows)
}

fn histogram_text(histogram: &[SizeBucket]) -> String {
    const BAR: u64 = 40;
    let most = histogram.iter().map(|b| b.chunks).max().unwrap_or(1).max(1);
    let rows = histogram.iter().map(|bucket| {
        let bound = match bucket.bytes_max {
            u64::MAX => "above".to_string(),
            bytes => format!("to {}", size(bytes)),
        };
        let bar = "#".repeat((bucket.chunks * BAR).div_ceil(most) as usize);
        vec![bound, bucket.chunks.to_string(), bucket.inline_chunks.to_string(), size(bucket.bytes), bar]
    });
    output::table(&["chunk size", "chunks>", "inline>", "state>", ""], rows.collect())
}

fn files_text(inspection: &Inspection, all: bool) -> String {
    let mut files: Vec<_> = inspection.files.iter().collect();
    let left_out = if all { 0 } else { files.len().saturating_sub(ROWS) };
    if left_out > 0 {
        files.sort_by_key(|f| std::cmp::Reverse(f.file_bytes));
    }
    // Those that are missing first.
    files.sort_by_key(|f| f.file_bytes.is_some());
    files.truncate(files.len() - left_out);
    let row = |file: &&FileUsage| {
        let (length, dead) = match file.file_bytes {
            Some(length) => (size(length), size(length.saturating_sub(file.live_bytes))),
            None => ("missing".into(), String::new()),
        };
        vec![file.name.to_string(), file.streams.to_string(), length, size(file.live_bytes), dead]
    };
    let table =
        output::table(&["physical file", "streams>", "size>", "live>", "dead>"], files.iter().map(row).collect());
    let more = if left_out > 0 { format!("  and {left_out} more (--all lists them)\n") } else { String::new() };
    table + &more
}

fn savings_text(savings: &Savings, arguments: &InspectArguments) -> String {
    let row = |name: &str, r: &Requests| {
        vec![
            name.to_string(),
            r.files.to_string(),
            r.puts.to_string(),
            r.gets.to_string(),
            format!("{:.2}", r.dollars_per_month),
            size(r.namenode_bytes),
        ]
    };
    let header = ["", "files>", "PUTs>", "GETs to restore>", "$ a month>", "NameNode heap>"];
    let table = output::table(&header, vec![row("as it is", &savings.now), row("packed", &savings.packed)]);
    format!(
        "{table}  counting _metadata; dollars are for requests, if each checkpoint, every {}, writes all these files, \
         and {} restores a month read them;\n  packed into files of {}, chunks up to {} inline\n",
        arguments.interval,
        arguments.restores,
        size(arguments.packing.max_file_size.0),
        size(arguments.packing.inline_threshold.0),
    )
}

fn job_as_text(job: &JobDirectory) -> String {
    let row = |checkpoint: &RetainedCheckpoint| {
        let name = checkpoint.directory.file_name().unwrap_or_default().to_string();
        match &checkpoint.result {
            Err(error) => vec![name, format!("unreadable: {}", error.one_line())],
            Ok(figures) => vec![
                name,
                figures.checkpoint_id.to_string(),
                figures.properties.map_or_else(|| "?".to_string(), |p| p.kind.name().to_string()),
                format!("v{}{}", figures.version, if figures.has_trailer { " +trailer" } else { "" }),
                figures.totals.streams.to_string(),
                figures.totals.inline_streams.to_string(),
                figures.totals.files.to_string(),
                size(figures.totals.state_bytes),
                size(figures.totals.metadata_bytes),
            ],
        }
    };
    let header = ["directory", "id>", "kind", "metadata", "streams>", "inline>", "files>", "state>", "metadata size>"];
    format!("{}\n{}", job.directory, output::table(&header, job.checkpoints.iter().map(row).collect()))
}

fn job_as_json(job: &JobDirectory) -> Value {
    let one = |checkpoint: &RetainedCheckpoint| match &checkpoint.result {
        Err(error) => json!({"directory": checkpoint.directory.to_string(), "error": error.one_line()}),
        Ok(figures) => json!({
            "directory": checkpoint.directory.to_string(),
            "checkpointId": figures.checkpoint_id,
            "version": figures.version,
            "properties": figures.properties.map(|p| p.to_string()),
            "hasTrailer": figures.has_trailer,
            "streams": figures.totals.streams,
            "inlineStreams": figures.totals.inline_streams,
            "files": figures.totals.files,
            "stateBytes": figures.totals.state_bytes,
            "metadataBytes": figures.totals.metadata_bytes,
        }),
    };
    json!({"directory": job.directory.to_string(), "checkpoints": job.checkpoints.iter().map(one).collect::<Vec<_>>()})
}
