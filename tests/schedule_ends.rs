//! The rules of the documents about failures, tasks that finish, and stopping, as rows: see `schedule_rules.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/timeline.rs"]
#[allow(dead_code)]
mod timeline;

use drystone::id::{CheckpointId, OperatorId};
use drystone::schedule::{Action, Event, Failure, Schedule};
use timeline::{FAILURES, Timeline, check, millis, settings, subtask};

#[test]
fn tolerable_failures() {
    check(&[
        (
            "none by default",
            "interval=100 tolerated=0",
            "0 start; 110 fail 1 write",
            "100 take 1 periodic; 110 fail-job 1 write",
        ),
        (
            "so many in a row, and no more",
            "interval=100 tolerated=2",
            "0 start; 110 fail 1 write; 210 fail 2 declined; 310 fail 3 commit",
            "100 take 1 periodic; 200 take 2 periodic; 300 take 3 periodic; 310 fail-job 3 commit",
        ),
        (
            "a completed one begins the count anew",
            "interval=100 tolerated=1",
            "0 start; 110 fail 1 write; 210 ok 2; 310 fail 3 write; 410 fail 4 write",
            "100 take 1 periodic; 200 take 2 periodic; 300 take 3 periodic; 400 take 4 periodic; 410 fail-job 2 write",
        ),
        (
            "so does the job's failure",
            "interval=100 tolerated=1",
            "0 start; 110 fail 1 write; 210 fail 2 write; 310 fail 3 write",
            "100 take 1 periodic; 200 take 2 periodic; 210 fail-job 2 write; 300 take 3 periodic",
        ),
        (
            "one that is older than a completed one doesn't count",
            "interval=100 tolerated=0 many=2",
            "0 start; 210 ok 2; 220 fail 1 write",
            "100 take 1 periodic; 200 take 2 periodic",
        ),
        (
            "each counts once",
            "interval=100 tolerated=1",
            "0 start; 110 fail 1 write; 111 fail 1 declined; 112 fail 1 write",
            "100 take 1 periodic",
        ),
        (
            "what can't begin counts, if the store is to blame",
            "interval=100 tolerated=0",
            "0 start; 10 broken store; 110 nothing",
            "100 fail-job 1 store",
        ),
        ("and not otherwise", "interval=100 tolerated=0", "0 start; 10 broken trigger; 110 nothing", ""),
        (
            "a savepoint that the coordinator fails doesn't count",
            "tolerated=0",
            "0 start; 10 ask savepoint 1; 20 fail 1 commit",
            "10 take 1 savepoint",
        ),
        (
            "one that a task fails does",
            "tolerated=0",
            "0 start; 10 ask savepoint 1; 20 fail 1 write",
            "10 take 1 savepoint; 20 fail-job 1 write",
        ),
        (
            "a savepoint that is to stop the job fails it, if a task fails it for whatever reason",
            "tolerated=9",
            "0 start; 10 ask stop 1; 20 fail 1 tasknotready",
            "10 take 1 stop; 20 fail-job none tasknotready",
        ),
        (
            "any number",
            "interval=100 tolerated=2147483647",
            "0 start; 110 fail 1 write; 210 fail 2 write",
            "100 take 1 periodic; 200 take 2 periodic",
        ),
    ]);
}

/// Flink's `CheckpointFailureManager`, 2.2.1: five reasons count.
#[test]
fn which_failures_count() {
    let counting = ["Expired", "Declined", "Write", "Store", "Commit"];
    for failure in FAILURES {
        assert_eq!(failure.counts(), counting.contains(&format!("{failure:?}").as_str()), "{failure:?}");
        let word = format!("{failure:?}").to_lowercase();
        let done = Timeline::new(settings("interval=100 tolerated=0"), 1, u64::MAX)
            .run(&format!("0 start; 110 fail 1 {word}"));
        let expected = if failure.counts() {
            vec!["100 take 1 periodic".to_string(), format!("110 fail-job 1 {word}")]
        } else {
            vec!["100 take 1 periodic".into()]
        };
        assert_eq!(done, expected);
    }
}

