//! What a schedule goes by, and what of it doesn't go together.

use std::time::Duration;

use super::Kind;
use crate::config::{CheckpointMode, ConfigOption, Settings, catalogue};
use crate::error::{Error, ErrorKind, Result};

/// The least that an interval or a timeout may be.
const TIME_MIN: Duration = Duration::from_millis(10);

/// The rules of a schedule. Made from [`Settings`], or by hand: [`Schedule::new`](super::Schedule::new) checks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// From one checkpoint's start to the next one's, from 10 ms up. `None` or zero: none but those that are asked for.
    pub interval: Option<Duration>,
    /// The same while a source works off a backlog, and no less. `None`: as otherwise. Zero: none.
    pub interval_during_backlog: Option<Duration>,
    /// The least time from one's end to the next one's start. With it there is one at a time.
    pub min_pause: Duration,
    /// How many may be under way at once, from 1 up.
    pub concurrent_max: u32,
    /// One that takes longer is given up; from 10 ms up.
    pub timeout: Duration,
    /// How many may fail in a row; `i32::MAX` and more: any number.
    pub failures_tolerated: u32,
    /// Whether there are any once some of the tasks have finished.
    pub after_tasks_finish: bool,
    /// How often a record counts after a failure.
    pub mode: CheckpointMode,
    /// `None`: barriers don't overtake records.
    pub unaligned: Option<UnalignedSettings>,
    /// Something in the job needs aligned barriers: a cycle, or a partitioning of the user's own.
    pub needs_alignment: bool,
}

/// Rules of unaligned checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnalignedSettings {
    /// So long barriers are aligned before they overtake; zero: they overtake at once.
    pub aligned_timeout: Duration,
    /// Even where something in the job needs alignment.
    pub forced: bool,
}

/// How the barriers of a checkpoint go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// They don't wait for each other: records may count twice.
    AtLeastOnce,
    /// They wait for each other, and records behind them wait, too.
    Aligned,
    /// As [`Aligned`](Self::Aligned) for so long, then as [`Unaligned`](Self::Unaligned).
    AlignedAtFirst(Duration),
    /// They overtake records, which become part of the checkpoint.
    Unaligned,
}

impl Default for ScheduleSettings {
    /// As configured with nothing.
    fn default() -> Self {
        Self::from(&Settings::default())
    }
}

impl From<&Settings> for ScheduleSettings {
    fn from(settings: &Settings) -> Self {
        let unaligned = &settings.unaligned;
        Self {
            interval: settings.interval,
            interval_during_backlog: settings.interval_during_backlog,
            min_pause: settings.min_pause,
            concurrent_max: settings.max_concurrent_checkpoints,
            timeout: settings.timeout,
            failures_tolerated: settings.tolerable_failed_checkpoints,
            after_tasks_finish: settings.checkpoints_after_tasks_finish,
            mode: settings.mode,
            unaligned: unaligned.enabled.then_some(UnalignedSettings {
                aligned_timeout: settings.aligned_checkpoint_timeout,
                forced: unaligned.forced,
            }),
            needs_alignment: false,
        }
    }
}

impl ScheduleSettings {
    /// Whether every rule is in its range, and goes with the others.
    ///
    /// # Errors
    /// `Invalid`; the text has all that is wrong, by the keys of the options.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        let mut refuse = |option: &ConfigOption, value: &dyn std::fmt::Debug, allowed: &str| {
            problems.push(format!("{}={value:?}: allowed: {allowed}", option.key));
        };
        if let Some(interval) = self.interval.filter(|interval| !interval.is_zero() && *interval < TIME_MIN) {
            refuse(&catalogue::INTERVAL, &interval, "0 (off), or a duration from 10 ms up");
        }
        if let Some(behind) = self.interval_during_backlog.filter(|behind| !behind.is_zero()) {
            let least = self.interval.unwrap_or_default().max(TIME_MIN);
            if behind < least {
                let allowed = format!("0 (none), or a duration from {least:?} ({}) up", catalogue::INTERVAL.key);
                refuse(&catalogue::INTERVAL_DURING_BACKLOG, &behind, &allowed);
            }
        }
        if self.timeout < TIME_MIN {
            refuse(&catalogue::TIMEOUT, &self.timeout, "a duration from 10 ms up");
        }
        let concurrent = self.concurrent_max;
        if concurrent == 0 {
            refuse(&catalogue::MAX_CONCURRENT_CHECKPOINTS, &concurrent, "from 1 up");
        }
        if concurrent > 1 && !self.min_pause.is_zero() {
            let allowed = format!("1, with {}={:?}", catalogue::MIN_PAUSE.key, self.min_pause);
            refuse(&catalogue::MAX_CONCURRENT_CHECKPOINTS, &concurrent, &allowed);
        }
        if let Some(unaligned) = self.unaligned {
            let key = catalogue::UNALIGNED_ENABLED.key;
            if self.mode == CheckpointMode::AtLeastOnce {
                let allowed = format!("false, with {}=AT_LEAST_ONCE", catalogue::MODE.key);
                refuse(&catalogue::UNALIGNED_ENABLED, &true, &allowed);
            }
            if concurrent > 1 {
                refuse(&catalogue::MAX_CONCURRENT_CHECKPOINTS, &concurrent, &format!("1, with {key}=true"));
            }
            if self.needs_alignment && !unaligned.forced {
                let allowed = format!(
                    "false, since the job has a cycle or a partitioning of its own; {}=true allows it",
                    catalogue::UNALIGNED_FORCED.key
                );
                refuse(&catalogue::UNALIGNED_ENABLED, &true, &allowed);
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Invalid, problems.join("; "))),
        }
    }

    /// How the barriers of a checkpoint of this kind go. A savepoint's are aligned, so that no record in flight is part
    /// of it.
    pub fn alignment(&self, kind: Kind) -> Alignment {
        match (self.mode, self.unaligned) {
            (CheckpointMode::AtLeastOnce, _) => Alignment::AtLeastOnce,
            (_, None) => Alignment::Aligned,
            (..) if kind.is_savepoint() => Alignment::Aligned,
            (_, Some(unaligned)) if unaligned.aligned_timeout.is_zero() => Alignment::Unaligned,
            (_, Some(unaligned)) => Alignment::AlignedAtFirst(unaligned.aligned_timeout),
        }
    }

    /// Whether one of this kind begins however many are under way: a savepoint, unless barriers overtake.
    pub fn is_forced(&self, kind: Kind) -> bool {
        kind.is_savepoint() && self.unaligned.is_none()
    }

    /// The interval, no shorter than the pause.
    pub(super) fn period(&self) -> Option<Duration> {
        self.interval.filter(|interval| !interval.is_zero()).map(|interval| interval.max(self.min_pause))
    }

    /// The same while there is a backlog.
    pub(super) fn period_during_backlog(&self) -> Option<Duration> {
        match self.interval_during_backlog {
            Some(behind) if behind.is_zero() => None,
            Some(behind) => self.period().map(|period| period.max(behind)),
            None => self.period(),
        }
    }

    /// Whether a subtask at the end of its data waits for a checkpoint that covers all of it.
    pub(super) fn tasks_wait(&self) -> bool {
        self.after_tasks_finish && self.period().is_some()
    }
}
