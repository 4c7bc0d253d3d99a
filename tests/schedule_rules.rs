//! Every rule of the documents about when checkpoints are taken, as a row: settings, what happens, what is done.
//!
//! Times are in milliseconds; the words are those of `support/timeline.rs`. `design/scheduling.md` has the rules.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/timeline.rs"]
mod timeline;

use std::time::Duration;

use drystone::config::{CheckpointMode, Config};
use drystone::id::{CheckpointId, OperatorId};
use drystone::schedule::{
    Action, Alignment, Backup, Event, Kind, REQUESTS_MAX, Refusal, RequestId, Schedule, ScheduleSettings,
    UnalignedSettings,
};
use timeline::{FAILURES, Timeline, millis, subtask};

/// From `interval=100 pause=50`: what isn't named is as by default, but that the timeout is 1000 and any number may fail.
fn settings(text: &str) -> ScheduleSettings {
    let mut settings =
        ScheduleSettings { timeout: millis(1000), failures_tolerated: i32::MAX as u32, ..ScheduleSettings::default() };
    for word in text.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        let time = || millis(value.parse().unwrap());
        match name {
            "interval" => settings.interval = Some(time()),
            "behind" => settings.interval_during_backlog = Some(time()),
            "pause" => settings.min_pause = time(),
            "timeout" => settings.timeout = time(),
            "many" => settings.concurrent_max = value.parse().unwrap(),
            "tolerated" => settings.failures_tolerated = value.parse().unwrap(),
            "after-finish" => settings.after_tasks_finish = value.parse().unwrap(),
            "unaligned" => settings.unaligned = Some(UnalignedSettings { aligned_timeout: time(), forced: false }),
            _ => panic!("no setting {name}"),
        }
    }
    settings
}

/// Two tasks; the first checkpoint is a whole interval after the start.
fn check(rows: &[(&str, &str, &str, &str)]) {
    for (rule, with, lines, expected) in rows {
        let done = Timeline::new(settings(with), 2, u64::MAX).run(lines);
        let expected: Vec<_> = expected.split(';').map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(done, expected, "{rule}\n  {with}\n  {lines}");
    }
}

#[test]
fn interval() {
    check(&[
        (
            "one every interval, from start to start",
            "interval=100",
            "0 start; 130 ok 1; 250 ok 2; 399 nothing",
            "100 take 1 periodic; 200 take 2 periodic; 300 take 3 periodic",
        ),
        ("none without an interval", "", "0 start; 100000 nothing", ""),
        ("an interval of 0 is none", "interval=0", "0 start; 100000 nothing", ""),
        ("without an interval what is asked for is done", "", "0 start; 5 ask checkpoint 1", "5 take 1 checkpoint"),
        ("none before the start", "interval=100", "500 nothing", ""),
        (
            "one that comes late doesn't delay those after it",
            "interval=100",
            "0 start; 250 ok 1; 270 ok 2; 310 ok 3; 350 nothing",
            "100 take 1 periodic; 250 take 2 periodic; 300 take 3 periodic",
        ),
        (
            "of those that were missed one is made up for",
            "interval=100",
            "0 start; 550 ok 1; 560 ok 2; 605 ok 3; 650 nothing",
            "100 take 1 periodic; 550 take 2 periodic; 600 take 3 periodic",
        ),
    ]);
}

#[test]
fn the_first_one_comes_between_the_pause_and_the_interval() {
    let first = |spread: u64, with: &str| {
        let mut schedule = Schedule::new(settings(with), [subtask(0)], spread).unwrap();
        let at_once = !schedule.apply(Event::Start, millis(1000)).is_empty();
        if at_once { millis(0) } else { schedule.next_wake().unwrap() - millis(1000) }
    };
    for (spread, with, expected) in [
        (0, "interval=100", 0),
        (u64::MAX / 2, "interval=100", 50),
        (u64::MAX, "interval=100", 100),
        (0, "interval=100 pause=40", 40),
        (u64::MAX / 2, "interval=100 pause=40", 70),
        (u64::MAX, "interval=100 pause=40", 100),
        (u64::MAX / 3, "interval=100 pause=250", 250),
    ] {
        let (found, expected) = (first(spread, with), millis(expected));
        assert!(found <= expected && expected - found < millis(1), "{spread} {with}: {found:?}");
    }
    let most = ScheduleSettings { interval: Some(Duration::MAX), ..settings("") };
    let mut schedule = Schedule::new(most, [subtask(0)], u64::MAX / 2).unwrap();
    schedule.apply(Event::Start, millis(1));
    let half = Duration::MAX / 2 + millis(1);
    assert!(schedule.next_wake().unwrap().abs_diff(half) < millis(2000), "{:?}", schedule.next_wake());
}

