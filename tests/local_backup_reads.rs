//! What copies on local disks save of a slow store, by virtual time; and parts of long segments, each checked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "only a part is wanted here")]
#[path = "support/backed_job.rs"]
mod backed_job;
#[allow(dead_code, reason = "only a part is wanted here")]
#[path = "support/live.rs"]
mod live;
#[path = "support/s3_model.rs"]
mod s3_model;
#[path = "support/seeded.rs"]
mod seeded;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use drystone::handle::{KeyGroupsForm, KeyGroupsHandle, KeyedHandle, SubtaskState};
use drystone::id::{KeyGroupRange, Scope};
use drystone::protocol::{Acknowledgement, OperatorSpec};
use drystone::read::{RestoreCounts, Restored};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::time::Instant;

use backed_job::{Job, Site, copies};
use live::OPERATOR;
use s3_model::{S3, S3Model};
use seeded::bytes_of;

fn site(store: Arc<dyn ObjectStore>, root: &Path) -> Site {
    Site::new(store, ["a", "b"].map(|name| root.join(name)).to_vec())
        .with("execution.checkpointing.file-merging.max-file-size", "32mb")
}

fn without(site: &Site) -> Storage {
    site.clone().with("execution.checkpointing.local-backup.enabled", "false").storage()
}

#[tokio::test(start_paused = true)]
async fn a_restore_waits_for_the_store_no_longer_and_a_checkpoint_doesnt_wait_for_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let store = S3Model::new(S3);
    let site = site(Arc::new(store.clone()), root.path());
    let mut took = Vec::new();
    for is_kept in [false, true] {
        let mut job = site.start("w").await;
        if !is_kept {
            job.storage = without(&site);
            job.worker = job.storage.worker(site.job, "w").unwrap();
        }
        (job.chunks, job.chunk_bytes) = (32, 1 << 20);
        let started = Instant::now();
        let completed = job.commit().await;
        took.push(started.elapsed());
        if is_kept {
            job.worker.backup().unwrap().settled().await;
            compare(&store, &site, &job, &completed.path).await;
        }
    }
    println!("S3 model, 64 MiB: a checkpoint takes {:?}, with copies {:?}", took[0], took[1]);
    assert_eq!(took[0], took[1]);
}

async fn compare(store: &S3Model, site: &Site, job: &Job, path: &FlinkPath) {
    let mut took = Vec::new();
    for storage in [without(site), job.storage.clone()] {
        store.take_asked();
        let started = Instant::now();
        let counts = job.check_with(&storage, path).await;
        took.push((started.elapsed(), store.take_asked().reads, counts));
    }
    let [(remote, remote_reads, _), (local, local_reads, counts)] = took.as_slice() else { unreachable!() };
    println!(
        "S3 model, 64 MiB: a restore takes {remote:?}, {remote_reads} reads; from copies {local:?}, {local_reads}"
    );
    assert_eq!((counts.backup_reads, counts.backup_bytes), (counts.reads, counts.read_bytes), "{counts:?}");
    assert_eq!(*local_reads, 1, "the metadata");
    assert!(remote.as_secs_f64() >= 3.0 * local.as_secs_f64(), "{remote:?} against {local:?}");
}

const GROUP_BYTES: usize = 50_000;
const GROUPS: u32 = 128;

/// A checkpoint of one subtask, whose key groups are in one segment of 6 MB behind a head of a byte.
async fn key_groups(site: &Site) -> (Storage, FlinkPath) {
    let storage = site.storage();
    let spec = OperatorSpec::new(OPERATOR, 1, GROUPS);
    let coordinator = storage.coordinator(site.job, vec![spec.clone()]).await.unwrap();
    let worker = storage.worker(site.job, "w").unwrap();
    let trigger = coordinator.trigger(coordinator.next_checkpoint()).unwrap();
    let snapshot = worker.begin(spec.subtask(0), &trigger).unwrap();
    let mut segment = snapshot.segment(Scope::Exclusive, None);
    segment.write_slice(&[1]).await.unwrap();
    for group in 0..GROUPS {
        segment.write(bytes_of(u64::from(group), GROUP_BYTES)).await.unwrap();
    }
    let written = segment.finish().await.unwrap();
    let durable = snapshot.seal().await.unwrap();
    let offsets = (0..i64::from(GROUPS)).map(|group| 1 + group * GROUP_BYTES as i64).collect();
    let (range, delegate) = (KeyGroupRange { start: 0, count: GROUPS }, durable.handle(&written).unwrap().unwrap());
    let keyed = KeyGroupsHandle { form: KeyGroupsForm::WithoutId, range, offsets, delegate, checksums: Vec::new() };
    let state = SubtaskState { managed_keyed: Some(KeyedHandle::KeyGroups(keyed)), ..SubtaskState::default() };
    let (epoch, checkpoint, sealed) = (trigger.epoch, trigger.checkpoint, durable.sealed().to_vec());
    let (subtask, state) = (spec.subtask(0), Some(Box::new(state)));
    coordinator.acknowledge(Acknowledgement { epoch, checkpoint, subtask, state, sealed }).unwrap();
    let path = coordinator.complete(checkpoint).await.unwrap().path;
    worker.backup().unwrap().settled().await;
    (storage, path)
}

