//! `drystone sweep`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use drystone::store::FlinkPath;
use drystone::sweep::{DeadFile, Deleted, Found, Kind, Sum, Sweep, SweepSettings};
use serde_json::{Value, json};

use crate::args::{self, SweepArguments};
use crate::output;
use crate::progress::Bar;

/// More are for machines to read, or with --all.
const FILES_SHOWN: usize = 20;

pub async fn run(arguments: SweepArguments) -> anyhow::Result<ExitCode> {
    let (stores, path) = (arguments.common.stores()?, args::path(&arguments.path)?);
    let named_by = arguments.named_by.iter().map(|text| args::path(text)).collect::<anyhow::Result<_>>()?;
    let settings = SweepSettings {
        grace: arguments.grace.0,
        abandoned: arguments.abandoned,
        named_by,
        requests_max: usize::from(arguments.common.read_requests),
    };
    let now = now()?;
    let sweep = Sweep::look(&stores, &path, &settings, now).await?;
    let found = sweep.found().clone();
    let shown = if arguments.all { usize::MAX } else { FILES_SHOWN };
    let view = View { found: &found, now, shown };
    if !arguments.delete {
        match arguments.common.json {
            true => output::print_json(&view.as_json(None))?,
            false => output::print(&view.as_text())?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let deleted = {
        let bar = Bar::of_files();
        sweep.delete(&|done, total| bar.show("deleting", done, total)).await
    };
    match arguments.common.json {
        true => output::print_json(&view.as_json(Some(&deleted)))?,
        false => output::print(&view.as_deletions(&deleted))?,
    }
    Ok(if deleted.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(crate::FAILED) })
}

/// By this machine's clock, which is taken for the store's.
pub fn now() -> anyhow::Result<SystemTime> {
    Ok(SystemTime::UNIX_EPOCH + SystemTime::UNIX_EPOCH.elapsed().context("the clock is before 1970")?)
}

struct View<'a> {
    found: &'a Found,
    now: SystemTime,
    /// How many files are listed.
    shown: usize,
}

impl View<'_> {
    fn as_text(&self) -> String {
        let found = self.found;
        let mut text = self.table(&found.dead);
        text += &format!("{}: {} dead", found.directory, sum(found.dead_sum()));
        text += if found.dead.is_empty() { "\n" } else { "; nothing was changed: --delete deletes them\n" };
        text + &self.rest()
    }

    fn as_deletions(&self, deleted: &Deleted) -> String {
        let mut text = self.table(&deleted.files);
        for (file, error) in &deleted.failed {
            text += &format!("FAILED {}: {}\n", file.path, error.one_line());
        }
        for file in &deleted.spared {
            text += &format!("spared {}: written to, or named, since the look\n", file.path);
        }
        if let Some(error) = &deleted.stopped {
            text += &format!("STOPPED {}\n", error.one_line());
        }
        text += &format!("{}: {} deleted", self.found.directory, sum(Sum::of(&deleted.files)));
        if deleted.directories > 0 {
            text += &match deleted.directories {
                1 => ", and 1 empty directory".to_owned(),
                many => format!(", and {many} empty directories"),
            };
        }
        if !deleted.failed.is_empty() {
            text += &format!("; {} failed: run it again", output::count(deleted.failed.len() as u64, "delete"));
        }
        text + "\n" + &self.rest()
    }

    fn table(&self, files: &[DeadFile]) -> String {
        if files.is_empty() {
            return String::new();
        }
        let row = |file: &DeadFile| {
            vec![
                file.below.clone(),
                file.bytes.map_or_else(|| "?".to_owned(), output::size),
                output::age(self.age(file)),
                file.reason.to_string(),
            ]
        };
        let rows = files.iter().take(self.shown).map(row).collect();
        let mut text = output::table(&["file", "size>", "age>", "why"], rows);
        if let Some(more) = files.len().checked_sub(self.shown).filter(|&more| more > 0) {
            text += &format!("and {more} more (--all lists them)\n");
        }
        text
    }

    /// What stays.
    fn rest(&self) -> String {
        let found = self.found;
        let mut text = format!(
            "  {} of metadata read; alive: {}; too young to tell: {}; not the job's to delete: {}\n",
            output::count(found.metadata, "file"),
            sum(found.alive),
            sum(found.young),
            sum(found.not_ours),
        );
        for below in found.unknown.iter().take(self.shown) {
            text += &format!("  unknown, left alone: {below}\n");
        }
        if let Some(more) = found.unknown.len().checked_sub(self.shown).filter(|&more| more > 0) {
            text += &format!("  and {more} more unknown (--all lists them)\n");
        }
        if !found.uploads_known {
            text += "  this store can't be asked for uploads that were never completed: give it a lifecycle rule\n";
        }
        text
    }

    fn as_json(&self, deleted: Option<&Deleted>) -> Value {
        let found = self.found;
        let files = |files: &[DeadFile]| files.iter().map(|file| self.file(file)).collect::<Vec<_>>();
        let mut value = json!({
            "directory": found.directory.to_string(),
            "checkpoints": found.checkpoints.iter().map(|id| id.0).collect::<Vec<_>>(),
            "metadataRead": found.metadata,
            "dead": files(&found.dead),
            "deadFiles": found.dead_sum().files,
            "deadBytes": found.dead_sum().bytes,
            "alive": as_sum(found.alive),
            "young": as_sum(found.young),
            "notOurs": as_sum(found.not_ours),
            "unknown": found.unknown,
            "uploadsKnown": found.uploads_known,
        });
        if let Some(deleted) = deleted {
            value["deleted"] = json!({
                "files": deleted.files.iter().map(|file| &file.path).map(FlinkPath::to_string).collect::<Vec<_>>(),
                "bytes": Sum::of(&deleted.files).bytes,
                "directories": deleted.directories,
                "spared": files(&deleted.spared),
                "failed": deleted.failed.iter().map(|(file, error)| json!({
                    "path": file.path.to_string(),
                    "error": error.one_line(),
                })).collect::<Vec<_>>(),
                "stopped": deleted.stopped.as_ref().map(drystone::Error::one_line),
            });
        }
        value
    }

    fn file(&self, file: &DeadFile) -> Value {
        json!({
            "path": file.path.to_string(),
            "kind": match file.kind {
                Kind::File => "file",
                Kind::Partial => "partial",
                Kind::Upload => "upload",
            },
            "bytes": file.bytes,
            "ageSeconds": self.age(file).as_secs(),
            "reason": file.reason.name(),
            "why": file.reason.to_string(),
        })
    }

    fn age(&self, file: &DeadFile) -> Duration {
        self.now.duration_since(file.modified).unwrap_or_default()
    }
}

fn as_sum(sum: Sum) -> Value {
    json!({ "files": sum.files, "bytes": sum.bytes })
}

fn sum(sum: Sum) -> String {
    format!("{} of {}", output::count(sum.files, "file"), output::size(sum.bytes))
}
