//! The adapter for directories of immutable files, beneath a fake database that does all that databases do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod backend_job;
    pub mod cases;
}

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use drystone::backend::files::{FileBackend, FileKind, RestoreOptions, UploadCounts, restore};
use drystone::handle::KeyedHandle;
use drystone::id::{CheckpointId, KeyGroupRange};
use drystone::protocol::{SavepointFormat, Trigger};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use object_store::memory::InMemory;
use proptest::prelude::*;
use support::backend_job::{BackendJob, KEY_GROUPS, OPERATOR, contents, storage};
use support::cases::cases;

type Contents = BTreeMap<String, Vec<u8>>;

const ALL: KeyGroupRange = KeyGroupRange { start: 0, count: KEY_GROUPS };

/// What a database and its job may do next.
#[derive(Clone, Debug)]
enum Step {
    /// A file of this name appears, with other bytes if there was one: of this length, and made of this seed.
    Create {
        name: u8,
        length: u16,
        seed: u8,
    },
    /// The file has other bytes of the same length.
    Recreate {
        name: u8,
        seed: u8,
    },
    Delete {
        name: u8,
    },
    /// The bytes get another name, in the place of what was there.
    Rename {
        from: u8,
        to: u8,
    },
    /// Only looked at.
    Touch {
        name: u8,
    },
    Manifest {
        seed: u8,
    },
    Snapshot {
        is_full: bool,
    },
    /// Begun, completed and restored; nobody may tell the backend.
    Savepoint {
        pack: bool,
        is_told: bool,
    },
    /// Of those under way the one at this place, from the oldest; nobody may tell the backend.
    Complete {
        place: u8,
        is_told: bool,
    },
    Abort {
        place: u8,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..6_u8;
    prop_oneof![
        5 => (name.clone(), 0..4_000_u16, any::<u8>()).prop_map(|(name, length, seed)| Step::Create { name, length, seed }),
        2 => (name.clone(), any::<u8>()).prop_map(|(name, seed)| Step::Recreate { name, seed }),
        2 => name.clone().prop_map(|name| Step::Delete { name }),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename { from, to }),
        1 => name.prop_map(|name| Step::Touch { name }),
        1 => any::<u8>().prop_map(|seed| Step::Manifest { seed }),
        5 => prop::bool::weighted(0.2).prop_map(|is_full| Step::Snapshot { is_full }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(pack, is_told)| Step::Savepoint { pack, is_told }),
        4 => (0..3_u8, prop::bool::weighted(0.8)).prop_map(|(place, is_told)| Step::Complete { place, is_told }),
        1 => (0..3_u8).prop_map(|place| Step::Abort { place }),
        1 => Just(Step::Restart),
    ]
}

fn kind(name: &str) -> FileKind {
    match name {
        "MANIFEST" => FileKind::Private,
        "LOCK" => FileKind::Skipped,
        _ => FileKind::Shared,
    }
}

fn is_shared(name: &str) -> bool {
    kind(name) == FileKind::Shared
}

fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

/// The job, the database, and what is known of both.
struct Model {
    storage: Storage,
    job: BackendJob,
    backend: FileBackend,
    database: tempfile::TempDir,
    pending: Vec<(CheckpointId, Contents)>,
    /// What the backend may name again.
    base: Option<(CheckpointId, Contents)>,
    latest: Option<Contents>,
    is_plan_off: bool,
    rewritten: u64,
}

impl Model {
    async fn new(amplification: &str) -> Self {
        let amplification_key = "execution.checkpointing.file-merging.max-space-amplification";
        let storage =
            storage(Arc::new(InMemory::new()), &[(amplification_key, amplification), ("drystone.space.floor", "1kb")]);
        let job = BackendJob::start(&storage, 1).await.unwrap();
        let database = tempfile::tempdir().unwrap();
        fs::create_dir(database.path().join("tables")).unwrap();
        fs::write(database.path().join("MANIFEST"), [1]).unwrap();
        fs::write(database.path().join("LOCK"), []).unwrap();
        let backend = FileBackend::new("backend", ALL).unwrap();
        let (pending, base, latest, is_plan_off) = (Vec::new(), None, None, amplification == "0");
        Self { storage, job, backend, database, pending, base, latest, is_plan_off, rewritten: 0 }
    }