#[test]
fn min_pause() {
    check(&[
        (
            "from one's end to the next one's start, at least so long",
            "interval=100 pause=50",
            "0 start; 180 ok 1; 300 nothing",
            "100 take 1 periodic; 230 take 2 periodic",
        ),
        (
            "those after it follow at the interval from there",
            "interval=100 pause=50",
            "0 start; 180 ok 1; 240 ok 2; 340 ok 3; 500 nothing",
            "100 take 1 periodic; 230 take 2 periodic; 330 take 3 periodic; 430 take 4 periodic",
        ),
        (
            "of one that took longer than the interval, too",
            "interval=100 pause=50",
            "0 start; 450 ok 1; 520 nothing",
            "100 take 1 periodic; 500 take 2 periodic",
        ),
        (
            "a failure is an end as well",
            "interval=100 pause=50",
            "0 start; 180 fail 1 declined; 300 nothing",
            "100 take 1 periodic; 230 take 2 periodic",
        ),
        (
            "so is an expiry",
            "interval=100 pause=50 timeout=90",
            "0 start; 250 nothing",
            "100 take 1 periodic; 190 abort 1 expired; 240 take 2 periodic",
        ),
        (
            "and a savepoint's end",
            "interval=100 pause=50",
            "0 start; 60 ask savepoint 1; 90 ok 1; 150 nothing",
            "60 take 1 savepoint; 140 take 2 periodic",
        ),
        (
            "an interval below the pause is the pause",
            "interval=100 pause=300",
            "0 start; 310 ok 1; 1000 nothing",
            "300 take 1 periodic; 610 take 2 periodic",
        ),
        (
            "a savepoint doesn't wait for it",
            "interval=100 pause=50",
            "0 start; 120 ok 1; 121 ask savepoint 1",
            "100 take 1 periodic; 121 take 2 savepoint",
        ),
        (
            "nor does a checkpoint on request",
            "interval=100 pause=50",
            "0 start; 120 ok 1; 121 ask full 1",
            "100 take 1 periodic; 121 take 2 full",
        ),
    ]);
}

#[test]
fn concurrent() {
    check(&[
        (
            "one at a time, unless more are allowed",
            "interval=100",
            "0 start; 350 ok 1; 360 nothing",
            "100 take 1 periodic; 350 take 2 periodic",
        ),
        (
            "two at a time",
            "interval=100 many=2",
            "0 start; 350 ok 1; 360 nothing",
            "100 take 1 periodic; 200 take 2 periodic; 350 take 3 periodic",
        ),
        (
            "a checkpoint on request waits for room, too",
            "interval=1000",
            "0 start; 10 ask checkpoint 1; 20 ask checkpoint 2; 30 ok 1",
            "10 take 1 checkpoint; 30 take 2 checkpoint",
        ),
        (
            "a savepoint doesn't, and takes room",
            "interval=100",
            "0 start; 150 ask savepoint 1; 160 ok 1; 250 nothing; 260 ok 2",
            "100 take 1 periodic; 150 take 2 savepoint; 260 take 3 periodic",
        ),
        (
            "where barriers overtake a savepoint waits for room as well",
            "interval=100 unaligned=0",
            "0 start; 150 ask savepoint 1; 160 ok 1",
            "100 take 1 periodic; 160 take 2 savepoint",
        ),
        (
            "one that is to be aborted takes room until it is",
            "interval=100 timeout=50",
            "0 start; 100 deaf; 250 nothing; 260 fail 1 expired",
            "100 take 1 periodic; 150 abort 1 expired; 260 take 2 periodic",
        ),
    ]);
}

