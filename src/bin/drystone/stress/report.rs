//! A run's figures: as the one line of JSON that the bench it is compared with prints, and as a table for people.

use drystone::coordinator::Leftovers;
use drystone::id::Scope;
use drystone::inspect::{NAMENODE_BYTES_PER_FILE, Prices};
use drystone::store::Requests;
use serde_json::{Map, Value, json};

use super::arguments::{Mode, StressArguments};
use super::figures::Figures;
use super::resume::Resumed;
use crate::output::{self, size};

/// Fields and their order are those of `PeerBench`; ours come last.
pub fn as_json(figures: &Figures, arguments: &StressArguments, mode: &str) -> Value {
    let parts = [asked(arguments, mode), came_to(figures), speeds(figures), extra(figures, arguments)];
    let fields = parts.into_iter().filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Value::Object(fields.flatten().collect())
}

fn asked(arguments: &StressArguments, mode: &str) -> Value {
    json!({
        "impl": concat!("drystone-", env!("CARGO_PKG_VERSION")),
        "mode": mode,
        "scope": arguments.scope().to_string(),
        "across": arguments.across,
        "blocking": arguments.blocking,
        "subtasks": arguments.subtasks,
        "threads": arguments.threads,
        "segments_per_subtask": arguments.segments,
        "size": arguments.size.to_string(),
        "seed": arguments.seed,
        "checkpoints": arguments.checkpoints,
        "retained": arguments.retained,
        "reuse": arguments.reuse,
        "max_file_size": arguments.packing.max_file_size.0,
        "max_space_amp": arguments.max_space_amp,
    })
}

fn came_to(figures: &Figures) -> Value {
    let (tally, times, space) = (&figures.tally, &figures.times, &figures.space);
    json!({
        "dir": figures.directory,
        "wall_s": rounded(times.wall.as_secs_f64()),
        "write_s": rounded(times.write.as_secs_f64()),
        "complete_s": rounded(times.complete.as_secs_f64()),
        "subsume_s": rounded(times.subsume.as_secs_f64()),
        "bytes_written": tally.bytes_written,
        "segments_written": tally.segments_written,
        "segments_reused": tally.segments_reused,
        "reuse_refused": tally.reuse_refused,
        "inline_segments": tally.inline_segments,
        "physical_files_created": space.created(),
        "files_deleted": space.deleted(),
        "peak_files": space.peak_files,
        "final_files": space.last.files(),
        "final_disk_bytes": space.last.bytes(),
        "final_live_bytes": space.live_bytes,
        "space_amp": rounded(space.amplification()),
        "peak_disk_bytes": space.peak_bytes,
        "peak_space_amp": rounded(space.peak_amplification),
    })
}

fn speeds(figures: &Figures) -> Value {
    let (tally, times, read) = (&figures.tally, &figures.times, &figures.read_back);
    let (wall, write) = (times.wall.as_secs_f64(), times.write.as_secs_f64());
    let (megabytes, segments) = (tally.bytes_written as f64 / 1e6, tally.segments_written as f64);
    json!({
        "mb_s": rounded(per(megabytes, wall)),
        "segments_s": rounded(per(segments, wall)),
        "write_mb_s": rounded(per(megabytes, write)),
        "write_segments_s": rounded(per(segments, write)),
        "lat_p50_us": rounded(figures.latency_us(0.5)),
        "lat_p99_us": rounded(figures.latency_us(0.99)),
        "lat_max_us": rounded(figures.latency_us(1.0)),
        "read_mb_s": rounded(per(read.bytes as f64 / 1e6, read.time.as_secs_f64())),
        "verify_bad": read.bad,
    })
}

/// What that program doesn't tell.
fn extra(figures: &Figures, arguments: &StressArguments) -> Value {
    json!({
        "requests": by_kind(&figures.requests),
        "restore_requests": by_kind(&figures.read_back.requests),
        "metadata_bytes": figures.space.metadata_bytes,
        "inline_threshold": arguments.packing.inline_threshold.0,
        "space_floor": arguments.space_floor().0,
    })
}

