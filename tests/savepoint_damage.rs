//! One bit of one file of a savepoint is wrong: restore, verify, copy and repack find it and name the file, wherever the
//! savepoint has been moved to.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/live.rs"]
mod live;
#[path = "support/savepoint_job.rs"]
mod savepoint_job;

use std::sync::Arc;

use bytes::Bytes;
use drystone::format::Trailer;
use drystone::format::checksum::crc32c;
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use drystone::read::{Checkpoint, ReadLimits, Restore};
use drystone::repack::{self, Options};
use drystone::store::{FlinkPath, Location};
use drystone::verify::{verify, verify_deep};
use drystone::{ErrorKind, Result};
use object_store::memory::InMemory;
use savepoint_job::{Job, OPERATOR, SUBTASKS, check, path};

async fn taken(pack: bool) -> (Job, FlinkPath, CheckpointId) {
    let job = Job::new(Arc::new(InMemory::new())).await.unwrap();
    let trigger = job.savepoint(pack);
    let completed = job.take(&trigger).await.unwrap();
    (job, completed.path, trigger.checkpoint)
}

fn options() -> Options {
    let write = savepoint_job::worker_settings().write;
    Options { write, read: ReadLimits::default(), job_id: None, tokens: live::tokens(), discard_leftovers: false }
}

async fn files_of(job: &Job, at: &FlinkPath) -> Vec<Location> {
    let listed = job.stores.locate(at).unwrap().list().await.unwrap();
    listed.iter().map(|file| job.stores.locate(&file.path).unwrap()).collect()
}

async fn bytes_of(file: &Location) -> Bytes {
    file.read_all(u64::MAX).await.unwrap()
}

async fn moved(job: &Job, from: &FlinkPath, to: &FlinkPath) {
    for file in files_of(job, from).await {
        let below = file.name().relative_to(from).unwrap();
        let target = job.stores.locate(&to.join(below).unwrap()).unwrap();
        target.create(vec![bytes_of(&file).await]).await.unwrap();
        file.delete().await.unwrap();
    }
}

async fn restored(job: &Job, at: &FlinkPath) -> Result<()> {
    let restore = Restore::open(&job.stores, at, ReadLimits::default()).await?;
    for index in 0..SUBTASKS {
        let task = restore.task(OPERATOR, index, SUBTASKS)?;
        let read = task.read_all().await?;
        assert_eq!(read.counts.unverified_bytes, 0, "every byte is compared with a checksum");
        // One stream by itself, too.
        let mut read = task.open(0).await?;
        while let Some(piece) = read.next().await {
            piece?;
        }
    }
    Ok(())
}

/// Each way of looking finds the one wrong file, and says which it is.
async fn is_found(job: &Job, at: &FlinkPath, file: &Location, context: &str) {
    let limits = ReadLimits::default();
    let name = file.name().file_name().unwrap();
    let error = restored(job, at).await.expect_err(context);
    assert_eq!(error.kind(), ErrorKind::Damaged, "{context}: {error}");
    assert!(error.to_string().contains(name), "{context}: {error}");
    let found = verify(&job.stores, at, &limits, &|_, _| {}).await.unwrap();
    assert!(!found.is_sound() && found.findings.iter().all(|f| f.file == *file.name()), "{context}: {found:?}");
    let deep = verify_deep(&job.stores, at, &limits, &|_, _| {}).await.unwrap();
    assert!(deep.checkpoints[0].findings.iter().any(|f| f.file == *file.name()), "{context}: {deep:?}");
    let (to, options) = (path("memory:/elsewhere"), options());
    let refused = repack::copy(&job.stores, at, &to, &options, &|_, _, _| {}).await.expect_err(context);
    assert!(refused.to_string().contains(name), "{context}: {refused}");
    let refused = repack::repack(&job.stores, at, &to, &options, &|_, _, _| {}).await.expect_err(context);
    assert!(refused.to_string().contains(name), "{context}: {refused}");
    assert!(job.files("memory:/elsewhere").await.is_empty(), "{context}");
}

async fn everywhere(job: &Job, at: &FlinkPath) {
    restored(job, at).await.unwrap();
    let files = files_of(job, at).await;
    for file in &files {
        let whole = bytes_of(file).await;
        let last = whole.len() - 1;
        for (byte, bit) in [(0, 7), (last / 3, 3), (last / 2, 0), (last, 0)] {
            let mut damaged = whole.to_vec();
            damaged[byte] ^= 1 << bit;
            file.replace(damaged.into()).await.unwrap();
            is_found(job, at, file, &format!("bit {bit} of byte {byte} of {}", file.name())).await;
        }
        file.replace(whole).await.unwrap();
    }
    restored(job, at).await.unwrap();
}

#[tokio::test]
async fn a_flipped_bit_is_found_in_each_file() {
    let (job, at, snapshot) = taken(false).await;
    assert_eq!(files_of(&job, &at).await.len(), 5, "one for each piece, and the metadata");
    everywhere(&job, &at).await;
    check(&job.stores, &at, snapshot).await;
}

#[tokio::test]
async fn and_after_it_was_moved() {
    let (job, at, snapshot) = taken(false).await;
    let elsewhere = path("memory:/moved/to/mine");
    moved(&job, &at, &elsewhere).await;
    check(&job.stores, &elsewhere, snapshot).await;
    everywhere(&job, &elsewhere).await;
}

#[tokio::test]
async fn and_in_a_copy_of_it() {
    let (job, at, snapshot) = taken(false).await;
    let (to, options) = (path("memory:/copies"), options());
    let copied = repack::copy(&job.stores, &at, &to, &options, &|_, _, _| {}).await.unwrap().destination;
    check(&job.stores, &copied, snapshot).await;
    // As what it was copied from, the copy can be moved.
    let elsewhere = path("memory:/moved/copy");
    moved(&job, &copied, &elsewhere).await;
    everywhere(&job, &elsewhere).await;
}

