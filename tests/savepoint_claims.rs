//! A job that starts from a savepoint of ours, as its own or not, in a store in memory and on a local disk; and savepoints on a
//! local disk that come to nothing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/heir.rs"]
mod heir;
#[path = "support/live.rs"]
mod live;
#[path = "support/savepoint_job.rs"]
mod savepoint_job;
#[path = "support/scenario.rs"]
mod scenario;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drystone::ErrorKind;
use drystone::config::ClaimMode;
use drystone::coordinator::JobEnd;
use drystone::dispose::{Disposal, DisposeSettings};
use drystone::protocol::{SnapshotKind, Trigger};
use drystone::store::{FlinkPath, Stores};
use heir::Heir;
use object_store::memory::InMemory;
use savepoint_job::{Job, check, path};
use tempfile::TempDir;

/// Where jobs and savepoints go.
struct Place {
    stores: Stores,
    root: String,
    disk: Option<TempDir>,
}

impl Place {
    fn in_memory() -> Self {
        let stores = Stores::new().with_store(&path("memory:/"), Arc::new(InMemory::new()));
        Self { stores, root: "memory:/all".to_owned(), disk: None }
    }

    fn on_disk() -> Self {
        let disk = tempfile::tempdir().unwrap();
        Self { stores: Stores::new(), root: format!("file:{}", disk.path().display()), disk: Some(disk) }
    }

    fn below(&self, below: &str) -> FlinkPath {
        path(&format!("{}/{below}", self.root))
    }

    async fn job(&self) -> Job {
        Job::at(self.stores.clone(), &self.below("old"), live::settings(), live::tokens()).await.unwrap()
    }

    async fn files(&self, at: &FlinkPath) -> usize {
        let directory = self.stores.locate(at).unwrap();
        directory.list().await.unwrap().len() + directory.list_partials().await.unwrap().len()
    }

    /// Of a local disk; elsewhere there are no directories.
    fn is_directory(&self, at: &FlinkPath) -> bool {
        self.disk.is_some() && PathBuf::from(at.path()).is_dir()
    }
}

fn directory_of(trigger: &Trigger) -> FlinkPath {
    let SnapshotKind::Savepoint(target) = &trigger.kind else { panic!("{trigger:?}") };
    path(&target.directory)
}

const OPTIONS: [(&str, &str); 3] = [
    ("execution.checkpointing.externalized-checkpoint-retention", "DELETE_ON_CANCELLATION"),
    ("execution.checkpointing.data-inline-threshold", "0"),
    ("drystone.fencing.proof-rounds", "0"),
];

async fn starts_from(place: Place, pack: bool, mode: ClaimMode) {
    let context = format!("{}, pack={pack}, {mode:?}", place.root);
    let job = place.job().await;
    job.checkpoint().await.unwrap();
    let trigger = job.savepoint_in(&place.below("savepoints"), pack);
    let at = job.take(&trigger).await.unwrap().path;
    job.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
    let before = place.files(&at).await;
    assert_eq!(before, if pack { 2 } else { 5 }, "{context}");

    let new = place.below("new").to_string();
    let mut heir = Heir::new(&place.stores, &new, &at, mode, &OPTIONS).await;
    // Nothing of a savepoint is named again: each byte is written anew, and is what it was.
    let (first, answers) = heir.round(false).await;
    assert!(answers.kept.is_empty() && answers.rewritten.len() == 4, "{context}: {answers:?}");
    assert!(first.checkpoint > trigger.checkpoint, "{context}");
    let is_gone = mode == ClaimMode::Claim;
    assert_eq!(first.subsumed.contains(&trigger.checkpoint), is_gone, "{context}: {first:?}");
    assert_eq!(place.files(&at).await, if is_gone { 0 } else { before }, "{context}");
    assert_eq!(place.is_directory(&at), place.disk.is_some() && !is_gone, "{context}");
    // A later checkpoint names what the first one does, and nothing else.
    let (_, answers) = heir.round(false).await;
    assert!(!answers.kept.is_empty(), "{context}: {answers:?}");
    heir.worker.close().await.unwrap();
    heir.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
    if !is_gone {
        check(&place.stores, &at, trigger.checkpoint).await;
    }
}

#[tokio::test]
async fn a_claimed_savepoint_goes_when_the_job_has_a_checkpoint_of_its_own() {
    for pack in [false, true] {
        starts_from(Place::in_memory(), pack, ClaimMode::Claim).await;
        starts_from(Place::on_disk(), pack, ClaimMode::Claim).await;
    }
}

