//! Every rule of the documents about when checkpoints are taken, as a row: settings, what happens, what is done.
//!
//! Times are in milliseconds; the words are those of `support/timeline.rs`. `design/scheduling.md` has the rules. Those about
//! failures, tasks and stopping are in `schedule_ends.rs`, what can't be set in `schedule_settings.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/timeline.rs"]
#[allow(dead_code)]
mod timeline;

use std::time::Duration;

use drystone::id::CheckpointId;
use drystone::schedule::{Action, Backup, Event, Kind, REQUESTS_MAX, Refusal, RequestId, Schedule, ScheduleSettings};
use timeline::{check, millis, settings, subtask};

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
        (
            "what is asked for is on request, whatever it is called: it waits for no pause, and gets an answer",
            "interval=100 pause=50",
            "0 start; 120 ok 1; 121 ask periodic 1",
            "100 take 1 periodic; 121 take 2 checkpoint",
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
            "nor is one that has finished",
            "interval=100 behind=0",
            "0 start; 5 behind 0; 300 gone 0; 450 nothing",
            "400 take 1 periodic",
        ),
        (
            "whatever is said late",
            "interval=100 behind=0",
            "0 start; 5 end 0; 10 behind 0; 110 ok 1; 120 gone 0; 130 behind 0; 250 nothing",
            "100 take 1 periodic; 110 release 0; 200 take 2 periodic",
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
