//! One run of the job, from the latest checkpoint until the last round, or until it is killed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drystone::backend::files::UploadCounts;
use drystone::config::Config;
use drystone::coordinator::Coordinator;
use drystone::id::{JobId, OperatorId};
use drystone::protocol::{OperatorSpec, Trigger};
use drystone::storage::Storage;
use drystone::worker::Worker;
use drystone::{Error, ErrorKind, Result};
use futures::future::try_join_all;

use crate::database::{Database, failed};
use crate::task::{Origins, Task};
use crate::workload::{KEY_GROUPS, Plain, after, changes, is_in};

const JOB: JobId = JobId([7; 16]);
const OPERATOR: OperatorId = OperatorId([1; 16]);

/// Below the job's directory: where tasks have their databases, and link the snapshots of these.
pub const LINKS: &str = "local";

/// Where the worker keeps copies of its files; of a real job, different disks.
pub const COPIES: [&str; 2] = ["backup-1", "backup-2"];

/// Every so many rounds the whole database is compacted, beside what the database does by itself.
const COMPACTED_EVERY: u64 = 9;

/// A run that is under way.
struct Run<D> {
    worker: Worker,
    coordinator: Coordinator,
    tasks: Vec<Arc<Task<D>>>,
}

/// Runs until the last round. Each checkpoint is told in a line on the standard output, and so are figures.
pub async fn run<D: Database>(directory: &Path, rounds: u64, number: u64) -> Result<()> {
    let storage = open(directory)?;
    // Every other run resumes with as many tasks as the one before had.
    let spec = OperatorSpec::new(OPERATOR, if number % 4 < 2 { 2 } else { 3 }, KEY_GROUPS);
    let coordinator = storage.coordinator(JOB, vec![spec.clone()]).await?;
    let latest = coordinator.latest();
    let restore = match &latest {
        Some(latest) => Some(storage.restore(&latest.path).await?),
        None => None,
    };
    let local = directory.join(LINKS);
    let earlier = snapshots(&local)?;
    let (mut tasks, mut had) = (Vec::new(), Origins::default());
    for subtask in spec.subtasks() {
        let from =
            restore.as_ref().map(|restore| restore.task(OPERATOR, subtask.index, subtask.parallelism)).transpose()?;
        let place = local.join(format!("run-{number}")).join(subtask.index.to_string());
        let (task, origins) = Task::<D>::start(subtask, &place, from.as_ref(), earlier.clone()).await?;
        had.linked += origins.linked;
        had.copies += origins.copies;
        had.store += origins.store;
        tasks.push(Arc::new(task));
    }
    let run = Run { worker: storage.worker(JOB, "worker-1")?, coordinator, tasks };
    run.coordinator.remove_leftovers().await?;
    spec.subtasks().for_each(|subtask| run.worker.register(subtask));
    let found = run.contents()?;
    let first = match &latest {
        Some(_) => run.rounds_of(&found, rounds)?,
        None => 0,
    };
    let Origins { linked, copies, store } = had;
    say(format_args!("resumed round={first} linked={linked} copies={copies} store={store}"))?;
    run.work(first, rounds).await
}

impl<D: Database> Run<D> {
    async fn work(&self, first: u64, rounds: u64) -> Result<()> {
        if first < rounds {
            self.change(first + 1).await?;
        }
        for round in first + 1..=rounds {
            let trigger = self.coordinator.trigger(self.coordinator.next_checkpoint())?;
            let linked = self.link(&trigger).await?;
            // The next round's changes are made, and compactions run, while the files are uploaded.
            let next = async { if round < rounds { self.change(round + 1).await } else { Ok(()) } };
            let (counts, ()) = futures::future::try_join(self.upload(&trigger, &linked), next).await?;
            self.coordinator.complete(trigger.checkpoint).await?;
            self.worker.complete(trigger.epoch, trigger.checkpoint);
            for task in &self.tasks {
                task.completed(&trigger)?;
            }
            let space = self.coordinator.space();
            say(format_args!(
                "completed round={round} checkpoint={} kept={} new={} rewritten={} private={} files={} alive={} held={}",
                trigger.checkpoint,
                counts.kept_bytes,
                counts.new_bytes,
                counts.rewritten_bytes,
                counts.private_bytes,
                space.files,
                space.segment_bytes,
                space.file_bytes,
            ))?;
        }
        self.coordinator.settle().await?;
        if self.contents()? != after(rounds) {
            return Err(Error::new(ErrorKind::Damaged, "what the databases hold isn't what the plain map has"));
        }
        Ok(())
    }

