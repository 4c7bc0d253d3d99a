//! What stays and what goes at a job's end: every end, under every retention, with savepoints wherever they may lie. The
//! outcomes are the table of `design/lifecycle.md`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/crash_job.rs"]
mod crash_job;
#[path = "support/crash_place.rs"]
mod crash_place;
#[path = "support/crash_store.rs"]
mod crash_store;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/seeded.rs"]
mod seeded;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use crash_job::{JOB, Job, named_by, settings, storage};
use crash_place::Place;
use drystone::config::{ClaimMode, Retention, Settings};
use drystone::coordinator::JobEnd;
use drystone::store::{FlinkPath, Stores};

const RETENTIONS: [(Retention, &str); 3] = [
    (Retention::NoExternalized, "`NO_EXTERNALIZED_CHECKPOINTS`"),
    (Retention::DeleteOnCancellation, "`DELETE_ON_CANCELLATION`"),
    (Retention::RetainOnCancellation, "`RETAIN_ON_CANCELLATION`"),
];

const ENDS: [(JobEnd, &str); 4] = [
    (JobEnd::Finished, "finished"),
    (JobEnd::Cancelled, "cancelled"),
    (JobEnd::Failed, "failed"),
    (JobEnd::Suspended, "suspended"),
];

/// Where the savepoint lies that the job starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lies {
    InTheJobsDirectory,
    Beside,
    Elsewhere,
}

/// How the job starts from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Starts {
    Claiming,
    /// And another coordinator has taken over since.
    ClaimingOnce,
    NotClaiming,
}

const LIES: [Lies; 3] = [Lies::InTheJobsDirectory, Lies::Beside, Lies::Elsewhere];

impl Lies {
    fn directory(self, place: &Place) -> FlinkPath {
        match self {
            Self::InTheJobsDirectory => place.root().join(&format!("jobs/{JOB}")).unwrap(),
            Self::Beside => place.root().join("jobs").unwrap(),
            Self::Elsewhere => place.root().join("savepoints").unwrap(),
        }
    }
}

fn stores(place: &Place) -> Stores {
    place.stores(None).with_rebase(runs::moved_to(runs::data().to_str().unwrap()))
}

/// What became of something.
fn outcome(before: &BTreeSet<FlinkPath>, now: &BTreeSet<FlinkPath>) -> &'static str {
    assert!(!before.is_empty());
    match before.intersection(now).count() {
        0 => "goes",
        all if all == before.len() => "stays",
        some => panic!("{some} files of {before:?} are left"),
    }
}

/// The job's own checkpoints, the savepoint, and what tasks own.
async fn at_the_end(place: &Place, retention: Retention, end: JobEnd, lies: Lies, starts: Starts) -> [&'static str; 3] {
    let stores = stores(place);
    let fixture = FlinkPath::parse(runs::data().join(runs::SAVEPOINT).to_str().unwrap()).unwrap();
    let below = lies.directory(place).to_string();
    let packed = runs::repack(&stores, &fixture, &below, &runs::options(1, runs::all_packed())).await.unwrap();
    let savepoint = named_by(&stores, &packed.destination).await.unwrap();

    let settings = Settings { retention, num_retained: 3, ..settings() };
    let open = |start| storage(stores.clone(), &place.root().join("jobs").unwrap(), settings.clone(), start).unwrap();
    let believed = Arc::default();
    let mut job = Job::start(open(1), Arc::clone(&believed)).await.unwrap();
    let mode = if starts == Starts::NotClaiming { ClaimMode::NoClaim } else { ClaimMode::Claim };
    job.coordinator.restore(&packed.destination, mode).await.unwrap();
    for _ in 0..2 {
        job.change(&[3000, 2000], |_| true);
        job.checkpoint().await.unwrap();
    }
    if starts == Starts::ClaimingOnce {
        job = Job::start(open(2), believed).await.unwrap();
        job.take_over().await.unwrap();
    }
    let owned = job.coordinator.directory().task_owned().join("theirs").unwrap();
    owned.create(vec![Bytes::from_static(b"a task's own")]).await.unwrap();
    let mut own = BTreeSet::new();
    for file in place.files(job.coordinator.directory().root().name()).await {
        if file.file_name() == Some("_metadata") && job.coordinator.directory().checkpoint_of(&file).is_some() {
            own.extend(named_by(&stores, &file.parent().unwrap()).await.unwrap());
        }
    }
    assert!(own.is_disjoint(&savepoint));
    // One that is under way, with some of its files.
    job.change(&[3000, 2000], |_| true);
    let trigger = job.trigger().unwrap();
    job.part(&trigger, 0).await.unwrap();

    job.coordinator.dispose(end).await.unwrap();
    let now = place.files(&place.root()).await;
    let owned = BTreeSet::from([owned.name().clone()]);
    let all: BTreeSet<_> = own.iter().chain(&savepoint).chain(&owned).cloned().collect();
    let unnamed: Vec<_> = now.difference(&all).collect();
    assert!(unnamed.is_empty(), "{retention:?} {end:?} {lies:?} {starts:?}: {unnamed:?}");
    for checkpoint in now.iter().filter(|path| path.file_name() == Some("_metadata")) {
        let found = runs::check(&stores, checkpoint).await.unwrap();
        assert!(found.is_sound(), "{checkpoint}: {:?}", found.findings);
    }
    if outcome(&own, &now) == "goes" && outcome(&savepoint, &now) == "goes" {
        // Not even a directory is left of either.
        assert_eq!(now, owned);
        if let Place::Disk(directory) = place {
            let directories = directories(directory.path());
            // But beside what tasks own, and that of the news of its end.
            let kept = ["", "/_drystone", "/shared", "/taskowned"].map(|below| format!("jobs/{JOB}{below}"));
            assert!(
                directories.iter().all(|found| ["jobs", "savepoints"].contains(&&**found) || kept.contains(found)),
                "{lies:?}: {directories:?}"
            );
        }
    }
    [outcome(&own, &now), outcome(&savepoint, &now), outcome(&owned, &now)]
}

