//! Tasks that wrote side by side are restored side by side: what lies among each other is read once, and memory is shared.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "only a part is wanted here")]
#[path = "support/live.rs"]
mod live;
#[path = "support/seeded.rs"]
mod seeded;
#[allow(dead_code, reason = "only reads are watched here")]
#[path = "support/watched_store.rs"]
mod watched_store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use drystone::ErrorKind;
use drystone::id::{KeyGroupRange, Scope};
use drystone::protocol::Acknowledgement;
use drystone::read::{ReadLimits, Restore, TaskRead, TaskRestore};
use drystone::store::FlinkPath;
use drystone::worker::{Worker, WorkerSettings};
use drystone::write::{WriteSettings, Written};

use live::{Chunks, Live, OPERATOR};
use seeded::bytes_of;
use watched_store::{Watch, WatchedStore};

const TASKS: u32 = 8;
const CHUNKS: u32 = 40;
const CHUNK_BYTES: usize = 4096;

struct World {
    live: Live,
    watch: Arc<Watch>,
    path: FlinkPath,
}

/// A checkpoint in which the tasks' chunks lie in turn, one of each.
async fn interleaved() -> World {
    let watch = Arc::new(Watch::default());
    let live = Live::new(Arc::new(WatchedStore::new(watch.clone())), TASKS, live::settings()).await;
    let write = WriteSettings { inline_bytes_max: 0, ..WriteSettings::default() };
    let settings =
        WorkerSettings { write, channels: None, buffered_bytes_total_max: 64 << 20, linger: Duration::from_secs(3600) };
    let worker = Worker::new(live.directory.clone(), "w", settings, live.tokens.clone());
    live.spec.subtasks().for_each(|subtask| worker.register(subtask));
    let checkpoint = live.coordinator.next_checkpoint();
    let trigger = live.coordinator.trigger(checkpoint).unwrap();
    let snapshots: Vec<_> = live.spec.subtasks().map(|subtask| worker.begin(subtask, &trigger).unwrap()).collect();
    let mut written: Vec<Vec<Written>> = vec![Vec::new(); TASKS as usize];
    for chunk in 0..CHUNKS {
        for (index, snapshot) in snapshots.iter().enumerate() {
            let mut segment = snapshot.segment(Scope::Shared, None);
            segment.write(contents(index as u32, chunk)).await.unwrap();
            written[index].push(segment.finish().await.unwrap());
        }
    }
    let tickets: Vec<_> = snapshots.into_iter().map(|snapshot| snapshot.finish()).collect();
    for (index, (ticket, written)) in tickets.into_iter().zip(&written).enumerate() {
        let durable = ticket.seal().await.unwrap();
        let named = |(chunk, written)| (name(chunk as u32), durable.handle(written).unwrap().unwrap());
        let shared: BTreeMap<_, _> = written.iter().enumerate().map(named).collect();
        let subtask = live.subtask(index as u32);
        let range = KeyGroupRange::of_subtask(subtask.index, TASKS, 128).unwrap();
        let state = live::state_of(checkpoint, subtask.index, range, Chunks { shared, ..Chunks::default() });
        let (epoch, state, sealed) = (trigger.epoch, Some(Box::new(state)), durable.sealed().to_vec());
        live.coordinator.acknowledge(Acknowledgement { epoch, checkpoint, subtask, state, sealed }).unwrap();
    }
    let path = live.coordinator.complete(checkpoint).await.unwrap().path;
    World { live, watch, path }
}

fn contents(task: u32, chunk: u32) -> bytes::Bytes {
    bytes_of(u64::from(task * CHUNKS + chunk), CHUNK_BYTES)
}

fn name(chunk: u32) -> String {
    format!("{chunk:04}")
}

impl World {
    /// What is counted is what is asked of the store from here on.
    async fn restore(&self, limits: ReadLimits) -> Restore {
        let restore = Restore::open(&self.live.stores, &self.path, limits).await.unwrap();
        self.watch.gets.count.store(0, SeqCst);
        self.watch.bytes_read.store(0, SeqCst);
        self.watch.bytes_read_max.store(0, SeqCst);
        restore
    }
}

fn tasks(restore: &Restore) -> Vec<TaskRestore> {
    (0..TASKS).map(|index| restore.task(OPERATOR, index, TASKS).unwrap()).collect()
}

