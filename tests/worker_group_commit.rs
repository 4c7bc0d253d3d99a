//! Group commit: one write for each file, when all have finished or have waited long enough.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod seeded;
    pub mod watched_store;
    pub mod working;
}

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use drystone::ErrorKind;
use drystone::format::Footer;
use drystone::format::footer::{TAIL_BYTES, Tail};
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use drystone::worker::{Ticket, WorkerSettings};
use drystone::write::{WriteSettings, Written};
use futures::FutureExt;
use futures::future::join_all;
use support::seeded::bytes_of;
use support::working::{EPOCH, Working, packed, subtask, trigger, write};
use tokio::time::Instant;

/// Of `subtasks` registered ones, the first `finished` have each written a segment.
async fn begun(working: &Working, subtasks: u32, finished: u32) -> Vec<(Ticket, Written)> {
    (0..subtasks).for_each(|index| working.worker.register(subtask(index)));
    let mut tickets = Vec::new();
    for index in 0..finished {
        let snapshot = working.worker.begin(subtask(index), &trigger(1)).unwrap();
        let written = write(&snapshot, Scope::Exclusive, bytes_of(u64::from(index), 5_000)).await.unwrap();
        tickets.push((snapshot.finish(), written));
    }
    tickets
}

fn linger() -> Duration {
    WorkerSettings::default().linger
}