/// Task 5 of 32: four key groups, 200 kB of 6.4 MB.
async fn part(storage: &Storage, path: &FlinkPath) -> RestoreCounts {
    let restore = storage.restore(path).await.unwrap();
    let Restored { streams, counts } = restore.task(OPERATOR, 5, 32).unwrap().read_all().await.unwrap();
    let groups: Vec<_> = streams[0].iter().filter_map(|part| Some((part.key_group?, &part.bytes))).collect();
    assert_eq!(groups.iter().map(|(group, _)| *group).collect::<Vec<_>>(), [20, 21, 22, 23]);
    assert!(groups.iter().all(|(group, bytes)| **bytes == bytes_of(u64::from(*group), GROUP_BYTES)));
    counts
}

#[tokio::test]
async fn a_part_of_a_segment_is_read_from_a_copy_only_where_the_whole_segments_checksum_vouches_for_it() {
    let root = tempfile::tempdir().unwrap();
    let (storage, path) = key_groups(&site(Arc::new(InMemory::new()), root.path())).await;
    let counts = part(&storage, &path).await;
    assert_eq!((counts.backup_reads, counts.backup_refused), (counts.reads, 0), "{counts:?}");
    assert!(counts.read_bytes < 300_000, "{counts:?}");
    let [(file, bytes)] = &copies(root.path()).into_iter().collect::<Vec<_>>()[..] else { panic!("one copy") };
    let good = fs::read(file).unwrap();
    let spoil = |at: usize| {
        let mut spoilt = good.clone();
        spoilt[at] ^= 1;
        fs::write(file, &spoilt).unwrap();
    };
    // In what is needed: that read, and no other, is of the store.
    spoil(1 + 21 * GROUP_BYTES);
    let damaged = part(&storage, &path).await;
    assert_eq!(damaged.backup_refused, 1, "{damaged:?}");
    assert!(damaged.backup_reads == damaged.reads - 1, "{damaged:?}");
    // Elsewhere: nobody reads it.
    spoil(100 * GROUP_BYTES);
    assert_eq!(part(&storage, &path).await, counts);
    // A checksum of a block, be it of what is needed or not: nothing vouches for the copy any more.
    let blocks = (good.len() - 24) / (65536 + 4);
    for block in [0, 16, blocks] {
        spoil(*bytes as usize - 24 - 4 * (blocks + 1) + 4 * block);
        let counts = part(&storage, &path).await;
        assert_eq!((counts.backup_refused, counts.backup_reads), (1, 0), "block {block}: {counts:?}");
    }
}

#[tokio::test]
async fn bytes_of_another_segment_with_right_checksums_of_their_own_are_not_taken() {
    let root = tempfile::tempdir().unwrap();
    let ours = site(Arc::new(InMemory::new()), &root.path().join("ours"));
    let (storage, path) = key_groups(&ours).await;
    // The same names and lengths, other bytes: a copy in good order, of something else.
    let theirs = site(Arc::new(InMemory::new()), &root.path().join("theirs"));
    let mut job = theirs.start("w").await;
    (job.chunks, job.chunk_bytes) = (1, 1 + GROUPS as usize * GROUP_BYTES);
    job.round().await;
    let mine: Vec<_> = copies(&root.path().join("ours")).into_keys().collect();
    let other = copies(&root.path().join("theirs")).into_keys().next().unwrap();
    let (mut bytes, right) = (fs::read(&other).unwrap(), fs::read(&mine[0]).unwrap());
    // Its end says whose copy it is: the last 24 bytes.
    let end = bytes.len() - 24..;
    assert_ne!(bytes[end.clone()], right[right.len() - 24..]);
    fs::write(&mine[0], &bytes).unwrap();
    assert_eq!(part(&storage, &path).await.backup_reads, 0);
    bytes.resize(right.len(), 0);
    bytes[right.len() - 24..].copy_from_slice(&right[right.len() - 24..]);
    fs::write(&mine[0], &bytes).unwrap();
    let counts = part(&storage, &path).await;
    assert_eq!((counts.backup_refused, counts.backup_reads), (1, 0), "{counts:?}");
}

#[tokio::test]
async fn copies_in_good_order_of_other_short_segments_are_not_taken() {
    let root = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    let mut jobs = Vec::new();
    for (name, rounds) in [("ours", 0), ("theirs", 7)] {
        let mut job = site(Arc::new(InMemory::new()), &root.path().join(name)).start("w").await;
        // Other bytes in files of the same names and lengths.
        job.rounds = rounds;
        paths.push(job.round().await.path);
        jobs.push(job);
    }
    let whole = jobs[0].check(&paths[0]).await;
    assert_eq!((whole.backup_reads, whole.backup_refused), (whole.reads, 0));
    for (file, _) in copies(&root.path().join("theirs")) {
        let ours = root.path().join("ours").join(file.strip_prefix(root.path().join("theirs")).unwrap());
        assert!(ours.exists() && fs::read(&ours).unwrap() != fs::read(&file).unwrap());
        fs::copy(&file, &ours).unwrap();
    }
    let counts = jobs[0].check(&paths[0]).await;
    assert_eq!((counts.backup_reads, counts.backup_refused), (0, whole.backup_reads), "{counts:?}");
}
