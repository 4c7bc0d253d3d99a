//! Every byte of a job's directory is read once, accounted for, and a wrong one found in each checkpoint that names it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/swept.rs"]
mod swept;
#[path = "support/synthetic.rs"]
mod synthetic;
#[path = "support/watched_store.rs"]
mod watched_store;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use drystone::ErrorKind;
use drystone::coordinator::CoordinatorSettings;
use drystone::ledger::LedgerSettings;
use drystone::read::ReadLimits;
use drystone::store::{FlinkPath, Stores};
use drystone::verify::{DeepVerification, FileBytes, verify_deep};
use live::Live;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use swept::Swept;
use watched_store::{Watch, WatchedStore};

async fn check(stores: &Stores, path: &FlinkPath) -> drystone::Result<DeepVerification> {
    verify_deep(stores, path, &ReadLimits::default(), &|_, _| {}).await
}

/// A job that has taken four checkpoints of two subtasks, of which three are retained and each names what is before it.
async fn job(store: Arc<dyn ObjectStore>) -> Live {
    let settings = live::settings();
    let settings = CoordinatorSettings { ledger: LedgerSettings { retained: 3, ..settings.ledger }, ..settings };
    let live = Live::new(store, 2, settings).await;
    let mut states = vec![BTreeMap::new(); 2];
    for round in 0..4 {
        live.round(&mut states).await.unwrap();
        if round == 1 {
            // From here on nobody names the first segment of each.
            states.iter_mut().for_each(|state| drop(state.pop_first()));
        }
    }
    live.coordinator.settle().await.unwrap();
    live
}

fn files_bytes(live: &BTreeMap<String, u64>) -> u64 {
    live.iter().filter(|(name, _)| !name.ends_with("_metadata")).map(|(_, bytes)| bytes).sum()
}

#[tokio::test]
async fn every_byte_is_read_once_though_several_checkpoints_name_it() {
    let watch = Arc::new(Watch::default());
    let live = job(Arc::new(WatchedStore::new(watch.clone()))).await;
    let there = live.files().await;
    watch.bytes_read.store(0, SeqCst);
    let found = check(&live.stores, live.directory.root().name()).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.checkpoints);
    assert_eq!(found.checkpoints.len(), 3);
    let metadata: u64 = there.values().sum::<u64>() - files_bytes(&there);
    assert_eq!(watch.bytes_read.load(SeqCst), there.values().sum::<u64>());
    assert_eq!((found.bytes_read, found.bytes.total()), (files_bytes(&there), files_bytes(&there)));
    assert_eq!((found.files as usize, found.bytes.unexplained, found.gaps.len()), (there.len() - 3, 0, 0));
    assert!(found.bytes.footers > 0 && found.bytes.named > 0 && metadata > 0);
    // Each checkpoint by itself reads what it shares with the others again.
    let apart: u64 = found.checkpoints.iter().map(|checkpoint| checkpoint.counts.bytes_read).sum();
    assert!(apart > found.bytes.named, "{apart}");
}

#[tokio::test]
async fn a_wrong_byte_anywhere_is_found_in_every_checkpoint_that_names_it() {
    let memory = Arc::new(object_store::memory::InMemory::new());
    let live = job(memory.clone()).await;
    let there = live.files().await;
    let root = live.directory.root().name().path().trim_start_matches('/').to_owned();
    let mut most = 0;
    for (name, length) in &there {
        let key = Key::from(format!("{root}/{name}"));
        let whole = memory.get(&key).await.unwrap().bytes().await.unwrap();
        let step = (*length as usize / 9).max(1);
        for at in (0..*length as usize).step_by(step) {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 4;
            memory.put(&key, PutPayload::from(damaged)).await.unwrap();
            let found = check(&live.stores, live.directory.root().name()).await.unwrap();
            assert!(!found.is_sound(), "{name} at {at}");
            let bad: Vec<_> = found.checkpoints.iter().filter(|checkpoint| !checkpoint.is_sound()).collect();
            for checkpoint in &bad {
                let file = live.directory.root().join(name).unwrap();
                assert!(checkpoint.findings.iter().all(|f| f.file == *file.name()), "{:?}", checkpoint.findings);
            }
            most = most.max(bad.len());
        }
        memory.put(&key, PutPayload::from(whole)).await.unwrap();
    }
    assert_eq!(most, 3);
    assert!(check(&live.stores, live.directory.root().name()).await.unwrap().is_sound());
}

#[tokio::test]
async fn a_missing_file_is_found_and_the_others_are_read() {
    let memory = Arc::new(object_store::memory::InMemory::new());
    let live = job(memory.clone()).await;
    let before = check(&live.stores, live.directory.root().name()).await.unwrap();
    let there = live.files().await;
    let (name, length) = there.iter().find(|(name, _)| name.starts_with("shared/")).unwrap();
    live.directory.root().join(name).unwrap().delete().await.unwrap();
    let found = check(&live.stores, live.directory.root().name()).await.unwrap();
    assert!(!found.is_sound());
    assert_eq!((found.files, found.bytes.total()), (before.files - 1, before.bytes.total() - length));
    let problems: BTreeSet<_> =
        found.checkpoints.iter().flat_map(|c| &c.findings).map(|finding| finding.problem.as_str()).collect();
    assert_eq!(problems.into_iter().collect::<Vec<_>>(), ["the file is missing"]);
}