fn by_kind(requests: &Requests) -> Value {
    let kinds = requests.by_kind().into_iter().map(|(kind, count)| (kind.name().to_owned(), count.into()));
    Value::Object(kinds.collect::<Map<_, _>>())
}

fn per(amount: f64, seconds: f64) -> f64 {
    amount / seconds.max(1e-9)
}

/// To five digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// What a run goes on with. As a line of its own if commits are told, or to people.
pub fn resumed(resumed: &Resumed, arguments: &StressArguments) -> anyhow::Result<()> {
    if !arguments.resume || (arguments.json && !arguments.commits) {
        return Ok(());
    }
    let (latest, read) = (resumed.latest(), &resumed.read_back);
    let Leftovers { files, bytes } = resumed.leftovers;
    if arguments.json {
        let line = json!({
            "resumed": latest.map(|latest| latest.0),
            "checkpoints": read.checkpoints,
            "bytes": read.bytes,
            "bad": read.bad,
            "leftover_files": files,
            "leftover_bytes": bytes,
        });
        return output::print(&format!("{line}\n"));
    }
    let removed = format!("{} removed that nothing named", output::count(files, "file"));
    output::print(&match latest {
        None => format!("nothing to resume: starting anew, {removed}\n"),
        Some(latest) => {
            let verdict = if read.bad == 0 { "ok".to_owned() } else { format!("{} BAD", read.bad) };
            let checkpoints = output::count(read.checkpoints, "checkpoint");
            format!("resumed {latest}: every byte of {checkpoints} restored and compared: {verdict}; {removed}\n")
        }
    })
}

/// One object per chunk beside the packed run, or one of them alone.
pub fn as_text(arguments: &StressArguments, runs: &[(Mode, &str, Figures)]) -> String {
    let scope = match arguments.scope() {
        Scope::Exclusive => "EXCLUSIVE".to_owned(),
        Scope::Shared => format!("SHARED, {:.0} % reused", arguments.reuse * 100.0),
    };
    let mut text = format!(
        "{} subtasks x {} chunks ({}), {} checkpoints, {} retained, {scope}, seed {}\n\n",
        arguments.subtasks,
        arguments.segments,
        arguments.size,
        arguments.checkpoints,
        arguments.retained,
        arguments.seed
    );
    let columns: Vec<_> = runs.iter().map(|(_, _, figures)| rows(figures, arguments)).collect();
    let mut header = vec![""];
    let names: Vec<String> = runs.iter().map(|(_, name, _)| format!("{name}>")).collect();
    header.extend(names.iter().map(String::as_str));
    let is_pair = columns.len() == 2;
    if is_pair {
        header.push("less by>");
    }
    let is_shown = |at: &usize| columns.iter().any(|column| column[*at].value != 0.0);
    let lines = (0..columns.first().map_or(0, Vec::len)).filter(is_shown).map(|at| {
        let mut line = vec![columns[0][at].name.to_owned()];
        line.extend(columns.iter().map(|column| column[at].text.clone()));
        if is_pair {
            line.push(ratio(columns[0][at].value, columns[1][at].value));
        }
        line
    });
    text += &output::table(&header, lines.collect());
    text += "  dollars are for requests, at S3's list prices, a checkpoint a minute and a restore a day\n";
    for (mode, name, figures) in runs {
        if *mode == Mode::Merge {
            text += &space(name, figures, arguments);
        }
        text += &verdict(name, figures);
    }
    text
}

/// A line of the table.
struct Row {
    name: &'static str,
    text: String,
    value: f64,
}

