//! When the next periodic checkpoint is due.

use std::collections::BTreeSet;
use std::time::Duration;

use super::ScheduleSettings;
use crate::id::OperatorId;

/// The beat of periodic checkpoints, at a fixed rate: one that comes late doesn't delay those after it.
#[derive(Clone, Debug)]
pub(super) struct Periodic {
    /// `None`: there are none.
    period: Option<Duration>,
    /// `None`: there are none while there is a backlog.
    period_during_backlog: Option<Duration>,
    first_delay: Duration,
    is_on: bool,
    /// `None` though it is on: it waits for the backlog's end.
    next: Option<Duration>,
    behind: BTreeSet<OperatorId>,
}

impl Periodic {
    pub(super) fn new(settings: &ScheduleSettings, spread: u64) -> Self {
        let period = settings.period();
        let first_delay = period.map_or(Duration::ZERO, |period| between(settings.min_pause, period, spread));
        Self {
            period,
            period_during_backlog: settings.period_during_backlog(),
            first_delay,
            is_on: false,
            next: None,
            behind: BTreeSet::new(),
        }
    }

    /// Starts anew, between the pause and the interval from now.
    pub(super) fn start(&mut self, now: Duration) {
        self.is_on = self.period.is_some();
        self.next = self.is_on.then(|| now.saturating_add(self.first_delay));
    }

    pub(super) fn stop(&mut self) {
        self.is_on = false;
        self.next = None;
    }

    pub(super) fn forget_backlog(&mut self) {
        self.behind.clear();
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.next
    }

    pub(super) fn behind(&self) -> &BTreeSet<OperatorId> {
        &self.behind
    }

    /// None is to begin, though they are on?
    pub(super) fn waits_for_backlog(&self) -> bool {
        !self.behind.is_empty() && self.period_during_backlog.is_none()
    }

    /// Is one due? If so, the next is a period later; of those that were missed meanwhile one is enough. While they wait
    /// for a backlog's end none is.
    pub(super) fn falls_due(&mut self, now: Duration) -> bool {
        let Some(due) = self.next.filter(|&due| due <= now) else { return false };
        let period = if self.behind.is_empty() { self.period } else { self.period_during_backlog };
        self.next = period.map(|period| after(due, period, now));
        period.is_some()
    }

    /// The one that is due has to wait until then; those after it follow from there.
    pub(super) fn put_off(&mut self, until: Duration) {
        if self.is_on {
            self.next = Some(until);
        }
    }

    /// What waited for room mustn't begin now.
    pub(super) fn wait_for_backlog(&mut self) {
        self.next = None;
    }

    /// A source is behind, or no longer. At the backlog's end the next one comes no later than after the ordinary
    /// interval.
    pub(super) fn backlog(&mut self, source: OperatorId, is_behind: bool, now: Duration) {
        if is_behind {
            self.behind.insert(source);
        } else {
            self.behind.remove(&source);
        }
        if let (true, true, Some(period)) = (self.is_on, self.behind.is_empty(), self.period) {
            let latest = now.saturating_add(period);
            self.next = Some(self.next.map_or(latest, |next| next.min(latest)));
        }
    }
}

/// The first beat after `now`.
fn after(due: Duration, period: Duration, now: Duration) -> Duration {
    let missed = now.saturating_sub(due).as_nanos() / period.as_nanos().max(1);
    let beats = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
    let next = due.saturating_add(period.saturating_mul(beats));
    // More than can be counted were missed.
    if next > now { next } else { now.saturating_add(period) }
}

/// `least` for 0, `most` for the highest number, evenly between.
fn between(least: Duration, most: Duration, spread: u64) -> Duration {
    let nanos = most.saturating_sub(least).as_nanos();
    // In halves, since the product may not fit.
    let high = (nanos >> 64) * u128::from(spread);
    let low = ((nanos & u128::from(u64::MAX)) * u128::from(spread)) / u128::from(u64::MAX);
    let share = high.saturating_add(low);
    let seconds = u64::try_from(share / 1_000_000_000).unwrap_or(u64::MAX);
    least.saturating_add(Duration::new(seconds, (share % 1_000_000_000) as u32)).min(most.max(least))
}
