//! Where a job that dies works: a store in memory, or a directory of the local disk.

use std::collections::BTreeSet;
use std::path::Path as DiskPath;
use std::sync::Arc;

use drystone::format::barred_by;
use drystone::store::{FlinkPath, Stores};
use futures::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

use super::crash_store::{CrashStore, Plan};

pub enum Place {
    Memory(Arc<InMemory>),
    Disk(TempDir),
}

impl Place {
    /// A directory of its own. In memory where the system has such a file system: each file is synced.
    pub fn disk() -> Self {
        let shm = DiskPath::new("/dev/shm");
        let directory = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        Self::Disk(directory.unwrap())
    }

    pub fn memory() -> Self {
        Self::Memory(Arc::new(InMemory::new()))
    }

    pub fn name(&self) -> &'static str {
        if self.is_disk() { "disk" } else { "memory" }
    }

    pub fn is_disk(&self) -> bool {
        matches!(self, Self::Disk(_))
    }

    pub fn root(&self) -> FlinkPath {
        let text = match self {
            Self::Memory(_) => "memory:/checkpoints".to_owned(),
            Self::Disk(directory) => format!("file:{}", directory.path().display()),
        };
        FlinkPath::parse(&text).unwrap()
    }

    /// For a process that may crash.
    pub fn stores(&self, plan: Option<Arc<Plan>>) -> Stores {
        let on_disk = self.is_disk();
        let mut stores = Stores::new();
        if let Some(plan) = plan {
            stores = stores.with_layer(move |inner| Arc::new(CrashStore::new(inner, plan.clone(), on_disk)));
        }
        match self {
            Self::Memory(objects) => stores.with_store(&self.root(), objects.clone()),
            Self::Disk(_) => stores,
        }
    }

    /// The process is dead: what it had asked for happens, or doesn't.
    pub fn decide(&self, plan: &Plan) {
        match self {
            Self::Memory(objects) => CrashStore::decide(&**objects, plan, false),
            Self::Disk(_) => CrashStore::decide(&LocalFileSystem::new(), plan, true),
        }
    }

    /// Every file below a directory, those in the making too; not the log of the job's coordinators beside its probes,
    /// nor what bars metadata that is never to come.
    pub async fn files(&self, below: &FlinkPath) -> BTreeSet<FlinkPath> {
        let mut found = BTreeSet::new();
        match self {
            Self::Memory(objects) => {
                let mut listed = objects.list(None);
                while let Some(meta) = listed.next().await {
                    let at = meta.unwrap().location;
                    let bytes = objects.get(&at).await.unwrap().bytes().await.unwrap();
                    if barred_by(&bytes).is_none() {
                        found.insert(FlinkPath::parse(&format!("memory:/{at}")).unwrap());
                    }
                }
            }
            Self::Disk(directory) => {
                let mut waiting = vec![directory.path().to_path_buf()];
                while let Some(path) = waiting.pop() {
                    for entry in std::fs::read_dir(&path).unwrap() {
                        let path = entry.unwrap().path();
                        match path.is_dir() {
                            true => waiting.push(path),
                            false if barred_by(&std::fs::read(&path).unwrap()).is_some() => {}
                            false => drop(found.insert(FlinkPath::parse(&format!("file:{}", path.display())).unwrap())),
                        }
                    }
                }
            }
        }
        let is_log = |path: &FlinkPath| path.to_string().contains("/_drystone/") && !path.to_string().contains('#');
        found.retain(|path| path.is_within(below) && !is_log(path));
        found
    }
}
