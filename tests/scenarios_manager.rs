//! What Flink's tests of its file-merging manager check, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/scenario.rs"]
mod scenario;

use std::time::Duration;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::coordinator::JobEnd;
use drystone::handle::{
    ChannelHandle, ChannelInfo, DistributionMode, IncrementalHandle, KeyGroupsForm, KeyGroupsHandle, KeyedHandle,
    LocalPathHandle, OperatorStateHandle, SingleChannelHandle, StatePartitions, SubtaskState,
};
use drystone::id::{CheckpointId, KeyGroupRange, Scope};
use drystone::protocol::Acknowledgement;
use drystone::store::names::PhysicalFileName;
use futures::future::join_all;
use scenario::{AMPLIFICATION, BLOCKING, Handles, JOB, Job, MAX_FILE, OPERATOR, RETAINED, SEGMENT_BUFFER};

const OFF: (&str, &str) = (AMPLIFICATION, "0");

/// Scenario 1 (testCreateFileMergingSnapshotManager): making a worker creates nothing; what it writes lies in the
/// checkpoint's directory or in `shared/` by its scope, and the file's name says who wrote it.
#[tokio::test]
async fn files_lie_where_their_scope_says_and_name_their_writer() {
    let job = Job::new(&[]).await;
    assert!(job.files().await.is_empty());
    let mut round = job.begin();
    round.write(0, Scope::Exclusive, "private", vec![1; 32]).await;
    round.write(1, Scope::Shared, "shared", vec![2; 32]).await;
    round.commit().await;
    let files = job.files().await;
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files.contains_key("chk-1/_metadata"));
    for directory in ["chk-1/ds1-", "shared/ds1-"] {
        let name = files.keys().find(|file| file.starts_with(directory)).unwrap();
        let name: PhysicalFileName = name.split('/').next_back().unwrap().parse().unwrap();
        assert_eq!((name.attempt, name.worker.as_str(), name.checkpoint), (1, "Testing", CheckpointId(1)));
    }
}

/// Scenario 2 (testSpecialCharactersInPath): neither a worker's name nor a directory with reserved characters does harm.
#[tokio::test]
async fn names_of_any_characters_make_paths_that_can_be_read_again() {
    let disk = tempfile::tempdir().unwrap();
    let directory = format!("{}/a b,;:$&+=[]@%23#é", disk.path().display());
    let job = Job::at(&drystone::store::Stores::new(), &directory, JOB, 1, &[]).await;
    for name in ["localhost:53424-,;:$&+=?/[]@#qqq", "../..", "", &"é".repeat(100)] {
        let worker = job.storage.worker(JOB, name).unwrap();
        let trigger = job.coordinator.trigger(job.coordinator.next_checkpoint()).unwrap();
        let snapshot = worker.begin(job.subtask(0), &trigger).unwrap();
        let mut writer = snapshot.segment(Scope::Shared, None);
        writer.write_slice(b"some state").await.unwrap();
        let written = writer.finish().await.unwrap();
        let durable = snapshot.seal().await.unwrap();
        let handle = durable.handle(&written).unwrap().unwrap();
        assert!(job.directory.holds(&scenario::file_of(&handle)), "{handle:?}");
        assert_eq!(job.read(&handle).await, "some state");
        let shared = Handles::from([("a".to_owned(), handle)]);
        let state = scenario::state(&job.spec, trigger.checkpoint, 0, shared, Handles::new());
        job.acknowledge(trigger.checkpoint, 0, state, durable.sealed().to_vec());
        job.complete(trigger.checkpoint).await;
    }
    let again = job.storage.coordinator(JOB, vec![job.spec.clone()]).await.unwrap();
    assert_eq!(again.latest(), job.coordinator.latest());
}

