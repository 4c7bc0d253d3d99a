//! What is left of a savepoint whose job died before it had metadata goes as a whole, or is refused with the reason; cut off
//! anywhere, the same again finishes it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/live.rs"]
mod live;
#[path = "support/savepoint_job.rs"]
mod savepoint_job;
#[path = "support/upload_log.rs"]
mod upload_log;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::dispose::{Disposal, DisposeSettings, Disposed};
use drystone::format::{NamedFile, Trailer, barred, encode};
use drystone::handle::{JavaString, StreamHandle};
use drystone::id::CheckpointId;
use drystone::jobs::{State, list};
use drystone::protocol::{SnapshotKind, Trigger};
use drystone::read::{Checkpoint, ReadLimits};
use drystone::repack::{self, Options};
use drystone::store::{FlinkPath, Location, Stores};
use fault_store::{Fault, FaultStore};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use savepoint_job::{Job, check, path};
use upload_log::Log;

fn later() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33)
}

fn abandoned() -> DisposeSettings {
    DisposeSettings { abandoned: true, ..DisposeSettings::default() }
}

fn directory_of(trigger: &Trigger) -> FlinkPath {
    let SnapshotKind::Savepoint(target) = &trigger.kind else { panic!("{trigger:?}") };
    path(&target.directory)
}

/// The workers have written all of it, and then the job died.
async fn unfinished(store: Arc<dyn ObjectStore>, pack: bool) -> (Job, FlinkPath) {
    let job = Job::new(store).await.unwrap();
    let trigger = job.savepoint(pack);
    job.write(&trigger).await.unwrap();
    (job, directory_of(&trigger))
}

async fn left() -> (Job, FlinkPath) {
    unfinished(Arc::new(InMemory::new()), false).await
}

fn file(job: &Job, at: &FlinkPath, below: &str) -> Location {
    job.stores.locate(at).unwrap().join(below).unwrap()
}

async fn look(stores: &Stores, at: &FlinkPath, settings: &DisposeSettings) -> drystone::Result<Disposal> {
    Disposal::look(stores, at, settings, later()).await
}

async fn dispose(stores: &Stores, at: &FlinkPath) -> drystone::Result<Disposed> {
    Ok(look(stores, at, &DisposeSettings::default()).await?.delete(&|_, _| {}).await)
}

/// Refused, and nothing has changed.
async fn refused(job: &Job, at: &FlinkPath, settings: &DisposeSettings, text: &str) {
    let before = job.files("memory:/").await;
    let error = look(&job.stores, at, settings).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(job.files("memory:/").await, before);
}

#[tokio::test]
async fn all_of_it_goes_and_nothing_else() {
    for pack in [false, true] {
        let (job, at) = unfinished(Arc::new(InMemory::new()), pack).await;
        let whole = job.savepoint(pack);
        let whole = job.take(&whole).await.unwrap();
        let others = job.files(&whole.path.to_string()).await;
        let disposal = look(&job.stores, &at, &DisposeSettings::default()).await.unwrap();
        let found = disposal.found().clone();
        assert!(found.is_unfinished && found.metadata_bytes.is_none() && found.directory == at, "{found:?}");
        assert_eq!((found.checkpoint, found.doomed.len()), (Some(CheckpointId(1)), if pack { 2 } else { 5 }));
        assert_eq!(job.files(&at.to_string()).await.len(), found.doomed.len(), "the look deletes nothing");
        let disposed = disposal.delete(&|_, _| {}).await;
        assert!(disposed.is_complete() && disposed.metadata_gone, "{disposed:?}");
        assert_eq!(disposed.files.len(), found.doomed.len());
        assert!(job.files(&at.to_string()).await.is_empty());
        assert_eq!(job.files(&whole.path.to_string()).await, others);
        check(&job.stores, &whole.path, whole.checkpoint).await;
        let again = dispose(&job.stores, &at).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::NotFound, "{again}");
    }
}

