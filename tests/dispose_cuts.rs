//! A disposal that is cut off, or that fails, at each of its requests: at no time is there a checkpoint that seems whole and
//! isn't, nobody else's file is gone, and the same again finishes it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fault_store.rs"]
#[allow(dead_code, reason = "not every test uses all of the support")]
mod fault_store;
#[path = "support/rule_store.rs"]
#[allow(dead_code, reason = "not every test uses all of the support")]
mod rule_store;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/shelf.rs"]
mod shelf;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drystone::ErrorKind;
use drystone::dispose::{Disposal, DisposeSettings, Disposed, Why};
use drystone::format::{LogEntry, Step};
use drystone::id::{CheckpointId, FileToken};
use drystone::jobs::{State, list};
use drystone::read::ReadLimits;
use drystone::store::Stores;
use drystone::sweep::{Sweep, SweepSettings};
use fault_store::{Fault, FaultStore};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use rule_store::{Act, RuleStore};
use shelf::{Shelf, metadata};
use synthetic::JOB;

const SHARED: u64 = 30;
const OWN: u64 = 20;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33)
}

fn settings() -> DisposeSettings {
    DisposeSettings { requests_max: 2, ..DisposeSettings::default() }
}

fn shared(name: &str) -> (String, u64) {
    (format!("memory:/{JOB}/shared/{name}"), SHARED)
}

fn own(directory: &str, name: &str) -> (String, u64) {
    (format!("memory:/{JOB}/{directory}/{name}"), OWN)
}

/// `chk-1` to `chk-3`, each with two files of its own, one that it shares with its neighbours, and one in `shared` that only it
/// names; and a savepoint.
async fn fill(shelf: &Shelf) {
    for name in ["a", "b", "c", "d", "only-1", "only-2", "only-3"] {
        shelf.put(&format!("shared/{name}"), vec![1; SHARED as usize]).await;
    }
    for directory in ["chk-1", "chk-2", "chk-3", "savepoint-1-2"] {
        for name in ["x", "y"] {
            shelf.put(&format!("{directory}/{name}"), vec![2; OWN as usize]).await;
        }
    }
    for (id, [left, right]) in [(1, ["a", "b"]), (2, ["b", "c"]), (3, ["c", "d"])] {
        let directory = format!("chk-{id}");
        let only = format!("only-{id}");
        let named = [shared(left), shared(right), shared(&only), own(&directory, "x"), own(&directory, "y")];
        shelf.put(&format!("{directory}/_metadata"), metadata(id, Some(1), &named)).await;
    }
    let named = [own("savepoint-1-2", "x"), own("savepoint-1-2", "y")];
    shelf.put("savepoint-1-2/_metadata", metadata(2, None, &named)).await;
}

async fn files(objects: &dyn ObjectStore) -> BTreeSet<String> {
    let listed: Vec<_> = objects.list(None).try_collect().await.unwrap();
    listed.into_iter().map(|meta| meta.location.to_string().replacen(&format!("{JOB}/"), "", 1)).collect()
}

async fn look(stores: &Stores, directory: &str, settings: &DisposeSettings) -> drystone::Result<Disposal> {
    Disposal::look(stores, &runs::path(&format!("memory:/{JOB}/{directory}")), settings, now()).await
}

async fn dispose(stores: &Stores, directory: &str) -> drystone::Result<Disposed> {
    Ok(look(stores, directory, &settings()).await?.delete(&|_, _| {}).await)
}

/// Every checkpoint with metadata is complete; which ones there are.
async fn whole(stores: &Stores) -> Vec<String> {
    let listing = list(stores, &runs::path(&format!("memory:/{JOB}")), &ReadLimits::default()).await.unwrap();
    let entries = listing.groups.into_iter().flat_map(|group| group.entries);
    let with_metadata = entries.filter(|entry| entry.state != State::NoMetadata);
    let name = |entry: drystone::jobs::Entry| {
        assert_eq!(entry.state, State::Complete, "{}", entry.path);
        entry.path.file_name().unwrap().to_owned()
    };
    with_metadata.map(name).collect()
}

