//! Crashes by counting: the operations of a run are counted, then the run is cut at each of them in turn. Whatever was
//! promised is there, byte for byte, the job goes on, and in the end nothing is left that nothing names.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/crash_job.rs"]
mod crash_job;
#[path = "support/crash_place.rs"]
mod crash_place;
#[path = "support/crash_store.rs"]
mod crash_store;
#[path = "support/seeded.rs"]
mod seeded;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crash_job::{Believed, JOB, Job, named_by, settings, storage};
use crash_place::Place;
use crash_store::{Cut, Fate, Operation, Plan};
use drystone::ErrorKind;
use drystone::config::{MemorySize, Settings};
use drystone::coordinator::JobEnd;
use drystone::jobs::{self, Latest};
use drystone::read::ReadLimits;
use drystone::repack::{Options, repack};
use drystone::store::FlinkPath;
use drystone::sweep::{self, SweepSettings};
use drystone::verify::verify;
use drystone::write::WriteSettings;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// The first checkpoint of a job.
    First,
    /// A later one, which names again what earlier ones have.
    Steady,
    /// One with segments that are too long to be held in memory.
    Streamed,
    /// One that is given up when some of its files are there, and the next.
    Abort,
    /// One that replaces others.
    Subsume,
    /// Small files of earlier ones are folded forward.
    Fold,
    /// Segments are copied in the background, and named by the next checkpoint.
    Rewrite,
    /// Another process takes over from one that is cut off in a checkpoint.
    TakeOver,
    /// What an earlier process has left is removed.
    Leftovers,
    /// The same by a sweep, which knows no coordinator.
    Sweep,
    /// The end of a job.
    Dispose,
    /// A checkpoint is packed elsewhere.
    Repack,
}

use Scenario::{Abort, Dispose, First, Fold, Leftovers, Repack, Rewrite, Steady, Streamed, Subsume, Sweep, TakeOver};

impl Scenario {
    fn settings(self) -> Settings {
        let settings = settings();
        match self {
            Streamed => {
                Settings { segment_buffer: MemorySize(1 << 20), max_file_size: MemorySize(32 << 20), ..settings }
            }
            Subsume => Settings { num_retained: 1, ..settings },
            Fold => Settings { across_checkpoint_boundary: true, fold_write_amplification: 2.0, ..settings },
            Rewrite => Settings { max_space_amplification: Some(1.2), space_floor: Some(MemorySize(0)), ..settings },
            _ => settings,
        }
    }

    /// What there is before operations count.
    async fn prepare(self, job: &mut Job) -> drystone::Result<()> {
        let rounds = match self {
            First | Streamed => 0,
            // As many files of a kind as it takes.
            Fold => 5,
            _ => 2,
        };
        for _ in 0..rounds {
            job.change(&[3000, 2000, 900], |_| true);
            job.checkpoint().await?;
        }
        if matches!(self, Leftovers | Sweep | TakeOver) {
            job.change(&[3000, 9000, 9000], |_| true);
            let trigger = job.trigger()?;
            job.part(&trigger, 0).await?;
            job.part(&trigger, 1).await?;
        }
        job.coordinator.settle().await
    }

    async fn act(self, job: &mut Job) -> drystone::Result<()> {
        match self {
            First | Steady | Subsume => {
                job.change(&[3000, 9000, 9000, 400], |name| !name.ends_with('1'));
                job.checkpoint().await?;
                assert_eq!(job.reused[0] > 0, self != First);
            }
            Streamed => {
                job.change(&[9 << 20, 5000], |_| true);
                job.checkpoint().await?;
            }
            Fold => {
                // The second one replaces the last that names what was folded.
                for _ in 0..2 {
                    job.change(&[1000], |_| true);
                    job.checkpoint().await?;
                }
                assert!(job.reused[1] > 0, "nothing was folded");
            }
            Abort => {
                job.change(&[3000, 9000, 9000], |_| true);
                let trigger = job.trigger()?;
                let part = job.part(&trigger, 0).await?;
                job.coordinator.acknowledge(part)?;
                job.abort(trigger.checkpoint);
                job.coordinator.settle().await?;
                job.change(&[2500], |_| true);
                job.checkpoint().await?;
            }
            Rewrite => {
                job.names_again = true;
                // Most of what is in files is dead when the checkpoints before have gone.
                job.change(&[], |name| name.ends_with('2'));
                job.checkpoint().await?;
                job.checkpoint().await?;
                let rewritten = job.coordinator.rewrite(u64::MAX).await?;
                assert!(rewritten.segments > 0, "nothing to rewrite");
                job.checkpoint().await?;
            }
            TakeOver => {
                *job = job.again().await?;
                job.change(&[2500], |_| true);
                job.checkpoint().await?;
                *job = job.again().await?;
            }
            Leftovers => {
                job.coordinator.remove_leftovers().await?;
                job.change(&[2500], |_| true);
                job.checkpoint().await?;
            }
            Sweep => sweep(job).await?,
            Dispose => {
                job.ends();
                return job.coordinator.dispose(JobEnd::Finished).await;
            }
            Repack => {
                let latest = job.coordinator.latest().unwrap();
                let stores = job.storage.stores();
                repack(
                    stores,
                    &latest.path,
                    &destination(&job.storage.job_directory(JOB)?),
                    &options(1),
                    &|_, _, _| {},
                )
                .await?;
            }
        }
        job.coordinator.settle().await
    }
}

