//! What Flink's tests of restores between runs with and without file merging check, under our rules: the old run is stock
//! Flink's, or our own. `design/flink-differences.md` has the rules that differ.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/heir.rs"]
mod heir;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/scenario.rs"]
mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use drystone::config::ClaimMode;
use drystone::coordinator::JobEnd;
use drystone::handle::StreamHandle;
use drystone::protocol::RewriteReason;
use drystone::read::{Checkpoint, State};
use drystone::store::Stores;
use heir::Heir;
use runs::Memory;
use scenario::{ACROSS, AMPLIFICATION, RETENTION, path};

const PLAIN: &str = "v2-rocksdb-plain/ckpt/00f1f1f1f1f1f1f189febbb2ae266257/chk-3";
const MERGED_WITHIN: &str = "v2-rocksdb-merged-within/ckpt/00f1f1f1f1f1f1f101c1767250e3ccd5/chk-4";
const MERGED_UNALIGNED: &str = "v2-unaligned-rocksdb-merged/ckpt/00f1f1f1f1f1f1f17b1ef4d467952d9e/chk-2";
const MODES: [ClaimMode; 3] = [ClaimMode::Claim, ClaimMode::NoClaim, ClaimMode::Legacy];

/// The old run's files, by their keys in the store.
struct Old {
    memory: Memory,
    all: BTreeMap<String, Bytes>,
    /// Those that the checkpoint names, and its metadata.
    named: BTreeSet<String>,
}

impl Old {
    async fn of(fixture: &str) -> Self {
        let memory = Memory::with_flink(fixture).await;
        let all = memory.contents("flink").await;
        let named = named(&memory.stores, &format!("memory:/flink/{fixture}")).await;
        assert!(named.iter().all(|file| all.contains_key(file)), "{named:?}");
        Self { memory, all, named }
    }

    /// Those that are left, which must not have changed.
    async fn left(&self) -> BTreeSet<String> {
        let left = self.memory.contents("flink").await;
        assert!(left.iter().all(|(key, bytes)| self.all.get(key) == Some(bytes)));
        left.into_keys().collect()
    }

    fn unnamed(&self) -> BTreeSet<String> {
        self.all.keys().filter(|key| !self.named.contains(*key)).cloned().collect()
    }

    fn keys(&self) -> BTreeSet<String> {
        self.all.keys().cloned().collect()
    }
}

/// The keys of the files that a checkpoint names, and of its metadata.
async fn named(stores: &Stores, checkpoint: &str) -> BTreeSet<String> {
    let key = |file: &str| file.trim_start_matches("memory:").trim_start_matches('/').to_owned();
    let loaded = Checkpoint::load(stores, &path(checkpoint)).await.unwrap();
    let state = State::of(stores, &loaded).await.unwrap();
    let mut named: BTreeSet<_> = state.files.iter().map(|file| key(&file.location.real().to_string())).collect();
    named.insert(key(&format!("{checkpoint}/_metadata")));
    named
}

fn is_shared(handle: &StreamHandle) -> bool {
    match handle {
        StreamHandle::Segment(segment) => segment.path.to_text().contains("/shared/"),
        StreamHandle::File(file) => file.path.to_text().contains("/shared/"),
        _ => false,
    }
}

/// Two checkpoints of a job that starts from the old run's: what stays of the old run, and what the new one's handles are.
async fn takes_over(fixture: &str, mode: ClaimMode, options: &[(&str, &str)]) {
    let case = format!("{fixture} {mode:?} {options:?}");
    let old = Old::of(fixture).await;
    let from = path(&format!("memory:/flink/{fixture}"));
    let mut heir = Heir::new(&old.memory.stores, "memory:/new", &from, mode, options).await;
    let owned = mode == ClaimMode::Claim;
    assert_eq!(heir.coordinator.space().files > 0, owned, "{case}: what isn't owned isn't counted");

    let (first, answers) = heir.round(false).await;
    assert!(answers.rewritten.iter().all(|(_, reason)| reason.is_some()));
    match mode {
        // Flink's first checkpoint is full, too.
        ClaimMode::NoClaim => {
            let not_owned = |reason: &Option<RewriteReason>| {
                matches!(reason, Some(RewriteReason::NotOwned | RewriteReason::Exclusive))
            };
            assert!(answers.rewritten.iter().all(|(_, reason)| not_owned(reason)), "{case}: {answers:?}");
            assert!(answers.kept.iter().all(|handle| *handle == StreamHandle::EmptySegment), "{case}");
        }
        ClaimMode::Claim | ClaimMode::Legacy => {
            assert!(answers.kept.iter().any(is_shared), "{case}");
            assert!(answers.rewritten.iter().all(|(handle, _)| !is_shared(handle)), "{case}: {answers:?}");
        }
    }
    let still_named = named(&old.memory.stores, &first.path.to_string()).await;
    let expected = match mode {
        ClaimMode::Claim => old.unnamed().union(&(&still_named & &old.named)).cloned().collect(),
        _ => old.keys(),
    };
    assert_eq!(old.left().await, expected, "{case}: after the first");
    assert_eq!(first.subsumed.len(), usize::from(owned), "{case}");

    // Everything is written again, so that nothing of the old run is named any more.
    heir.round(true).await;
    let expected = if owned { old.unnamed() } else { old.keys() };
    assert_eq!(old.left().await, expected, "{case}: after the second");
    for handle in heir.handles().iter().filter(|handle| **handle != StreamHandle::EmptySegment) {
        assert!(heir.directory.holds(&scenario::file_of(handle)), "{case}: {handle:?}");
    }
    let space = heir.coordinator.space();
    if options.iter().any(|(key, _)| key.ends_with("file-merging.enabled")) {
        assert_eq!(space.files, space.segments, "{case}: each segment has a file of its own");
    } else {
        assert!(space.files <= 2, "{case}: {space:?}");
    }
    heir.worker.close().await.unwrap();
    heir.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
    let left = old.memory.contents("new").await;
    assert!(left.keys().all(|key| key.contains("/_drystone/")), "{case}: the job was cancelled: {:?}", left.keys());
    assert_eq!(old.left().await, expected, "{case}: at the end");
}