#[tokio::test(start_paused = true)]
async fn cut_off_anywhere_the_same_again_finishes_it() {
    let over = |inner: &Arc<InMemory>, faults: &[(usize, Fault)]| {
        let store = FaultStore::new(inner.clone(), faults.iter().copied());
        (store.clone(), Stores::new().with_store(&path("memory:/"), Arc::new(store)))
    };
    let filled = async || {
        let inner = Arc::new(InMemory::new());
        let (job, at) = unfinished(inner.clone(), false).await;
        let other = job.take(&job.savepoint(false)).await.unwrap();
        (inner, job, at, other)
    };
    let (inner, _, at, _) = filled().await;
    let (store, stores) = over(&inner, &[]);
    assert!(dispose(&stores, &at).await.unwrap().is_complete());
    let requests = store.operations().len();
    for (number, fault) in (0..requests).flat_map(|n| [Fault::Before, Fault::After, Fault::Crash].map(|f| (n, f))) {
        let (inner, job, at, other) = filled().await;
        let before = job.files(&at.to_string()).await;
        let (store, stores) = over(&inner, &[(number, fault)]);
        let done = dispose(&stores, &at).await;
        let context = format!("{fault:?} at {:?}", store.operations()[number]);
        let there = job.files(&at.to_string()).await;
        if done.is_ok_and(|disposed| disposed.is_complete()) {
            assert!(there.is_empty(), "{context}: {there:?}");
        }
        // What is left says what it is: no other word is needed.
        let listing = list(&job.stores, &path("memory:/savepoints"), &ReadLimits::default()).await.unwrap();
        let entry = listing.groups[0].entries.iter().find(|entry| entry.path == at);
        assert_eq!(entry.is_none(), there.is_empty(), "{context}");
        assert!(
            entry.is_none_or(|e| matches!(e.state, State::NoMetadata | State::Barred { .. })),
            "{context}: {entry:?}"
        );
        let is_bar = |name: &String| name == "_metadata";
        assert!(there.iter().all(|name| is_bar(name) || before.contains(name)), "{context}: {there:?}");
        match dispose(&job.stores, &at).await {
            Ok(disposed) => assert!(disposed.is_complete(), "{context}: {disposed:?}"),
            Err(error) => assert!(error.kind() == ErrorKind::NotFound && there.is_empty(), "{context}: {error}"),
        }
        assert!(job.files(&at.to_string()).await.is_empty(), "{context}");
        check(&job.stores, &other.path, other.checkpoint).await;
    }
    println!("{requests} requests, {} runs", 3 * requests);
    assert!(requests > 15, "{requests}");
}

