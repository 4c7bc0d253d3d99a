//! `drystone list`.

use std::process::ExitCode;
use std::time::SystemTime;

use drystone::jobs::{Entry, Group, Listing, Standing, State, list};
use serde_json::{Value, json};

use crate::args::{self, ListArguments};
use crate::output::{self, count, size};

pub async fn run(arguments: ListArguments) -> anyhow::Result<ExitCode> {
    let (stores, path) = (arguments.common.stores()?, args::path(&arguments.path)?);
    let now = crate::sweep::now()?;
    let listing = list(&stores, &path, &arguments.common.limits()).await?;
    match arguments.common.json {
        true => output::print_json(&as_json(&listing, now))?,
        false => output::print(&as_text(&listing, now))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(listing: &Listing, now: SystemTime) -> String {
    let groups = listing.groups.iter().map(|group| group_as_text(group, now));
    groups.collect::<Vec<_>>().join("\n")
}

fn group_as_text(group: &Group, now: SystemTime) -> String {
    if let Some(problem) = &group.problem {
        return format!("{}: CAN'T BE LISTED {problem}\n", group.directory);
    }
    let of = |is_meant: fn(&State) -> bool| group.entries.iter().filter(|entry| is_meant(&entry.state)).count() as u64;
    let mut text = format!(
        "{}: {} complete, {} broken, {} without metadata",
        group.directory,
        of(|state| *state == State::Complete),
        of(|state| matches!(state, State::Broken { .. })),
        of(|state| matches!(state, State::NoMetadata | State::Barred { .. })),
    );
    text += &group.epoch.map_or_else(String::new, |epoch| format!("; coordinator of epoch {epoch}"));
    text += "\n";
    text += &group.log_problem.as_ref().map_or_else(String::new, |problem| format!("  BAD LOG {problem}\n"));
    if let (Some(hint), latest) = (&group.hint, group.latest.and_then(|latest| group.entries.get(latest)))
        && latest.and_then(|entry| entry.number) != Some(hint.checkpoint)
    {
        text += &format!("  the file for other tools still names {}\n", hint.path);
    }
    if group.entries.is_empty() {
        return text;
    }
    let row = |(number, entry): (usize, &Entry)| {
        let (figures, totals) = (entry.figures.as_ref(), entry.figures.as_ref().map(|figures| figures.totals));
        let figure = |figure: Option<String>| figure.unwrap_or_default();
        vec![
            entry.path.file_name().unwrap_or_default().to_owned(),
            figure(figures.map(|figures| figures.checkpoint.to_string())),
            figure(figures.and_then(|figures| figures.kind).map(|kind| kind.name().to_owned())),
            figure(age(entry, now).map(output::age)),
            figure(totals.map(|totals| size(totals.state_bytes))),
            figure(totals.map(|totals| totals.files.to_string())),
            figure(totals.map(|totals| size(totals.metadata_bytes))),
            status(entry, group.latest == Some(number)),
        ]
    };
    let header = ["directory", "id>", "kind", "age>", "state>", "files>", "metadata>", "status"];
    text + &output::table(&header, group.entries.iter().enumerate().map(row).collect())
}

fn age(entry: &Entry, now: SystemTime) -> Option<std::time::Duration> {
    entry.modified.map(|modified| now.duration_since(modified).unwrap_or_default())
}

fn status(entry: &Entry, is_latest: bool) -> String {
    let mut text = match &entry.state {
        State::Complete => match entry.standing {
            Some(Standing::Replaced) => "complete, replaced by newer ones".to_owned(),
            Some(Standing::GivenUp) => "complete, but given up by its job".to_owned(),
            Some(Standing::Kept) | None => "complete".to_owned(),
        },
        State::Broken { reason } => format!("BROKEN: {reason}"),
        State::Barred { epoch } => format!("barred by the coordinator of epoch {epoch}: never completed"),
        State::NoMetadata => {
            let left = format!("{} of {}", count(entry.own_files, "file"), size(entry.own_bytes));
            match entry.is_unfinished {
                true => format!("unfinished savepoint: under way, or left behind: {left}"),
                false => format!("no metadata: under way, or left behind: {left}"),
            }
        }
    };
    if is_latest {
        text += ", the latest";
    }
    if let Some(run) = entry.run {
        text += &format!("; marked by run {run}, which is under way or was interrupted");
    }
    if entry.is_disposing {
        text += "; being disposed of, or that was interrupted: dispose of it again";
    }
    text
}

fn as_json(listing: &Listing, now: SystemTime) -> Value {
    let groups = listing.groups.iter().map(|group| {
        let entries = group.entries.iter().enumerate().map(|(number, entry)| {
            let mut value = entry_as_json(entry, now);
            value["latest"] = json!(group.latest == Some(number));
            value
        });
        json!({
            "directory": group.directory.to_string(),
            "jobId": group.job.map(|job| job.to_string()),
            "epoch": group.epoch,
            "problem": group.problem,
            "logProblem": group.log_problem,
            "latest": group.latest.and_then(|latest| group.entries.get(latest)).map(|entry| entry.path.to_string()),
            "hint": group.hint.as_ref().map(crate::latest::hint),
            "checkpoints": entries.collect::<Vec<_>>(),
        })
    });
    json!({ "directory": listing.directory.to_string(), "groups": groups.collect::<Vec<_>>() })
}

fn entry_as_json(entry: &Entry, now: SystemTime) -> Value {
    let (state, reason) = match &entry.state {
        State::Complete => ("complete", None),
        State::Broken { reason } => ("broken", Some(reason)),
        State::Barred { .. } => ("barred", None),
        State::NoMetadata => ("noMetadata", None),
    };
    let standing = entry.standing.map(|standing| match standing {
        Standing::Kept => "kept",
        Standing::Replaced => "replaced",
        Standing::GivenUp => "givenUp",
    });
    let figures = entry.figures.as_ref();
    json!({
        "path": entry.path.to_string(),
        "number": entry.number,
        "checkpointId": figures.map(|figures| figures.checkpoint),
        "kind": figures.and_then(|figures| figures.kind).map(|kind| kind.name()),
        "epoch": figures.and_then(|figures| figures.epoch),
        "state": state,
        "reason": reason,
        "barredBy": match entry.state { State::Barred { epoch } => Some(epoch), _ => None },
        "standing": standing,
        "modified": entry.modified.map(output::seconds),
        "ageSeconds": age(entry, now).map(|age| age.as_secs()),
        "stateBytes": figures.map(|figures| figures.totals.state_bytes),
        "streams": figures.map(|figures| figures.totals.streams),
        "files": figures.map(|figures| figures.totals.files),
        "metadataBytes": figures.map(|figures| figures.totals.metadata_bytes),
        "ownFiles": entry.own_files,
        "ownBytes": entry.own_bytes,
        "unfinished": entry.is_unfinished,
        "unfinishedRun": entry.run.map(|run| run.to_string()),
        "disposing": entry.is_disposing,
    })
}