    async fn step(&mut self, step: Step) {
        let path = |name: u8| self.database.path().join(format!("tables/{name:03}"));
        match step {
            Step::Create { name, length, seed } => replace(&path(name), &bytes(length.into(), seed)),
            Step::Recreate { name, seed } => {
                if let Ok(old) = fs::read(path(name)) {
                    replace(&path(name), &bytes(old.len(), seed));
                }
            }
            Step::Delete { name } => fs::remove_file(path(name)).unwrap_or_default(),
            Step::Rename { from, to } => fs::rename(path(from), path(to)).unwrap_or_default(),
            Step::Touch { name } => fs::read(path(name)).map(drop).unwrap_or_default(),
            Step::Manifest { seed } => fs::write(self.database.path().join("MANIFEST"), bytes(10, seed)).unwrap(),
            Step::Snapshot { is_full } => self.snapshot(is_full).await,
            Step::Savepoint { pack, is_told } => self.savepoint(pack, is_told).await,
            Step::Complete { place, is_told } => self.complete(place.into(), is_told).await,
            Step::Abort { place } => {
                if usize::from(place) < self.pending.len() {
                    let (checkpoint, _) = self.pending.remove(place.into());
                    self.job.abort(checkpoint);
                    self.backend.aborted(checkpoint);
                }
            }
            Step::Restart => self.restart().await,
        }
    }

    async fn snapshot(&mut self, is_full: bool) {
        if self.pending.len() >= 3 {
            return;
        }
        let trigger = self.job.trigger();
        let now = self.take(&trigger, is_full).await;
        self.pending.push((trigger.checkpoint, now));
    }

    /// It changes nothing of what the backend may name again.
    async fn savepoint(&mut self, pack: bool, is_told: bool) {
        let trigger = self.job.savepoint("memory://host/savepoints", SavepointFormat::Native, pack);
        let then = self.take(&trigger, false).await;
        let completed = self.job.complete(trigger.checkpoint).await;
        assert_eq!(completed.subsumed, []);
        if is_told {
            self.backend.confirmed(trigger.checkpoint);
        }
        self.compare(&completed.path, trigger.checkpoint, &then).await;
    }

    async fn take(&mut self, trigger: &Trigger, is_full: bool) -> Contents {
        let now: Contents =
            contents(self.database.path()).into_iter().filter(|(name, _)| kind(name) != FileKind::Skipped).collect();
        let snapshot = self.job.worker.begin(self.job.spec.subtask(0), trigger).unwrap();
        let (meta, directory) = (Bytes::from(format!("meta {}", trigger.checkpoint)), self.database.path());
        let written = match is_full {
            true => self.backend.write_all(&snapshot, directory, kind, meta).await.unwrap(),
            false => self.backend.write_changed(&snapshot, directory, kind, meta).await.unwrap(),
        };
        let latest = self.job.coordinator.latest().map(|latest| latest.checkpoint);
        assert_eq!(trigger.base, Vec::from_iter(latest.filter(|_| snapshot.savepoint().is_none())));
        let base = self.base.clone().filter(|(base, _)| !is_full && trigger.base.contains(base));
        self.check(written.counts(), &now, base.map(|(_, base)| base));
        let durable = snapshot.seal().await.unwrap();
        let handle = self.backend.handle(written, &durable).unwrap();
        self.job.acknowledge(trigger, 0, Some(KeyedHandle::Incremental(handle)), &durable);
        now
    }

    /// What is there isn't written again, and nothing else is left out.
    fn check(&mut self, counts: UploadCounts, now: &Contents, base: Option<Contents>) {
        let sum = |is_wanted: &dyn Fn(&str, &Vec<u8>) -> bool| {
            let found = now.iter().filter(|(name, bytes)| is_wanted(name, bytes));
            found.fold((0, 0), |(files, sum), (_, bytes)| (files + 1, sum + bytes.len() as u64))
        };
        let is_known = |name: &str, bytes: &Vec<u8>| base.as_ref().is_some_and(|base| base.get(name) == Some(bytes));
        let known = sum(&|name, bytes| is_shared(name) && !bytes.is_empty() && is_known(name, bytes));
        let new = sum(&|name, bytes| is_shared(name) && !bytes.is_empty() && !is_known(name, bytes));
        let empty = sum(&|name, bytes| is_shared(name) && bytes.is_empty());
        let kept_or_asked_for =
            (counts.kept_files + counts.rewritten_files, counts.kept_bytes + counts.rewritten_bytes);
        assert_eq!(counts.new_bytes, new.1);
        assert_eq!(kept_or_asked_for.1, known.1);
        // What has no bytes costs nothing either way.
        assert!((known.0..=known.0 + empty.0).contains(&kept_or_asked_for.0));
        assert!((new.0..=new.0 + empty.0).contains(&counts.new_files));
        assert_eq!((counts.private_files, counts.private_bytes), sum(&|name, _| !is_shared(name)));
        assert!(!self.is_plan_off || counts.rewritten_files == 0, "nobody asked for it: {counts:?}");
        self.rewritten += counts.rewritten_files;
    }

    async fn complete(&mut self, place: usize, is_told: bool) {
        if place >= self.pending.len() {
            return;
        }
        let (checkpoint, then) = self.pending.remove(place);
        let completed = self.job.complete(checkpoint).await;
        if is_told {
            self.backend.confirmed(checkpoint);
            self.base = Some((checkpoint, then.clone()));
        }
        for &older in &completed.subsumed {
            self.backend.subsumed(older);
            self.base.take_if(|(base, _)| *base == older);
        }
        self.pending.retain(|(other, _)| *other > checkpoint);
        self.compare(&completed.path, checkpoint, &then).await;
        self.latest = Some(then);
    }

