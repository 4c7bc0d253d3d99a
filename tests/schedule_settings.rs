//! What a schedule can be told to go by, what it can't, and how the barriers go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/timeline.rs"]
#[allow(dead_code)]
mod timeline;

use std::time::Duration;

use drystone::config::{CheckpointMode, Config};
use drystone::schedule::{Alignment, Kind, Schedule, ScheduleSettings, UnalignedSettings};
use timeline::{millis, settings, subtask};

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