#[tokio::test]
async fn packed_it_has_checksums_of_its_own() {
    let (job, at, snapshot) = taken(false).await;
    let (to, options) = (path("memory:/packed"), options());
    let packed = repack::repack(&job.stores, &at, &to, &options, &|_, _, _| {}).await.unwrap().destination;
    check(&job.stores, &packed, snapshot).await;
    let found = verify(&job.stores, &packed, &ReadLimits::default(), &|_, _| {}).await.unwrap();
    assert_eq!((found.counts.streams_checked, found.counts.streams_unchecked), (4, 0));
}

/// Of what is named as a whole the trailer has the checksum; what has a footer needs none, and its trailer is as it was.
#[tokio::test]
async fn the_trailer_says_the_checksums_of_whole_files() {
    for pack in [false, true] {
        let (job, at, _) = taken(pack).await;
        let metadata = job.stores.locate(&at.join("_metadata").unwrap()).unwrap();
        let bytes = bytes_of(&metadata).await;
        let (_, trailer) = Trailer::find(&bytes).unwrap().unwrap();
        assert_eq!(bytes.last(), Some(&if pack { 1 } else { 2 }), "the trailer's version");
        for listed in &trailer.files {
            let text = listed.path.to_text();
            let name = FlinkPath::parse(&text).or_else(|_| at.join(&text)).unwrap();
            let there = bytes_of(&job.stores.locate(&name).unwrap()).await;
            assert_eq!(listed.crc32c, (!pack).then(|| crc32c(&there)), "{text}");
        }
        assert_eq!(trailer.files.len(), if pack { 1 } else { 4 });
    }
}

/// The coordinator needs nothing but the handles: they may be told before the files are sealed.
#[tokio::test]
async fn checksums_come_with_handles_that_are_not_durable_yet() {
    let job = Job::new(Arc::new(InMemory::new())).await.unwrap();
    let trigger = job.savepoint(false);
    let mut tickets = Vec::new();
    for index in 0..SUBTASKS {
        let snapshot = job.worker.begin(job.spec.subtask(index), &trigger).unwrap();
        let mut segment = snapshot.segment(Scope::Shared, None);
        // Longer than what is buffered: it is streamed.
        for byte in 0..9 {
            segment.write(Bytes::from(vec![byte; 1 << 20])).await.unwrap();
        }
        let written = segment.finish().await.unwrap();
        let handle = snapshot.provisional(&written).unwrap().unwrap();
        job.acknowledge(&trigger, index, vec![handle]).unwrap();
        tickets.push(snapshot.finish());
    }
    let at = job.coordinator.complete(trigger.checkpoint).await.unwrap().path;
    let found = verify(&job.stores, &at, &ReadLimits::default(), &|_, _| {}).await.unwrap();
    assert_eq!((found.findings.len(), found.counts.streams_checked, found.counts.streams_unchecked), (0, 2, 0));
}

/// A segment that is said to be a file by itself, and isn't: the file is longer.
#[tokio::test]
async fn a_part_of_a_file_is_not_taken_for_all_of_it() {
    let job = Job::new(Arc::new(InMemory::new())).await.unwrap();
    let trigger = job.savepoint(false);
    for (index, mut handles) in job.write(&trigger).await.unwrap() {
        let StreamHandle::Segment(segment) = &mut handles[0] else { panic!("{handles:?}") };
        segment.size -= 1;
        job.acknowledge(&trigger, index, handles).unwrap();
    }
    let refused = job.coordinator.complete(trigger.checkpoint).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
}

/// Without its trailer the metadata looks like stock Flink's, but for the names of the files.
#[tokio::test]
async fn metadata_that_ends_where_its_trailer_began_is_found() {
    let (job, at, _) = taken(false).await;
    let metadata = job.stores.locate(&at.join("_metadata").unwrap()).unwrap();
    let bytes = bytes_of(&metadata).await;
    let (end, _) = Trailer::find(&bytes).unwrap().unwrap();
    metadata.replace(bytes.slice(..end as usize)).await.unwrap();
    let found = verify(&job.stores, &at, &ReadLimits::default(), &|_, _| {}).await.unwrap();
    let [finding] = &found.findings[..] else { panic!("{found:?}") };
    assert!(finding.file == *metadata.name() && finding.problem.contains("its trailer is missing"), "{finding}");
}

/// From before trailers had checksums, or from a state backend that writes its own files: all there, and not checked.
#[tokio::test]
async fn without_checksums_it_is_read_as_ever() {
    let (job, at, snapshot) = taken(false).await;
    let metadata = job.stores.locate(&at.join("_metadata").unwrap()).unwrap();
    let decoded = Checkpoint::load(&job.stores, &at).await.unwrap().decoded;
    let mut trailer = decoded.trailer.unwrap();
    trailer.files.iter_mut().for_each(|file| file.crc32c = None);
    let encoded = drystone::format::encode(&decoded.metadata).unwrap();
    let old = Trailer::seal(&encoded, trailer.files, trailer.epoch, trailer.writer);
    assert_eq!(old.last(), Some(&1), "the trailer's first version");
    metadata.replace(old).await.unwrap();
    check(&job.stores, &at, snapshot).await;
    let found = verify(&job.stores, &at, &ReadLimits::default(), &|_, _| {}).await.unwrap();
    assert_eq!((found.counts.streams_checked, found.counts.streams_unchecked), (0, 4));
}
