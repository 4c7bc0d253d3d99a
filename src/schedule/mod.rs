//! When checkpoints are taken: Flink's rules as a state machine.
//!
//! An event goes in with the time at which it happened, actions come out: take a checkpoint now, give one up, fail the
//! job. Time is what the caller says, counted from when it likes; nothing here reads a clock, does I/O or waits. Whoever
//! drives it ([`Driver`](crate::driver::Driver), or a loop of the caller's own) says [`Event::Tick`] at
//! [`Schedule::next_wake`] and carries the actions out. Every event is legal at any time, and in any order.
//!
//! The rules are in `design/scheduling.md`, each with the test that shows it.

mod decide;
mod failures;
mod periodic;
mod requests;
mod settings;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use failures::{Failure, JobFailure};
pub use requests::{Backup, Kind, REQUESTS_MAX, Refusal, RequestId};
pub use settings::{Alignment, ScheduleSettings, UnalignedSettings};

use crate::error::Result;
use crate::id::{CheckpointId, OperatorId, Subtask};
use failures::Failures;
use periodic::Periodic;
use requests::Requests;
use tasks::Tasks;

/// The schedule of one job's checkpoints.
///
/// ```
/// use std::time::Duration;
/// use drystone::id::{CheckpointId, OperatorId, Subtask};
/// use drystone::schedule::{Action, Event, Kind, Schedule, ScheduleSettings};
/// let second = Duration::from_secs(1);
/// let settings = ScheduleSettings { interval: Some(10 * second), ..ScheduleSettings::default() };
/// let subtask = Subtask { operator: OperatorId([1; 16]), index: 0, parallelism: 1 };
/// let mut schedule = Schedule::new(settings, [subtask], u64::MAX)?;
/// assert_eq!(schedule.apply(Event::Start, Duration::ZERO), []);
/// assert_eq!(schedule.next_wake(), Some(10 * second));
/// let take = Action::Trigger { kind: Kind::Periodic, request: None };
/// assert_eq!(schedule.apply(Event::Tick, 10 * second), [take]);
/// schedule.apply(Event::Triggered(CheckpointId(1)), 10 * second);
/// schedule.apply(Event::Completed(CheckpointId(1)), 11 * second);
/// assert_eq!(schedule.next_wake(), Some(20 * second));
/// # Ok::<(), drystone::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    settings: ScheduleSettings,
    /// Time never goes back.
    now: Duration,
    /// Between [`Event::Start`] and [`Event::Stop`].
    runs: bool,
    periodic: Periodic,
    requests: Requests,
    tasks: Tasks,
    failures: Failures,
    /// What was decided and not answered: nothing else is decided meanwhile.
    triggering: Option<Triggering>,
    under_way: BTreeMap<CheckpointId, UnderWay>,
    last_triggered: Option<CheckpointId>,
    /// When a checkpoint last ended, in whichever way.
    last_end: Option<Duration>,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All tasks run, anew: checkpoints may begin. Where they ran before, as after [`Stop`](Self::Stop).
    Start,
    /// The tasks are about to be stopped or have failed: what is under way is given up, and nothing begins before the
    /// next [`Start`](Self::Start).
    Stop,
    /// Nothing but time has passed.
    Tick,
    /// Somebody asks for a checkpoint or a savepoint.
    Request(RequestId, Kind),
    /// What [`Action::Trigger`] asked for is under way, by this number, which is higher than all before.
    Triggered(CheckpointId),
    /// What [`Action::Trigger`] asked for couldn't begin.
    NotTriggered(Failure),
    /// A checkpoint is durable.
    Completed(CheckpointId),
    /// A checkpoint has ended without being durable.
    Failed(CheckpointId, Failure),
    /// A source works off a backlog, or does so no longer.
    Backlog(OperatorId, bool),
    /// A subtask has come to the end of its data, and waits for leave to finish.
    EndOfData(Subtask),
    /// A subtask has finished.
    Finished(Subtask),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take one now, and say [`Event::Triggered`] or [`Event::NotTriggered`]. No other comes before that.
    Trigger {
        /// What kind.
        kind: Kind,
        /// Who asked for it; `None` if nobody did.
        request: Option<RequestId>,
    },
    /// Give it up, and say [`Event::Failed`] with this reason; or, if it was too late for that, how it ended.
    Abort(CheckpointId, Failure),
    /// What was asked for won't be done.
    Refuse(RequestId, Refusal),
    /// The subtask, which is at the end of its data, may finish: a checkpoint has covered all of it, or there won't be
    /// any.
    Release(Subtask),
    /// Too many checkpoints have failed: so must the job.
    FailJob(JobFailure),
}