fn over(inner: &Arc<InMemory>, faults: &[(usize, Fault)]) -> (FaultStore, Stores) {
    let store = FaultStore::new(inner.clone(), faults.iter().copied());
    let stores = Stores::new().with_store(&runs::path("memory:/"), Arc::new(store.clone()));
    (store, stores)
}

async fn filled() -> Arc<InMemory> {
    let inner = Arc::new(InMemory::new());
    fill(&Shelf::over(inner.clone())).await;
    inner
}

async fn cut_everywhere(directory: &str, gone: &[&str]) {
    let inner = filled().await;
    let before = files(&*inner).await;
    let (store, stores) = over(&inner, &[]);
    assert!(dispose(&stores, directory).await.unwrap().is_complete());
    let gone: BTreeSet<String> = gone.iter().map(|below| (*below).to_owned()).collect();
    assert_eq!(before.difference(&files(&*inner).await).cloned().collect::<BTreeSet<_>>(), gone);
    let requests = store.operations().len();
    let mut cuts = 0;
    for (number, fault) in (0..requests).flat_map(|n| [Fault::Before, Fault::After, Fault::Crash].map(|f| (n, f))) {
        let inner = filled().await;
        let (store, stores) = over(&inner, &[(number, fault)]);
        let done = dispose(&stores, directory).await;
        let operation = store.operations()[number].clone();
        assert!(!done.is_ok_and(|disposed| disposed.is_complete()), "{fault:?} at {operation}");
        let (_, healthy) = over(&inner, &[]);
        let there = whole(&healthy).await;
        let left = files(&*inner).await;
        let lost: BTreeSet<_> = before.difference(&left).cloned().collect();
        assert!(lost.is_subset(&gone), "{fault:?} at {operation}: {lost:?}");
        match there.iter().any(|name| name == directory) {
            true => assert!(lost.is_empty(), "{fault:?} at {operation}: {lost:?}"),
            false => assert_eq!(there.len(), 3, "{fault:?} at {operation}"),
        }
        // The same again; where there was nothing more to do it says so.
        match dispose(&healthy, directory).await {
            Ok(disposed) => assert!(disposed.is_complete(), "{fault:?} at {operation}: {disposed:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{fault:?} at {operation}: {error}"),
        }
        let left = files(&*inner).await;
        assert_eq!(before.difference(&left).cloned().collect::<BTreeSet<_>>(), gone, "{fault:?} at {operation}");
        assert!(left.is_subset(&before), "{fault:?} at {operation}: {left:?}");
        cuts += 1;
    }
    println!("{directory}: {requests} requests, {cuts} cuts");
    assert!(requests > 15, "{requests}");
}