/// Scenario 3 (testRefCountBetweenLogicalAndPhysicalFiles): a file lives as long as a checkpoint names a segment in it;
/// what is dead before its file is sealed never gets to the store.
#[tokio::test]
async fn a_file_goes_with_the_last_checkpoint_that_names_it() {
    let job = Job::new(&[OFF]).await;
    let mut round = job.begin();
    round.write(0, Scope::Shared, "a", vec![1; 10]).await;
    let (_, handles) = round.commit().await;
    let a = &handles["a"];
    assert_eq!((scenario::segment(a).offset, scenario::segment(a).size), (0, 10));
    // The next one advances its life, and the end of the first changes nothing.
    let mut round = job.begin();
    round.keep(0, "a", a);
    assert_eq!(round.commit().await.0.subsumed, [CheckpointId(1)]);
    job.worker.subsume(job.coordinator.epoch(), CheckpointId(1));
    assert!(job.holds(a).await);
    assert_eq!(job.counts(), (1, 1));
    // The last one that names it ends; once more is once.
    job.begin().commit().await;
    assert!(!job.holds(a).await);
    for checkpoint in [1, 2, 2].map(CheckpointId) {
        job.worker.subsume(job.coordinator.epoch(), checkpoint);
        assert!(!job.coordinator.abort(checkpoint));
    }
    assert_eq!(job.counts(), (0, 0));

    let mut round = job.begin();
    round.write(0, Scope::Shared, "dead", vec![1; 10]).await;
    let (checkpoint, puts) = (round.checkpoint(), job.stores.requests().put);
    job.abort(checkpoint).await;
    drop(round);
    assert_eq!(job.worker.usage(), Default::default());
    assert_eq!(job.stores.requests().put, puts, "its file was open yet");
}

/// Scenario 4 (testSizeStatsInPhysicalFile): segments lie back to back, and a file's size is its real length.
#[tokio::test]
async fn a_files_size_is_its_segments_and_its_footer() {
    let job = Job::new(&[]).await;
    let mut round = job.begin();
    round.write(0, Scope::Shared, "first", vec![1; 123]).await;
    assert_eq!(round.provisional(0, "first").offset, 0);
    round.write(0, Scope::Shared, "second", vec![2; 456]).await;
    assert_eq!(round.provisional(0, "second").offset, 123);
    let (_, handles) = round.commit().await;
    assert_eq!(scenario::file_of(&handles["first"]), scenario::file_of(&handles["second"]));
    let real = job.stores.locate(&scenario::file_of(&handles["first"])).unwrap().size().await.unwrap();
    assert!(real > 579, "{real}");
    assert_eq!(job.coordinator.space().file_bytes, real);
    assert_eq!(job.coordinator.space().segment_bytes, 579);
}

/// Scenario 5 (testSpaceStat): what is named is counted, once, and nothing is left at the end.
#[tokio::test]
async fn the_figures_follow_what_is_named() {
    let mut job = Job::new(&[OFF]).await;
    let mut round = job.begin();
    round.write(0, Scope::Shared, "first", vec![1; 123]).await;
    round.write(1, Scope::Shared, "second", vec![2; 456]).await;
    let (_, handles) = round.commit().await;
    let both = job.coordinator.space();
    assert_eq!((both.files, both.segments, both.segment_bytes), (1, 2, 579));
    // Named by two checkpoints and two subtasks, it counts once; the first goes.
    let mut round = job.begin();
    round.keep(0, "second", &handles["second"]);
    round.keep(1, "second", &handles["second"]);
    round.commit().await;
    let one = job.coordinator.space();
    assert_eq!((one.files, one.file_bytes, one.segments, one.segment_bytes), (1, both.file_bytes, 1, 456));
    job.coordinator = job.storage.coordinator(JOB, vec![job.spec.clone()]).await.unwrap();
    assert_eq!(job.coordinator.space(), one, "counted again");
    job.begin().commit().await;
    assert_eq!(job.coordinator.space(), Default::default());
}

/// Scenario 6 (testReusedFileWriting): what is written one after another lies in one file, back to back.
#[tokio::test]
async fn segments_written_one_after_another_share_a_file() {
    let job = Job::new(&[]).await;
    let mut round = job.begin();
    let mut all = Vec::new();
    for number in 0..10_u32 {
        let bytes: Vec<u8> = (0..128_u32).map(|i| (i * 31 + number * 17) as u8).collect();
        let mut writer = round.snapshot(0).segment(Scope::Exclusive, None);
        for byte in &bytes {
            writer.write_slice(&[*byte]).await.unwrap();
        }
        let written = writer.finish().await.unwrap();
        round.take(0, Scope::Exclusive, &format!("{number:02}"), written);
        all.extend(bytes);
    }
    let (_, handles) = round.commit().await;
    let file = scenario::file_of(&handles["00"]);
    assert!(handles.values().all(|handle| scenario::file_of(handle) == file));
    let content = job.stores.locate(&file).unwrap().read_all(1 << 20).await.unwrap();
    assert_eq!(content.slice(..1280), all);
}

