//! `drystone latest`, and `--latest` of the commands that work on a checkpoint.

use std::process::ExitCode;

use drystone::jobs::{Found, Hint, Latest, PassedOver, latest, latest_of_each};
use drystone::read::ReadLimits;
use drystone::store::{FlinkPath, Stores};
use serde_json::{Value, json};

use crate::args::{self, LatestArguments, OrLatest};
use crate::inspect::moved_hint;
use crate::output;

pub async fn run(arguments: LatestArguments) -> anyhow::Result<ExitCode> {
    let (stores, path) = (arguments.common.stores()?, args::path(&arguments.path)?);
    let limits = arguments.common.limits();
    let of_jobs = match arguments.across_jobs {
        true => latest_of_each(&stores, &path, &limits).await?,
        false => vec![(path.clone(), latest(&stores, &path, &limits).await?)],
    };
    let newest = of_jobs.iter().filter_map(|(_, latest)| latest.found.as_ref()).max_by_key(|found| found.modified);
    for (_, latest) in &of_jobs {
        warn(&latest.passed_over);
        if let (Some(found), Some(hint)) = (&latest.found, &latest.hint)
            && hint.checkpoint != found.checkpoint
        {
            output::remark(&format!("drystone: note: the file for other tools still names {}", hint.path));
        }
    }
    if arguments.common.json {
        let jobs = of_jobs.iter().map(|(directory, latest)| as_json(directory, latest)).collect::<Vec<_>>();
        output::print_json(&json!({ "path": newest.map(|found| found.path.to_string()), "jobs": jobs }))?;
    } else if let Some(found) = newest {
        output::print(&format!("{}\n", found.path))?;
    }
    if newest.is_none() {
        output::remark(&format!("drystone: no complete checkpoint in {path}"));
        // Of a directory that was moved all are broken.
        let broken = of_jobs.iter().find_map(|(_, latest)| latest.passed_over.first());
        let hint = match broken {
            Some(broken) => moved_hint(&stores, &broken.path, &limits).await,
            None => None,
        };
        hint.iter().for_each(|hint| output::remark(hint));
        return Ok(ExitCode::from(crate::BAD));
    }
    Ok(ExitCode::SUCCESS)
}

/// The checkpoint to work on.
pub async fn resolve(
    or_latest: &OrLatest,
    stores: &Stores,
    path: &str,
    limits: &ReadLimits,
) -> anyhow::Result<FlinkPath> {
    let path = args::path(path)?;
    if !or_latest.latest {
        return Ok(path);
    }
    let latest = latest(stores, &path, limits).await?;
    warn(&latest.passed_over);
    match latest.found {
        Some(found) => Ok(found.path),
        None => Err(latest.none_found(&path).into()),
    }
}

fn warn(passed_over: &[PassedOver]) {
    for PassedOver { path, reason, .. } in passed_over {
        output::remark(&format!("drystone: WARNING: passed over {path}: {reason}"));
    }
}

fn as_json(directory: &FlinkPath, latest: &Latest) -> Value {
    let found = |found: &Found| {
        json!({
            "path": found.path.to_string(),
            "checkpointId": found.checkpoint,
            "epoch": found.epoch,
            "modified": output::seconds(found.modified),
        })
    };
    let passed_over = |passed: &PassedOver| json!({ "path": passed.path.to_string(), "checkpointId": passed.checkpoint, "reason": passed.reason });
    json!({
        "directory": directory.to_string(),
        "latest": latest.found.as_ref().map(found),
        "passedOver": latest.passed_over.iter().map(passed_over).collect::<Vec<_>>(),
        "hint": latest.hint.as_ref().map(hint),
    })
}

pub fn hint(hint: &Hint) -> Value {
    json!({ "path": hint.path.to_string(), "epoch": hint.epoch, "checkpointId": hint.checkpoint })
}