#[test]
fn order_of_requests() {
    check(&[
        (
            "savepoints first, then what was asked for, then the periodic one; the oldest first",
            "interval=100 unaligned=0",
            "0 start; 210 ask checkpoint 1; 220 ask full 2; 230 ask savepoint 3; 240 ask savepoint 4; \
             250 ok 1; 251 ok 2; 252 ok 3; 253 ok 4; 254 ok 5; 255 ok 6",
            "100 take 1 periodic; 250 take 2 savepoint; 251 take 3 savepoint; 252 take 4 checkpoint; 253 take 5 full; \
             254 take 6 periodic",
        ),
        (
            "what can't begin is refused, and the next one's turn comes",
            "interval=1000",
            "0 start; 5 ask checkpoint 1; 10 broken trigger; 11 ask checkpoint 2; 12 ok 1; 13 works; 14 ask checkpoint 3",
            "5 take 1 checkpoint; 12 refuse 2 not-triggered trigger; 14 take 2 checkpoint",
        ),
    ]);
}

#[test]
fn so_many_requests_wait_and_a_periodic_one_makes_room() {
    let mut schedule = Schedule::new(settings("interval=100"), [subtask(0)], u64::MAX).unwrap();
    schedule.apply(Event::Start, millis(0));
    let ask = |schedule: &mut Schedule, number: u64| {
        schedule.apply(Event::Request(RequestId(number), Kind::OnRequest(Backup::Configured)), millis(300))
    };
    assert_eq!(schedule.apply(Event::Tick, millis(100)).len(), 1);
    schedule.apply(Event::Triggered(CheckpointId(1)), millis(100));
    // The periodic one that is due by now waits.
    for number in 1..=REQUESTS_MAX as u64 {
        assert_eq!(ask(&mut schedule, number), []);
    }
    let refused = [Action::Refuse(RequestId(0), Refusal::TooMany)];
    assert_eq!(ask(&mut schedule, 0), refused);
    let savepoint = Event::Request(RequestId(0), Kind::Savepoint);
    assert_eq!(schedule.apply(savepoint, millis(300)), refused);
    // Nothing periodic is left among them.
    for number in 1..=REQUESTS_MAX as u64 {
        let next = Action::Trigger { kind: Kind::OnRequest(Backup::Configured), request: Some(RequestId(number)) };
        assert_eq!(schedule.apply(Event::Completed(CheckpointId(number)), millis(301)), [next]);
        schedule.apply(Event::Triggered(CheckpointId(number + 1)), millis(301));
    }
    assert_eq!(schedule.apply(Event::Completed(CheckpointId(REQUESTS_MAX as u64 + 1)), millis(302)), []);
}

