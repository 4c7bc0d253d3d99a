//! Starts the job in a process of its own, kills it now and then, and adds up what it says.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use drystone::{Error, ErrorKind, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::database::{Database, failed};
use crate::loss::Loss;
use crate::run::run;

/// How long the job runs, and how often it is killed. When, and what goes with it, comes of the seed.
struct Plan {
    checkpoints: u64,
    kills: u64,
    seed: u64,
}

/// When a run is killed.
struct Kill {
    /// It has completed this round.
    after: u64,
    /// So long afterwards.
    moment: Duration,
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
    let mut plan = Plan { checkpoints: 12, kills: 3, seed: 1 };
    for pair in arguments.chunks(2) {
        match pair {
            ["--checkpoints", count] => plan.checkpoints = parsed(count)?,
            ["--kills", count] => plan.kills = parsed(count)?,
            ["--seed", number] => plan.seed = parsed(number)?,
            other => {
                let message = format!("{other:?}: allowed are --checkpoints COUNT, --kills COUNT and --seed NUMBER");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        }
    }
    let scratch = tempfile::tempdir().map_err(|e| failed("a directory", e))?;
    watch(scratch.path(), &plan).await
}

fn parsed(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::new(ErrorKind::Invalid, format!("{text:?} is no number")))
}

/// Runs the job to its end.
async fn watch(directory: &Path, plan: &Plan) -> Result<()> {
    let mut figures = Figures::default();
    let mut random = SmallRng::seed_from_u64(plan.seed);
    let (mut completed, mut losses, mut loss) = (0, Vec::new(), Loss::Nothing);
    // The last round of whose files some copies are gone.
    let mut uncopied = 0;
    // The last run finds nothing to do but to compare.
    for number in 0..=plan.kills + 1 {
        // Somewhere in the checkpoint after these; the last two runs are let be.
        let kill = (number < plan.kills).then(|| Kill {
            after: plan.checkpoints * (number + 1) / (plan.kills + 1),
            moment: Duration::from_micros(random.random_range(0..40_000)),
        });
        let resumed_from = completed;
        completed = one_run(directory, plan, number, kill.as_ref(), completed, &mut figures).await?;
        println!("run {number}: rounds {resumed_from} to {completed}, {loss}: {}", figures.had());
        if loss == Loss::Links && resumed_from > uncopied && figures.last("copies") == 0 {
            return Err(Error::new(ErrorKind::Damaged, "nothing came from the worker's copies, which were there"));
        }
        loss = Loss::Nothing;
        if kill.is_some() {
            loss = Loss::next(&mut losses, &mut random);
            loss.strike(directory, &mut random)?;
            if loss.hits_copies() {
                uncopied = completed;
            }
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
    kill: Option<&Kill>,
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
        if let Some(kill) = kill.filter(|kill| !is_killed && line.starts_with("completed") && round >= kill.after) {
            tokio::time::sleep(kill.moment).await;
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
        let kb = |word| self.last(word) >> 10;
        format!("{} KB linked, {} KB from copies, {} KB from the store", kb("linked"), kb("copies"), kb("store"))
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
        println!("on resume: {} linked, {} from copies, {} from the store", mb("linked"), mb("copies"), mb("store"));
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / f64::from(1 << 20))
}