    /// A round's changes, in all databases.
    async fn change(&self, round: u64) -> Result<()> {
        let changes = Arc::new(changes(round));
        self.on_all(move |task| {
            task.change(&changes)?;
            if round.is_multiple_of(COMPACTED_EVERY) { task.database.compact() } else { Ok(()) }
        })
        .await
        .map(drop)
    }

    async fn link(&self, trigger: &Trigger) -> Result<Vec<PathBuf>> {
        let trigger = trigger.clone();
        self.on_all(move |task| task.link(&trigger)).await
    }

    async fn upload(&self, trigger: &Trigger, linked: &[PathBuf]) -> Result<UploadCounts> {
        let uploads = self.tasks.iter().zip(linked).map(|(task, linked)| task.upload(&self.worker, trigger, linked));
        let mut sum = UploadCounts::default();
        for (acknowledgement, counts) in try_join_all(uploads).await? {
            self.coordinator.acknowledge(acknowledgement)?;
            sum.kept_bytes += counts.kept_bytes;
            sum.new_bytes += counts.new_bytes;
            sum.rewritten_bytes += counts.rewritten_bytes;
            sum.private_bytes += counts.private_bytes;
        }
        Ok(sum)
    }

    /// Does something in all tasks, each on a thread of its own.
    async fn on_all<T: Send + 'static>(
        &self,
        work: impl Fn(&Task<D>) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        let on_one = |task: &Arc<Task<D>>| {
            let (task, work) = (task.clone(), work.clone());
            async move {
                let done = tokio::task::spawn_blocking(move || work(&task)).await;
                done.map_err(|e| failed("a task of the example", e))?
            }
        };
        try_join_all(self.tasks.iter().map(on_one)).await
    }

    /// All entries. Each task has keys of its own groups alone.
    fn contents(&self) -> Result<Plain> {
        let mut found = Plain::new();
        for task in &self.tasks {
            task.database.each(|key, value| {
                if !is_in(task.range, key) || found.insert(key.to_vec(), value.to_vec()).is_some() {
                    return Err(Error::new(ErrorKind::Damaged, format!("a key of another task: {key:?}")));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// How many rounds the restored state holds: the number in the newest value. Then all of it is compared.
    fn rounds_of(&self, found: &Plain, rounds: u64) -> Result<u64> {
        let round = |value: &Vec<u8>| {
            let digits: Vec<u8> = value.iter().copied().take_while(u8::is_ascii_digit).collect();
            String::from_utf8(digits).ok()?.parse::<u64>().ok()
        };
        let newest = found.values().filter_map(round).max().unwrap_or_default();
        if newest > rounds || after(newest) != *found {
            let message = format!("after round {newest}: {} keys, which aren't those of the plain map", found.len());
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        Ok(newest)
    }
}

/// The settings are Flink's.
fn open(directory: &Path) -> Result<Storage> {
    let checkpoints = directory.join("checkpoints").display().to_string();
    let copies = COPIES.map(|copies| directory.join(copies).display().to_string()).join(",");
    Storage::open(&Config::from_map([
        ("execution.checkpointing.dir", checkpoints.as_str()),
        ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
        ("execution.checkpointing.file-merging.max-space-amplification", "1.3"),
        ("execution.checkpointing.local-backup.enabled", "true"),
        ("execution.checkpointing.local-backup.dirs", copies.as_str()),
        ("drystone.space.floor", "1mb"),
        ("drystone.seal.linger", "20 ms"),
    ]))
}

/// The snapshots that earlier runs have linked together, the newest first.
fn snapshots(local: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![local.to_owned()];
    // run-N, subtask, snapshots, checkpoint
    for _ in 0..4 {
        let mut below = Vec::new();
        for path in found.iter().filter(|path| path.is_dir()) {
            for entry in fs::read_dir(path).map_err(|e| failed(path.display(), e))? {
                below.push(entry.map_err(|e| failed(path.display(), e))?.path());
            }
        }
        found = below;
    }
    found.retain(|path| path.parent().is_some_and(|parent| parent.ends_with("snapshots")));
    found.sort();
    found.reverse();
    Ok(found)
}

/// A line for whoever has started this process. Written through: it may be killed at any time.
fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| failed("standard output", e))
}
