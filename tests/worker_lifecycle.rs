//! How checkpoints end at a worker, what may be reused, and what is left then.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod cases;
    pub mod seeded;
    pub mod watched_store;
    pub mod working;
}

use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;

use drystone::ErrorKind;
use drystone::handle::{FileHandle, InlineHandle, JavaString, KeyGroupsStream, SegmentHandle, StreamHandle};
use drystone::id::{CheckpointId, KeyGroupRange, Scope};
use drystone::protocol::{Reason, Reuse, RewriteReason, Trigger};
use drystone::worker::{Worker, WorkerSettings};
use drystone::write::{WriteSettings, Written};
use futures::FutureExt;
use proptest::prelude::*;
use support::cases::cases;
use support::seeded::bytes_of;
use support::working::{EPOCH, Working, packed, subtask, trigger, write};

fn refused(worker: &Worker, trigger: &Trigger) -> String {
    let error = worker.begin(subtask(0), trigger).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_late_writer_is_told_and_leaves_nothing() {
    for length in [5_000, 20 << 20] {
        let working = Working::new(packed());
        (0..2).for_each(|index| working.worker.register(subtask(index)));
        let early = working.worker.begin(subtask(1), &trigger(5)).unwrap();
        write(&early, Scope::Shared, bytes_of(1, 5_000)).await.unwrap();
        let ticket = early.finish();
        let late = working.worker.begin(subtask(0), &trigger(5)).unwrap();
        let mut writer = late.segment(Scope::Shared, None);
        writer.write(bytes_of(2, length)).await.unwrap();
        let mut waiting = pin!(ticket.seal());
        assert!(futures::poll!(&mut waiting).is_pending());

        working.worker.abort(EPOCH, CheckpointId(5));
        let errors = [
            waiting.await.map(drop).unwrap_err(),
            writer.write(bytes_of(3, 10)).await.unwrap_err(),
            writer.finish().await.map(drop).unwrap_err(),
            write(&late, Scope::Exclusive, bytes_of(4, 5_000)).await.map(drop).unwrap_err(),
            ticket.seal().await.map(drop).unwrap_err(),
            working.worker.seal(CheckpointId(5)).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert_eq!(error.to_string(), "checkpoint 5 was aborted");
        }
        assert_eq!(refused(&working.worker, &trigger(5)), "checkpoint 5 was aborted");
        // Nothing to wait for is no reason to wait.
        late.seal().now_or_never().unwrap().unwrap();
        Working::until_nothing_moves().await;
        assert_eq!(working.worker.usage(), drystone::worker::WorkerUsage::default());
        assert!(working.files().await.is_empty());
        assert_eq!(working.watch.uploads_left.load(SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_at_an_abort_arrives_and_nobody_waits_for_it() {
    let working = Working::new(packed());
    let snapshot = working.worker.begin(subtask(0), &trigger(1)).unwrap();
    let written = write(&snapshot, Scope::Shared, bytes_of(1, 5_000)).await.unwrap();
    working.watch.puts.gate.forget_permits(usize::MAX);
    let ticket = snapshot.finish();
    Working::until_nothing_moves().await;
    let mut waiting = pin!(ticket.seal());
    assert!(futures::poll!(&mut waiting).is_pending());
    working.worker.abort(EPOCH, CheckpointId(1));
    assert!(futures::poll!(&mut waiting).is_ready());
    let mut closing = pin!(working.worker.close());
    assert!(futures::poll!(&mut closing).is_pending(), "it waits for what is on its way");
    assert_eq!(working.worker.usage().uploads, 1);
    working.watch.puts.gate.add_permits(1);
    closing.await.unwrap();
    // For the coordinator to find by its name.
    let name = working.files().await.into_keys().next().unwrap();
    assert!(name.contains("-c1-"), "{name}");
    assert!(matches!(written, Written::Placed(_)));
}

#[tokio::test]
async fn ends_before_the_beginning_count_and_the_first_of_several() {
    let worker = Working::new(packed()).worker;
    let ids: Vec<_> = (0..6).map(CheckpointId).collect();
    worker.complete(EPOCH, ids[1]);
    worker.abort(EPOCH, ids[1]);
    worker.abort(EPOCH, ids[2]);
    worker.complete(EPOCH, ids[2]);
    worker.abort(EPOCH, ids[2]);
    worker.subsume(EPOCH, ids[3]);
    worker.abort(EPOCH, ids[3]);
    worker.complete(EPOCH, ids[4]);
    worker.complete(EPOCH, ids[4]);
    worker.subsume(EPOCH, ids[4]);
    worker.subsume(EPOCH, ids[4]);
    assert_eq!(refused(&worker, &trigger(1)), "checkpoint 1 has completed");
    assert_eq!(refused(&worker, &trigger(2)), "checkpoint 2 was aborted");
    assert_eq!(refused(&worker, &trigger(3)), "checkpoint 3 was subsumed");
    assert_eq!(refused(&worker, &trigger(4)), "checkpoint 4 was subsumed");
    worker.begin(subtask(0), &trigger(5)).unwrap();
    for id in [ids[1], ids[3], ids[4]] {
        worker.seal(id).await.unwrap();
    }
    assert!(worker.seal(ids[2]).await.is_err());
    worker.seal(CheckpointId(99)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_completed_checkpoint_holds_nothing() {
    let working = Working::new(packed());
    working.worker.register(subtask(9));
    for checkpoint in 1..=200 {
        let snapshot = working.worker.begin(subtask(0), &trigger(checkpoint)).unwrap();
        let straggler = working.worker.begin(subtask(1), &trigger(checkpoint)).unwrap();
        write(&snapshot, Scope::Shared, bytes_of(1, 5_000)).await.unwrap();
        let durable = snapshot.seal().await.unwrap();
        write(&straggler, Scope::Shared, bytes_of(1, 5_000)).await.unwrap();
        working.worker.complete(EPOCH, CheckpointId(checkpoint));
        assert_eq!(straggler.finish().seal().await.map(drop).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(working.worker.usage(), drystone::worker::WorkerUsage::default());
        assert_eq!(durable.sealed().len(), 1);
    }
    assert_eq!(working.files().await.len(), 200);
    assert_eq!(refused(&working.worker, &trigger(137)), "checkpoint 137 has completed");
    assert_eq!(refused(&working.worker, &trigger(136)), "checkpoint 136 is older than all whose end is remembered");
}

#[tokio::test]
async fn lost_notifications_do_not_make_a_worker_hold_ever_more() {
    let worker = Working::new(packed()).worker;
    for checkpoint in 1..=64 {
        worker.begin(subtask(0), &trigger(checkpoint)).unwrap();
    }
    assert!(refused(&worker, &trigger(65)).contains("64 are under way"));
    // Another subtask may take part in one that runs.
    worker.begin(subtask(1), &trigger(1)).unwrap();
    worker.subsume(EPOCH, CheckpointId(1));
    worker.begin(subtask(0), &trigger(65)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_completed_checkpoint_ends_older_ones_whose_end_was_lost() {
    let working = Working::new(packed());
    let old = working.worker.begin(subtask(0), &trigger(4)).unwrap();
    let mut segment = old.segment(Scope::Shared, None);
    segment.write(bytes_of(1, 5_000)).await.unwrap();
    let newer = working.worker.begin(subtask(0), &trigger(6)).unwrap();
    working.worker.complete(EPOCH, CheckpointId(5));
    assert_eq!(segment.finish().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(refused(&working.worker, &trigger(4)), "checkpoint 4 was aborted");
    assert_eq!(working.worker.usage().checkpoints, 1);
    newer.seal().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_abort_of_what_never_began_here_says_nothing_of_the_next_epoch() {
    let working = Working::new(packed());
    let of = |checkpoint: u64, epoch: u64| Trigger { epoch, ..trigger(checkpoint) };
    working.worker.begin(subtask(0), &of(4, 1)).map(drop).unwrap();
    working.worker.abort(1, CheckpointId(5));
    assert_eq!(refused(&working.worker, &of(5, 1)), "checkpoint 5 was aborted");
    // The next coordinator doesn't know of 5, and takes the number again.
    working.worker.begin(subtask(0), &of(5, 2)).map(drop).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_newest_epoch_counts() {
    let working = Working::new(packed());
    let of_epoch = |checkpoint, epoch| Trigger { epoch, ..trigger(checkpoint) };
    let old = working.worker.begin(subtask(0), &of_epoch(7, 3)).unwrap();
    write(&old, Scope::Shared, bytes_of(1, 5_000)).await.unwrap();
    working.worker.abort(EPOCH, CheckpointId(6));
    // A new coordinator starts again from an older checkpoint.
    let new = working.worker.begin(subtask(0), &of_epoch(5, 4)).unwrap();
    assert!(old.seal().await.map(drop).unwrap_err().to_string().contains("epoch before 4"));
    assert!(refused(&working.worker, &of_epoch(8, 3)).contains("epoch 4 has begun"));
    drop(new);
    let again = working.worker.begin(subtask(0), &of_epoch(7, 4)).unwrap();
    write(&again, Scope::Shared, bytes_of(2, 5_000)).await.unwrap();
    let sealed = again.seal().await.unwrap();
    assert!(sealed.sealed()[0].path.contains("/ds1-a4-"), "{:?}", sealed.sealed());
    working.worker.complete(4, CheckpointId(7));
    // What the old attempt at 7 may have left is not what was committed.
    let next = working.worker.begin(subtask(0), &of_epoch(8, 4)).unwrap();
    let segment = |attempt| shared_segment(&format!("{JOB}/shared/ds1-a{attempt}-ww-c7-n0-0000000000000001"));
    assert_eq!(next.reuse(&segment(3)), Reuse::Rewrite(RewriteReason::NotCommitted));
    assert_eq!(next.reuse(&segment(4)), Reuse::Keep);
}

#[tokio::test(start_paused = true)]
async fn what_an_older_coordinator_says_of_a_number_that_the_newer_uses_counts_no_more() {
    let working = Working::new(packed());
    let of_epoch = |checkpoint, epoch| Trigger { epoch, ..trigger(checkpoint) };
    let snapshot = working.worker.begin(subtask(0), &of_epoch(7, 4)).unwrap();
    write(&snapshot, Scope::Shared, bytes_of(1, 5_000)).await.unwrap();
    working.worker.abort(3, CheckpointId(7));
    working.worker.complete(3, CheckpointId(8));
    assert_eq!(working.worker.usage().checkpoints, 1);
    snapshot.seal().await.unwrap();
    working.worker.begin(subtask(0), &of_epoch(8, 4)).map(drop).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_word_of_a_newer_coordinator_gives_up_what_is_under_way() {
    let working = Working::new(packed());
    let of_epoch = |checkpoint, epoch| Trigger { epoch, ..trigger(checkpoint) };
    let old = working.worker.begin(subtask(0), &of_epoch(7, 3)).unwrap();
    write(&old, Scope::Shared, bytes_of(1, 5_000)).await.unwrap();
    working.worker.complete(4, CheckpointId(7));
    assert!(old.seal().await.map(drop).unwrap_err().to_string().contains("epoch before 4"));
    assert!(refused(&working.worker, &of_epoch(8, 3)).contains("epoch 4 has begun"));
    // What the newer one has completed isn't what was written here.
    let next = working.worker.begin(subtask(0), &of_epoch(8, 4)).unwrap();
    let segment = |attempt| shared_segment(&format!("{JOB}/shared/ds1-a{attempt}-ww-c7-n0-0000000000000001"));
    assert_eq!(next.reuse(&segment(3)), Reuse::Rewrite(RewriteReason::NotCommitted));
    assert_eq!(next.reuse(&segment(4)), Reuse::Keep);
}

#[tokio::test(start_paused = true)]
async fn a_closed_worker_takes_nothing_and_has_given_all_up() {
    let working = Working::new(packed());
    let snapshot = working.worker.begin(subtask(0), &trigger(1)).unwrap();
    write(&snapshot, Scope::Shared, bytes_of(1, 5_000)).await.unwrap();
    let mut writer = snapshot.segment(Scope::Shared, None);
    writer.write(bytes_of(2, 20 << 20)).await.unwrap();
    working.worker.close().await.unwrap();
    working.worker.close().await.unwrap();
    assert_eq!(refused(&working.worker, &trigger(2)), "the worker was closed");
    assert_eq!(writer.finish().await.map(drop).unwrap_err().to_string(), "the worker was closed");
    assert_eq!(snapshot.seal().await.map(drop).unwrap_err().to_string(), "the worker was closed");
    working.worker.close().await.unwrap();
    assert_eq!(working.worker.usage(), drystone::worker::WorkerUsage::default());
    assert_eq!(working.watch.uploads_left.load(SeqCst), 0);
    assert!(working.files().await.is_empty());
}

const JOB: &str = "memory://job/a/task_0_1";

fn segment(path: &str, scope: Scope) -> StreamHandle {
    let (path, id) = (JavaString::new(path).unwrap(), JavaString::new("an id").unwrap());
    StreamHandle::Segment(SegmentHandle { path, offset: 0, size: 10, scope, id })
}

fn shared_segment(path: &str) -> StreamHandle {
    segment(path, Scope::Shared)
}

fn file(path: &str) -> FileHandle {
    FileHandle { path: JavaString::new(path).unwrap(), size: 10 }
}

fn inline(length: usize) -> StreamHandle {
    StreamHandle::Inline(InlineHandle { name: JavaString::new("a name").unwrap(), bytes: bytes_of(1, length) })
}

#[tokio::test]
async fn what_may_be_reused() {
    let worker = Working::new(WorkerSettings::default()).worker;
    let name = |checkpoint: u64| format!("ds1-a3-ww-c{checkpoint}-n0-0000000000000001");
    let shared = |checkpoint: u64| shared_segment(&format!("{JOB}/shared/{}", name(checkpoint)));
    worker.abort(EPOCH, CheckpointId(6));
    worker.complete(EPOCH, CheckpointId(7));
    worker.begin(subtask(0), &trigger(8)).unwrap();
    let wasteful = format!("{JOB}/shared/wasteful");
    let mut trigger = trigger(9);
    trigger.plan.files.insert(wasteful.clone(), Reason::Waste);
    trigger.plan.files.insert(format!("{JOB}/shared/small"), Reason::Fold);
    trigger.claimed = vec!["memory://job/claimed/task_0_1".into(), "file:/elsewhere/chk-4".into()];
    let snapshot = worker.begin(subtask(0), &trigger).unwrap();

    let in_groups = |delegate| {
        let range = KeyGroupRange { start: 0, count: 1 };
        StreamHandle::KeyGroups(Box::new(KeyGroupsStream { range, offsets: vec![0], delegate }))
    };
    let keep = |handle: StreamHandle| assert_eq!(snapshot.reuse(&handle), Reuse::Keep, "{handle:?}");
    let rewrite = |handle: StreamHandle, reason| {
        assert_eq!(snapshot.reuse(&handle), Reuse::Rewrite(reason), "{handle:?}");
    };
    use RewriteReason::{Exclusive, NotCommitted, NotOwned, Planned};
    keep(shared(5));
    keep(shared(7));
    rewrite(shared(6), NotCommitted);
    rewrite(shared(8), NotCommitted);
    rewrite(shared(9), NotCommitted);
    // A name that isn't ours says nothing.
    keep(shared_segment(&format!("{JOB}/shared/0a1b-flink")));
    rewrite(segment(&format!("{JOB}/shared/{}", name(5)), Scope::Exclusive), Exclusive);
    rewrite(shared_segment(&wasteful), Planned(Reason::Waste));
    rewrite(in_groups(shared_segment(&format!("{JOB}/shared/small"))), Planned(Reason::Fold));
    // However its path is spelled.
    rewrite(shared_segment(&format!("{JOB}//shared/./wasteful")), Planned(Reason::Waste));
    keep(in_groups(shared(5)));

    // Whose it is goes by whole components.
    rewrite(shared_segment("memory://job/a/task_0_12/shared/x"), NotOwned);
    rewrite(shared_segment("memory://other/a/task_0_1/shared/x"), NotOwned);
    rewrite(shared_segment("s3://bucket/../x"), NotOwned);
    rewrite(shared_segment("relative/x"), NotOwned);
    rewrite(shared_segment(JOB), NotOwned);
    keep(shared_segment("memory://job/claimed/task_0_1/shared/x"));
    rewrite(shared_segment("memory://job/claimed/task_0_12/shared/x"), NotOwned);
    // Another job's checkpoint 6 isn't the one that was aborted here.
    keep(shared_segment(&format!("memory://job/claimed/task_0_1/shared/{}", name(6))));

    keep(StreamHandle::File(file(&format!("{JOB}/shared/x"))));
    rewrite(StreamHandle::File(file(&wasteful)), Planned(Reason::Waste));
    rewrite(StreamHandle::File(file(&format!("{JOB}/chk-5/x"))), Exclusive);
    rewrite(StreamHandle::File(file("memory://job/a/task_0_12/shared/x")), NotOwned);
    keep(StreamHandle::File(file("memory://job/claimed/task_0_1/shared/x")));
    rewrite(StreamHandle::File(file("/elsewhere/chk-4/x")), Exclusive);
    rewrite(StreamHandle::Relative(file("x")), Exclusive);
    keep(StreamHandle::EmptySegment);
}

#[tokio::test]
async fn inline_handles_are_kept_while_the_budget_of_the_checkpoint_lasts() {
    let settings = WorkerSettings::default();
    let write_settings = WriteSettings { inline_bytes_max: 1_000, inline_bytes_total_max: 2_000, ..settings.write };
    let worker = Working::new(WorkerSettings { write: write_settings, ..settings }).worker;
    let (one, other) = (worker.begin(subtask(0), &trigger(1)).unwrap(), worker.begin(subtask(1), &trigger(1)).unwrap());
    let wasteful = Reuse::Rewrite(RewriteReason::Planned(Reason::Waste));
    assert_eq!(one.reuse(&inline(1_001)), wasteful, "longer than one may be");
    assert_eq!(one.reuse(&inline(1_000)), Reuse::Keep);
    // The scopes and the subtasks share it.
    let written = write(&other, Scope::Exclusive, bytes_of(1, 600)).await.unwrap();
    assert!(matches!(written, Written::Inline(_)));
    assert_eq!(other.reuse(&inline(500)), wasteful);
    assert!(matches!(write(&one, Scope::Shared, bytes_of(1, 500)).await.unwrap(), Written::Placed(_)));
    assert_eq!(one.reuse(&inline(400)), Reuse::Keep);
    assert_eq!(worker.begin(subtask(0), &trigger(2)).unwrap().reuse(&inline(1_000)), Reuse::Keep);
}

#[tokio::test]
async fn a_claimed_directory_that_is_no_path_is_an_error() {
    let worker = Working::new(packed()).worker;
    let error = worker.begin(subtask(0), &Trigger { claimed: vec!["x".into()], ..trigger(1) }).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().starts_with("claimed directory: path 'x'"), "{error}");
    // It hasn't begun, so that a right trigger may follow.
    worker.begin(subtask(0), &trigger(1)).unwrap();
}

/// What a coordinator, or the network between, may do.
#[derive(Clone, Copy, Debug)]
enum Step {
    Begin(u64, u32),
    Write,
    Finish,
    GiveUp,
    Complete(u64),
    Abort(u64),
    Subsume(u64),
    Forget(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = 1..6_u64;
    let step = prop_oneof![
        3 => (id.clone(), 0..3_u32).prop_map(|(id, index)| Step::Begin(id, index)),
        4 => Just(Step::Write),
        3 => Just(Step::Finish),
        1 => Just(Step::GiveUp),
        1 => id.clone().prop_map(Step::Complete),
        1 => id.clone().prop_map(Step::Abort),
        1 => id.prop_map(Step::Subsume),
        1 => (0..3_u32).prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(cases(200))]

    /// Whatever comes in whatever order: every ticket ends, what it gives can be read, and nothing is held in the end.
    #[test]
    fn in_any_order_every_ticket_ends_and_nothing_is_held(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let working = Working::new(packed());
            (0..3).for_each(|index| working.worker.register(subtask(index)));
            let (mut open, mut tickets) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Begin(id, index) => {
                        open.extend(working.worker.begin(subtask(index), &trigger(id)).ok().map(|s| (s, Vec::new())));
                    }
                    Step::Write => {
                        if let Some((snapshot, segments)) = open.last_mut() {
                            segments.extend(write(snapshot, Scope::Shared, bytes_of(1, 5_000)).await.ok());
                        }
                    }
                    Step::Finish => {
                        let finished = (!open.is_empty()).then(|| open.remove(0));
                        tickets.extend(finished.map(|(snapshot, segments)| (snapshot.finish(), segments)));
                    }
                    Step::GiveUp => drop(open.pop()),
                    Step::Complete(id) => working.worker.complete(EPOCH, CheckpointId(id)),
                    Step::Abort(id) => working.worker.abort(EPOCH, CheckpointId(id)),
                    Step::Subsume(id) => working.worker.subsume(EPOCH, CheckpointId(id)),
                    Step::Forget(index) => working.worker.forget(subtask(index)),
                }
            }
            for (ticket, segments) in tickets {
                match ticket.seal().await {
                    Ok(durable) => for written in segments {
                        let handle = durable.handle(&written).unwrap().unwrap();
                        assert_eq!(working.read(&handle).await, bytes_of(1, 5_000));
                    },
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                }
            }
            drop(open);
            working.worker.close().await.unwrap();
            assert_eq!(working.worker.usage(), drystone::worker::WorkerUsage::default());
        });
    }
}