/// Decided, and not answered yet.
#[derive(Clone, Debug)]
struct Triggering {
    kind: Kind,
    request: Option<RequestId>,
    /// What has been decided since makes it void.
    void: bool,
}

/// A checkpoint under way.
#[derive(Clone, Debug)]
struct UnderWay {
    kind: Kind,
    deadline: Duration,
    /// Its end was asked for.
    aborting: bool,
}

impl Schedule {
    /// A schedule for the job with these subtasks; [`Event::Start`] starts it. `spread`, any number, says how far into the
    /// interval the first checkpoint is: jobs that start together shouldn't take theirs together.
    ///
    /// # Errors
    /// `Invalid`: a setting is out of its range, or two don't go together. The text has all that is wrong.
    pub fn new(settings: ScheduleSettings, subtasks: impl IntoIterator<Item = Subtask>, spread: u64) -> Result<Self> {
        settings.validate()?;
        Ok(Self {
            periodic: Periodic::new(&settings, spread),
            failures: Failures::new(settings.failures_tolerated),
            settings,
            now: Duration::ZERO,
            runs: false,
            requests: Requests::default(),
            tasks: Tasks::new(subtasks),
            triggering: None,
            under_way: BTreeMap::new(),
            last_triggered: None,
            last_end: None,
        })
    }

    /// Takes an event into account that has happened by `now`. An earlier time than that of the event before counts as
    /// that one's. Returns what is to be done, in this order.
    pub fn apply(&mut self, event: Event, now: Duration) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut actions = Vec::new();
        match event {
            Event::Start => self.start(&mut actions),
            Event::Stop => self.stop(&mut actions),
            Event::Tick => {}
            Event::Request(request, kind) => self.request(request, kind, &mut actions),
            Event::Triggered(checkpoint) => self.triggered(checkpoint, &mut actions),
            Event::NotTriggered(failure) => self.not_triggered(failure, &mut actions),
            Event::Completed(checkpoint) => self.completed(checkpoint, &mut actions),
            Event::Failed(checkpoint, failure) => self.failed(checkpoint, failure, &mut actions),
            Event::Backlog(source, is_behind) => self.backlog(source, is_behind),
            Event::EndOfData(subtask) => self.end_of_data(subtask, &mut actions),
            Event::Finished(subtask) => self.finished(subtask, &mut actions),
        }
        self.expire(&mut actions);
        self.fall_due();
        self.decide(&mut actions);
        actions
    }

    /// When [`Event::Tick`] is due; `None` if nothing is, whatever time passes.
    pub fn next_wake(&self) -> Option<Duration> {
        let deadlines = self.under_way.values().filter(|flight| !flight.aborting).map(|flight| flight.deadline);
        deadlines.chain(self.periodic.next()).min()
    }

    /// What it goes by.
    pub fn settings(&self) -> &ScheduleSettings {
        &self.settings
    }

    /// The checkpoints under way, in order, with their kinds.
    pub fn under_way(&self) -> impl Iterator<Item = (CheckpointId, Kind)> + '_ {
        self.under_way.iter().map(|(&id, flight)| (id, flight.kind))
    }

    /// The subtasks that have finished: they aren't asked, and count as having acknowledged.
    pub fn finished_subtasks(&self) -> impl Iterator<Item = Subtask> + '_ {
        self.tasks.finished()
    }

    /// The subtasks that are at the end of their data, and have not finished.
    pub fn ended_subtasks(&self) -> impl Iterator<Item = Subtask> + '_ {
        self.tasks.ended()
    }

    /// The subtasks that are to be asked.
    pub fn running_subtasks(&self) -> impl Iterator<Item = Subtask> + '_ {
        self.tasks.running()
    }

    /// How many checkpoints have failed in a row, of those failures that count.
    pub fn failed_in_a_row(&self) -> u32 {
        self.failures.in_a_row()
    }

    /// The sources that work off a backlog.
    pub fn behind(&self) -> &BTreeSet<OperatorId> {
        self.periodic.behind()
    }
}