#[tokio::test]
async fn what_only_a_footer_knows_and_what_nothing_explains_are_told_apart() {
    // Of a packed checkpoint, in which a second checkpoint's metadata names only some segments.
    let memory = runs::Memory::new();
    let moved = memory.stores.clone().with_rebase(runs::moved_to(runs::data().to_str().unwrap()));
    let source = runs::path(runs::data().join(runs::HASHMAP).to_str().unwrap());
    let options = runs::options(1, runs::all_packed());
    let packed = runs::repack(&moved, &source, "memory:/packed", &options).await.unwrap().destination;
    let whole = check(&memory.stores, &packed).await.unwrap();
    assert!(whole.is_sound() && whole.bytes.named > 0, "{whole:?}");
    assert_eq!((whole.bytes.footer_only, whole.bytes.unexplained), (0, 0));
    assert_eq!(whole.bytes_read, whole.bytes.total());

    let (loaded, _) = synthetic::load(&memory.stores, &packed).await;
    let mut handles = synthetic::handles(&loaded.decoded.metadata);
    handles.truncate(1);
    let kept = handles[0].size().unwrap();
    let fewer = drystone::format::encode(&synthetic::checkpoint(handles)).unwrap().bytes;
    let metadata = packed.join("_metadata").unwrap();
    memory.put(&metadata.path()[1..], fewer).await;
    let found = check(&memory.stores, &packed).await.unwrap();
    let expected = FileBytes { named: kept, footer_only: whole.bytes.named - kept, ..whole.bytes };
    assert_eq!(found.bytes, expected);
    assert_eq!(found.bytes_read, whole.bytes_read);
}

#[tokio::test]
async fn directories_of_stock_flink_are_accounted_for() {
    let stores = Stores::new().with_rebase(runs::moved_to(runs::data().to_str().unwrap()));
    let (mut seen, mut unexplained) = (0, 0);
    for entry in fs::read_dir(runs::data()).unwrap() {
        let jobs = entry.unwrap().path().join("ckpt");
        if !jobs.is_dir() {
            continue;
        }
        seen += 1;
        let job = fs::read_dir(jobs).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
        let found = check(&stores, &runs::path(job.to_str().unwrap())).await.unwrap();
        assert!(found.is_sound(), "{}: {:?}", job.display(), found.checkpoints);
        // All files there are named by some checkpoint, as the sweep's tests show.
        let data = runs::files_below(&job).into_iter().filter(|(name, _)| !name.ends_with("_metadata"));
        let lengths: Vec<u64> = data.map(|(_, bytes)| bytes.len() as u64).collect();
        assert_eq!((found.files as usize, found.bytes.total()), (lengths.len(), lengths.iter().sum()));
        assert_eq!(found.bytes_read, found.bytes.total());
        assert_eq!((found.bytes.footers, found.bytes.footer_only), (0, 0));
        assert_eq!(found.gaps.iter().map(|gap| gap.length).sum::<u64>(), found.bytes.unexplained);
        unexplained += found.bytes.unexplained;
    }
    assert!(seen >= 10 && unexplained > 0, "{seen}, {unexplained}");
}

#[tokio::test]
async fn gaps_lie_where_nothing_is_named() {
    let job = Swept::new();
    let file = format!("shared/{}", swept::uuid(1));
    job.put(&file, 1_000);
    let named = |id: u64, ranges: &[(u64, u64)]| {
        let handles = ranges.iter().map(|&(from, to)| synthetic::segment(&job.name(&file), from, to - from)).collect();
        let mut metadata = synthetic::checkpoint(handles);
        metadata.checkpoint_id = drystone::id::CheckpointId(id);
        let bytes = drystone::format::encode(&metadata).unwrap().bytes;
        job.write(job.at(&format!("chk-{id}/_metadata")), &bytes, job.now);
    };
    named(1, &[(100, 200), (150, 300)]);
    named(2, &[(300, 400), (600, 601)]);
    let found = check(&job.stores, &job.job()).await.unwrap();
    assert!(found.is_sound());
    let gaps: Vec<_> = found.gaps.iter().map(|gap| (gap.offset, gap.length)).collect();
    assert_eq!(gaps, [(0, 100), (400, 200), (601, 399)]);
    let bytes = FileBytes { named: 301, footer_only: 0, footers: 0, unexplained: 699 };
    assert_eq!((found.bytes, found.bytes_read), (bytes, 1_000));
}

#[tokio::test]
async fn savepoints_count_and_damaged_metadata_keeps_no_other() {
    let job = Swept::new();
    job.put(&format!("shared/{}", swept::uuid(1)), 10);
    job.commit(1, &[&format!("shared/{}", swept::uuid(1))]);
    job.commit_at(&format!("{}/savepoint-1-2", synthetic::JOB), 1, &[&format!("shared/{}", swept::uuid(1))]);
    job.write(job.at("chk-2/_metadata"), b"damaged", job.now);
    job.put("chk-3/no-metadata", 5);
    let bar = drystone::format::barred(drystone::id::CheckpointId(4), 7);
    job.write(job.at("chk-4/_metadata"), &bar, job.now);
    let found = check(&job.stores, &job.job()).await.unwrap();
    let sound: Vec<_> = found
        .checkpoints
        .iter()
        .map(|checkpoint| (checkpoint.checkpoint.file_name().unwrap().to_owned(), checkpoint.is_sound()))
        .collect();
    let expected = [("chk-1", true), ("chk-2", false), ("savepoint-1-2", true)];
    assert_eq!(sound, expected.map(|(name, sound)| (name.to_owned(), sound)));
    assert_eq!((found.files, found.bytes_read), (1, 10));
    for (place, kind) in
        [("nothing", ErrorKind::NotFound), ("chk-3", ErrorKind::NotFound), ("chk-4", ErrorKind::NotFound)]
    {
        let error = check(&job.stores, &job.job().join(place).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}