#[tokio::test]
async fn one_that_is_not_claimed_stays_as_it_is() {
    for mode in [ClaimMode::NoClaim, ClaimMode::Legacy] {
        for pack in [false, true] {
            starts_from(Place::in_memory(), pack, mode).await;
            starts_from(Place::on_disk(), pack, mode).await;
        }
    }
}

/// Claimed after it was moved: the files that go are those beside the metadata, not those of the place that it came from.
#[tokio::test]
async fn a_claimed_savepoint_that_was_moved_goes_from_where_it_is() {
    let place = Place::on_disk();
    let job = place.job().await;
    let trigger = job.savepoint_in(&place.below("savepoints"), false);
    let at = job.take(&trigger).await.unwrap().path;
    let moved = place.below("mine");
    std::fs::rename(at.path(), moved.path()).unwrap();
    let mut heir = Heir::new(&place.stores, &place.below("new").to_string(), &moved, ClaimMode::Claim, &OPTIONS).await;
    heir.round(false).await;
    assert!(!place.is_directory(&moved) && !place.is_directory(&at));
}

/// What a process that was killed leaves on a local disk: files in the making, which nothing lists.
fn leave_partials(at: &FlinkPath) {
    let names = ["ds1-a1-ww-c1-n7-00000000000000aa#1", "_metadata#1"].map(str::to_owned);
    let directory = at.file_name().unwrap();
    let marker = format!("_drystone-unfinished-0000{}#1", directory.rsplit_once('-').unwrap().1);
    for name in names.into_iter().chain([marker]) {
        std::fs::write(PathBuf::from(at.path()).join(name), b"cut").unwrap();
    }
}

#[tokio::test]
async fn an_aborted_one_leaves_no_directory_on_a_local_disk() {
    for pack in [false, true] {
        let place = Place::on_disk();
        let job = place.job().await;
        for notes in [false, true] {
            let trigger = job.savepoint_in(&place.below("savepoints"), pack);
            let at = directory_of(&trigger);
            let written = job.write(&trigger).await.unwrap();
            job.acknowledge(&trigger, 0, written[0].1.clone()).unwrap();
            assert_eq!(place.files(&at).await, if pack { 2 } else { 5 });
            if !notes {
                leave_partials(&at);
            } else {
                std::fs::write(PathBuf::from(at.path()).join("notes.txt"), b"the user's").unwrap();
            }
            assert!(job.coordinator.abort(trigger.checkpoint));
            job.worker.abort(trigger.epoch, trigger.checkpoint);
            job.coordinator.settle().await.unwrap();
            assert_eq!(place.files(&at).await, usize::from(notes), "pack={pack}: only the user's own");
            assert_eq!(place.is_directory(&at), notes);
        }
        // The next one is none the worse for it.
        let trigger = job.savepoint_in(&place.below("savepoints"), pack);
        let completed = job.take(&trigger).await.unwrap();
        check(&place.stores, &completed.path, trigger.checkpoint).await;
    }
}

#[tokio::test]
async fn one_that_was_cut_is_disposed_of_with_its_directory() {
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33);
    let settings = DisposeSettings::default();
    for pack in [false, true] {
        let place = Place::on_disk();
        let job = place.job().await;
        let trigger = job.savepoint_in(&place.below("savepoints"), pack);
        job.write(&trigger).await.unwrap();
        let at = directory_of(&trigger);
        leave_partials(&at);
        let disposal = Disposal::look(&place.stores, &at, &settings, later).await.unwrap();
        let doomed = disposal.found().doomed.len();
        assert_eq!(doomed, if pack { 2 } else { 5 } + 3, "partial files among them");
        let disposed = disposal.delete(&|_, _| {}).await;
        assert!(disposed.is_complete(), "{disposed:?}");
        assert_eq!((disposed.files.len(), disposed.directories), (doomed, 1));
        assert!(!place.is_directory(&at));
    }
    // A directory in which there is nothing yet: nothing says how old it is.
    let place = Place::on_disk();
    let at = place.below("savepoints/savepoint-ababab-00000000000f");
    std::fs::create_dir_all(at.path()).unwrap();
    let error = Disposal::look(&place.stores, &at, &settings, later).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let settings = DisposeSettings { abandoned: true, ..settings };
    let disposal = Disposal::look(&place.stores, &at, &settings, later).await.unwrap();
    assert!(disposal.delete(&|_, _| {}).await.is_complete() && !place.is_directory(&at));
}