#[tokio::test(start_paused = true)]
async fn what_64_subtasks_write_goes_into_one_file_with_one_request() {
    let working = Arc::new(Working::new(packed()));
    (0..64).for_each(|index| working.worker.register(subtask(index)));
    let start = Instant::now();
    let tasks = (0..64_u32).map(|index| {
        let working = working.clone();
        tokio::spawn(async move {
            let snapshot = working.worker.begin(subtask(index), &trigger(1)).unwrap();
            let mut segments = Vec::new();
            for number in 0..32 {
                let bytes = bytes_of(u64::from(index * 100 + number), 4 << 10);
                segments.push((write(&snapshot, Scope::Shared, bytes.clone()).await.unwrap(), bytes));
                tokio::task::yield_now().await;
            }
            (snapshot.seal().await.unwrap(), segments)
        })
    });
    let done = join_all(tasks.collect::<Vec<_>>()).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(working.watch.puts.count.load(SeqCst), 1);
    let files = working.files().await;
    assert_eq!(files.len(), 1);
    let path = files.keys().next().unwrap();
    assert!(path.starts_with("memory://job/a/task_0_1/shared/ds1-a3-wworker_1-c1-n0-"), "{path}");
    for task in done {
        let (durable, segments) = task.unwrap();
        assert_eq!(durable.sealed().iter().map(|file| (&file.path, &file.bytes)).next(), files.iter().next());
        // Reading the file back 64 times proves no more.
        let (written, bytes) = &segments[31];
        assert_eq!(working.read(&durable.handle(written).unwrap().unwrap()).await, bytes);
    }
    assert_eq!(working.worker.usage().buffered_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_to_finish_has_the_file_sealed() {
    let working = Working::new(packed());
    let start = Instant::now();
    let tickets = begun(&working, 3, 2).await;
    let mut waiting = pin!(join_all(tickets.iter().map(|(ticket, _)| ticket.seal())));
    assert!(futures::poll!(&mut waiting).is_pending());
    Working::until_nothing_moves().await;
    assert!(working.files().await.is_empty());
    let last = working.worker.begin(subtask(2), &trigger(1)).unwrap().finish();
    assert!(waiting.await.into_iter().all(|durable| durable.is_ok()));
    last.seal().await.unwrap();
    assert_eq!((start.elapsed(), working.files().await.len()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_need_wait_for_tickets_to_have_the_file_sealed() {
    let working = Working::new(packed());
    begun(&working, 2, 2).await;
    Working::until_nothing_moves().await;
    assert_eq!(working.files().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn forgetting_the_last_who_is_awaited_releases_the_others() {
    let working = Working::new(packed());
    let start = Instant::now();
    let tickets = begun(&working, 3, 2).await;
    let mut waiting = pin!(join_all(tickets.iter().map(|(ticket, _)| ticket.seal())));
    assert!(futures::poll!(&mut waiting).is_pending());
    working.worker.forget(subtask(2));
    assert!(waiting.await.into_iter().all(|durable| durable.is_ok()));
    assert_eq!((start.elapsed(), working.files().await.len()), (Duration::ZERO, 1));
    // Nor is it awaited by later checkpoints.
    let late = working.worker.begin(subtask(0), &trigger(2)).unwrap();
    write(&late, Scope::Exclusive, bytes_of(9, 5_000)).await.unwrap();
    let mut waiting = pin!(late.seal());
    assert!(futures::poll!(&mut waiting).is_pending());
    working.worker.begin(subtask(1), &trigger(2)).unwrap().finish();
    waiting.await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_was_given_up_keeps_nobody_waiting() {
    let working = Working::new(packed());
    let start = Instant::now();
    let tickets = begun(&working, 3, 2).await;
    let given_up = working.worker.begin(subtask(2), &trigger(1)).unwrap();
    write(&given_up, Scope::Exclusive, bytes_of(5, 5_000)).await.unwrap();
    let mut streaming = given_up.segment(Scope::Exclusive, None);
    streaming.write(bytes_of(6, 9 << 20)).await.unwrap();
    let mut waiting = pin!(tickets[0].0.seal());
    assert!(futures::poll!(&mut waiting).is_pending());
    // The writer is leaked, as a cancelled task might.
    drop(given_up);
    waiting.await.unwrap();
    assert_eq!((start.elapsed(), working.files().await.len()), (Duration::ZERO, 1));
    drop(streaming);
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_long_enough_has_the_file_sealed() {
    let working = Working::new(packed());
    let tickets = begun(&working, 3, 2).await;
    // Before anybody waits nothing is under way.
    tokio::time::advance(linger() * 5).await;
    let start = Instant::now();
    let first = tickets[0].0.seal();
    let second = async {
        tokio::time::sleep(linger() / 2).await;
        tickets[1].0.seal().await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(start.elapsed(), linger(), "the time of the first to wait counts");
    assert_eq!(first.unwrap().sealed(), second.unwrap().sealed());
    // The straggler gets a file of its own, at once, as it is the last.
    let straggler = working.worker.begin(subtask(2), &trigger(1)).unwrap();
    write(&straggler, Scope::Exclusive, bytes_of(9, 5_000)).await.unwrap();
    straggler.seal().await.unwrap();
    assert_eq!((start.elapsed(), working.files().await.len()), (linger(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_nobody_waits_for_any_more_starts_no_time() {
    let working = Working::new(packed());
    let tickets = begun(&working, 2, 1).await;
    let start = Instant::now();
    {
        let cancelled = tokio::time::timeout(linger() / 2, tickets[0].0.seal());
        assert!(cancelled.await.is_err());
    }
    tickets[0].0.seal().await.unwrap();
    assert_eq!(start.elapsed(), linger() / 2 + linger());
    // And again, when all is done.
    assert_eq!(tickets[0].0.seal().await.unwrap().sealed().len(), 1);
}

#[tokio::test]
async fn a_snapshot_without_a_segment_in_a_file_waits_for_nobody() {
    let working = Working::new(WorkerSettings::default());
    (0..2).for_each(|index| working.worker.register(subtask(index)));
    let snapshot = working.worker.begin(subtask(0), &trigger(1)).unwrap();
    let inline = write(&snapshot, Scope::Shared, bytes_of(1, 100)).await.unwrap();
    let nothing = snapshot.segment(Scope::Exclusive, None).finish().await.unwrap();
    let durable = snapshot.seal().now_or_never().unwrap().unwrap();
    assert!(matches!(durable.handle(&inline).unwrap(), Some(StreamHandle::Inline(_))));
    assert_eq!(durable.handle(&nothing).unwrap(), None);
    assert!(durable.sealed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_full_file_is_sealed_though_others_write() {
    let settings = packed();
    let working =
        Working::new(WorkerSettings { write: WriteSettings { file_bytes_max: 100_000, ..settings.write }, ..settings });
    let start = Instant::now();
    (0..2).for_each(|index| working.worker.register(subtask(index)));
    let snapshot = working.worker.begin(subtask(0), &trigger(1)).unwrap();
    let written = write(&snapshot, Scope::Shared, bytes_of(1, 99_000)).await.unwrap();
    assert!(snapshot.seal().await.unwrap().handle(&written).unwrap().is_some());
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_failed_upload_fails_exactly_those_in_the_file() {
    let working = Working::new(packed());
    (0..3).for_each(|index| working.worker.register(subtask(index)));
    let snapshots: Vec<_> = (0..3).map(|i| working.worker.begin(subtask(i), &trigger(1)).unwrap()).collect();
    let [one, two, three] = snapshots.try_into().ok().unwrap();
    for snapshot in [&one, &two] {
        write(snapshot, Scope::Exclusive, bytes_of(1, 5_000)).await.unwrap();
    }
    *working.watch.puts.failure.lock().unwrap() = Some("the disk is full");
    let failed = working.worker.seal(CheckpointId(1)).await.unwrap_err();
    assert!(failed.to_string().contains("the disk is full"), "{failed}");
    *working.watch.puts.failure.lock().unwrap() = None;
    write(&three, Scope::Exclusive, bytes_of(2, 5_000)).await.unwrap();
    // Of two files, one that failed.
    write(&two, Scope::Exclusive, bytes_of(3, 5_000)).await.unwrap();
    let (one, two, three) = tokio::join!(one.seal(), two.seal(), three.seal());
    for failed in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(failed.kind(), ErrorKind::Store);
        assert!(failed.to_string().contains("the disk is full"), "{failed}");
    }
    assert_eq!(three.unwrap().sealed().len(), 1);
    assert_eq!(working.worker.usage().buffered_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn each_scope_has_files_of_its_own() {
    let working = Working::new(packed());
    let snapshot = working.worker.begin(subtask(0), &trigger(4)).unwrap();
    let exclusive = write(&snapshot, Scope::Exclusive, bytes_of(1, 5_000)).await.unwrap();
    let shared = write(&snapshot, Scope::Shared, bytes_of(2, 5_000)).await.unwrap();
    let early = [&exclusive, &shared].map(|written| snapshot.provisional(written).unwrap().unwrap());
    assert!(working.files().await.is_empty());
    let durable = snapshot.seal().await.unwrap();
    for ((written, early), directory) in [&exclusive, &shared].into_iter().zip(early).zip(["chk-4", "shared"]) {
        let handle = durable.handle(written).unwrap().unwrap();
        assert_eq!(handle, early);
        let StreamHandle::Segment(segment) = handle else { panic!("no segment") };
        let path = segment.path.to_text();
        assert!(path.starts_with(&format!("memory://job/a/task_0_1/{directory}/ds1-a3-")), "{path}");
        let sealed = durable.sealed().iter().find(|file| file.path == path).unwrap();
        assert_eq!(working.files().await[&*path], sealed.bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn only_who_was_registered_before_is_awaited() {
    let working = Working::new(packed());
    let start = Instant::now();
    let first = working.worker.begin(subtask(0), &trigger(1)).unwrap();
    let unregistered = working.worker.begin(subtask(1), &trigger(1)).unwrap();
    working.worker.register(subtask(2));
    write(&first, Scope::Exclusive, bytes_of(1, 5_000)).await.unwrap();
    let mut waiting = pin!(first.seal());
    assert!(futures::poll!(&mut waiting).is_pending(), "who takes part is awaited");
    unregistered.finish();
    waiting.await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_last_may_finish_where_there_is_no_runtime() {
    let working = Working::new(packed());
    let start = Instant::now();
    let tickets = begun(&working, 2, 1).await;
    let mut waiting = pin!(tickets[0].0.seal());
    assert!(futures::poll!(&mut waiting).is_pending());
    let last = working.worker.begin(subtask(1), &trigger(1)).unwrap();
    std::thread::spawn(move || drop(last)).join().unwrap();
    waiting.await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_writers_on_two_threads_all_get_their_bytes_back() {
    let settings = packed();
    let write_settings = WriteSettings { file_bytes_max: 256 << 10, subtasks_per_file_max: Some(4), ..settings.write };
    let working = Arc::new(Working::new(WorkerSettings { write: write_settings, ..settings }));
    (0..12).for_each(|index| working.worker.register(subtask(index)));
    for checkpoint in 1..4 {
        let tasks = (0..12_u32).map(|index| {
            let working = working.clone();
            tokio::spawn(async move {
                let snapshot = working.worker.begin(subtask(index), &trigger(checkpoint)).unwrap();
                let mut segments = Vec::new();
                for number in 0..20_u64 {
                    let scope = if number % 3 == 0 { Scope::Exclusive } else { Scope::Shared };
                    let bytes = bytes_of(u64::from(index) * 100 + number, 1 + (number * 977 % 9_000) as usize);
                    segments.push((write(&snapshot, scope, bytes.clone()).await.unwrap(), bytes));
                }
                let durable = snapshot.seal().await.unwrap();
                for (written, bytes) in segments {
                    let handle = durable.handle(&written).unwrap().unwrap();
                    assert_eq!(working.read(&handle).await, bytes);
                }
            })
        });
        for task in join_all(tasks.collect::<Vec<_>>()).await {
            task.unwrap();
        }
        working.worker.complete(EPOCH, CheckpointId(checkpoint));
    }
    for path in working.files().await.into_keys() {
        let below = path.strip_prefix("memory://job/a/task_0_1/").unwrap();
        let bytes = working.directory.root().join(below).unwrap().read_all(u64::MAX).await.unwrap();
        assert!(bytes.len() <= 256 << 10);
        let tail = Tail::decode(&bytes[bytes.len() - TAIL_BYTES..], bytes.len() as u64).unwrap();
        let footer = Footer::decode(bytes.slice(tail.data_len as usize..), bytes.len() as u64).unwrap();
        let mut subtasks: Vec<_> = footer.segments.iter().map(|segment| segment.subtask).collect();
        subtasks.sort();
        subtasks.dedup();
        assert!(subtasks.len() <= 4, "{path}");
        assert!(footer.segments.iter().all(|s| s.checkpoint == footer.segments[0].checkpoint), "{path}");
    }
}

/// Who was forgotten may go on writing; what it tells the coordinator of has to come to be there, waited for or not.
#[tokio::test(start_paused = true)]
async fn what_a_forgotten_subtask_wrote_is_sealed_when_it_finishes() {
    let working = Working::new(packed());
    working.worker.register(subtask(0));
    let snapshot = working.worker.begin(subtask(0), &trigger(1)).unwrap();
    working.worker.forget(subtask(0));
    write(&snapshot, Scope::Shared, bytes_of(1, 5_000)).await.unwrap();
    drop(snapshot.finish());
    Working::until_nothing_moves().await;
    assert_eq!(working.files().await.len(), 1);
    assert_eq!(working.worker.usage().open_files, 0);
}
