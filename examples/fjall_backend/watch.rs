//! Starts the job in a process of its own, kills it now and then, and adds up what it says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use drystone::{Error, ErrorKind, Result};
use rand::RngExt;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::database::{Database, failed};
use crate::run::run;

/// How long the job runs, and how often it is killed.
struct Plan {
    checkpoints: u64,
    kills: u64,
}

/// What all runs have said, by the words of their lines.
#[derive(Default)]
struct Figures {
    sums: BTreeMap<String, u64>,
    lasts: BTreeMap<String, u64>,
    most_files: u64,
    /// In thousandths.
    most_amplification: u64,
}

/// This process is the job, or the one that watches it.
pub async fn start<D: Database>() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["--run", directory, rounds, number] => match (parsed(rounds), parsed(number)) {
            (Ok(rounds), Ok(number)) => run::<D>(Path::new(directory), rounds, number).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        },
        _ => watch_for(&arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.one_line());
            ExitCode::FAILURE
        }
    }
}

async fn watch_for(arguments: &[&str]) -> Result<()> {
    let mut plan = Plan { checkpoints: 12, kills: 3 };
    for pair in arguments.chunks(2) {
        match pair {
            ["--checkpoints", count] => plan.checkpoints = parsed(count)?,
            ["--kills", count] => plan.kills = parsed(count)?,
            other => {
                let message = format!("{other:?}: allowed are --checkpoints COUNT and --kills COUNT");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        }
    }
    let scratch = tempfile::tempdir().map_err(|e| failed("a directory", e))?;
    watch(scratch.path(), &plan).await
}

fn parsed(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::new(ErrorKind::Invalid, format!("{text:?} is no count")))
}

/// Runs the job to its end.
async fn watch(directory: &Path, plan: &Plan) -> Result<()> {
    let mut figures = Figures::default();
    let mut completed = 0;
    // The last run finds nothing to do but to compare.
    for number in 0..=plan.kills + 1 {
        // Somewhere in the checkpoint after these; the last two runs are let be.
        let kill_after = (number < plan.kills).then(|| plan.checkpoints * (number + 1) / (plan.kills + 1));
        let resumed_from = completed;
        completed = one_run(directory, plan, number, kill_after, completed, &mut figures).await?;
        println!("run {number}: rounds {resumed_from} to {completed}, {}", figures.had());
        if number % 2 == 1 && kill_after.is_some() {
            // The machine is gone, and its disk with it: the next run has the store alone.
            let local = directory.join("local");
            fs::remove_dir_all(&local).map_err(|e| failed(local.display(), e))?;
        }
    }
    if completed != plan.checkpoints {
        let message = format!("the job ended after round {completed} of {}", plan.checkpoints);
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    figures.print(plan);
    Ok(())
}

/// One run; the last round that it has completed.
async fn one_run(
    directory: &Path,
    plan: &Plan,
    number: u64,
    kill_after: Option<u64>,
    mut completed: u64,
    figures: &mut Figures,
) -> Result<u64> {
    let program = std::env::current_exe().map_err(|e| failed("this program", e))?;
    let mut command = Command::new(program);
    command.arg("--run").arg(directory).arg(plan.checkpoints.to_string()).arg(number.to_string());
    let mut job = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().map_err(|e| failed("the job", e))?;
    let out = job.stdout.take().ok_or_else(|| Error::new(ErrorKind::Store, "the job says nothing"))?;
    let mut lines = BufReader::new(out).lines();
    let mut is_killed = false;
    while let Some(line) = lines.next_line().await.map_err(|e| failed("the job", e))? {
        let words: BTreeMap<&str, u64> = line
            .split(' ')
            .filter_map(|word| word.split_once('='))
            .filter_map(|(k, v)| Some((k, v.parse().ok()?)))
            .collect();
        let round = words.get("round").copied().unwrap_or_default();
        if line.starts_with("resumed") && round < completed {
            let message = format!("resumed from round {round}, though {completed} was complete");
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        figures.add(&line, &words);
        completed = completed.max(round);
        if !is_killed && kill_after.is_some_and(|after| line.starts_with("completed") && round >= after) {
            let moment = Duration::from_micros(rand::rng().random_range(0..40_000));
            tokio::time::sleep(moment).await;
            job.start_kill().map_err(|e| failed("the job", e))?;
            *figures.sums.entry("kills".into()).or_default() += 1;
            // What it has said before it dies still counts.
            is_killed = true;
        }
    }
    let status = job.wait().await.map_err(|e| failed("the job", e))?;
    match status.success() {
        _ if is_killed => Ok(completed),
        true => Ok(completed),
        false => Err(Error::new(ErrorKind::Damaged, format!("the job ended by itself: {status}"))),
    }
}

impl Figures {
    fn add(&mut self, line: &str, words: &BTreeMap<&str, u64>) {
        for (word, value) in words {
            *self.sums.entry((*word).to_owned()).or_default() += value;
            self.lasts.insert((*word).to_owned(), *value);
        }
        if line.starts_with("completed") {
            self.most_files = self.most_files.max(self.last("files"));
            let amplification = self.last("held") * 1000 / self.last("alive").max(1);
            self.most_amplification = self.most_amplification.max(amplification);
        }
    }

    fn sum(&self, word: &str) -> u64 {
        self.sums.get(word).copied().unwrap_or_default()
    }

    fn last(&self, word: &str) -> u64 {
        self.lasts.get(word).copied().unwrap_or_default()
    }

    /// Where the last run had its state from.
    fn had(&self) -> String {
        format!("{} KB of its state linked, {} KB read", self.last("linked") >> 10, self.last("read") >> 10)
    }

    fn print(&self, plan: &Plan) {
        let mb = |word| megabytes(self.sum(word));
        println!("{} checkpoints, {} kills; every resume compared whole", plan.checkpoints, self.sum("kills"));
        println!("files in the store: {} at last, {} at most", self.last("files"), self.most_files);
        let amplification = self.last("held") as f64 / self.last("alive").max(1) as f64;
        println!("amplification: {amplification:.2} at last, {:.2} at most", self.most_amplification as f64 / 1000.0);
        println!(
            "tables: {} named again, {} new, {} uploaded again to save space; {} of other files",
            mb("kept"),
            mb("new"),
            mb("rewritten"),
            mb("private")
        );
        println!("on resume: {} linked from local snapshots, {} read", mb("linked"), mb("read"));
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / f64::from(1 << 20))
}
