//! The driver, in paused time over a store in memory: what the schedule wants is done by the coordinator, in order and on
//! time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/finished_job.rs"]
#[allow(dead_code)]
mod finished_job;
#[path = "support/live.rs"]
#[allow(dead_code)]
mod live;
#[path = "support/paced.rs"]
mod paced;
#[path = "support/rule_store.rs"]
#[allow(dead_code)]
mod rule_store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use drystone::ErrorKind;
use drystone::coordinator::{Acknowledged, JobEnd, SavepointDefaults, SavepointRequest};
use drystone::driver::{Driver, Order, Outcome};
use drystone::handle::DistributionMode;
use drystone::id::{CheckpointId, OperatorId, Scope};
use drystone::protocol::{Acknowledgement, SavepointAction, SavepointFormat};
use drystone::read::{Finished, ReadLimits, Restore};
use drystone::schedule::{Alignment, Backup, Failure, Kind, Refusal, RequestId, ScheduleSettings, UnalignedSettings};
use drystone::store::FlinkPath;
use live::Live;
use object_store::memory::InMemory;
use paced::{Paced, acknowledge_nothing, acknowledge_one, every_ten, seconds};
use rule_store::{Act, RuleStore};
use tokio::time::sleep;

async fn paced(schedule: ScheduleSettings) -> Paced {
    Paced::new(Arc::new(InMemory::new()), schedule).await
}

