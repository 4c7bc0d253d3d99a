//! Takes a checkpoint, and has its keyed state read and written again through the adapters for state backends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use drystone::backend::files::{self, FileBackend, FileKind, RestoreOptions};
use drystone::backend::keyed::{self, KeyGroupBackend};
use drystone::format;
use drystone::handle::{KeyedHandle, OperatorSubtasks};
use drystone::protocol::Trigger;
use drystone::read::{Checkpoint, ReadLimits, Restore, TaskRestore};
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::worker::{Snapshot, Worker, WorkerSettings};

/// The new checkpoint's directory, and how many handles were written again: sets of files, and key groups one by one.
pub async fn adapt(source: &FlinkPath, to: &Path) -> (FlinkPath, [u32; 2]) {
    let stores = Stores::new();
    let checkpoint = Checkpoint::load_intact(&stores, source).await.unwrap();
    let restore = Restore::of(stores.clone(), Arc::new(checkpoint.clone()), ReadLimits::default());
    let directory = FlinkPath::parse(&format!("file:{}", to.join("job").display())).unwrap();
    let next = AtomicU64::new(1);
    let tokens = Arc::new(move || next.fetch_add(1, SeqCst));
    let job = JobDirectory::at(stores.locate(&directory).unwrap()).unwrap();
    let worker = Worker::new(job, "worker", WorkerSettings::default(), tokens);
    let mut metadata = checkpoint.decoded.metadata.clone();
    let id = metadata.checkpoint_id;
    let trigger = Trigger::new(1, id);
    let mut counts = [0, 0];
    for operator in &mut metadata.operators {
        let OperatorSubtasks::Reported(entries) = &mut operator.subtasks else { continue };
        for entry in entries {
            let Some(keyed) = entry.state.as_mut().and_then(|state| state.managed_keyed.as_mut()) else { continue };
            let task = restore.task(operator.id, entry.index, operator.parallelism).unwrap();
            let snapshot = worker.begin(task.subtask.unwrap(), &trigger).unwrap();
            match keyed {
                KeyedHandle::Incremental(_) => {
                    let into = to.join(format!("{}-{}", operator.id, entry.index));
                    *keyed = files_of(&task, snapshot, &into).await;
                    counts[0] += 1;
                }
                KeyedHandle::KeyGroups(_) => {
                    *keyed = groups_of(&task, snapshot).await;
                    counts[1] += 1;
                }
                _ => drop(snapshot),
            }
        }
    }
    let chk = directory.join(&format!("chk-{id}")).unwrap();
    let file = to.join("job").join(format!("chk-{id}"));
    std::fs::create_dir_all(&file).unwrap();
    std::fs::write(file.join("_metadata"), format::encode(&metadata).unwrap().bytes).unwrap();
    (chk, counts)
}

async fn files_of(task: &TaskRestore, snapshot: Snapshot, into: &Path) -> KeyedHandle {
    let restored = files::restore(task, into, &RestoreOptions::default()).await.unwrap().directories;
    let [directory] = &restored[..] else { unreachable!("one handle at the same parallelism") };
    let shared: BTreeSet<String> = directory.handle.shared.iter().map(|file| file.local_path.to_string()).collect();
    let kind = |name: &str| if shared.contains(name) { FileKind::Shared } else { FileKind::Private };
    let backend = FileBackend::new(&directory.handle.backend_id.to_text(), directory.handle.range).unwrap();
    let written = backend.write_changed(&snapshot, &directory.path, kind, directory.meta.clone()).await.unwrap();
    let durable = snapshot.seal().await.unwrap();
    KeyedHandle::Incremental(backend.handle(written, &durable).unwrap())
}

async fn groups_of(task: &TaskRestore, snapshot: Snapshot) -> KeyedHandle {
    let (mut head, mut groups) = (Bytes::new(), BTreeMap::new());
    let restored = keyed::restore(task, |group| {
        head = group.head;
        groups.insert(group.key_group, group.bytes);
        Ok(())
    });
    restored.await.unwrap();
    let backend = KeyGroupBackend::new("adapted", task.key_groups, head).unwrap();
    let encode = |group| groups.get(&group).cloned().unwrap_or_default();
    let written = backend.write_changed(&snapshot, encode).await.unwrap();
    let durable = snapshot.seal().await.unwrap();
    backend.handle(written, &durable).unwrap().unwrap()
}