#[tokio::test]
async fn one_that_may_be_under_way_stays_unless_it_is_abandoned() {
    let (job, at) = left().await;
    let written = job.stores.locate(&at).unwrap().list().await.unwrap();
    let youngest = written.iter().map(|file| file.modified).max().unwrap();
    let grace = |grace| DisposeSettings { grace, ..DisposeSettings::default() };
    let since_written = later().duration_since(youngest).unwrap();
    refused(&job, &at, &grace(since_written + Duration::from_secs(1)), "may be under way").await;
    look(&job.stores, &at, &grace(since_written)).await.map(drop).unwrap();
    look(&job.stores, &at, &DisposeSettings { abandoned: true, ..grace(Duration::MAX) }).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_file_of_somebody_else_is_named_and_all_stays() {
    let uuid = "5c027815-91c5-482a-a453-7f77fecacf2f";
    for foreign in ["notes.txt", uuid, "deeper/ds1-a1-ww-c1-n0-0000000000000001", "._metadata.inprogress.x"] {
        let (job, at) = left().await;
        file(&job, &at, foreign).create(vec![Bytes::from_static(b"the user's")]).await.unwrap();
        refused(&job, &at, &abandoned(), &format!("{at}/{foreign} in it isn't Drystone's")).await;
    }
}

/// A savepoint that a job has claimed loses its metadata when a newer checkpoint replaces it, and keeps what that names.
#[tokio::test]
async fn what_a_job_may_have_claimed_stays() {
    let job = Job::new(Arc::new(InMemory::new())).await.unwrap();
    let savepoint = job.take(&job.savepoint(false)).await.unwrap();
    let metadata = file(&job, &savepoint.path, "_metadata");
    let loaded = Checkpoint::load(&job.stores, &savepoint.path).await.unwrap().decoded;
    metadata.delete().await.unwrap();
    refused(&job, &savepoint.path, &DisposeSettings::default(), "a job that has claimed it").await;
    // Who says that none has is believed, but not against what is there: beside it, or where it is said to be.
    let mut claiming = loaded.metadata.clone();
    claiming.visit_streams_mut(|_, handle| {
        let StreamHandle::Relative(file) = &*handle else { panic!("{handle:?}") };
        let absolute = savepoint.path.join(&file.path.to_text()).unwrap().to_string();
        *handle = StreamHandle::File(drystone::handle::FileHandle {
            path: JavaString::new(&absolute).unwrap(),
            ..file.clone()
        });
    });
    let none: Vec<NamedFile> = Vec::new();
    let writer = JavaString::new("drystone").unwrap();
    let bytes = Trailer::seal(&encode(&claiming).unwrap(), none, 1, writer);
    let claimant = file(&job, &path("memory:/other/jobs/chk-7"), "_metadata");
    claimant.create(vec![bytes.clone()]).await.unwrap();
    let named_by = DisposeSettings { named_by: vec![path("memory:/other/jobs")], ..abandoned() };
    refused(&job, &savepoint.path, &named_by, "memory:/other/jobs/chk-7/_metadata names it").await;
    let beside = file(&job, &path("memory:/savepoints/savepoint-ababab-ffffffffffff"), "_metadata");
    beside.create(vec![bytes]).await.unwrap();
    refused(&job, &savepoint.path, &abandoned(), "savepoint-ababab-ffffffffffff/_metadata names it").await;
    beside.delete().await.unwrap();
    assert!(look(&job.stores, &savepoint.path, &abandoned()).await.unwrap().found().is_unfinished);
}

#[tokio::test]
async fn other_directories_are_none() {
    let job = Job::new(Arc::new(InMemory::new())).await.unwrap();
    let trigger = job.coordinator.trigger(job.coordinator.next_checkpoint()).unwrap();
    job.write(&trigger).await.unwrap();
    let chk = job.coordinator.directory().checkpoint(trigger.checkpoint).unwrap();
    assert_eq!(chk.list().await.unwrap().len(), 1);
    for at in [chk.name().clone(), chk.name().parent().unwrap().join("shared").unwrap(), path("memory:/savepoints")] {
        let error = look(&job.stores, &at, &abandoned()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

#[tokio::test]
async fn what_has_come_since_the_look_stops_it() {
    for completes in [false, true] {
        let job = Job::new(Arc::new(InMemory::new())).await.unwrap();
        let trigger = job.savepoint(false);
        let written = job.write(&trigger).await.unwrap();
        let at = directory_of(&trigger);
        let disposal = look(&job.stores, &at, &abandoned()).await.unwrap();
        if completes {
            for (index, handles) in written {
                job.acknowledge(&trigger, index, handles).unwrap();
            }
            job.coordinator.complete(trigger.checkpoint).await.unwrap();
        } else {
            let late = "ds1-a1-ww-c1-n9-00000000000000aa";
            file(&job, &at, late).create(vec![Bytes::from_static(b"late")]).await.unwrap();
        }
        let before = job.files(&at.to_string()).await;
        let disposed = disposal.delete(&|_, _| {}).await;
        let error = disposed.stopped.unwrap();
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("since it was looked at"), "{error}");
        assert_eq!((job.files(&at.to_string()).await, disposed.files.len()), (before, 0));
        if completes {
            check(&job.stores, &at, trigger.checkpoint).await;
        }
    }
}

/// A coordinator that is alive after all, and about to complete it: it finds the bar, and the savepoint fails.
#[tokio::test]
async fn from_the_first_delete_on_it_cannot_be_completed() {
    let job = Job::new(Arc::new(InMemory::new())).await.unwrap();
    let trigger = job.savepoint(false);
    for (index, handles) in job.write(&trigger).await.unwrap() {
        job.acknowledge(&trigger, index, handles).unwrap();
    }
    let at = directory_of(&trigger);
    file(&job, &at, "_metadata").create(vec![barred(trigger.checkpoint, trigger.epoch)]).await.unwrap();
    let refused = job.coordinator.complete(trigger.checkpoint).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    job.coordinator.settle().await.unwrap();
    // Its coordinator has removed the rest; the bar goes with a further disposal, which needs no other word.
    assert_eq!(job.files(&at.to_string()).await, ["_metadata"]);
    assert!(dispose(&job.stores, &at).await.unwrap().is_complete());
    assert!(job.files(&at.to_string()).await.is_empty());
}

/// Cut off right before the first file goes: its coordinator, alive after all, can't complete it.
#[tokio::test(start_paused = true)]
async fn the_bar_comes_before_the_first_delete() {
    let filled = async || {
        let inner = Arc::new(InMemory::new());
        let job = Job::new(inner.clone()).await.unwrap();
        let trigger = job.savepoint(false);
        for (index, handles) in job.write(&trigger).await.unwrap() {
            job.acknowledge(&trigger, index, handles).unwrap();
        }
        (inner, job, trigger)
    };
    let over = |inner: Arc<InMemory>, faults: Vec<(usize, Fault)>| {
        let store = FaultStore::new(inner, faults);
        (store.clone(), Stores::new().with_store(&path("memory:/"), Arc::new(store)))
    };
    let (inner, _, trigger) = filled().await;
    let (store, stores) = over(inner, vec![]);
    assert!(dispose(&stores, &directory_of(&trigger)).await.unwrap().is_complete());
    let first = store.operations().iter().position(|operation| operation.starts_with("delete")).unwrap();

    let (inner, job, trigger) = filled().await;
    let at = directory_of(&trigger);
    let (_, stores) = over(inner, vec![(first, Fault::Crash)]);
    let cut = dispose(&stores, &at).await.unwrap();
    assert!(!cut.is_complete() && cut.metadata_gone && cut.files.is_empty(), "{cut:?}");
    assert_eq!(job.files(&at.to_string()).await.len(), 6, "all of it, and the bar");
    let refused = job.coordinator.complete(trigger.checkpoint).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert!(dispose(&job.stores, &at).await.unwrap().is_complete());
    assert!(job.files(&at.to_string()).await.is_empty());
}

#[tokio::test]
async fn uploads_that_were_cut_off_go_too_and_count_as_the_files_they_were_to_be() {
    let (job, at) = left().await;
    let key = |below: &str| format!("{}/{below}", at.path().trim_start_matches('/'));
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
    let ours = key("ds1-a1-ww-c1-n9-00000000000000aa");
    for (upload, started, text) in [
        (key("foreign"), old, Some("foreign in it isn't Drystone's")),
        (ours.clone(), later(), Some("may be under way")),
        (ours, old, None),
    ] {
        let log = Arc::new(Log::default());
        let elsewhere = ("savepoints/elsewhere".to_owned(), "b".to_owned(), old);
        *log.0.lock().unwrap() = vec![(upload, "a".to_owned(), started), elsewhere.clone()];
        let stores = job.stores.clone().with_uploads(&path("memory:/"), log.clone());
        let found = look(&stores, &at, &DisposeSettings::default()).await;
        match text {
            Some(text) => {
                let error = found.map(drop).unwrap_err();
                assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains(text), "{error}");
            }
            None => {
                let disposal = found.unwrap();
                assert_eq!(disposal.found().uploads.len(), 1);
                assert!(disposal.delete(&|_, _| {}).await.is_complete());
                assert_eq!(*log.0.lock().unwrap(), [elsewhere]);
            }
        }
    }
    assert!(job.files(&at.to_string()).await.is_empty());
}

/// A copy that was interrupted has a mark with the run's token, which is in the names of all its files. The mark goes after
/// the metadata has come: it doesn't say that there was never any.
#[tokio::test]
async fn an_interrupted_copy_goes_too() {
    let inner = Arc::new(InMemory::new());
    let store = FaultStore::new(inner.clone(), []);
    let job = Job::new(Arc::new(store.clone())).await.unwrap();
    let savepoint = job.take(&job.savepoint(false)).await.unwrap();
    let write = savepoint_job::worker_settings().write;
    let read = ReadLimits { requests_max: 1, ..ReadLimits::default() };
    let options = Options { write, read, job_id: None, tokens: live::tokens(), discard_leftovers: false };
    store.begin([(14, Fault::Crash)]);
    repack::copy(&job.stores, &savepoint.path, &path("memory:/copies"), &options, &|_, _, _| {}).await.unwrap_err();
    let job = job.successor(inner).await.unwrap();
    let copy = path("memory:/copies").join(savepoint.path.file_name().unwrap()).unwrap();
    let there = job.files(&copy.to_string()).await;
    assert!(there.len() > 1 && !there.contains(&"_metadata".to_owned()), "{there:?}");
    refused(&job, &copy, &DisposeSettings::default(), "may have had some").await;
    let disposal = look(&job.stores, &copy, &abandoned()).await.unwrap();
    assert!(disposal.delete(&|_, _| {}).await.is_complete());
    assert!(job.files(&copy.to_string()).await.is_empty());
    check(&job.stores, &savepoint.path, savepoint.checkpoint).await;
}