/// Scenario 7 (testConcurrentWriting): twelve writers at once don't mix their bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_concurrent_writers_are_never_mixed() {
    let job = Job::new(&[]).await;
    let mut round = job.begin();
    let writers = (0..12).map(|_| round.snapshot(0).segment(Scope::Exclusive, None)).collect::<Vec<_>>();
    let tasks = writers.into_iter().map(|mut writer| {
        tokio::spawn(async move {
            for byte in 0..128_u8 {
                writer.write_slice(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            writer.finish().await.unwrap()
        })
    });
    for (number, written) in join_all(tasks).await.into_iter().enumerate() {
        round.take(0, Scope::Exclusive, &number.to_string(), written.unwrap());
    }
    let (_, handles) = round.commit().await;
    let expected: Bytes = (0..128).collect();
    for handle in handles.values() {
        assert_eq!(job.read(handle).await, expected);
    }
    assert_eq!(job.counts(), (1, 12), "one file, however many wrote at once");
}

/// Scenario 8 (testConcurrentFileReusingWithBlockingPool): a blocking pool has one open file for each scope; a full one is
/// never written to again, and no file is over the cap but for a single longer segment.
#[tokio::test(start_paused = true)]
async fn a_blocking_pool_fills_one_file_after_another() {
    for scope in [Scope::Shared, Scope::Exclusive] {
        let options = [(MAX_FILE, "32 kb"), (BLOCKING, "true"), (SEGMENT_BUFFER, "10 kb"), OFF];
        let job = Job::new(&options).await;
        let mut round = job.begin();
        // Longer than the buffer: each has the file for itself while it is written.
        let mut first = round.snapshot(0).segment(scope, None);
        first.write_slice(&[1; 70_000]).await.unwrap();
        let mut second = round.snapshot(1).segment(scope, None);
        let waits = tokio::time::timeout(Duration::from_millis(10), second.write_slice(&[2; 70_000])).await;
        assert!(waits.is_err(), "there is one file at a time, and it is leased");
        let written = first.finish().await.unwrap();
        round.take(0, scope, "long", written);
        drop(second);
        for number in 0..20 {
            round.write(number % 2, scope, &format!("short-{number:02}"), vec![3; 5_000]).await;
        }
        let (_, handles) = round.commit().await;
        let long = handles.iter().find(|(name, _)| *name == "long").unwrap().1;
        let of = |handle| scenario::file_of(handle);
        assert!(handles.iter().all(|(name, handle)| name == "long" || of(handle) != of(long)));
        let files = job.files().await;
        let over = files.iter().filter(|(name, bytes)| !name.ends_with("_metadata") && **bytes > 32 << 10);
        assert_eq!(over.count(), 1, "{files:?}");
        assert_eq!(job.coordinator.space().segments, 21);
        assert_eq!(job.counts().0, 1 + 4, "six of the short ones fill a file: {files:?}");
    }
}

/// Scenario 8 (testConcurrentFileReusingWithBlockingPool), abandoned: a writer that is dropped halfway blocks nobody, which in
/// Flink it does for ever.
#[tokio::test(start_paused = true)]
async fn an_abandoned_writer_gives_the_file_of_a_blocking_pool_free() {
    let options = [(BLOCKING, "true"), (SEGMENT_BUFFER, "10 kb"), ("drystone.pool.lease-timeout", "1 h")];
    let job = Job::new(&options).await;
    let mut round = job.begin();
    let mut abandoned = round.snapshot(0).segment(Scope::Shared, None);
    abandoned.write_slice(&[1; 70_000]).await.unwrap();
    let mut waiting = round.snapshot(1).segment(Scope::Shared, None);
    let started = tokio::time::Instant::now();
    let (written, ()) = tokio::join!(
        async {
            waiting.write_slice(&[2; 70_000]).await.unwrap();
            waiting.finish().await.unwrap()
        },
        async {
            tokio::task::yield_now().await;
            drop(abandoned);
        }
    );
    assert!(started.elapsed() < Duration::from_secs(60), "it got the file when that was free");
    round.take(1, Scope::Shared, "state", written);
    let (_, handles) = round.commit().await;
    assert_eq!(job.read(&handles["state"]).await, vec![2; 70_000]);
}

/// Scenario 9 (testReuseCallbackAndAdvanceWatermark): what a checkpoint doesn't name again dies with the one before, and
/// can never be named again.
#[tokio::test]
async fn what_is_not_named_again_is_gone_for_good() {
    let job = Job::new(&[OFF, (RETAINED, "1")]).await;
    let mut round = job.begin();
    for number in 0..20 {
        round.write(0, Scope::Shared, &format!("{number:02}"), vec![number; 128]).await;
    }
    let (_, handles) = round.commit().await;
    let handles: Vec<_> = handles.into_values().collect();
    assert_eq!(job.counts(), (1, 20));
    for checkpoint in 2..=10_usize {
        let mut round = job.begin();
        for (number, handle) in handles.iter().enumerate().take(11 - checkpoint) {
            round.keep(0, &format!("{number:02}"), handle);
        }
        round.commit().await;
        assert_eq!(job.counts(), (1, 11 - checkpoint as u64));
        let dead = Handles::from([("dead".to_owned(), handles[11 - checkpoint].clone())]);
        let late = job.coordinator.next_checkpoint();
        if checkpoint == 10 {
            job.coordinator.trigger(late).unwrap();
            let state = Some(Box::new(scenario::state(&job.spec, late, 0, dead, Handles::new())));
            let dangling = Acknowledgement {
                epoch: job.coordinator.epoch(),
                checkpoint: late,
                subtask: job.subtask(0),
                state,
                sealed: Vec::new(),
            };
            let error = job.coordinator.acknowledge(dangling).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("no retained checkpoint names"), "{error}");
        }
    }
    assert_eq!(job.read(&handles[0]).await, vec![0; 128]);
}