fn directories(root: &Path) -> BTreeSet<String> {
    let (mut found, mut waiting) = (BTreeSet::new(), vec![root.to_path_buf()]);
    while let Some(path) = waiting.pop() {
        for path in std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            waiting.push(path);
        }
    }
    found
}

/// What Flink does with a job's checkpoints: its standalone store, and the one for high availability.
fn flink(retention: Retention, end: JobEnd) -> [&'static str; 2] {
    let (finished, cancelled, failed, suspended) = match retention {
        Retention::NoExternalized => ("goes", "goes", "goes", "goes"),
        Retention::DeleteOnCancellation => ("goes", "goes", "stays", "goes"),
        Retention::RetainOnCancellation => ("goes", "stays", "stays", "stays"),
    };
    match end {
        JobEnd::Finished => [finished, finished],
        JobEnd::Cancelled => [cancelled, cancelled],
        JobEnd::Failed => [failed, failed],
        // The latter never removes state then.
        JobEnd::Suspended => [suspended, "stays"],
    }
}

const HEADER: [&str; 10] = [
    "Retention",
    "Job",
    "Its checkpoints",
    "Claimed, in its directory",
    "Claimed, beside it",
    "Claimed, elsewhere",
    "Claimed by an earlier coordinator",
    "Not claimed",
    "Flink",
    "Flink, HA",
];

fn line(cells: &[&str]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

async fn table(place: fn() -> Place) -> String {
    let mut table = line(&HEADER) + &line(&["---"; HEADER.len()]);
    for (retention, retention_name) in RETENTIONS {
        for (end, end_name) in ENDS {
            let (mut own, mut claimed, mut once, mut unclaimed) = (vec![], vec![], vec![], vec![]);
            for lies in LIES {
                for starts in [Starts::Claiming, Starts::ClaimingOnce, Starts::NotClaiming] {
                    let [of_job, savepoint, of_tasks] = at_the_end(&place(), retention, end, lies, starts).await;
                    assert_eq!(of_tasks, "stays", "what tasks own is theirs");
                    own.push(of_job);
                    match starts {
                        Starts::Claiming => claimed.push(savepoint),
                        Starts::ClaimingOnce => once.push(savepoint),
                        Starts::NotClaiming => unclaimed.push(savepoint),
                    }
                }
            }
            // Wherever it lies.
            let one = |outcomes: Vec<&'static str>| {
                assert!(outcomes.iter().all(|each| *each == outcomes[0]), "{retention:?} {end:?}: {outcomes:?}");
                outcomes[0]
            };
            let [standalone, available] = flink(retention, end);
            let places = [claimed[0], claimed[1], claimed[2]];
            let cells = [retention_name, end_name, one(own)];
            let others = [one(once), one(unclaimed), standalone, available];
            table += &line(&[&cells[..], &places, &others].concat());
        }
    }
    table
}

fn assert_is_the_page(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("design/lifecycle.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page.contains(table), "{} doesn't have this table:\n{table}", path.display());
    assert_eq!(page.matches("\n| `").count(), table.matches("\n| `").count(), "the page has another one, too");
}

#[tokio::test]
async fn the_table_is_what_happens_in_memory() {
    assert_is_the_page(&table(Place::memory).await);
}

#[tokio::test]
async fn the_table_is_what_happens_on_disk() {
    assert_is_the_page(&table(Place::disk).await);
}
