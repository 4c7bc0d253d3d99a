//! `drystone dispose`.

use std::process::ExitCode;

use drystone::dispose::{Disposal, DisposeSettings, Disposed, Found, NamedFile, Why};
use drystone::store::FlinkPath;
use serde_json::{Value, json};

use crate::args::{self, DisposeArguments};
use crate::output::{self, count, size};
use crate::progress::Bar;

/// More are for machines to read, or with --all.
const FILES_SHOWN: usize = 20;

pub async fn run(arguments: DisposeArguments) -> anyhow::Result<ExitCode> {
    let (stores, path) = (arguments.common.stores()?, args::path(&arguments.path)?);
    let named_by = arguments.named_by.iter().map(|text| args::path(text)).collect::<anyhow::Result<_>>()?;
    let settings = DisposeSettings {
        grace: arguments.grace.0,
        abandoned: arguments.abandoned,
        task_owned: arguments.task_owned,
        named_by,
        requests_max: usize::from(arguments.common.read_requests),
    };
    let disposal = Disposal::look(&stores, &path, &settings, crate::sweep::now()?).await?;
    let found = disposal.found().clone();
    let shown = if arguments.all { usize::MAX } else { FILES_SHOWN };
    if !arguments.delete {
        match arguments.common.json {
            true => output::print_json(&as_json(&found, None))?,
            false => output::print(&as_text(&found, shown))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let disposed = {
        let bar = Bar::of_files();
        disposal.delete(&|done, total| bar.show("deleting", done, total)).await
    };
    match arguments.common.json {
        true => output::print_json(&as_json(&found, Some(&disposed)))?,
        false => output::print(&as_deletions(&found, &disposed, shown))?,
    }
    Ok(if disposed.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(crate::FAILED) })
}

fn as_text(found: &Found, shown: usize) -> String {
    let mut text = table(&found.doomed, shown);
    text += &spared(&found.spared, shown);
    text += &missing(found, shown);
    text += &format!(
        "{}: {}, {} in all, would go; nothing was changed: --delete deletes them\n",
        head(found),
        parts(found.metadata_bytes.is_some(), found.doomed.len()),
        size(found.doomed_bytes()),
    );
    text
}

fn as_deletions(found: &Found, disposed: &Disposed, shown: usize) -> String {
    let mut text = table(&disposed.files, shown);
    for (file, error) in &disposed.failed {
        text += &format!("FAILED {}: {}\n", file.path, error.one_line());
    }
    text += &spared(&found.spared, shown);
    text += &spared(&disposed.spared, shown);
    text += &missing(found, shown);
    if let Some(error) = &disposed.stopped {
        text += &format!("STOPPED {}\n", error.one_line());
    }
    let is_metadata_gone = disposed.metadata_gone && found.metadata_bytes.is_some();
    let metadata_bytes = found.metadata_bytes.filter(|_| is_metadata_gone).unwrap_or_default();
    let bytes = disposed.files.iter().map(|file| file.bytes).sum::<u64>() + metadata_bytes;
    text +=
        &format!("{}: {}, {} in all, deleted", head(found), parts(is_metadata_gone, disposed.files.len()), size(bytes));
    if disposed.directories > 0 {
        let word = if disposed.directories == 1 { "directory" } else { "directories" };
        text += &format!(", and {} empty {word}", disposed.directories);
    }
    if !disposed.failed.is_empty() {
        text += &format!("; {} failed: run it again", count(disposed.failed.len() as u64, "delete"));
    }
    text + "\n"
}

fn head(found: &Found) -> String {
    let kind = found.kind.map_or("checkpoint", |kind| kind.name());
    let kind = if found.is_unfinished { "unfinished savepoint".to_owned() } else { kind.to_lowercase() };
    let number = found.checkpoint.map_or_else(String::new, |checkpoint| format!(" {checkpoint}"));
    format!("{}, {kind}{number}", found.directory)
}

fn parts(metadata: bool, files: usize) -> String {
    let files = count(files as u64, "file");
    if metadata { format!("_metadata and {files}") } else { files }
}

fn table(files: &[NamedFile], shown: usize) -> String {
    if files.is_empty() {
        return String::new();
    }
    let row = |file: &NamedFile| vec![file.path.to_string(), size(file.bytes)];
    output::table(&["file", "size>"], files.iter().take(shown).map(row).collect()) + &more(files.len(), shown)
}

fn spared(spared: &[(NamedFile, Why)], shown: usize) -> String {
    let lines = spared.iter().take(shown).map(|(file, why)| format!("stays {}: {why}\n", file.path));
    lines.collect::<String>() + &more(spared.len(), shown)
}

fn missing(found: &Found, shown: usize) -> String {
    let lines = found.missing.iter().take(shown).map(|path| format!("missing {path}\n"));
    let uploads = found.uploads.iter().take(shown).map(|path| format!("upload that was cut off {path}\n"));
    let (lines, uploads) = (lines.collect::<String>(), uploads.collect::<String>());
    lines + &more(found.missing.len(), shown) + &uploads + &more(found.uploads.len(), shown)
}

fn more(all: usize, shown: usize) -> String {
    match all.saturating_sub(shown) {
        0 => String::new(),
        more => format!("and {more} more (--all lists them)\n"),
    }
}

fn as_json(found: &Found, disposed: Option<&Disposed>) -> Value {
    let file = |file: &NamedFile| json!({ "path": file.path.to_string(), "bytes": file.bytes });
    let spared = |spared: &[(NamedFile, Why)]| {
        let one = |(file, why): &(NamedFile, Why)| {
            let by = match why {
                Why::NamedBy(metadata) => Some(metadata.to_string()),
                Why::TaskOwned | Why::Elsewhere | Why::Unnamed => None,
            };
            json!({ "path": file.path.to_string(), "bytes": file.bytes, "reason": why.name(), "namedBy": by })
        };
        spared.iter().map(one).collect::<Vec<_>>()
    };
    let mut value = json!({
        "directory": found.directory.to_string(),
        "checkpointId": found.checkpoint,
        "kind": found.kind.map(|kind| kind.name()),
        "unfinished": found.is_unfinished,
        "metadataBytes": found.metadata_bytes,
        "doomed": found.doomed.iter().map(file).collect::<Vec<_>>(),
        "doomedBytes": found.doomed_bytes(),
        "spared": spared(&found.spared),
        "missing": found.missing.iter().map(FlinkPath::to_string).collect::<Vec<_>>(),
        "uploads": found.uploads.iter().map(FlinkPath::to_string).collect::<Vec<_>>(),
    });
    if let Some(disposed) = disposed {
        value["disposed"] = json!({
            "metadataGone": disposed.metadata_gone,
            "files": disposed.files.iter().map(file).collect::<Vec<_>>(),
            "spared": spared(&disposed.spared),
            "failed": disposed.failed.iter().map(|(file, error)| json!({
                "path": file.path.to_string(),
                "error": error.one_line(),
            })).collect::<Vec<_>>(),
            "directories": disposed.directories,
            "stopped": disposed.stopped.as_ref().map(drystone::Error::one_line),
        });
    }
    value
}
