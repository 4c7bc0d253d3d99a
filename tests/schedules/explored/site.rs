//! Where pools and workers write, and the check that what they promise is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use drystone::format::Footer;
use drystone::format::footer::{TAIL_BYTES, Tail};
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, OperatorId, Scope, Subtask};
use drystone::protocol::Trigger;
use drystone::store::names::{PhysicalFileName, WorkerName};
use drystone::store::{FlinkPath, JobDirectory, ObjectStore, Stores};
use drystone::worker::{Worker, WorkerSettings};
use drystone::write::{Bounds, FileNaming, FilePool, InlineBudget, Origin, PoolMode, Tokens, WriteSettings, Written};

use crate::seeded::bytes_of;

pub const CHECKPOINT: CheckpointId = CheckpointId(1);
/// Of a file: what is longer than a third of it or so is streamed.
pub const FILE_BYTES_MAX: u64 = 14_000;
pub const BUFFER_BYTES_MAX: u64 = 4_000;

pub struct Site {
    pub directory: JobDirectory,
    pub tokens: Tokens,
}

impl Site {
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        let root = FlinkPath::parse("memory://job/").unwrap();
        let stores = Stores::new().with_store(&root, store);
        let directory = JobDirectory::at(stores.locate(&FlinkPath::parse("memory://job/a").unwrap()).unwrap()).unwrap();
        let next = AtomicU64::new(1);
        Self { directory, tokens: Arc::new(move || next.fetch_add(1, SeqCst)) }
    }

    pub fn pool(&self, scope: Scope, settings: WriteSettings, bounds: &Bounds) -> FilePool {
        let directory = match scope {
            Scope::Exclusive => self.directory.checkpoint(CHECKPOINT).unwrap(),
            Scope::Shared => self.directory.shared().clone(),
        };
        let naming = FileNaming { directory, attempt: 1, worker: WorkerName::sanitise("w"), checkpoint: CHECKPOINT };
        let inline = Arc::new(InlineBudget::new(drystone::id::FileToken((self.tokens)()), &settings));
        FilePool::sharing(naming, settings, self.tokens.clone(), inline, bounds.clone())
    }

    pub fn worker(&self, settings: WorkerSettings) -> Worker {
        Worker::new(self.directory.clone(), "w", settings, self.tokens.clone())
    }

    /// The bytes that a handle points to.
    pub async fn read(&self, handle: &StreamHandle) -> Bytes {
        let StreamHandle::Segment(segment) = handle else { panic!("{handle:?}") };
        let file = self.file(&segment.path.to_text()).await;
        file.slice(segment.offset as usize..(segment.offset + segment.size) as usize)
    }

    async fn file(&self, path: &str) -> Bytes {
        let path = FlinkPath::parse(path).unwrap();
        let below = path.relative_to(self.directory.root().name()).unwrap();
        self.directory.root().join(below).unwrap().read_all(u64::MAX).await.unwrap()
    }

    /// Every file that is there, by its token: whole by its own footer, no longer than the cap, and as many segments as
    /// there are. So none overlaps another: a footer's lengths add up to the data.
    pub async fn files(&self) -> BTreeMap<u64, Footer> {
        let mut found = BTreeMap::new();
        for listed in self.directory.root().list().await.unwrap() {
            let file = self.file(&listed.path.to_string()).await;
            let length = file.len() as u64;
            let tail = Tail::decode(&file[file.len() - TAIL_BYTES..], length).unwrap();
            let footer = Footer::decode(file.slice((length - tail.footer_len) as usize..), length).unwrap();
            assert!(length <= FILE_BYTES_MAX || footer.segments.len() == 1, "{length} bytes in {}", listed.path);
            let token = PhysicalFileName::of(&listed.path).unwrap().token;
            assert_eq!(token, footer.token);
            found.insert(token.0, footer);
        }
        found
    }
}

/// Everything goes into files.
pub fn write_settings(mode: PoolMode) -> WriteSettings {
    WriteSettings {
        file_bytes_max: FILE_BYTES_MAX,
        inline_bytes_max: 0,
        buffer_bytes_max: BUFFER_BYTES_MAX,
        open_files_max: 1,
        uploads_max: 1,
        mode,
        ..WriteSettings::default()
    }
}

pub fn subtask(index: u32) -> Subtask {
    Subtask { operator: OperatorId([7; 16]), index, parallelism: 8 }
}

pub fn origin(index: u32) -> Origin {
    Origin { checkpoint: CHECKPOINT, subtask: Some(subtask(index)), scope: Scope::Shared }
}

pub fn trigger(checkpoint: u64, epoch: u64) -> Trigger {
    Trigger::new(epoch, CheckpointId(checkpoint))
}

/// A segment that was written, and what was written.
pub type Segment = (Written, Bytes);

/// Writes a segment in pieces of at most 3,000 bytes.
pub async fn write(pool: &FilePool, index: u32, seed: u64, length: usize) -> drystone::Result<Segment> {
    let (bytes, mut writer) = (bytes_of(seed, length), pool.segment(origin(index), None));
    for at in (0..length).step_by(3_000) {
        writer.write(bytes.slice(at..length.min(at + 3_000))).await?;
    }
    Ok((writer.finish().await?, bytes))
}