/// Scenario 37 (testSwitchFromDisablingToEnablingFileMerging): a job that packs starts from a checkpoint with a file for
/// each chunk.
#[tokio::test]
async fn a_packed_job_starts_from_a_checkpoint_of_single_files() {
    for mode in MODES {
        for across in ["false", "true"] {
            let options = [(ACROSS, across), (RETENTION, "DELETE_ON_CANCELLATION"), (AMPLIFICATION, "0")];
            takes_over(PLAIN, mode, &options).await;
        }
    }
}

/// Scenario 38 (testSwitchFromEnablingToDisablingFileMerging): a job in which each segment has a file of its own starts
/// from a checkpoint that Flink has merged, and so does one that packs.
#[tokio::test]
async fn a_job_of_single_files_starts_from_a_merged_checkpoint() {
    for mode in MODES {
        for fixture in [MERGED_WITHIN, runs::ACROSS] {
            let options = [
                (RETENTION, "DELETE_ON_CANCELLATION"),
                (AMPLIFICATION, "0"),
                ("execution.checkpointing.file-merging.enabled", "false"),
            ];
            takes_over(fixture, mode, &options).await;
            takes_over(fixture, mode, &options[..2]).await;
        }
    }
}

/// Scenario 38 (testSwitchFromEnablingToDisablingFileMerging), the chain: our own checkpoints are taken over from run to
/// run, and nothing of a claimed one remains.
#[tokio::test]
async fn runs_follow_each_other_and_leave_nothing_behind() {
    let old = Old::of(PLAIN).await;
    let mut from = path(&format!("memory:/flink/{PLAIN}"));
    for (number, options) in
        [vec![], vec![("execution.checkpointing.file-merging.enabled", "false")], vec![(ACROSS, "true")]]
            .into_iter()
            .enumerate()
    {
        let at = format!("memory:/run-{number}");
        let mut all = vec![(RETENTION, "RETAIN_ON_CANCELLATION"), (AMPLIFICATION, "0")];
        all.extend(options);
        let mode = if number == 0 { ClaimMode::NoClaim } else { ClaimMode::Claim };
        let mut heir = Heir::new(&old.memory.stores, &at, &from, mode, &all).await;
        for round in 0..4 {
            heir.round(round == 2).await;
        }
        heir.worker.close().await.unwrap();
        heir.coordinator.dispose(JobEnd::Cancelled).await.unwrap();
        if number > 0 {
            let before = old.memory.contents(&format!("run-{}", number - 1)).await;
            assert!(before.keys().all(|key| key.contains("/_drystone/")), "{:?}", before.keys());
        }
        from = heir.latest;
    }
    assert_eq!(old.left().await, old.keys());
}

/// A copy of a fixture on a disk, with the stores to read it there.
fn on_disk(fixture: &str) -> (tempfile::TempDir, Stores) {
    let disk = tempfile::tempdir().unwrap();
    let folder = fixture.split('/').next().unwrap();
    for (name, bytes) in runs::files_below(&runs::data().join(folder)) {
        let file = disk.path().join(folder).join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
    let stores = Stores::new().with_rebase(runs::moved_to(disk.path().to_str().unwrap()));
    (disk, stores)
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Scenario 37 (testSwitchFromDisablingToEnablingFileMerging), directories: a claimed checkpoint's own directory goes, and so
/// do those of merged files that are empty then; `shared/` and `taskowned/` stay.
#[tokio::test]
async fn a_claimed_checkpoints_empty_directories_go() {
    for fixture in [PLAIN, MERGED_UNALIGNED] {
        let (disk, stores) = on_disk(fixture);
        let at = disk.path().to_str().unwrap();
        let from = path(&format!("{at}/{fixture}"));
        let mut heir = Heir::new(&stores, &format!("{at}/new"), &from, ClaimMode::Claim, &[]).await;
        heir.round(false).await;
        assert!(!disk.path().join(fixture).exists());
        heir.round(true).await;
        let job = disk.path().join(fixture).parent().unwrap().to_owned();
        if fixture == PLAIN {
            let others = ["chk-1", "chk-2", "shared"];
            assert_eq!(entries(&job), others, "older checkpoints weren't claimed, nor was what only they name");
        } else {
            assert_eq!(entries(&job), ["shared", "taskowned"]);
            assert!(entries(&job.join("shared")).is_empty() && entries(&job.join("taskowned")).is_empty());
        }
    }
}
