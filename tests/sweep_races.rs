//! What changes under a sweep's hands, and requests that fail.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fault_store.rs"]
#[allow(dead_code, reason = "not every test uses all of the support")]
mod fault_store;
#[path = "support/rule_store.rs"]
#[allow(dead_code, reason = "not every test uses all of the support")]
mod rule_store;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/swept.rs"]
mod swept;
#[path = "support/synthetic.rs"]
mod synthetic;
#[path = "support/upload_log.rs"]
mod upload_log;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::store::Stores;
use drystone::sweep::{Kind, Sweep, SweepSettings};
use fault_store::{Fault, FaultStore};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};
use rule_store::{Act, RuleStore};
use swept::{DAY, delete, metadata, uuid};
use synthetic::JOB;
use upload_log::Log;

/// A job in memory, whose files are as old as the clock that is passed in makes them.
struct InMemory {
    store: RuleStore,
    stores: Stores,
}

impl InMemory {
    /// Dead files, and a checkpoint that names none.
    async fn new(dead: u32) -> Self {
        let store = RuleStore::default();
        let stores = Stores::new().with_store(&runs::path("memory:/"), Arc::new(store.clone()));
        let job = Self { store, stores };
        for number in 0..dead {
            job.put(&format!("shared/{}", uuid(number)), b"dead").await;
        }
        job.commit(1, &[]).await;
        job
    }

    async fn put(&self, below: &str, bytes: &[u8]) {
        self.put_at(&format!("{JOB}/{below}"), bytes).await;
    }

    async fn put_at(&self, key: &str, bytes: &[u8]) {
        self.store.put(&Key::from(key), PutPayload::from(bytes.to_vec())).await.unwrap();
    }

    async fn commit(&self, id: u64, named: &[u32]) {
        let named: Vec<_> = named.iter().map(|n| (format!("memory:/{JOB}/shared/{}", uuid(*n)), 4)).collect();
        self.put(&format!("chk-{id}/_metadata"), &metadata(id, &named)).await;
    }

    async fn discard(&self, id: u64) {
        self.store.delete(&Key::from(format!("{JOB}/chk-{id}/_metadata"))).await.unwrap();
    }

    async fn look(&self) -> drystone::Result<Sweep> {
        look(self.stores.clone()).await
    }

    async fn dead(&self) -> usize {
        self.look().await.unwrap().found().dead.len()
    }
}

async fn look(stores: Stores) -> drystone::Result<Sweep> {
    // Long after everything was written.
    let now = SystemTime::UNIX_EPOCH + DAY * 100_000;
    Sweep::look(&stores, &runs::path(&format!("memory:/{JOB}")), &SweepSettings::default(), now).await
}

/// Runs until it waits for the store, then `meanwhile`, then on.
async fn interrupted(
    job: &InMemory,
    operation: &'static str,
    part: &str,
    meanwhile: impl Future<Output = ()>,
) -> drystone::Result<Sweep> {
    job.store.rule(operation, part, Act::Hang, 1);
    let before = job.store.count(operation, part);
    let looking = tokio::spawn(look(job.stores.clone()));
    while job.store.count(operation, part) == before {
        tokio::task::yield_now().await;
    }
    meanwhile.await;
    job.store.obey();
    looking.await.unwrap()
}

#[tokio::test]
async fn a_checkpoint_that_completes_during_the_look_counts() {
    let job = InMemory::new(2).await;
    let sweep = interrupted(&job, "get", "chk-1/_metadata", job.commit(2, &[0])).await.unwrap();
    assert_eq!(sweep.found().checkpoints.len(), 2);
    assert_eq!(
        sweep.found().dead.iter().map(|f| f.below.as_str()).collect::<Vec<_>>(),
        [format!("shared/{}", uuid(1))]
    );
}

#[tokio::test]
async fn a_checkpoint_that_is_replaced_during_the_look_leaves_its_place_to_the_next() {
    let job = InMemory::new(3).await;
    job.commit(1, &[0, 1]).await;
    let replace = async {
        job.commit(2, &[1]).await;
        job.discard(1).await;
    };
    let sweep = interrupted(&job, "get", "chk-1/_metadata", replace).await.unwrap();
    assert_eq!(sweep.found().checkpoints.iter().map(|id| id.0).collect::<Vec<_>>(), [2]);
    let dead: Vec<_> = sweep.found().dead.iter().map(|file| file.below.clone()).collect();
    assert_eq!(dead, [format!("shared/{}", uuid(0)), format!("shared/{}", uuid(2))]);
}