/// Long after.
async fn sweep(job: &Job) -> drystone::Result<()> {
    let (now, root) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33), job.coordinator.directory().root());
    let found = sweep::Sweep::look(job.storage.stores(), root.name(), &SweepSettings::default(), now).await?;
    let deleted = found.delete(&|_, _| {}).await;
    assert!(deleted.is_complete(), "{deleted:?}");
    Ok(())
}

/// Beside the job's own directory.
fn destination(directory: &drystone::store::JobDirectory) -> FlinkPath {
    directory.root().parent().unwrap().name().join("packed").unwrap()
}

fn options(start: u64) -> Options {
    let next = std::sync::atomic::AtomicU64::new(start << 48);
    Options {
        write: WriteSettings { file_bytes_max: 8 << 10, inline_bytes_max: 0, ..WriteSettings::default() },
        read: ReadLimits::default(),
        job_id: None,
        tokens: Arc::new(move || next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
        discard_leftovers: false,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

/// A run up to the cut, if there is one: how many operations came before those that count, and all of them.
fn run(
    scenario: Scenario,
    place: &Place,
    cut: Option<Cut>,
    believed: &Arc<Mutex<Believed>>,
) -> (usize, Vec<Operation>) {
    let plan = Plan::of(cut);
    let before = Arc::new(Mutex::new(0));
    let running = async {
        let open = |start| storage(place.stores(Some(plan.clone())), &place.root(), scenario.settings(), start);
        let mut job = Job::start(open(1)?, believed.clone()).await?;
        scenario.prepare(&mut job).await?;
        if scenario == Leftovers {
            job = Job::start(open(2)?, believed.clone()).await?;
        }
        *before.lock().unwrap() = plan.operations().len();
        scenario.act(&mut job).await?;
        job.worker.close().await
    };
    let done = block_on(async {
        tokio::select! {
            biased;
            () = plan.crash() => None,
            done = running => Some(done),
        }
    });
    match (cut, done) {
        (None, Some(done)) => done.unwrap(),
        (Some(_), None) => {}
        (_, done) => panic!("{scenario:?} with {cut:?}: {done:?}"),
    }
    place.decide(&plan);
    let before = *before.lock().unwrap();
    (before, plan.operations())
}

/// Another process takes over: nothing that was promised is lost, the job goes on and ends, and nothing is left.
async fn take_over(scenario: Scenario, place: &Place, believed: &Arc<Mutex<Believed>>) -> Result<(), String> {
    let said = |error: drystone::Error| error.one_line();
    let open = storage(place.stores(None), &place.root(), scenario.settings(), 3).map_err(said)?;
    let (root, limits) = (open.job_directory(JOB).map_err(said)?.root().name().clone(), ReadLimits::default());
    // Before anything is put right.
    let latest = match jobs::latest(open.stores(), &root, &limits).await {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        latest => Some(latest.map_err(said)?),
    };
    let mut job = Job::start(open, believed.clone()).await.map_err(said)?;
    check_latest(latest, &job, believed)?;
    job.take_over().await?;
    if scenario == Repack {
        repack_again(&job, place).await?;
    }
    match scenario {
        Sweep => sweep(&job).await.map_err(said)?,
        _ => drop(job.coordinator.remove_leftovers().await.map_err(said)?),
    }
    check_named(&job, place).await?;
    for _ in 0..2 {
        job.change(&[1500, 800], |_| true);
        job.checkpoint().await.map_err(said)?;
    }
    job.coordinator.settle().await.map_err(said)?;
    job.take_over().await?;
    check_named(&job, place).await?;
    job.ends();
    job.coordinator.dispose(JobEnd::Finished).await.map_err(said)?;
    let left = place.files(job.coordinator.directory().root().name()).await;
    if left.is_empty() { Ok(()) } else { Err(format!("left at the end: {left:?}")) }
}

/// Without a coordinator the same is found that one goes on with, and the file for other tools is old at worst.
fn check_latest(latest: Option<Latest>, job: &Job, believed: &Arc<Mutex<Believed>>) -> Result<(), String> {
    let found = latest.as_ref().and_then(|latest| Some(latest.found.as_ref()?.path.clone()));
    let goes_on_with = job.coordinator.latest().map(|latest| latest.path);
    if found != goes_on_with {
        return Err(format!("{found:?} was found to be the latest, it is {goes_on_with:?}"));
    }
    let Some(Latest { found, hint: Some(hint), passed_over }) = latest else { return Ok(()) };
    let believed = believed.lock().unwrap();
    // The end gives up what is there.
    let is_newer = found.is_none_or(|found| hint.checkpoint > found.checkpoint) || !passed_over.is_empty();
    if is_newer && !believed.is_ending || !believed.contents.contains_key(&hint.checkpoint) {
        return Err(format!("the file for other tools names {hint:?}; passed over were {passed_over:?}"));
    }
    Ok(())
}

async fn check_named(job: &Job, place: &Place) -> Result<(), String> {
    let named = job.named().await.map_err(|error| error.one_line())?;
    let there = place.files(job.coordinator.directory().root().name()).await;
    same(&named, &there)
}

fn same(named: &BTreeSet<FlinkPath>, there: &BTreeSet<FlinkPath>) -> Result<(), String> {
    if there == named {
        return Ok(());
    }
    let missing: Vec<_> = named.difference(there).map(FlinkPath::to_string).collect();
    let unnamed: Vec<_> = there.difference(named).map(FlinkPath::to_string).collect();
    Err(format!("missing are {missing:?}, and unnamed {unnamed:?}"))
}

/// The same command again: the source is what it was, and at the destination is all of it and no more.
async fn repack_again(job: &Job, place: &Place) -> Result<(), String> {
    let said = |error: drystone::Error| error.one_line();
    let (stores, limits) = (job.storage.stores(), ReadLimits::default());
    let below = destination(job.coordinator.directory());
    let latest = job.coordinator.latest().ok_or("no checkpoint to repack")?;
    let packed = below.join(&format!("{JOB}/chk-{}", latest.checkpoint)).map_err(said)?;
    let metadata = stores.locate(&packed.join("_metadata").map_err(said)?).map_err(said)?;
    let is_there = metadata.exists().await.map_err(said)?;
    if is_there {
        let found = verify(stores, &packed, &limits, &|_, _| {}).await.map_err(said)?;
        found.findings.first().map_or(Ok(()), |finding| Err(format!("packed before: {finding}")))?;
    }
    match repack(stores, &latest.path, &below, &options(2), &|_, _, _| {}).await {
        // A whole one isn't written again.
        Err(error) if error.kind() == ErrorKind::Conflict && is_there => {}
        done => drop(done.map_err(said)?),
    }
    for checkpoint in [&latest.path, &packed] {
        let found = verify(stores, checkpoint, &limits, &|_, _| {}).await.map_err(said)?;
        found.findings.first().map_or(Ok(()), |finding| Err(finding.to_string()))?;
    }
    let (named, there) = (named_by(stores, &packed).await.map_err(said)?, place.files(&below).await);
    same(&named, &there)
}

/// What may have become of what was asked for and not answered.
fn cuts(at: usize, operation: &Operation, place: &Place) -> Vec<Cut> {
    let fates: &[Fate] = match place.is_disk() {
        true => &[Fate::Vanishes, Fate::Lands, Fate::Tears],
        false => &[Fate::Vanishes, Fate::Lands],
    };
    let own = if operation.changes { fates } else { &fates[..1] };
    let others = if operation.beside > 0 { fates } else { &fates[..1] };
    own.iter().flat_map(|&own| others.iter().map(move |&others| Cut { at, own, others })).collect()
}

fn cut_everywhere(scenario: Scenario, place: impl Fn() -> Place) {
    let (whole, believed) = (place(), Arc::default());
    let (before, operations) = run(scenario, &whole, None, &believed);
    block_on(take_over(scenario, &whole, &believed)).unwrap();
    let (mut count, mut violations) = (0, Vec::new());
    for (at, operation) in operations.iter().enumerate().skip(before) {
        for cut in cuts(at, operation, &whole) {
            let (place, believed) = (place(), Arc::default());
            run(scenario, &place, Some(cut), &believed);
            count += 1;
            if let Err(violation) = block_on(take_over(scenario, &place, &believed)) {
                violations.push(format!("{cut:?}, {}: {violation}", operation.name));
            }
        }
    }
    let operations = operations.len() - before;
    let (name, found) = (format!("{scenario:?}").to_lowercase(), violations.len());
    println!("{name:10} {:6} {operations:4} operations {count:4} cuts {found:3} violations", whole.name());
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(operations > 3, "{operations} operations");
}

macro_rules! scenarios {
    ($($memory:ident $disk:ident $scenario:ident,)*) => {
        $(
            #[test]
            fn $memory() {
                cut_everywhere($scenario, Place::memory);
            }

            #[test]
            fn $disk() {
                cut_everywhere($scenario, Place::disk);
            }
        )*
    };
}

scenarios! {
    first_checkpoint_in_memory first_checkpoint_on_disk First,
    steady_state_in_memory steady_state_on_disk Steady,
    long_segments_in_memory long_segments_on_disk Streamed,
    abort_in_memory abort_on_disk Abort,
    subsume_in_memory subsume_on_disk Subsume,
    fold_in_memory fold_on_disk Fold,
    rewrite_in_memory rewrite_on_disk Rewrite,
    take_over_in_memory take_over_on_disk TakeOver,
    leftovers_in_memory leftovers_on_disk Leftovers,
    sweep_in_memory sweep_on_disk Sweep,
    dispose_in_memory dispose_on_disk Dispose,
    repack_in_memory repack_on_disk Repack,
}