#[test]
fn timeout() {
    check(&[
        (
            "one that takes longer is aborted, and room is made",
            "interval=100 timeout=150",
            "0 start; 300 nothing",
            "100 take 1 periodic; 250 abort 1 expired; 250 take 2 periodic",
        ),
        (
            "each by its own start",
            "interval=100 timeout=150 many=2",
            "0 start; 351 nothing",
            "100 take 1 periodic; 200 take 2 periodic; 250 abort 1 expired; 300 take 3 periodic; 350 abort 2 expired",
        ),
        (
            "a savepoint, too",
            "timeout=150",
            "0 start; 10 ask savepoint 1; 200 nothing",
            "10 take 1 savepoint; 160 abort 1 expired",
        ),
        (
            "an end that comes too late says nothing",
            "interval=1000 timeout=50 tolerated=0",
            "0 start; 10 ask checkpoint 1; 70 ok 1; 71 fail 1 declined; 72 ok 9",
            "10 take 1 checkpoint; 60 abort 1 expired; 60 fail-job 1 expired",
        ),
        (
            "one whose commit was under way may complete after all",
            "timeout=50 tolerated=0",
            "0 start; 5 deaf; 10 ask checkpoint 1; 70 ok 1; 80 ask checkpoint 2",
            "10 take 1 checkpoint; 60 abort 1 expired; 80 take 2 checkpoint",
        ),
        (
            "in time is in time",
            "interval=1000 timeout=50",
            "0 start; 10 ask checkpoint 1; 59 ok 1; 200 nothing",
            "10 take 1 checkpoint",
        ),
    ]);
}

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
fn backlog() {
    check(&[
        (
            "unset, the interval is as otherwise",
            "interval=100",
            "0 start; 5 behind 0; 110 ok 1; 210 ok 2; 250 nothing",
            "100 take 1 periodic; 200 take 2 periodic",
        ),
        (
            "a longer one counts from the first beat in the backlog on",
            "interval=100 behind=300",
            "0 start; 5 behind 0; 110 ok 1; 410 ok 2; 650 nothing",
            "100 take 1 periodic; 400 take 2 periodic",
        ),
        ("0 is none, and no first one either", "interval=100 behind=0", "0 start; 5 behind 0; 1000 nothing", ""),
        (
            "none while any source is behind",
            "interval=100 behind=0",
            "0 start; 5 behind 0; 6 behind 1; 300 level 0; 500 level 1; 650 nothing",
            "600 take 1 periodic",
        ),
        (
            "at its end the next one comes after the interval",
            "interval=100 behind=1000",
            "0 start; 5 behind 0; 110 ok 1; 500 level 0; 650 nothing",
            "100 take 1 periodic; 600 take 2 periodic",
        ),
        (
            "and no later than it would have come",
            "interval=100 behind=0",
            "0 start; 20 behind 0; 50 level 0; 110 ok 1; 150 nothing",
            "100 take 1 periodic",
        ),
        (
            "one that waited for room doesn't begin in a backlog",
            "interval=100 behind=0",
            "0 start; 250 behind 0; 260 ok 1; 500 level 0; 650 nothing",
            "100 take 1 periodic; 600 take 2 periodic",
        ),
        (
            "what was asked for does",
            "interval=100 behind=0",
            "0 start; 5 behind 0; 10 ask savepoint 1; 20 ok 1; 30 ask checkpoint 2",
            "10 take 1 savepoint; 30 take 2 checkpoint",
        ),
        (
            "a source at the end of its data is behind no longer",
            "interval=100 behind=0",
            "0 start; 5 behind 0; 300 end 0; 450 nothing",
            "400 take 1 periodic",
        ),
        (
            "who isn't of the job isn't asked",
            "interval=100 behind=0",
            "0 start; 5 behind 9; 150 nothing",
            "100 take 1 periodic",
        ),
        (
            "a restart forgets it",
            "interval=100 behind=0",
            "0 start; 5 behind 0; 300 stop; 310 start; 450 nothing",
            "410 take 1 periodic",
        ),
    ]);
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
    let given_up = [Action::Abort(CheckpointId(1), drystone::schedule::Failure::Suspended)];
    assert_eq!(schedule.apply(Event::Triggered(CheckpointId(1)), millis(120)), given_up);
    assert_eq!(schedule.apply(Event::Backlog(OperatorId([0; 16]), true), millis(130)), []);
}

#[test]
fn barriers() {
    let periodic = |settings: &ScheduleSettings| settings.alignment(Kind::Periodic);
    let savepoint = |settings: &ScheduleSettings| settings.alignment(Kind::Savepoint);
    let default = ScheduleSettings::default();
    assert_eq!((periodic(&default), savepoint(&default)), (Alignment::Aligned, Alignment::Aligned));
    let at_least_once = ScheduleSettings { mode: CheckpointMode::AtLeastOnce, ..default.clone() };
    assert_eq!((periodic(&at_least_once), savepoint(&at_least_once)), (Alignment::AtLeastOnce, Alignment::AtLeastOnce));
    let at_once = settings("unaligned=0");
    assert_eq!((periodic(&at_once), savepoint(&at_once)), (Alignment::Unaligned, Alignment::Aligned));
    let later = settings("unaligned=30");
    assert_eq!((periodic(&later), savepoint(&later)), (Alignment::AlignedAtFirst(millis(30)), Alignment::Aligned));
}

