//! A pool in memory, what was written into it, and whether all of it can be read back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use drystone::format::Footer;
use drystone::format::checksum::crc32c;
use drystone::format::footer::{TAIL_BYTES, Tail};
use drystone::handle::{Part, Place, StreamHandle};
use drystone::id::{CheckpointId, FileToken, OperatorId, Scope, SegmentId, Subtask};
use drystone::read::{Content, ReadLimits, StateFile, StateStream, Wanted, open_handle};
use drystone::store::names::WorkerName;
use drystone::store::{FlinkPath, Location, Stores};
use drystone::write::{Bounds, FileNaming, FilePool, InlineBudget, Origin, Placement, Sealed, WriteSettings, Written};
use futures::TryStreamExt;

use super::watched_store::{Watch, WatchedStore};

pub struct Packing {
    pub pool: FilePool,
    pub directory: Location,
    pub watch: Arc<Watch>,
    pub settings: WriteSettings,
}

/// A segment that was written: its bytes, whose they are, and what became of it.
pub struct Segment {
    pub bytes: Bytes,
    pub origin: Origin,
    pub written: Written,
}

impl Packing {
    pub fn new(settings: WriteSettings) -> Self {
        Self::within(settings, None)
    }

    /// With bounds, a pool among others.
    pub fn within(settings: WriteSettings, bounds: Option<Bounds>) -> Self {
        let watch = Arc::new(Watch::default());
        let root = FlinkPath::parse("memory://job/").unwrap();
        let stores = Stores::new().with_store(&root, Arc::new(WatchedStore::new(watch.clone())));
        let directory = stores.locate(&FlinkPath::parse("memory://job/chk-7").unwrap()).unwrap();
        let next = AtomicU64::new(1);
        let tokens = Arc::new(move || next.fetch_add(1, SeqCst));
        let (worker, checkpoint) = (WorkerName::sanitise("worker-1"), CheckpointId(7));
        let naming = FileNaming { directory: directory.clone(), attempt: 3, worker, checkpoint };
        let pool = match bounds {
            None => FilePool::new(naming, settings, tokens),
            Some(bounds) => {
                let inline = Arc::new(InlineBudget::new(FileToken(0), &settings));
                FilePool::sharing(naming, settings, tokens, inline, bounds)
            }
        };
        Self { pool, directory, watch, settings }
    }

    /// Writes one segment in one piece.
    pub async fn write(&self, bytes: Bytes, size_hint: Option<u64>) -> drystone::Result<Segment> {
        self.write_from(origin(0), bytes, size_hint).await
    }

    pub async fn write_from(&self, origin: Origin, bytes: Bytes, size_hint: Option<u64>) -> drystone::Result<Segment> {
        let mut writer = self.pool.segment(origin, size_hint);
        writer.write(bytes.clone()).await?;
        Ok(Segment { bytes, origin, written: writer.finish().await? })
    }

    /// Names and lengths of all files.
    pub async fn files(&self) -> BTreeMap<String, u64> {
        let listed = self.directory.list().await.unwrap();
        listed.into_iter().map(|file| (file.path.to_string(), file.size)).collect()
    }

    /// Checks all that holds of a sealed pool: files, footers, handles, bytes.
    pub async fn check(&self, segments: &[Segment], sealed: &Sealed) {
        let named = sealed.files.values().map(|file| (file.path.to_string(), file.file_bytes)).collect();
        assert_eq!(self.files().await, named, "the directory holds the sealed files and nothing else");
        let mut by_file: BTreeMap<FileToken, Vec<(Placement, &Segment)>> = BTreeMap::new();
        let (mut ids, mut inline_bytes) = (BTreeSet::new(), 0);
        for segment in segments {
            let length = segment.bytes.len() as u64;
            match &segment.written {
                Written::Nothing => assert_eq!(length, 0),
                Written::Inline(StreamHandle::Inline(handle)) => {
                    assert!(length <= self.settings.inline_bytes_max, "{length} bytes inline");
                    assert_eq!(handle.bytes, segment.bytes);
                    let id: SegmentId = handle.name.to_text().parse().unwrap();
                    assert_eq!(id.crc32c, crc32c(&segment.bytes));
                    assert!(ids.insert((id.file, id.ordinal)), "{id} twice");
                    inline_bytes += length;
                }
                Written::Inline(other) => panic!("inline: {other:?}"),
                Written::Placed(placement) => {
                    let id = placement.id;
                    assert!(ids.insert((id.file, id.ordinal)), "{id} twice");
                    by_file.entry(id.file).or_default().push((*placement, segment));
                    self.check_handle(sealed, placement, segment).await;
                }
            }
        }
        assert!(inline_bytes <= self.settings.inline_bytes_total_max, "{inline_bytes} bytes inline in all");
        assert!(by_file.keys().eq(sealed.files.keys()), "every sealed file holds a segment");
        for (token, mut placed) in by_file {
            placed.sort_by_key(|(placement, _)| placement.id.ordinal);
            self.check_file(&sealed.files[&token].path, token, &placed).await;
        }
    }