#[tokio::test(start_paused = true)]
async fn checkpoints_complete_at_their_times_and_in_order() {
    let job = paced(every_ten()).await;
    job.workers.take_so_long(seconds(3));
    sleep(seconds(35)).await;
    let expected = [
        "10 take 1 periodic",
        "13 completed 1",
        "20 take 2 periodic",
        "23 completed 2",
        "30 take 3 periodic",
        "33 completed 3",
    ];
    assert_eq!(job.log(), expected);
    assert_eq!(job.coordinator().completed(), [CheckpointId(3)]);
    job.live.check(CheckpointId(3)).await;
    let take = job.take(3);
    assert_eq!((take.alignment, take.request, take.subtasks.len()), (Alignment::Aligned, None, 3));
    job.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_too_long_is_aborted_and_a_late_acknowledgement_does_no_harm() {
    let job = paced(ScheduleSettings { timeout: seconds(25), failures_tolerated: 1, ..every_ten() }).await;
    job.workers.ignore(1);
    sleep(seconds(12)).await;
    let take = job.take(1);
    assert_eq!(acknowledge_one(&job.live, &take, 0).await, Acknowledged::Waiting(2));
    let late = job.live.write(&take.trigger, 1, Scope::Exclusive, &[("chunk", &[1; 100])]).await.unwrap();
    sleep(seconds(25)).await;
    assert_eq!(job.live.acknowledge(CheckpointId(1), 1, late).unwrap(), Acknowledged::Late);
    sleep(seconds(10)).await;
    // The one that was due meanwhile begins when there is room.
    let expected = [
        "10 take 1 periodic",
        "35 aborted 1 expired",
        "35 take 2 periodic",
        "35 completed 2",
        "40 take 3 periodic",
        "40 completed 3",
    ];
    assert_eq!(job.log(), expected);
    job.coordinator().settle().await.unwrap();
    let files = job.live.files().await;
    assert!(files.keys().all(|file| !file.starts_with("chk-1/") && !file.starts_with("chk-2/")), "{files:?}");
    job.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn too_many_failures_fail_the_job() {
    let job = paced(ScheduleSettings { failures_tolerated: 1, ..every_ten() }).await;
    (1..=3).for_each(|checkpoint| job.workers.ignore(checkpoint));
    let (epoch, subtask) = (job.coordinator().epoch(), job.live.subtask(1));
    let decline =
        |checkpoint, failure| job.handle.declined(epoch, CheckpointId(checkpoint), subtask, failure, "no disk");
    sleep(seconds(11)).await;
    decline(1, Failure::TaskNotReady).await.unwrap();
    sleep(seconds(10)).await;
    decline(2, Failure::Declined).await.unwrap();
    // Again, and of another coordinator's: neither says anything.
    decline(2, Failure::Declined).await.unwrap();
    job.handle.declined(epoch + 1, CheckpointId(3), subtask, Failure::Declined, "").await.unwrap();
    sleep(seconds(10)).await;
    job.handle.abort(CheckpointId(3), Failure::Write, "no disk").await.unwrap();
    sleep(seconds(1)).await;
    let expected = [
        "10 take 1 periodic",
        "11 aborted 1 tasknotready",
        "20 take 2 periodic",
        "21 aborted 2 declined",
        "30 take 3 periodic",
        "31 aborted 3 write",
        "31 fail-job write",
    ];
    assert_eq!(job.log(), expected);
    job.handle.stop().await.unwrap();
    sleep(seconds(60)).await;
    assert_eq!(job.log().len(), expected.len());
    job.end().await.unwrap();
}

/// Its commit finds nothing to commit, which isn't another failure.
#[tokio::test(start_paused = true)]
async fn one_that_is_given_up_right_before_its_commit_begins_ends_once() {
    let job = paced(every_ten()).await;
    job.workers.ignore(1);
    sleep(seconds(11)).await;
    let take = job.take(1);
    for index in 0..3 {
        acknowledge_one(&job.live, &take, index).await;
    }
    let checkpoint = CheckpointId(1);
    job.handle.ready(checkpoint).await.unwrap();
    job.handle.abort(checkpoint, Failure::TaskNotReady, "too late").await.unwrap();
    sleep(seconds(1)).await;
    assert_eq!(job.log(), ["10 take 1 periodic", "11 aborted 1 tasknotready"]);
    assert_eq!((job.coordinator().pending().len(), job.coordinator().latest()), (0, None));
    job.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_counts() {
    let store = RuleStore::default();
    let job = Paced::new(Arc::new(store.clone()), ScheduleSettings { failures_tolerated: 0, ..every_ten() }).await;
    sleep(seconds(5)).await;
    let (file, wanted) = ("chk-1/_metadata", RequestId(1));
    let path = job
        .coordinator()
        .directory()
        .checkpoint(CheckpointId(1))
        .unwrap()
        .join(file.split_once('/').unwrap().1)
        .unwrap();
    // Somebody else's metadata is in its place.
    path.create(vec!["another".into()]).await.unwrap();
    let outcome = job.handle.request(wanted, Kind::OnRequest(Backup::Full)).await.unwrap();
    let Outcome::Failed { checkpoint, failure, reason } = &outcome else { panic!("{outcome}") };
    assert_eq!((*checkpoint, *failure), (CheckpointId(1), Failure::Commit));
    assert!(reason.contains("written by another coordinator"), "{reason}");
    assert_eq!(job.log(), ["5 take 1 onrequest(full)", "5 aborted 1 commit", "5 fail-job commit"]);
    job.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_commit_in_doubt_is_found_out_about() {
    let store = RuleStore::default();
    let job = Paced::new(Arc::new(store.clone()), ScheduleSettings { failures_tolerated: 9, ..every_ten() }).await;
    store.rule("put", "chk-1/_metadata", Act::LoseAnswer, 1);
    store.rule("get", "chk-1/_metadata", Act::Fail, 5);
    store.rule("put", "chk-1/_metadata", Act::Fail, 4);
    sleep(seconds(35)).await;
    let log = job.log();
    let at = |what: &str| log.iter().position(|line| line.ends_with(what)).unwrap_or_else(|| panic!("{what}: {log:?}"));
    assert!(at("take 1 periodic") < at("aborted 1 commit") && at("aborted 1 commit") < at("found 1"), "{log:?}");
    assert!(at("found 1") < at("completed 2"), "{log:?}");
    job.end().await.unwrap();
}

/// A commit that was in doubt has ended an older checkpoint: it doesn't stay under way until its time is over.
#[tokio::test(start_paused = true)]
async fn what_a_commit_in_doubt_has_ended_is_said_to_have() {
    let store = RuleStore::default();
    let schedule = ScheduleSettings { failures_tolerated: 9, concurrent_max: 2, ..every_ten() };
    let job = Paced::new(Arc::new(store.clone()), schedule).await;
    job.workers.ignore(1);
    store.rule("put", "chk-2/_metadata", Act::LoseAnswer, 1);
    store.rule("get", "chk-2/_metadata", Act::Fail, 5);
    store.rule("put", "chk-2/_metadata", Act::Fail, 4);
    sleep(seconds(29)).await;
    let expected =
        ["10 take 1 periodic", "20 take 2 periodic", "21 aborted 2 commit", "21 found 2", "21 aborted 1 subsumed"];
    assert_eq!(job.log(), expected);
    assert_eq!(job.coordinator().completed(), [CheckpointId(2)]);
    job.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_comes_with_its_kind_and_its_number() {
    let unaligned = Some(UnalignedSettings { aligned_timeout: seconds(1), forced: false });
    let mut live = Live::new(Arc::new(InMemory::new()), 3, live::settings()).await;
    let directory = Some(FlinkPath::parse("memory:/savepoints").unwrap());
    live.coordinator = live.coordinator.with_savepoint_defaults(SavepointDefaults { directory, pack: false });
    let schedule = ScheduleSettings { unaligned, min_pause: seconds(5), ..every_ten() };
    let job = Paced::over(Arc::new(live), schedule).await;
    job.workers.take_so_long(seconds(2));
    sleep(seconds(11)).await;
    let savepoint = job.handle.request(RequestId(7), Kind::Savepoint);
    let again = async {
        sleep(seconds(0)).await;
        job.handle.request(RequestId(7), Kind::Savepoint).await
    };
    let (savepoint, again) = tokio::join!(savepoint, again);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
    let Outcome::Completed(completed) = savepoint.unwrap() else { panic!("it came to nothing") };
    assert_eq!(completed.checkpoint, CheckpointId(2));
    assert_eq!(job.log(), ["10 take 1 periodic", "12 completed 1", "12 take 2 savepoint", "14 completed 2"]);
    let (one, two) = (job.take(1), job.take(2));
    assert_eq!((one.alignment, one.request), (Alignment::AlignedAtFirst(seconds(1)), None));
    assert_eq!((two.alignment, two.request), (Alignment::Aligned, Some(RequestId(7))));
    // Its end was an end as any other.
    sleep(seconds(8)).await;
    assert_eq!(job.log()[4..], ["20 take 3 periodic"]);
    let stop = job.handle.request(RequestId(8), Kind::StopWithSavepoint { drain: true }).await.unwrap();
    assert!(matches!(stop, Outcome::Completed(_)), "{stop}");
    sleep(seconds(100)).await;
    assert_eq!(job.log().last().unwrap(), "24 completed 4", "{:?}", job.log());
    job.handle.stop().await.unwrap();
    let refused = job.handle.request(RequestId(9), Kind::Savepoint).await.unwrap();
    assert!(matches!(refused, Outcome::Refused { refusal: Refusal::NotAllRunning, .. }), "{refused}");
    job.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_savepoint_in_a_directory_is_the_users_and_ends_no_checkpoint() {
    let job = paced(ScheduleSettings { concurrent_max: 2, ..every_ten() }).await;
    let wanted = |action| SavepointRequest {
        directory: FlinkPath::parse("memory:/savepoints").unwrap(),
        format: SavepointFormat::Native,
        action,
        pack: false,
    };
    job.workers.ignore(1);
    sleep(seconds(11)).await;
    let completed = job.handle.savepoint(RequestId(1), wanted(SavepointAction::None)).await.unwrap();
    let Outcome::Completed(completed) = completed else { panic!("{completed}") };
    assert!(completed.path.to_string().starts_with("memory:/savepoints/savepoint-"), "{completed:?}");
    assert_eq!(job.log(), ["10 take 1 periodic", "11 take 2 savepoint", "11 completed 2"]);
    assert_eq!(job.coordinator().pending(), [CheckpointId(1)]);
    assert_eq!(job.coordinator().completed(), []);
    sleep(seconds(10)).await;
    assert_eq!(job.log()[3..], ["20 take 3 periodic", "20 completed 3", "20 aborted 1 subsumed"]);
    let stop = job.handle.savepoint(RequestId(2), wanted(SavepointAction::Terminate)).await.unwrap();
    assert!(matches!(stop, Outcome::Completed(_)), "{stop}");
    assert_eq!(job.take(4).kind, Kind::StopWithSavepoint { drain: true });
    job.handle.stop().await.unwrap();
    let refused = job.handle.savepoint(RequestId(3), wanted(SavepointAction::Suspend)).await.unwrap();
    assert!(matches!(refused, Outcome::Refused { refusal: Refusal::NotAllRunning, .. }), "{refused}");
    job.end().await.unwrap();
}

/// What can't be is said at once, and stops no job.
#[tokio::test(start_paused = true)]
async fn a_savepoint_that_can_go_nowhere_gives_up_nothing() {
    let job = paced(every_ten()).await;
    job.workers.ignore(1);
    sleep(seconds(11)).await;
    let own = job.coordinator().directory().root().name().join("shared").unwrap();
    let nowhere = FlinkPath::parse("foo://x/y").unwrap();
    for (directory, kind) in [(nowhere, ErrorKind::Unsupported), (own, ErrorKind::Invalid)] {
        for action in [SavepointAction::None, SavepointAction::Terminate] {
            let (directory, format) = (directory.clone(), SavepointFormat::Native);
            let savepoint = SavepointRequest { directory, format, action, pack: false };
            let text = savepoint.directory.to_string();
            let error = job.handle.savepoint(RequestId(1), savepoint).await.unwrap_err();
            assert!(error.kind() == kind && error.to_string().contains(&text), "{error}");
        }
    }
    sleep(seconds(1)).await;
    assert_eq!((job.log(), job.coordinator().pending()), (vec!["10 take 1 periodic".into()], vec![CheckpointId(1)]));
    job.end().await.unwrap();
}

/// By the coordinator's own words.
#[tokio::test(start_paused = true)]
async fn what_cant_begin_says_why_and_counts() {
    let job = paced(ScheduleSettings { failures_tolerated: 0, ..every_ten() }).await;
    sleep(seconds(5)).await;
    // There is no number after this one.
    job.coordinator().trigger(CheckpointId(u64::MAX)).unwrap();
    let outcome = job.handle.request(RequestId(1), Kind::OnRequest(Backup::Full)).await.unwrap();
    let Outcome::Refused { refusal, reason } = &outcome else { panic!("{outcome}") };
    assert_eq!(*refusal, Refusal::NotTriggered(Failure::Store));
    assert!(reason.contains(&u64::MAX.to_string()), "{reason}");
    assert_eq!(outcome.to_string(), format!("refused: {reason}"));
    sleep(seconds(1)).await;
    assert_eq!(job.log(), ["5 fail-job store"]);
    job.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_completed_one_ends_older_ones() {
    let job = paced(ScheduleSettings { concurrent_max: 2, ..every_ten() }).await;
    job.workers.ignore(1);
    sleep(seconds(21)).await;
    assert_eq!(job.log(), ["10 take 1 periodic", "20 take 2 periodic", "20 completed 2", "20 aborted 1 subsumed"]);
    job.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn tasks_finish_one_by_one() {
    let job = paced(every_ten()).await;
    let subtask = |index| job.live.subtask(index);
    sleep(seconds(5)).await;
    job.handle.end_of_data(subtask(2)).await.unwrap();
    sleep(seconds(6)).await;
    assert_eq!(job.log(), ["10 take 1 periodic", "10 completed 1", "10 release 2"]);
    job.handle.finished(subtask(2)).await.unwrap();
    sleep(seconds(10)).await;
    assert_eq!(job.take(2).subtasks, [subtask(0), subtask(1)]);
    let restore = async |checkpoint| {
        let directory = job.coordinator().directory().checkpoint(CheckpointId(checkpoint)).unwrap();
        Restore::open(&job.live.stores, directory.name(), ReadLimits::default()).await.unwrap()
    };
    let task = restore(2).await.task(live::OPERATOR, 0, 3).unwrap();
    assert_eq!(task.finished, Finished::Subtasks(vec![2]));
    // The last two end: nobody waits for the next beat.
    sleep(seconds(2)).await;
    job.handle.end_of_data(subtask(0)).await.unwrap();
    job.handle.end_of_data(subtask(1)).await.unwrap();
    sleep(seconds(1)).await;
    assert_eq!(job.log()[5..], ["23 take 3 final", "23 completed 3", "23 release 0", "23 release 1"]);
    job.handle.finished(subtask(0)).await.unwrap();
    job.handle.finished(subtask(1)).await.unwrap();
    sleep(seconds(100)).await;
    assert_eq!(job.log().len(), 9);
    job.coordinator().dispose(JobEnd::Finished).await.unwrap();
    job.end().await.unwrap();
}

/// All have acknowledged, with operator state of this mode; the driver hears of it.
async fn acknowledge_all(job: &Paced, checkpoint: u64, mode: DistributionMode) {
    let take = job.take(checkpoint);
    for subtask in take.subtasks {
        let (epoch, checkpoint) = (take.trigger.epoch, take.trigger.checkpoint);
        let state = Some(Box::new(finished_job::state(subtask, mode)));
        let acknowledgement = Acknowledgement { epoch, checkpoint, subtask, state, sealed: vec![] };
        job.coordinator().acknowledge(acknowledgement).unwrap();
    }
    job.handle.ready(CheckpointId(checkpoint)).await.unwrap();
    sleep(seconds(1)).await;
}

/// What goes to all tasks of the next run would lack a part: it isn't tried, and says nothing against the job.
#[tokio::test(start_paused = true)]
async fn union_state_of_an_operator_that_has_finished_in_part_ends_the_checkpoint() {
    let job = paced(ScheduleSettings { failures_tolerated: 0, ..every_ten() }).await;
    (1..=2).for_each(|checkpoint| job.workers.ignore(checkpoint));
    job.handle.finished(job.live.subtask(2)).await.unwrap();
    sleep(seconds(11)).await;
    acknowledge_all(&job, 1, DistributionMode::Union).await;
    sleep(seconds(10)).await;
    acknowledge_all(&job, 2, DistributionMode::Broadcast).await;
    assert_eq!(job.log(), ["10 take 1 periodic", "11 aborted 1 taskclosing", "20 take 2 periodic", "22 completed 2"]);
    job.end().await.unwrap();
}

/// Where there is union state all finish by one checkpoint; else the last ones would wait for ever.
#[tokio::test(start_paused = true)]
async fn who_has_union_state_finishes_with_all_others() {
    let job = paced(ScheduleSettings { failures_tolerated: 0, ..every_ten() }).await;
    (1..=3).for_each(|checkpoint| job.workers.ignore(checkpoint));
    job.handle.end_of_data(job.live.subtask(2)).await.unwrap();
    sleep(seconds(11)).await;
    acknowledge_all(&job, 1, DistributionMode::Union).await;
    job.handle.end_of_data(job.live.subtask(1)).await.unwrap();
    job.handle.end_of_data(job.live.subtask(0)).await.unwrap();
    sleep(seconds(1)).await;
    acknowledge_all(&job, 2, DistributionMode::Union).await;
    let expected = [
        "10 take 1 periodic",
        "11 aborted 1 taskclosing",
        "12 take 2 final",
        "13 completed 2",
        "13 release 0",
        "13 release 1",
        "13 release 2",
    ];
    assert_eq!(job.log(), expected);
    job.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_end_aborts_what_is_under_way() {
    let job = paced(every_ten()).await;
    job.workers.ignore(1);
    sleep(seconds(15)).await;
    let coordinator = job.coordinator().clone();
    assert_eq!(coordinator.pending(), [CheckpointId(1)]);
    let handle = job.handle.clone();
    job.orders_are_dropped().await;
    assert_eq!(coordinator.pending(), []);
    assert_eq!(handle.start().await.unwrap_err().kind(), ErrorKind::Conflict);
    let late = handle.request(RequestId(1), Kind::OnRequest(Backup::Full)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late}");
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_driver_left_is_aborted() {
    let live = Arc::new(Live::new(Arc::new(InMemory::new()), 3, live::settings()).await);
    let left = live.coordinator.trigger(CheckpointId(1)).unwrap();
    let job = Paced::over(live, every_ten()).await;
    sleep(seconds(11)).await;
    assert_eq!(job.log(), ["10 take 2 periodic", "10 completed 2"]);
    assert_eq!(acknowledge_nothing(&job.live, left.checkpoint, 0), Acknowledged::Late);
    job.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_has_a_successor_stops() {
    let store = Arc::new(InMemory::new());
    let job = Paced::new(store.clone(), every_ten()).await;
    sleep(seconds(11)).await;
    let next = AtomicU64::new(1000);
    let tokens = Arc::new(move || next.fetch_add(1, Ordering::Relaxed));
    let successor = Live::with_tokens(store, 3, live::settings(), tokens).await;
    assert_eq!(successor.coordinator.completed(), [CheckpointId(1)]);
    sleep(seconds(20)).await;
    let error = job.driver.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_said_to_be_ready_isnt_fails_loudly() {
    let job = paced(ScheduleSettings { failures_tolerated: 9, ..every_ten() }).await;
    job.workers.ignore(1);
    sleep(seconds(11)).await;
    assert_eq!(acknowledge_nothing(&job.live, CheckpointId(1), 0), Acknowledged::Waiting(2));
    job.handle.ready(CheckpointId(1)).await.unwrap();
    // Of what nobody knows nothing is said.
    job.handle.ready(CheckpointId(9)).await.unwrap();
    job.handle.abort(CheckpointId(9), Failure::Write, "").await.unwrap();
    job.handle.backlog(OperatorId([0; 16]), true).await.unwrap();
    sleep(seconds(1)).await;
    assert_eq!(job.log(), ["10 take 1 periodic", "11 aborted 1 commit"]);
    job.end().await.unwrap();
}

/// The schedule's own errors are the driver's.
#[tokio::test(start_paused = true)]
async fn a_bad_schedule_is_refused() {
    let live = Live::new(Arc::new(InMemory::new()), 3, live::settings()).await;
    let bad = ScheduleSettings { concurrent_max: 0, ..every_ten() };
    let error = Driver::new(live.coordinator, bad, 0).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// Many orders wait, nobody reads them: what is said waits, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn who_reads_late_reads_all() {
    let live = Live::new(Arc::new(InMemory::new()), 1, live::settings()).await;
    let schedule = ScheduleSettings { timeout: seconds(1), failures_tolerated: i32::MAX as u32, ..every_ten() };
    let (driver, handle, mut orders) = Driver::new(live.coordinator.clone(), schedule, 0).unwrap();
    let driver = tokio::spawn(driver.run());
    handle.start().await.unwrap();
    sleep(seconds(20_000)).await;
    let next = live.coordinator.next_checkpoint().0;
    assert!((256..300).contains(&next), "it went on to {next}");
    let mut taken = 0;
    for _ in 0..400 {
        match orders.recv().await.unwrap() {
            Order::Take(take) => {
                taken += 1;
                assert_eq!(take.trigger.checkpoint.0, taken);
            }
            Order::Aborted { checkpoint, .. } => assert_eq!(checkpoint.0, taken),
            other => panic!("{other:?}"),
        }
    }
    drop((handle, orders));
    driver.await.unwrap().unwrap();
}