/// All bytes of each task by the names of its chunks.
async fn read(tasks: &[TaskRestore], mut read: TaskRead) -> Vec<BTreeMap<String, Vec<u8>>> {
    let mut found = vec![BTreeMap::new(); tasks.len()];
    while let Some(piece) = read.next().await {
        let piece = piece.unwrap();
        let local_path = &tasks[piece.task].stream(piece.stream).unwrap().place().local_path;
        let name = local_path.as_ref().unwrap().to_string();
        let bytes: &mut Vec<u8> = found[piece.task].entry(name).or_default();
        assert_eq!(bytes.len() as u64, piece.offset, "in order");
        bytes.extend_from_slice(&piece.bytes);
    }
    found
}

fn expected() -> Vec<BTreeMap<String, Vec<u8>>> {
    let of_task = |task| (0..CHUNKS).map(|chunk| (name(chunk), contents(task, chunk).to_vec())).collect();
    (0..TASKS).map(of_task).collect()
}

#[tokio::test]
async fn what_lies_among_each_other_is_read_once() {
    let world = interleaved().await;
    let restore = world.restore(ReadLimits::default()).await;
    let tasks = tasks(&restore);
    let together = TaskRead::together(&tasks).await.unwrap();
    assert!(read(&tasks, together).await == expected());
    let state_bytes = u64::from(TASKS * CHUNKS) * CHUNK_BYTES as u64;
    assert_eq!(world.watch.gets.count.load(SeqCst), 1, "all of it is in one file");
    // The same one by one, over gaps that are others' state.
    let mut read_bytes = 0;
    for task in &tasks {
        let mut alone = task.read().await.unwrap();
        while let Some(piece) = alone.next().await {
            assert_eq!(piece.unwrap().task, 0);
        }
        read_bytes += alone.counts().read_bytes;
    }
    assert!(read_bytes > 7 * state_bytes, "{read_bytes} of {state_bytes}");
    let mut together = TaskRead::together(&tasks).await.unwrap();
    while together.next().await.is_some() {}
    let counts = together.counts();
    assert_eq!((counts.read_bytes, counts.state_bytes, counts.reads), (state_bytes, state_bytes, 1));
}

#[tokio::test]
async fn an_error_names_the_task_it_is_of_and_no_tasks_are_nothing_to_read() {
    let world = interleaved().await;
    let restore = world.restore(ReadLimits { gap_bytes_max: 0, ..ReadLimits::default() }).await;
    let tasks = tasks(&restore);
    assert!(TaskRead::together(&[]).await.unwrap().next().await.is_none());
    let file = world.live.directory.shared().list().await.unwrap().remove(0);
    let file = world.live.stores.locate(&file.path).unwrap();
    let mut bytes = file.read_all(32 << 20).await.unwrap().to_vec();
    // The third chunk of the sixth task.
    bytes[(2 * TASKS as usize + 5) * CHUNK_BYTES + 7] ^= 1;
    file.delete().await.unwrap();
    file.create(vec![bytes.into()]).await.unwrap();
    let mut together = TaskRead::together(&tasks).await.unwrap();
    let error = loop {
        match together.next().await.unwrap() {
            Ok(piece) => assert!((piece.task, name(2)) != (5, tasks[5].streams()[piece.stream].place().to_string())),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let said = error.to_string();
    assert!(said.contains("subtask 5") && said.contains(&format!("offset {}", (2 * 8 + 5) * CHUNK_BYTES)), "{said}");
    assert!(together.next().await.is_none());
}

/// Each read may always go ahead with one request; beside that all tasks of a restore have one budget.
#[tokio::test]
async fn tasks_that_are_read_one_by_one_share_their_memory_and_none_waits_for_ever() {
    let world = interleaved().await;
    let (range, memory) = (4 * CHUNK_BYTES as u64, 16 * CHUNK_BYTES as u64);
    let limits =
        ReadLimits { gap_bytes_max: 0, range_bytes_max: range, memory_bytes_max: memory, ..ReadLimits::default() };
    let restore = world.restore(limits).await;
    let tasks = tasks(&restore);
    let mut reads = Vec::new();
    for task in &tasks {
        let mut read = task.read().await.unwrap();
        // Its first piece, so that its other reads are under way, and nobody takes them.
        let first = read.next().await.unwrap().unwrap();
        reads.push((vec![first], read));
    }
    // Nothing is given back to the watch's count, so it has all that was ever held.
    let held = world.watch.bytes_read.load(SeqCst);
    let most = memory + u64::from(TASKS) * (range + CHUNK_BYTES as u64);
    assert!(held <= most, "{held} bytes of at most {most}");
    // The last begins, and all come to their end in turn.
    for (pieces, read) in reads.iter_mut().rev() {
        while let Some(piece) = read.next().await {
            pieces.push(piece.unwrap());
        }
        assert_eq!(pieces.len(), CHUNKS as usize);
    }
}