#[test]
fn what_doesnt_go_together_is_refused_with_the_reason() {
    let good = ScheduleSettings::default();
    let unaligned = Some(UnalignedSettings::default());
    for (settings, problem) in [
        (settings("interval=9"), "interval=9ms: allowed: 0 (off), or a duration from 10 ms up"),
        (settings("timeout=9"), "timeout=9ms: allowed: a duration from 10 ms up"),
        (settings("behind=9"), "interval-during-backlog=9ms: allowed: 0 (none), or a duration from 10ms"),
        (
            settings("interval=100 behind=99"),
            "interval-during-backlog=99ms: allowed: 0 (none), or a duration from 100ms",
        ),
        (settings("many=0"), "max-concurrent-checkpoints=0: allowed: from 1 up"),
        (
            settings("many=2 pause=1"),
            "max-concurrent-checkpoints=2: allowed: 1, with execution.checkpointing.min-pause=1ms",
        ),
        (
            settings("many=2 unaligned=0"),
            "checkpoints=2: allowed: 1, with execution.checkpointing.unaligned.enabled=true",
        ),
        (
            ScheduleSettings { unaligned, mode: CheckpointMode::AtLeastOnce, ..good.clone() },
            "unaligned.enabled=true: allowed: false, with execution.checkpointing.mode=AT_LEAST_ONCE",
        ),
        (
            ScheduleSettings { unaligned, needs_alignment: true, ..good.clone() },
            "unaligned.enabled=true: allowed: false, since the job has a cycle",
        ),
    ] {
        let error = Schedule::new(settings, [subtask(0)], 0).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let both = Schedule::new(settings("interval=9 timeout=9"), [subtask(0)], 0).unwrap_err().to_string();
    assert!(both.contains("interval=9ms") && both.contains("; execution.checkpointing.timeout=9ms"), "{both}");
    let forced = Some(UnalignedSettings { forced: true, ..UnalignedSettings::default() });
    for settings in [
        ScheduleSettings { unaligned: forced, needs_alignment: true, ..good.clone() },
        ScheduleSettings { needs_alignment: true, ..good },
        settings("interval=10 behind=10 timeout=10"),
        settings("interval=100 behind=0"),
        settings("many=2"),
        settings("pause=1"),
    ] {
        Schedule::new(settings, [subtask(0)], 0).unwrap();
    }
}

#[test]
fn what_is_configured_is_what_it_goes_by() {
    let config = Config::from_yaml(
        "execution.checkpointing: {interval: 1 min, interval-during-backlog: 5 min, min-pause: 7 s, timeout: 3 min, \
         tolerable-failed-checkpoints: 4, checkpoints-after-tasks-finish: false, max-concurrent-checkpoints: 3, \
         unaligned.forced: true, aligned-checkpoint-timeout: 9 s}",
    );
    let (configured, _) = config.unwrap().settings().unwrap();
    let expected = ScheduleSettings {
        interval: Some(Duration::from_secs(60)),
        interval_during_backlog: Some(Duration::from_secs(300)),
        min_pause: Duration::from_secs(7),
        concurrent_max: 1,
        timeout: Duration::from_secs(180),
        failures_tolerated: 4,
        after_tasks_finish: false,
        mode: CheckpointMode::ExactlyOnce,
        unaligned: None,
        needs_alignment: false,
    };
    assert_eq!(ScheduleSettings::from(&configured), expected);
    let text = "execution.checkpointing: {unaligned: {enabled: true, forced: true}, aligned-checkpoint-timeout: 9 s}";
    let (configured, _) = Config::from_yaml(text).unwrap().settings().unwrap();
    let unaligned = UnalignedSettings { aligned_timeout: Duration::from_secs(9), forced: true };
    assert_eq!(ScheduleSettings::from(&configured).unaligned, Some(unaligned));
}