#[tokio::test]
async fn a_checkpoint_that_is_discarded_with_its_files_during_the_look_is_not_broken() {
    let job = InMemory::new(2).await;
    job.commit(2, &[0]).await;
    let file = Key::from(format!("{JOB}/shared/{}", uuid(0)));
    // After the first look at the checkpoints: metadata first, then what it named.
    let discard = async {
        job.discard(2).await;
        job.store.delete(&file).await.unwrap();
    };
    let sweep = interrupted(&job, "get", "chk-2/_metadata", discard).await.unwrap();
    assert_eq!(sweep.found().checkpoints.iter().map(|id| id.0).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn checkpoints_that_change_all_the_time_are_refused() {
    let job = InMemory::new(1).await;
    let path = |id: u64| format!("chk-{id}/_metadata");
    job.store.rule("get", &path(1), Act::Hang, 1);
    let looking = tokio::spawn(look(job.stores.clone()));
    // Whenever it reads one, the next is there.
    for id in 1.. {
        while job.store.count("get", &path(id)) == 0 && !looking.is_finished() {
            tokio::task::yield_now().await;
        }
        if looking.is_finished() {
            break;
        }
        job.commit(id + 1, &[]).await;
        job.store.obey();
        job.store.rule("get", &path(id + 1), Act::Hang, 1);
    }
    let error = looking.await.unwrap().map(drop).unwrap_err();
    job.store.obey();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains("change faster"), "{error}");
    assert_eq!(job.dead().await, 1);
}

#[tokio::test]
async fn metadata_that_comes_after_the_look_spares_what_it_names() {
    let job = InMemory::new(3).await;
    let sweep = job.look().await.unwrap();
    job.commit(2, &[1]).await;
    let deleted = sweep.delete(&|_, _| {}).await;
    assert!(deleted.is_complete());
    assert_eq!(
        deleted.spared.iter().map(|file| file.below.clone()).collect::<Vec<_>>(),
        [format!("shared/{}", uuid(1))]
    );
    assert_eq!((deleted.files.len(), job.dead().await), (2, 0));
}

#[tokio::test]
async fn metadata_that_comes_after_the_look_and_cannot_be_read_ends_the_sweep() {
    let job = InMemory::new(3).await;
    let sweep = job.look().await.unwrap();
    job.put("chk-2/_metadata", b"damaged").await;
    let deleted = sweep.delete(&|_, _| {}).await;
    assert!(deleted.files.is_empty() && deleted.spared.is_empty() && deleted.failed.is_empty());
    assert!(deleted.stopped.unwrap().to_string().contains("chk-2/_metadata"));
    job.discard(2).await;
    assert_eq!(job.dead().await, 3);
}

#[tokio::test]
async fn a_batch_is_deleted_only_after_another_look() {
    let job = InMemory::new(1_002).await;
    let sweep = job.look().await.unwrap();
    // Damage comes while the first batch is on its way.
    job.store.rule("delete", &uuid(0), Act::Hang, 1);
    let deleting = tokio::spawn(async move { sweep.delete(&|_, _| {}).await });
    while job.store.count("delete", "") < 1_000 {
        tokio::task::yield_now().await;
    }
    job.put("chk-2/_metadata", b"damaged").await;
    job.store.obey();
    let deleted = deleting.await.unwrap();
    assert_eq!((deleted.files.len(), deleted.stopped.is_some()), (1_000, true));
}

#[tokio::test]
async fn a_delete_that_fails_keeps_no_other() {
    let job = InMemory::new(9).await;
    for number in [2, 5] {
        job.store.rule("delete", &uuid(number), Act::Fail, 1);
    }
    let deleted = job.look().await.unwrap().delete(&|_, _| {}).await;
    let mut failed: Vec<_> = deleted.failed.iter().map(|(file, _)| file.below.clone()).collect();
    failed.sort();
    assert_eq!(failed, [format!("shared/{}", uuid(2)), format!("shared/{}", uuid(5))]);
    assert!(!deleted.is_complete() && deleted.files.len() == 7);
    // The next one finishes it.
    assert_eq!(delete(job.look().await.unwrap()).await, failed);
    assert_eq!(job.dead().await, 0);
}

#[tokio::test]
async fn only_so_many_deletes_are_under_way() {
    let job = InMemory::new(20).await;
    let settings = SweepSettings { requests_max: 3, ..SweepSettings::default() };
    let now = SystemTime::UNIX_EPOCH + DAY * 100_000;
    let sweep = Sweep::look(&job.stores, &runs::path(&format!("memory:/{JOB}")), &settings, now).await.unwrap();
    job.store.rule("delete", "", Act::Hang, 3);
    let deleting = tokio::spawn(async move { sweep.delete(&|_, _| {}).await });
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(job.store.count("delete", ""), 3);
    job.store.obey();
    assert_eq!(deleting.await.unwrap().files.len(), 20);
}

/// A job in memory with dead files, behind a store that fails where it is told to.
async fn faulty(inner: &Arc<object_store::memory::InMemory>, faults: &[(usize, Fault)]) -> (FaultStore, Stores) {
    let store = FaultStore::new(inner.clone(), faults.iter().copied());
    let stores = Stores::new().with_store(&runs::path("memory:/"), Arc::new(store.clone()));
    (store, stores)
}

async fn littered() -> Arc<object_store::memory::InMemory> {
    let inner = Arc::new(object_store::memory::InMemory::new());
    for number in 0..3 {
        inner.put(&Key::from(format!("{JOB}/shared/{}", uuid(number))), "dead".into()).await.unwrap();
    }
    for (directory, id) in [(format!("{JOB}/chk-1"), 1), ("fedcba9876543210fedcba9876543210/chk-2".to_owned(), 2)] {
        inner.put(&Key::from(format!("{directory}/_metadata")), metadata(id, &[]).into()).await.unwrap();
    }
    inner
}

#[tokio::test]
async fn a_look_fails_with_each_request_that_fails() {
    let inner = littered().await;
    let (store, stores) = faulty(&inner, &[]).await;
    look(stores).await.unwrap();
    let requests = store.operations().len();
    assert!(requests >= 8, "{:?}", store.operations());
    for number in 0..requests {
        let (store, stores) = faulty(&inner, &[(number, Fault::Before)]).await;
        let error = look(stores).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store, "{}: {error}", store.operations()[number]);
    }
}