#[test]
fn tasks_that_finish() {
    check(&[
        (
            "with it off there is none once a task has finished, whoever asks",
            "interval=100 after-finish=false",
            "0 start; 110 ok 1; 150 gone 0; 1000 ask checkpoint 1; 1001 ask savepoint 2",
            "100 take 1 periodic; 1000 refuse 1 not-all-running; 1001 refuse 2 not-all-running",
        ),
        (
            "nor does one that waited begin",
            "interval=100 after-finish=false",
            "0 start; 110 ask checkpoint 1; 150 gone 0; 160 ok 1",
            "100 take 1 periodic; 150 refuse 1 not-all-running",
        ),
        ("and nobody waits for one", "interval=100 after-finish=false", "0 start; 20 end 0; 30 gone 0", "20 release 0"),
        (
            "with it on they go on",
            "interval=100",
            "0 start; 110 ok 1; 150 gone 0; 210 ok 2; 310 nothing",
            "100 take 1 periodic; 200 take 2 periodic; 300 take 3 periodic",
        ),
        (
            "who is at the end of the data waits for one that began after that",
            "interval=100 many=2",
            "0 start; 150 end 0; 160 ok 1; 210 ok 2",
            "100 take 1 periodic; 200 take 2 periodic; 210 release 0",
        ),
        (
            "one that fails covers nothing, the next one does",
            "interval=100",
            "0 start; 50 end 0; 110 fail 1 declined; 210 ok 2",
            "100 take 1 periodic; 200 take 2 periodic; 210 release 0",
        ),
        (
            "a savepoint that the job outlives doesn't release anybody",
            "interval=1000",
            "0 start; 10 end 0; 20 ask savepoint 1; 30 ok 1",
            "20 take 1 savepoint",
        ),
        (
            "when all are at the end there is a final one at once, which doesn't wait for the pause",
            "interval=100 pause=90",
            "0 start; 110 ok 1; 120 end 0; 130 end 1; 140 ok 2",
            "100 take 1 periodic; 130 take 2 final; 140 release 0; 140 release 1",
        ),
        (
            "also when the others have finished already",
            "interval=100",
            "0 start; 20 gone 0; 30 end 1; 40 ok 1; 50 gone 1; 1000 ask checkpoint 1",
            "30 take 1 final; 40 release 1; 1000 refuse 1 not-all-running",
        ),
        ("or finish then", "interval=100", "0 start; 20 end 0; 30 gone 1; 40 ok 1", "30 take 1 final; 40 release 0"),
        (
            "it is asked for once",
            "interval=1000",
            "0 start; 10 end 0; 11 end 1; 12 end 1; 13 end 0; 20 fail 1 declined; 1010 ok 2",
            "11 take 1 final; 1000 take 2 periodic; 1010 release 0; 1010 release 1",
        ),
        (
            "who was told that it may finish, and says again that it waits, is told again",
            "interval=100",
            "0 start; 50 end 0; 60 end 0; 110 ok 1; 120 end 0; 130 gone 0; 140 end 0",
            "100 take 1 periodic; 110 release 0; 120 release 0",
        ),
        ("without periodic ones nobody waits", "", "0 start; 20 end 0; 30 end 1", "20 release 0; 30 release 1"),
        (
            "after a restart all run again",
            "interval=100 after-finish=false",
            "0 start; 20 gone 0; 150 stop; 160 start; 300 nothing",
            "260 take 1 periodic",
        ),
    ]);
}

#[test]
fn stopping() {
    check(&[
        (
            "what is under way is aborted, what waits is refused, nothing begins",
            "interval=100",
            "0 start; 110 ask checkpoint 1; 150 stop; 500 ask savepoint 2",
            "100 take 1 periodic; 150 abort 1 suspended; 150 refuse 1 stopped; 500 refuse 2 not-all-running",
        ),
        (
            "that isn't a failure",
            "interval=100 tolerated=0",
            "0 start; 150 stop",
            "100 take 1 periodic; 150 abort 1 suspended",
        ),
        (
            "a savepoint that stops the job aborts what is under way, and ends the periodic ones",
            "interval=100",
            "0 start; 120 ask checkpoint 1; 150 ask stop 2; 500 ok 2; 900 nothing",
            "100 take 1 periodic; 150 abort 1 suspended; 150 refuse 1 stopped; 150 take 2 stop",
        ),
        (
            "if it fails they begin anew",
            "interval=100",
            "0 start; 20 ask stop 1; 150 fail 1 commit; 260 nothing",
            "20 take 1 stop; 250 take 2 periodic",
        ),
        (
            "if it can't begin, too",
            "interval=100",
            "0 start; 10 broken trigger; 20 ask stop 1; 30 works; 130 nothing",
            "20 refuse 1 not-triggered trigger; 120 take 1 periodic",
        ),
        (
            "a second one takes the first one's place",
            "interval=100",
            "0 start; 20 ask stop 1; 30 ask drain 2; 500 ok 2; 900 nothing",
            "20 take 1 stop; 30 abort 1 suspended; 30 take 2 drain",
        ),
        (
            "it releases who waits",
            "interval=1000",
            "0 start; 10 end 0; 20 ask drain 1; 30 ok 1",
            "20 take 1 drain; 30 release 0",
        ),
        (
            "who starts it twice starts it anew",
            "interval=100",
            "0 start; 150 start; 260 nothing",
            "100 take 1 periodic; 150 abort 1 suspended; 250 take 2 periodic",
        ),
    ]);
}

#[test]
fn what_was_decided_when_it_is_stopped_is_given_up() {
    let mut schedule = Schedule::new(settings("interval=100"), [subtask(0)], u64::MAX).unwrap();
    schedule.apply(Event::Start, millis(0));
    assert_eq!(schedule.apply(Event::Tick, millis(100)).len(), 1);
    assert_eq!(schedule.apply(Event::Stop, millis(110)), []);
    let given_up = [Action::Abort(CheckpointId(1), Failure::Suspended)];
    assert_eq!(schedule.apply(Event::Triggered(CheckpointId(1)), millis(120)), given_up);
    assert_eq!(schedule.apply(Event::Backlog(OperatorId([0; 16]), true), millis(130)), []);
}