/// Every place that a segment can be named in, over these handles.
fn state_of_all_kinds(range: KeyGroupRange, handles: &Handles) -> SubtaskState {
    let handle = |name: &str| handles[name].clone();
    let operator = |name| OperatorStateHandle {
        states: vec![StatePartitions {
            name: scenario::text(name),
            mode: DistributionMode::SplitDistribute,
            offsets: vec![0],
        }],
        directories: None,
        delegate: handle(name),
    };
    let shared = vec![LocalPathHandle { local_path: scenario::text("localPath"), handle: Some(handle("keyed")) }];
    let managed = IncrementalHandle {
        checkpoint_id: 222,
        backend_id: scenario::text("00000000-0000-0000-0000-000000000001"),
        range,
        persisted: None,
        meta: None,
        shared,
        private: Vec::new(),
    };
    let raw = KeyGroupsHandle {
        checksums: Vec::new(),
        form: KeyGroupsForm::WithoutId,
        range,
        offsets: (0..i64::from(range.count)).map(|i| if i == 0 { 1 } else { -1 }).collect(),
        delegate: handle("raw keyed"),
    };
    let channel = |inner, delegate| {
        let info = ChannelInfo { outer: 0, inner };
        let single = SingleChannelHandle { subtask: 0, info, offsets: vec![0], state_size: 32, delegate };
        ChannelHandle::Single(single)
    };
    SubtaskState {
        managed_operator: Some(operator("operator")),
        raw_operator: Some(operator("raw operator")),
        managed_keyed: Some(KeyedHandle::Incremental(managed)),
        raw_keyed: Some(KeyedHandle::KeyGroups(raw)),
        // Both channels' data is in one segment.
        input_channels: vec![channel(0, handle("channels")), channel(1, handle("channels"))],
        output_channels: Vec::new(),
    }
}

