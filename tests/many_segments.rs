//! A checkpoint of very many segments commits, is found again and is restored, in memory that grows with their number and
//! no faster, and without a request for each.
//!
//! 100,000 segments beside 10,000; with `DRYSTONE_LONG=1` 1,000,000 beside 100,000.

// A test fails by a panic; and an allocator that counts can't be had without unsafe code.
#![allow(clippy::unwrap_used, clippy::panic, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use drystone::config::{Config, MemorySize};
use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, SubtaskState};
use drystone::id::{JobId, KeyGroupRange, OperatorId, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec};
use drystone::storage::Storage;
use drystone::store::{FlinkPath, Requests, Stores};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), SeqCst) + layout.size(), SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SUBTASKS: u32 = 4;
const SEGMENT_BYTES: u64 = 24;
const JOB: JobId = JobId([3; 16]);

/// What a part of the way cost: its peak above what there was before the run, and its requests.
#[derive(Clone, Copy, Debug)]
struct Cost {
    peak_bytes: usize,
    requests: Requests,
}

/// Measures what lies between its calls.
struct Meter<'a> {
    stores: &'a Stores,
    base: usize,
    before: Requests,
}

impl Meter<'_> {
    fn lap(&mut self) -> Cost {
        let now = self.stores.requests();
        let cost = Cost { peak_bytes: PEAK.load(SeqCst) - self.base, requests: now - self.before };
        self.before = now;
        PEAK.store(NOW.load(SeqCst), SeqCst);
        cost
    }
}

fn chunk(subtask: u32, number: u64) -> Bytes {
    Bytes::from([[u64::from(subtask), number, !number].map(u64::to_le_bytes).concat()].concat())
}

fn text(text: String) -> JavaString {
    JavaString::new(&text).unwrap()
}

/// Written and acknowledged, committed, found by another coordinator, and restored.
async fn checkpoint_of(segments: u64) -> [Cost; 4] {
    let directory = tempfile::tempdir().unwrap();
    let root = FlinkPath::parse(&format!("file:{}", directory.path().display())).unwrap();
    let (mut settings, _) = Config::from_map([("execution.checkpointing.dir", "file:///x")]).settings().unwrap();
    // All go into files, and none is named in a full one only.
    (settings.data_inline_threshold, settings.max_file_size) = (MemorySize(0), MemorySize(8 << 20));
    let storage = Storage::of(Stores::new(), root, settings).unwrap();
    let spec = OperatorSpec::new(OperatorId([4; 16]), SUBTASKS, 128);
    let mut meter = Meter { stores: storage.stores(), base: NOW.load(SeqCst), before: storage.stores().requests() };
    meter.lap();

    let coordinator = storage.coordinator(JOB, vec![spec.clone()]).await.unwrap();
    let worker = storage.worker(JOB, "w").unwrap();
    let trigger = coordinator.trigger(coordinator.next_checkpoint()).unwrap();
    for (index, subtask) in spec.subtasks().enumerate() {
        let snapshot = worker.begin(subtask, &trigger).unwrap();
        let mut written = Vec::new();
        for number in 0..segments / u64::from(SUBTASKS) {
            let mut writer = snapshot.segment(Scope::Shared, Some(SEGMENT_BYTES));
            writer.write(chunk(index as u32, number)).await.unwrap();
            written.push(writer.finish().await.unwrap());
        }
        let durable = snapshot.seal().await.unwrap();
        let files = written.iter().enumerate().map(|(number, written)| LocalPathHandle {
            local_path: text(format!("{number:07}.sst")),
            handle: durable.handle(written).unwrap(),
        });
        let keyed = IncrementalHandle {
            checkpoint_id: trigger.checkpoint.0 as i64,
            backend_id: text(format!("00000000-0000-4000-8000-{index:012}")),
            range: KeyGroupRange::of_subtask(index as u32, SUBTASKS, 128).unwrap(),
            persisted: Some((0, text(format!("handle-{index}")))),
            meta: None,
            shared: files.collect(),
            private: vec![],
        };
        drop(written);
        let state = SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(keyed)), ..SubtaskState::default() };
        let (checkpoint, epoch) = (trigger.checkpoint, trigger.epoch);
        let (state, sealed) = (Some(Box::new(state)), durable.sealed().to_vec());
        coordinator.acknowledge(Acknowledgement { checkpoint, epoch, subtask, state, sealed }).unwrap();
    }
    let write = meter.lap();
    let completed = coordinator.complete(trigger.checkpoint).await.unwrap();
    let commit = meter.lap();
    assert_eq!(coordinator.space().segments, segments);
    drop((coordinator, worker));
    meter.lap();

    let heir = storage.coordinator(JOB, vec![spec.clone()]).await.unwrap();
    let recover = meter.lap();
    assert_eq!(heir.space().segments, segments);
    drop(heir);
    meter.lap();

    let restore = storage.restore(&completed.path).await.unwrap();
    for index in 0..SUBTASKS {
        let task = restore.task(spec.id, index, SUBTASKS).unwrap();
        let restored = task.read_all().await.unwrap();
        assert_eq!(task.streams().len() as u64, segments / u64::from(SUBTASKS));
        for number in 0..task.streams().len() {
            assert_eq!(restored.bytes(number), chunk(index, number as u64));
        }
    }
    [write, commit, recover, meter.lap()]
}

/// One test, so that nothing else allocates meanwhile.
#[tokio::test]
async fn memory_grows_with_the_segments_and_requests_do_not() {
    let most: u64 = if std::env::var_os("DRYSTONE_LONG").is_some() { 1_000_000 } else { 100_000 };
    let few = checkpoint_of(most / 10).await;
    let many = checkpoint_of(most).await;
    for (part, name) in ["write", "commit", "recover", "restore"].into_iter().enumerate() {
        let (few, many) = (few[part], many[part]);
        let ratio = many.peak_bytes as f64 / few.peak_bytes as f64;
        println!(
            "{name:8} {most} segments: peak {:.1} MB, {} bytes a segment, {ratio:.2} times that of a tenth; {} requests: \
             {:?}",
            many.peak_bytes as f64 / 1e6,
            many.peak_bytes as u64 / most,
            many.requests.total(),
            many.requests
        );
        assert!(ratio < 12.0, "{name}: {few:?}, {many:?}");
        // By files and by megabytes, as it may be.
        assert!(many.requests.total() <= 20 + most * SEGMENT_BYTES / 100_000, "{name}: {:?}", many.requests);
    }
}