#[tokio::test]
async fn a_sweep_that_is_cut_off_anywhere_is_finished_by_the_next() {
    let (store, stores) = faulty(&littered().await, &[]).await;
    delete(look(stores.clone()).await.unwrap()).await;
    let requests = store.operations().len();
    for (number, fault) in (0..requests).flat_map(|n| [Fault::Before, Fault::After, Fault::Crash].map(|f| (n, f))) {
        let inner = littered().await;
        let (store, stores) = faulty(&inner, &[(number, fault)]).await;
        if let Ok(sweep) = look(stores).await {
            let deleted = sweep.delete(&|_, _| {}).await;
            assert!(!deleted.is_complete(), "{fault:?} at {}: {deleted:?}", store.operations()[number]);
        }
        let (_, healthy) = faulty(&inner, &[]).await;
        delete(look(healthy.clone()).await.unwrap()).await;
        let left = look(healthy).await.unwrap();
        assert_eq!((left.found().dead.len(), left.found().alive.files, left.found().metadata), (0, 1, 2));
    }
}

#[tokio::test]
async fn uploads_that_were_never_completed_are_given_up() {
    let job = InMemory::new(0).await;
    let old = SystemTime::UNIX_EPOCH + DAY;
    let young = SystemTime::UNIX_EPOCH + DAY * 100_000 - DAY / 2;
    // One is of a file that is there and named: another attempt has made it.
    job.commit(1, &[7]).await;
    job.put(&format!("shared/{}", uuid(7)), b"here").await;
    let uploads = [
        (format!("{JOB}/shared/{}", uuid(7)), "a", old, true),
        (format!("{JOB}/shared/{}", uuid(8)), "b", old, true),
        (format!("{JOB}/shared/{}", uuid(8)), "c", young, false),
        (format!("{JOB}/chk-9/_metadata"), "d", old, true),
        (format!("{JOB}/taskowned/{}", uuid(9)), "e", old, false),
        (format!("{JOB}/savepoint-1-2/{}", uuid(9)), "f", old, false),
        (format!("{JOB}/chk-9/unknown"), "g", old, false),
        (format!("{JOB}2/shared/{}", uuid(8)), "h", old, false),
    ];
    let log = Arc::new(Log::default());
    *log.0.lock().unwrap() = uploads.iter().map(|(key, id, at, _)| (key.clone(), id.to_string(), *at)).collect();
    assert!(!job.look().await.unwrap().found().uploads_known);
    let stores = job.stores.clone().with_uploads(&runs::path("memory:/"), log.clone());
    let sweep = look(stores.clone()).await.unwrap();
    assert!(sweep.found().uploads_known);
    assert!(sweep.found().dead.iter().all(|file| file.kind == Kind::Upload && file.bytes.is_none()));
    assert!(sweep.found().dead[0].reason.to_string().starts_with("an upload that was never completed"));
    delete(sweep).await;
    let left: Vec<_> = log.0.lock().unwrap().iter().map(|(_, id, _)| id.clone()).collect();
    let kept: Vec<_> = uploads.iter().filter(|(.., is_dead)| !is_dead).map(|(_, id, ..)| id.to_string()).collect();
    assert_eq!(left, kept);
    let there = job.store.get(&Key::from(format!("{JOB}/shared/{}", uuid(7)))).await.unwrap();
    assert_eq!(there.bytes().await.unwrap(), Bytes::from_static(b"here"));
    assert_eq!(look(stores).await.unwrap().found().dead, []);
}