    /// The restored directory is the database's as it was.
    async fn compare(&self, path: &FlinkPath, checkpoint: CheckpointId, then: &Contents) {
        let into = tempfile::tempdir().unwrap();
        let task = self.storage.restore(path).await.unwrap().task(OPERATOR, 0, 1).unwrap();
        let options = RestoreOptions { local: vec![self.database.path().to_owned()], sync: false };
        for options in [RestoreOptions::default(), options] {
            let restored =
                restore(&task, &into.path().join(options.local.len().to_string()), &options).await.unwrap().directories;
            assert_eq!(restored.len(), 1);
            assert_eq!(&contents(&restored[0].path), then);
            assert_eq!(restored[0].meta, format!("meta {checkpoint}"));
            assert_eq!((restored[0].key_groups, restored[0].handle.range), (ALL, ALL));
        }
    }

    async fn restart(&mut self) {
        self.job = BackendJob::start(&self.storage, 1).await.unwrap();
        self.backend = FileBackend::new("backend", ALL).unwrap();
        self.pending.clear();
        self.base = None;
        if let Some(latest) = self.job.coordinator.latest() {
            let task = self.storage.restore(&latest.path).await.unwrap().task(OPERATOR, 0, 1).unwrap();
            self.backend.resume(&task);
            self.base = self.latest.clone().map(|then| (latest.checkpoint, then));
        }
    }
}

/// A database never writes into a file that is there: what has another name's bytes is another file.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap_or_default();
    fs::write(path, bytes).unwrap();
}

fn run(steps: Vec<Step>, amplification: &str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut model = Model::new(amplification).await;
        for step in steps {
            model.step(step).await;
        }
        model.snapshot(false).await;
        model.complete(0, true).await;
        model.rewritten
    })
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn every_completed_checkpoint_is_the_directory_as_it_was(steps in prop::collection::vec(step(), 1..50)) {
        run(steps, "0");
    }

    #[test]
    fn so_it_is_where_files_are_to_be_written_again(steps in prop::collection::vec(step(), 1..50)) {
        run(steps, "1.2");
    }
}

/// The news of a checkpoint gets lost, and the one before it stays a while since another under way may build on it. With
/// that one aborted it goes, and nobody says so.
#[test]
fn what_is_not_kept_any_more_is_written_again_whatever_was_heard() {
    let snapshot = || Step::Snapshot { is_full: false };
    let steps = vec![
        Step::Create { name: 0, length: 2_000, seed: 0 },
        snapshot(),
        Step::Complete { place: 0, is_told: true },
        snapshot(),
        Step::Snapshot { is_full: true },
        snapshot(),
        Step::Complete { place: 1, is_told: false },
        Step::Abort { place: 0 },
    ];
    assert_eq!(run(steps, "0"), 0);
}

#[test]
fn what_is_to_be_written_again_is() {
    let snapshot = || [Step::Snapshot { is_full: false }, Step::Complete { place: 0, is_told: true }];
    let mut steps: Vec<Step> = (0..6).map(|name| Step::Create { name, length: 3_000, seed: name }).collect();
    steps.extend(snapshot());
    // Most of the first file is dead.
    steps.extend((0..5).map(|name| Step::Delete { name }));
    for _ in 0..3 {
        steps.extend(snapshot());
    }
    assert!(run(steps.clone(), "1.2") > 0);
    assert_eq!(run(steps, "0"), 0);
}

/// The same inode, length and time, but other bytes: as a file that was made right after another was deleted may look.
fn forge(path: &Path, bytes: &[u8], modified: SystemTime) {
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_modified(modified).unwrap();
}

#[tokio::test]
async fn a_file_as_young_as_the_disks_clock_is_read_again_and_an_older_one_is_not() {
    let (past, future) = (Duration::from_secs(1_000_000_000), Duration::from_secs(20_000_000_000));
    for (modified, is_read_again) in [(SystemTime::UNIX_EPOCH + past, false), (SystemTime::UNIX_EPOCH + future, true)] {
        let mut model = Model::new("0").await;
        let path = model.database.path().join("tables/001");
        forge(&path, &bytes(3_000, 1), modified);
        model.snapshot(false).await;
        model.complete(0, true).await;
        forge(&path, &bytes(3_000, 2), modified);
        let trigger = model.job.trigger();
        let snapshot = model.job.worker.begin(model.job.spec.subtask(0), &trigger).unwrap();
        let written = model.backend.write_changed(&snapshot, model.database.path(), kind, Bytes::new()).await.unwrap();
        let counts = written.counts();
        assert_eq!((counts.kept_files, counts.new_files), if is_read_again { (0, 1) } else { (1, 0) });
    }
}
