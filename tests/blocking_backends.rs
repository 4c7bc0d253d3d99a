//! The adapters for state backends without a runtime.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use drystone::backend::files::{FileKind, RestoreOptions};
use drystone::blocking::backend::{files, keyed};
use drystone::blocking::{Coordinator, Restore, Snapshot, Storage, Worker};
use drystone::config::Config;
use drystone::handle::{KeyedHandle, SubtaskState};
use drystone::id::{JobId, KeyGroupRange, OperatorId};
use drystone::protocol::{Acknowledgement, OperatorSpec, SealedSize, Trigger};
use drystone::store::FlinkPath;
use object_store::memory::InMemory;

const JOB: JobId = JobId([1; 16]);
const OPERATOR: OperatorId = OperatorId([2; 16]);
const KEY_GROUPS: u32 = 32;
const ALL: KeyGroupRange = KeyGroupRange { start: 0, count: KEY_GROUPS };

struct Job {
    storage: Storage,
    coordinator: Coordinator,
    worker: Worker,
    spec: OperatorSpec,
}

impl Job {
    fn start() -> Self {
        let root = FlinkPath::parse("memory://host/checkpoints").unwrap();
        let config = Config::from_map([
            ("execution.checkpointing.data-inline-threshold", "100 b"),
            ("execution.checkpointing.file-merging.max-space-amplification", "0"),
        ]);
        let storage = Storage::open_on(Arc::new(InMemory::new()), &root, &config).unwrap();
        let spec = OperatorSpec::new(OPERATOR, 1, KEY_GROUPS);
        let coordinator = storage.coordinator(JOB, vec![spec.clone()]).unwrap();
        let worker = storage.worker(JOB, "worker").unwrap();
        worker.register(spec.subtask(0));
        Self { storage, coordinator, worker, spec }
    }

    fn begin(&self) -> (Trigger, Snapshot) {
        let trigger = self.coordinator.trigger(self.coordinator.next_checkpoint()).unwrap();
        let snapshot = self.worker.begin(self.spec.subtask(0), &trigger).unwrap();
        assert_eq!((snapshot.checkpoint().unwrap(), snapshot.savepoint().unwrap()), (trigger.checkpoint, None));
        (trigger, snapshot)
    }

    fn complete(&self, trigger: &Trigger, keyed: KeyedHandle, sealed: &[SealedSize]) -> Restore {
        let state = SubtaskState { managed_keyed: Some(keyed), ..SubtaskState::default() };
        let (epoch, checkpoint, subtask) = (trigger.epoch, trigger.checkpoint, self.spec.subtask(0));
        let (state, sealed) = (Some(Box::new(state)), sealed.to_vec());
        self.coordinator.acknowledge(Acknowledgement { epoch, checkpoint, subtask, state, sealed }).unwrap();
        let completed = self.coordinator.complete(checkpoint).unwrap();
        self.worker.complete(epoch, checkpoint);
        self.storage.restore(&completed.path).unwrap()
    }
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

#[test]
fn a_databases_files_to_a_checkpoint_and_back() {
    let (job, database) = (Job::start(), tempfile::tempdir().unwrap());
    let kind = |name: &str| if name == "MANIFEST" { FileKind::Private } else { FileKind::Shared };
    fs::write(database.path().join("MANIFEST"), "one table").unwrap();
    fs::write(database.path().join("1.sst"), [1; 5_000]).unwrap();
    let backend = files::FileBackend::new("backend", ALL).unwrap().uploads(2);
    // Written whole, told before it is durable, gone on from, and restored.
    for (is_full, expected) in [(true, (0, 1)), (false, (1, 1)), (false, (2, 0))] {
        let (trigger, snapshot) = job.begin();
        let meta = Bytes::from_static(b"meta");
        let written = match is_full {
            true => backend.write_all(&snapshot, database.path(), kind, meta).unwrap(),
            false => backend.write_changed(&snapshot, database.path(), kind, meta).unwrap(),
        };
        assert_eq!((written.counts().kept_files, written.counts().new_files), expected);
        let restored = if is_full {
            let handle = backend.provisional_handle(written, &snapshot).unwrap();
            snapshot.seal().unwrap();
            job.complete(&trigger, KeyedHandle::Incremental(handle), &[])
        } else {
            let durable = snapshot.seal().unwrap();
            let handle = backend.handle(written, &durable).unwrap();
            job.complete(&trigger, KeyedHandle::Incremental(handle), durable.sealed())
        };
        backend.confirmed(trigger.checkpoint);
        let into = tempfile::tempdir().unwrap();
        let task = restored.task(OPERATOR, 0, 1).unwrap();
        let restored = files::restore(&task, into.path(), &RestoreOptions::default()).unwrap();
        assert_eq!(contents(&restored.directories[0].path), contents(database.path()));
        backend.resume(&task);
        fs::write(database.path().join("2.sst"), [2; 6_000]).unwrap();
    }
}

#[test]
fn key_groups_to_a_checkpoint_and_back() {
    let job = Job::start();
    let backend = keyed::KeyGroupBackend::new("counters", ALL, Bytes::from_static(b"1")).unwrap();
    let mut state: BTreeMap<u32, Bytes> = (0..KEY_GROUPS).map(|group| (group, vec![group as u8; 300].into())).collect();
    let all = u64::from(KEY_GROUPS);
    for (is_full, expected) in [(true, (0, all)), (false, (0, all)), (false, (all - 1, 1))] {
        let (trigger, snapshot) = job.begin();
        let encode = |group| state[&group].clone();
        let written = match is_full {
            true => backend.write_all(&snapshot, encode).unwrap(),
            false => backend.write_changed(&snapshot, encode).unwrap(),
        };
        assert_eq!((written.counts().kept_groups, written.counts().new_groups), expected);
        let restored = if is_full {
            let handle = backend.provisional_handle(written, &snapshot).unwrap().unwrap();
            snapshot.seal().unwrap();
            job.complete(&trigger, handle, &[])
        } else {
            let durable = snapshot.seal().unwrap();
            let handle = backend.handle(written, &durable).unwrap().unwrap();
            job.complete(&trigger, handle, durable.sealed())
        };
        backend.confirmed(trigger.checkpoint);
        let mut found = BTreeMap::new();
        let taken = keyed::restore(&restored.task(OPERATOR, 0, 1).unwrap(), |group| {
            found.insert(group.key_group, group.bytes);
            Ok(())
        });
        assert!(taken.unwrap().read_bytes > 0);
        assert_eq!(found, state);
        backend.changed(5);
        state.insert(5, Bytes::from(vec![expected.1 as u8; 400]));
    }
}