#[tokio::test(start_paused = true)]
async fn of_a_checkpoint() {
    cut_everywhere("chk-2", &["chk-2/_metadata", "chk-2/x", "chk-2/y", "shared/only-2"]).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_savepoint() {
    cut_everywhere("savepoint-1-2", &["savepoint-1-2/_metadata", "savepoint-1-2/x", "savepoint-1-2/y"]).await;
}

#[tokio::test]
async fn one_after_another_leaves_nothing() {
    let inner = filled().await;
    let (_, stores) = over(&inner, &[]);
    for directory in ["chk-3", "chk-1", "savepoint-1-2", "chk-2"] {
        let disposed = dispose(&stores, directory).await.unwrap();
        assert!(disposed.is_complete() && disposed.metadata_gone, "{disposed:?}");
    }
    assert_eq!(files(&*inner).await, BTreeSet::new());
}

async fn job() -> (RuleStore, Shelf) {
    let store = RuleStore::default();
    let shelf = Shelf::over(Arc::new(store.clone()));
    fill(&shelf).await;
    (store, shelf)
}

#[tokio::test]
async fn metadata_that_comes_after_the_look_spares_what_it_names() {
    let (store, shelf) = job().await;
    let disposal = look(&shelf.stores, "chk-2", &settings()).await.unwrap();
    assert_eq!(disposal.found().doomed.len(), 3);
    shelf.put("chk-4/_metadata", metadata(4, None, &[shared("only-2")])).await;
    let disposed = disposal.delete(&|_, _| {}).await;
    assert!(disposed.is_complete(), "{disposed:?}");
    let spared: Vec<_> =
        disposed.spared.iter().map(|(file, why)| (file.path.file_name().unwrap(), why.clone())).collect();
    assert_eq!(spared, [("only-2", Why::NamedBy(runs::path(&format!("memory:/{JOB}/chk-4/_metadata"))))]);
    assert!(files(&store).await.contains("shared/only-2"));
    assert_eq!(whole(&shelf.stores).await, ["chk-1", "chk-3", "chk-4", "savepoint-1-2"]);
}

#[tokio::test]
async fn what_has_changed_since_the_look_stops_it() {
    let entry = |epoch, position| {
        let (open, kept) = (vec![], Some((1..=3).map(CheckpointId).collect()));
        let (coordinator, next) = (FileToken(position), CheckpointId(4));
        LogEntry { epoch, coordinator, step: Step::Claim, open, kept, retained: 3, next }
    };
    for change in 0..3 {
        let (store, shelf) = job().await;
        shelf.log(1, &entry(1, 1)).await;
        let disposal = look(&shelf.stores, "chk-2", &settings()).await.unwrap();
        match change {
            // A coordinator takes the job over, and this checkpoint with it.
            0 => shelf.log(2, &entry(2, 2)).await,
            1 => shelf.put("chk-2/_metadata", metadata(2, Some(2), &[shared("b")])).await,
            _ => shelf.put("chk-4/_metadata", "damaged").await,
        }
        let before = files(&store).await;
        let disposed = disposal.delete(&|_, _| {}).await;
        let stopped = disposed.stopped.unwrap();
        let expected = if change == 2 { ErrorKind::Damaged } else { ErrorKind::Conflict };
        assert_eq!((stopped.kind(), disposed.metadata_gone), (expected, false), "{stopped}");
        assert_eq!(files(&store).await, before);
    }
}

#[tokio::test]
async fn a_delete_that_fails_keeps_no_other_and_is_made_again() {
    let (store, shelf) = job().await;
    store.rule("delete", "chk-2/x", Act::Fail, 1);
    let disposed = dispose(&shelf.stores, "chk-2").await.unwrap();
    assert!(!disposed.is_complete() && disposed.metadata_gone);
    assert_eq!((disposed.files.len(), disposed.failed.len()), (2, 1));
    let found = look(&shelf.stores, "chk-2", &settings()).await.unwrap().found().clone();
    assert_eq!((found.metadata_bytes, found.doomed.len()), (None, 1));
    // A sweep knows the mark, too, for who never runs it again.
    let sweep = Sweep::look(&shelf.stores, &shelf.job(), &SweepSettings::default(), now()).await.unwrap();
    let dead: Vec<_> = sweep.found().dead.iter().map(|file| (file.below.as_str(), file.reason.to_string())).collect();
    let why = "marks a disposal that was interrupted; checkpoint 2 has no metadata".to_owned();
    assert_eq!(dead, [("chk-2/_drystone-disposing", why)]);
    assert!(dispose(&shelf.stores, "chk-2").await.unwrap().is_complete());
    assert_eq!(look(&shelf.stores, "chk-2", &settings()).await.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_job_that_may_be_alive_is_refused() {
    let (_, shelf) = job().await;
    let young = |grace: Duration| DisposeSettings { grace, ..settings() };
    // All was written about now, by this machine's clock.
    let since_written = now().duration_since(written(&shelf).await).unwrap();
    let refused = look(&shelf.stores, "chk-1", &young(since_written + Duration::from_secs(9))).await.map(drop);
    let error = refused.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("may be alive"), "{error}");
    look(&shelf.stores, "chk-1", &young(since_written)).await.map(drop).unwrap();
    // What the user says counts, and so does what the log says: nobody goes on with a job that has ended.
    let abandoned = DisposeSettings { abandoned: true, ..young(Duration::MAX) };
    look(&shelf.stores, "chk-1", &abandoned).await.map(drop).unwrap();
    let ended = |retained| {
        let (open, kept) = (vec![], Some(vec![CheckpointId(3)]));
        let (coordinator, next) = (FileToken(1), CheckpointId(4));
        LogEntry { epoch: 1, coordinator, step: Step::Intent, open, kept, retained, next }
    };
    shelf.log(1, &ended(1)).await;
    assert!(look(&shelf.stores, "chk-1", &young(Duration::MAX)).await.is_err());
    shelf.log(2, &ended(0)).await;
    look(&shelf.stores, "chk-1", &young(Duration::MAX)).await.map(drop).unwrap();
    // A savepoint is the user's, whatever its job does.
    shelf.log(3, &ended(1)).await;
    look(&shelf.stores, "savepoint-1-2", &young(Duration::MAX)).await.map(drop).unwrap();
}

async fn written(shelf: &Shelf) -> SystemTime {
    let listed: Vec<_> = shelf.objects.list(None).try_collect().await.unwrap();
    listed.into_iter().map(|meta| meta.last_modified.into()).max().unwrap()
}

#[tokio::test]
async fn files_of_others_stay_with_the_reason() {
    let (_, shelf) = job().await;
    shelf.put("taskowned/t", vec![3; OWN as usize]).await;
    shelf.put_beside("fedcba9876543210fedcba9876543210/shared/z", vec![3; OWN as usize]).await;
    let elsewhere = ("memory:/fedcba9876543210fedcba9876543210/shared/z".to_owned(), OWN);
    let missing = shared("gone");
    let named = [shared("a"), elsewhere, own("taskowned", "t"), missing, own("savepoint-1-2", "s"), own("chk-5", "u")];
    shelf.put("savepoint-1-2/s", vec![2; OWN as usize]).await;
    shelf.put("chk-5/u", vec![2; OWN as usize]).await;
    shelf.put("chk-5/_metadata", metadata(5, None, &named)).await;
    // Another job beside this one has taken a file over.
    shelf.put_beside("fedcba9876543210fedcba9876543210/chk-9/_metadata", metadata(9, None, &[own("chk-5", "u")])).await;
    let of = async |settings: &DisposeSettings| look(&shelf.stores, "chk-5", settings).await.unwrap().found().clone();
    let found = of(&settings()).await;
    let names = |why: &Why| {
        let spared = found.spared.iter().filter(|(_, is)| is.name() == why.name());
        spared.map(|(file, _)| file.path.file_name().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(&Why::NamedBy(shelf.job())), ["a", "u"]);
    assert_eq!((names(&Why::TaskOwned), names(&Why::Elsewhere)), (vec!["t"], vec!["z", "s"]));
    assert_eq!(found.missing, [runs::path(&missing_name())]);
    assert_eq!((found.doomed.len(), found.doomed_bytes()), (0, found.metadata_bytes.unwrap()));
    let found = of(&DisposeSettings { task_owned: true, ..settings() }).await;
    assert_eq!(found.doomed.iter().map(|file| file.path.file_name().unwrap()).collect::<Vec<_>>(), ["t"]);
}

fn missing_name() -> String {
    shared("gone").0
}

#[tokio::test]
async fn what_cannot_be_told_is_refused() {
    // Its own metadata is damaged, or another's; it was moved or copied; it is none.
    for (below, bytes, kind) in [
        ("chk-2/_metadata", "damaged".into(), ErrorKind::Damaged),
        ("chk-3/_metadata", "damaged".into(), ErrorKind::Damaged),
        ("chk-2/_metadata", metadata(2, None, &[(format!("memory:/old/{JOB}/chk-2/x"), OWN)]), ErrorKind::Invalid),
        ("chk-2/_metadata", drystone::format::barred(CheckpointId(2), 7), ErrorKind::NotFound),
    ] {
        let (store, shelf) = job().await;
        shelf.put(below, bytes).await;
        let before = files(&store).await;
        let error = look(&shelf.stores, "chk-2", &settings()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(files(&store).await, before);
    }
    let (_, shelf) = job().await;
    // The original is there, too.
    shelf.put_beside(&format!("old/{JOB}/chk-2/x"), vec![2; OWN as usize]).await;
    shelf.put("chk-2/_metadata", metadata(2, None, &[(format!("memory:/old/{JOB}/chk-2/x"), OWN)])).await;
    let error = look(&shelf.stores, "chk-2", &settings()).await.map(drop).unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("was copied"), "{error}");
    for directory in ["chk-7", "shared"] {
        assert_eq!(
            look(&shelf.stores, directory, &settings()).await.map(drop).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
}