fn rows(figures: &Figures, arguments: &StressArguments) -> Vec<Row> {
    let checkpoints = f64::from(arguments.checkpoints);
    let (requests, space, read) = (&figures.requests, &figures.space, &figures.read_back);
    let each = |count: u64| count as f64 / checkpoints;
    let count = |name, value: f64| {
        let text = if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") };
        Row { name, text, value }
    };
    let seconds = |name, value: f64| Row { name, text: format!("{value:.2} s"), value };
    // Counting each retained checkpoint's metadata.
    let files = space.last.files() + read.checkpoints;
    let puts = requests.put + requests.multipart_create + requests.multipart_part + requests.multipart_complete;
    let heap = files * NAMENODE_BYTES_PER_FILE;
    let dollars = dollars(requests, &read.requests, checkpoints);
    let amplification = space.amplification();
    vec![
        count("new files a checkpoint", each(space.created()) + 1.0),
        count("files at the end", files as f64),
        Row { name: "NameNode heap for them", text: size(heap), value: heap as f64 },
        count("PUTs a checkpoint", each(puts)),
        count("LISTs a checkpoint", each(requests.list)),
        count("GETs and HEADs a checkpoint", each(requests.get + requests.head)),
        count("DELETEs a checkpoint", each(requests.delete)),
        count("GETs to restore", (read.requests.get + read.requests.head) as f64),
        Row { name: "$ a month", text: format!("{dollars:.2}"), value: dollars },
        Row { name: "bytes in files per live byte", text: format!("{amplification:.3}"), value: f64::NAN },
        seconds("time to write and commit", figures.times.wall.as_secs_f64()),
        seconds("time to restore", read.time.as_secs_f64()),
        Row {
            name: "chunks a second",
            text: format!("{:.0}", per(figures.tally.segments_written as f64, figures.times.wall.as_secs_f64())),
            value: f64::NAN,
        },
    ]
}

/// A month of such checkpoints. Listings cost as much as PUTs, deletes nothing.
fn dollars(requests: &Requests, restore: &Requests, checkpoints: f64) -> f64 {
    const SECONDS_PER_MONTH: f64 = 30.0 * 24.0 * 3600.0;
    let prices = Prices::default();
    let cost = |requests: &Requests| {
        let puts = requests.total() - requests.get - requests.head - requests.delete - requests.multipart_abort;
        let gets = requests.get + requests.head;
        (puts as f64 * prices.put_per_1000 + gets as f64 * prices.get_per_1000) / 1000.0
    };
    let checkpoints_per_month = SECONDS_PER_MONTH / prices.interval_seconds;
    cost(requests) / checkpoints * checkpoints_per_month + cost(restore) * prices.restores_per_month
}

fn ratio(before: f64, after: f64) -> String {
    // Of nothing there is no part.
    if before.is_nan() || before <= 0.0 || after <= 0.0 {
        return String::new();
    }
    match before / after {
        times if times < 1.0 => format!("{times:.2} x"),
        times if times < 10.0 => format!("{times:.1} x"),
        times => format!("{times:.0} x"),
    }
}

/// How much room the packed files took at most, and what bounds it.
fn space(name: &str, figures: &Figures, arguments: &StressArguments) -> String {
    let peak = figures.space.peak_amplification;
    let limit = match arguments.max_space_amp {
        most if most >= 1.0 => format!("limit {most:?} above a floor of {}", size(arguments.space_floor().0)),
        _ => "no limit".to_owned(),
    };
    format!("  {name}: at most {peak:.3} bytes in files per live byte after a commit; {limit}\n")
}

fn verdict(name: &str, figures: &Figures) -> String {
    let read = &figures.read_back;
    let checkpoints = output::count(read.checkpoints, "retained checkpoint");
    match &read.first_bad {
        None => format!("  {name}: every byte of {checkpoints} restored and compared: ok\n"),
        Some(first) => format!("  {name}: BAD: {} wrong in {checkpoints}: {first}\n", output::count(read.bad, "chunk")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_more_is_a_part_of_one() {
        let shown = |before, after| ratio(before, after);
        assert_eq!(shown(17.0, 2.0), "8.5 x");
        assert_eq!(shown(1000.0, 2.0), "500 x");
        assert_eq!(shown(3.0, 3.0), "1.0 x");
        assert_eq!(shown(0.5, 2.0), "0.25 x");
        assert_eq!([shown(f64::NAN, f64::NAN), shown(0.0, 2.0), shown(2.0, 0.0)], [""; 3]);
    }
}