    async fn check_file(&self, path: &FlinkPath, token: FileToken, placed: &[(Placement, &Segment)]) {
        let (bytes, footer) = self.footer(path).await;
        assert_eq!(footer.token, token);
        assert_eq!(footer.segments.len(), placed.len());
        let mut end = 0;
        for (entry, (placement, segment)) in footer.segments.iter().zip(placed) {
            assert_eq!(entry.offset, end, "segments are back to back");
            end += entry.length;
            assert_eq!((entry.offset, entry.length), (placement.offset, placement.length));
            assert_eq!((entry.crc32c, entry.scope), (placement.id.crc32c, placement.scope));
            let origin = Origin { checkpoint: entry.checkpoint, subtask: entry.subtask, scope: entry.scope };
            assert_eq!(origin, segment.origin);
        }
        // That the data ends there is checked by the decoder.
        assert!(end < bytes.len() as u64);
        let cap = self.settings.file_bytes_max;
        let fits = bytes.len() as u64 <= cap;
        assert!(
            fits || placed.len() == 1,
            "{} segments in {} bytes, of which {cap} are allowed",
            placed.len(),
            bytes.len()
        );
    }

    /// A file's bytes, and its index.
    pub async fn footer(&self, path: &FlinkPath) -> (Bytes, Footer) {
        let file = self.directory.join(path.file_name().unwrap()).unwrap();
        let bytes = file.read_all(u64::MAX).await.unwrap();
        let tail = Tail::decode(&bytes[bytes.len() - TAIL_BYTES..], bytes.len() as u64).unwrap();
        let footer = Footer::decode(bytes.slice(tail.data_len as usize..), bytes.len() as u64).unwrap();
        (bytes, footer)
    }

    async fn check_handle(&self, sealed: &Sealed, placement: &Placement, segment: &Segment) {
        let StreamHandle::Segment(handle) = sealed.handle(placement).unwrap() else { panic!("not a segment") };
        assert_eq!(handle.scope, segment.origin.scope);
        let name = FlinkPath::parse(&handle.path.to_text()).unwrap();
        let location = self.directory.join(name.file_name().unwrap()).unwrap();
        let id = Some(handle.id.to_text().parse().unwrap());
        let content = Content::File(Wanted { file: 0, offset: handle.offset, length: handle.size });
        let stream =
            StateStream { place: place(), content, whole: false, id, listed_crc32c: None, scope: handle.scope };
        let limits = ReadLimits { range_bytes_max: 50_000, ..ReadLimits::default() };
        let read: Vec<Bytes> =
            open_handle(&[StateFile { name, location }], &stream, &limits).try_collect().await.unwrap();
        assert!(read.concat() == segment.bytes, "{} reads back as other bytes", placement.id);
    }
}

/// One of several origins.
pub fn origin(number: u32) -> Origin {
    let subtask = Subtask { operator: OperatorId([number as u8; 16]), index: number, parallelism: 16 };
    Origin {
        checkpoint: CheckpointId(7 - u64::from(number % 3)),
        subtask: (!number.is_multiple_of(4)).then_some(subtask),
        scope: if number.is_multiple_of(2) { Scope::Shared } else { Scope::Exclusive },
    }
}

fn place() -> Place {
    let operator = OperatorId([1; 16]);
    Place { operator, parallelism: 1, subtask: Some(0), part: Part::ManagedKeyed, local_path: None }
}