/// Scenario 10 (testRestore): a new coordinator finds what the old one knew, whatever kind of state names it; a segment
/// that is named twice counts once; and it goes when a newer checkpoint completes.
#[tokio::test]
async fn a_new_process_knows_what_the_old_one_wrote() {
    let stores = scenario::memory();
    let job = Job::at(&stores, "memory:/checkpoints", JOB, 1, &[]).await;
    let checkpoint = CheckpointId(222);
    let trigger = job.coordinator.trigger(checkpoint).unwrap();
    let snapshot = job.worker.begin(job.subtask(0), &trigger).unwrap();
    let mut written = Vec::new();
    for (number, name) in ["keyed", "raw keyed", "operator", "raw operator", "channels"].into_iter().enumerate() {
        let mut writer = snapshot.segment(Scope::Exclusive, None);
        writer.write_slice(&[number as u8; 32]).await.unwrap();
        written.push((name.to_owned(), writer.finish().await.unwrap()));
    }
    let durable = snapshot.seal().await.unwrap();
    let handles = written.into_iter().map(|(name, written)| (name, durable.handle(&written).unwrap().unwrap()));
    let handles: Handles = handles.collect();
    let range = KeyGroupRange::of_subtask(0, 1, 128).unwrap();
    job.acknowledge(checkpoint, 0, state_of_all_kinds(range, &handles), durable.sealed().to_vec());
    let completed = job.complete(checkpoint).await;
    let space = job.coordinator.space();
    assert_eq!((space.files, space.segments, space.segment_bytes), (1, 5, 160));
    job.worker.close().await.unwrap();

    let job = Job::at(&stores, "memory:/checkpoints", JOB, 1, &[]).await;
    assert_eq!(job.coordinator.completed(), [checkpoint]);
    assert_eq!(job.coordinator.space(), space);
    let task = job.storage.restore(&completed.path).await.unwrap().task(OPERATOR, 0, 1).unwrap();
    let restored = task.read_all().await.unwrap();
    let found: Vec<_> = task.streams().iter().map(|stream| stream.handle.innermost().clone()).collect();
    assert!(handles.values().all(|handle| found.contains(handle)), "{found:?}");
    let operator = restored.bytes(task.managed_operator[0].stream.unwrap());
    assert_eq!(operator, vec![2; 32]);

    job.begin().commit().await;
    for handle in handles.values() {
        assert!(!job.holds(handle).await);
    }
    assert_eq!(job.coordinator.space(), Default::default());
}

/// Scenario 11 (testManagedDirCleanup): without a completed checkpoint nothing is left on the disk, not even directories;
/// with one, closing the worker takes nothing away.
#[tokio::test]
async fn a_job_without_a_completed_checkpoint_leaves_no_trace() {
    let disk = tempfile::tempdir().unwrap();
    let entries = || std::fs::read_dir(disk.path()).unwrap().count();
    let at = disk.path().to_str().unwrap();
    let stores = drystone::store::Stores::new();

    let job = Job::at(&stores, at, JOB, 2, &[]).await;
    job.worker.close().await.unwrap();
    job.coordinator.dispose(JobEnd::Failed).await.unwrap();
    assert_eq!(entries(), 0, "no checkpoint, nothing was ever made");

    let job = Job::at(&stores, at, JOB, 2, &[]).await;
    let mut round = job.begin();
    for index in 0..2 {
        round.write(index, Scope::Shared, "shared", vec![1; 32]).await;
        round.write(index, Scope::Exclusive, "private", vec![2; 32]).await;
    }
    round.acknowledge().await;
    assert_eq!(job.files().await.len(), 2);
    job.abort(CheckpointId(1)).await;
    assert!(job.files().await.is_empty());
    job.worker.close().await.unwrap();
    job.coordinator.dispose(JobEnd::Failed).await.unwrap();
    assert_eq!(entries(), 0, "aborted: as if it had never been");

    let job = Job::at(&stores, at, JOB, 2, &[]).await;
    let mut round = job.begin();
    round.write(0, Scope::Shared, "shared", vec![1; 32]).await;
    round.write(1, Scope::Exclusive, "private", vec![2; 32]).await;
    round.commit().await;
    let files = job.files().await;
    job.worker.close().await.unwrap();
    drop(job);
    let job = Job::at(&stores, at, JOB, 2, &[]).await;
    assert_eq!((job.files().await, files.len()), (files, 3));
}
