//! Watches a schedule from outside: from the raw timeline of events and actions it recounts what each rule speaks of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drystone::id::{CheckpointId, OperatorId, Subtask};
use drystone::schedule::{Action, Backup, Event, Failure, Kind, RequestId, ScheduleSettings};

pub enum Seen<'a> {
    Event(&'a Event),
    Action(&'a Action),
}

/// One that is under way.
struct Flight {
    kind: Kind,
    begun: Duration,
    told_to_end: bool,
}

pub struct Watcher {
    settings: ScheduleSettings,
    tasks: BTreeSet<Subtask>,
    log: Vec<String>,
    runs: bool,
    flights: BTreeMap<CheckpointId, Flight>,
    /// Chosen, and not answered.
    chosen: Option<Kind>,
    last_end: Option<Duration>,
    behind: BTreeSet<OperatorId>,
    /// Of periodic ones: since the last start of the beat, and since the last change of the backlog.
    beats: Vec<Duration>,
    beats_behind: Vec<Duration>,
    begun: Duration,
    finished: BTreeSet<Subtask>,
    /// At the end of their data: the highest number that had begun.
    waiting: BTreeMap<Subtask, Option<CheckpointId>>,
    released: BTreeSet<Subtask>,
    highest: Option<CheckpointId>,
    /// Failures that count, since the last success or the job's failure.
    row: u32,
    must_fail_job: Option<Failure>,
    completed: Option<CheckpointId>,
    asked: BTreeMap<RequestId, Kind>,
}

impl Watcher {
    pub fn new(settings: ScheduleSettings, tasks: impl IntoIterator<Item = Subtask>) -> Self {
        Self {
            settings,
            tasks: tasks.into_iter().collect(),
            log: Vec::new(),
            runs: false,
            flights: BTreeMap::new(),
            chosen: None,
            last_end: None,
            behind: BTreeSet::new(),
            beats: Vec::new(),
            beats_behind: Vec::new(),
            begun: Duration::ZERO,
            finished: BTreeSet::new(),
            waiting: BTreeMap::new(),
            released: BTreeSet::new(),
            highest: None,
            row: 0,
            must_fail_job: None,
            completed: None,
            asked: BTreeMap::new(),
        }
    }

    pub fn log(&self) -> &[String] {
        &self.log
    }

    pub fn see(&mut self, now: Duration, seen: Seen<'_>) {
        match seen {
            Seen::Event(event) => {
                assert_eq!(self.must_fail_job, None, "the job wasn't failed: {:#?}", self.log);
                self.log.push(format!("{now:?} {event:?}"));
                self.event(now, event);
            }
            Seen::Action(action) => {
                self.log.push(format!("{now:?} -> {action:?}"));
                self.action(now, action);
            }
        }
    }

    /// When all is said that follows from an event.
    pub fn settle(&mut self, now: Duration) {
        assert_eq!(self.must_fail_job, None, "the job wasn't failed: {:#?}", self.log);
        for (id, flight) in &self.flights {
            let late = now >= flight.begun + self.settings.timeout;
            assert!(flight.told_to_end || !late, "{id} is late, and goes on: {:#?}", self.log);
        }
        // Whom nothing keeps waiting isn't kept waiting.
        let room = self.flights.len() < self.settings.concurrent_max as usize;
        let waits = self.asked.values().any(|kind| room || self.forced(*kind));
        assert!(!waits || self.chosen.is_some(), "a request waits for nothing: {:#?}", self.log);
        assert!(self.asked.is_empty() || self.may_begin(), "a request waits in vain: {:#?}", self.log);
    }

    fn forced(&self, kind: Kind) -> bool {
        kind.is_savepoint() && self.settings.unaligned.is_none()
    }

    fn may_begin(&self) -> bool {
        let all = !self.tasks.is_empty() && self.finished.is_superset(&self.tasks);
        self.runs && !all && (self.settings.after_tasks_finish || self.finished.is_empty())
    }

    fn event(&mut self, now: Duration, event: &Event) {
        match event {
            Event::Start | Event::Stop => {
                self.runs = *event == Event::Start;
                self.begun = now;
                self.beats.clear();
                self.beats_behind.clear();
                if self.runs {
                    self.behind.clear();
                    self.finished.clear();
                    self.waiting.clear();
                    self.released.clear();
                }
            }
            Event::Tick => {}
            Event::Request(request, kind) => {
                if kind.stops_job() {
                    self.beats.clear();
                    self.beats_behind.clear();
                }
                // What is asked for is on request.
                let kind = if *kind == Kind::Periodic { Kind::OnRequest(Backup::Configured) } else { *kind };
                self.asked.insert(*request, kind);
            }
            Event::Triggered(id) => {
                if let Some(kind) = self.chosen.take() {
                    self.flights.insert(*id, Flight { kind, begun: now, told_to_end: false });
                    self.highest = self.highest.max(Some(*id));
                }
            }
            Event::NotTriggered(failure) => {
                if let Some(kind) = self.chosen.take() {
                    self.count(None, kind, *failure);
                    self.beat_anew(kind);
                }
            }
            Event::Completed(id) => {
                if self.flights.remove(id).is_some() {
                    self.last_end = Some(now);
                    if Some(*id) > self.completed {
                        self.completed = Some(*id);
                        self.row = 0;
                    }
                }
            }
            Event::Failed(id, failure) => {
                if let Some(flight) = self.flights.remove(id) {
                    self.last_end = Some(now);
                    self.count(Some(*id), flight.kind, *failure);
                    self.beat_anew(flight.kind);
                }
            }
            Event::Backlog(source, is_behind) => {
                let before = self.behind.is_empty();
                let known = self.runs && self.tasks.iter().any(|task| task.operator == *source);
                // Each operator has but one task.
                let at_end = |task: &Subtask| task.operator == *source && self.is_at_end(task);
                match is_behind {
                    true if known && !self.tasks.iter().any(at_end) => _ = self.behind.insert(*source),
                    false if known => _ = self.behind.remove(source),
                    _ => {}
                }
                if before != self.behind.is_empty() {
                    self.beats_behind.clear();
                }
            }
            Event::EndOfData(subtask) => {
                let waits = self.settings.after_tasks_finish && self.interval().is_some();
                if self.tasks.contains(subtask) && !self.is_at_end(subtask) {
                    if waits {
                        self.waiting.insert(*subtask, self.highest);
                    }
                    self.is_behind_no_longer(subtask);
                }
            }
            Event::Finished(subtask) => {
                self.finished.insert(*subtask);
                self.waiting.remove(subtask);
                self.is_behind_no_longer(subtask);
            }
        }
    }

    fn is_at_end(&self, subtask: &Subtask) -> bool {
        let known =
            [self.finished.contains(subtask), self.released.contains(subtask), self.waiting.contains_key(subtask)];
        known.contains(&true)
    }

    fn is_behind_no_longer(&mut self, subtask: &Subtask) {
        if self.behind.remove(&subtask.operator) && self.behind.is_empty() {
            self.beats_behind.clear();
        }
    }

    /// A savepoint that was to stop the job came to nothing.
    fn beat_anew(&mut self, kind: Kind) {
        if kind.stops_job() {
            self.beats.clear();
            self.beats_behind.clear();
        }
    }

    fn count(&mut self, id: Option<CheckpointId>, kind: Kind, failure: Failure) {
        let by_task = !matches!(
            failure,
            Failure::Expired
                | Failure::Commit
                | Failure::Store
                | Failure::Subsumed
                | Failure::Trigger
                | Failure::Suspended
        );
        let counts =
            matches!(failure, Failure::Expired | Failure::Declined | Failure::Write | Failure::Store | Failure::Commit);
        if kind.stops_job() && by_task {
            self.must_fail_job = Some(failure);
        } else if (by_task || !kind.is_savepoint()) && counts && (id.is_none() || id > self.completed) {
            self.row += 1;
            let tolerated = self.settings.failures_tolerated;
            if tolerated < i32::MAX as u32 && self.row > tolerated {
                self.row = 0;
                self.must_fail_job = Some(failure);
            }
        }
    }

    fn interval(&self) -> Option<Duration> {
        self.settings
            .interval
            .filter(|interval| !interval.is_zero())
            .map(|interval| interval.max(self.settings.min_pause))
    }

    fn action(&mut self, now: Duration, action: &Action) {
        match action {
            Action::Trigger { kind, request } => self.trigger(now, *kind, *request),
            Action::Abort(id, failure) => {
                let flight = self.flights.get_mut(id).expect("only what is under way is aborted");
                assert!(!flight.told_to_end, "{id} is told twice");
                flight.told_to_end = true;
                if *failure == Failure::Expired {
                    assert!(now >= flight.begun + self.settings.timeout, "{id} had time left: {:#?}", self.log);
                } else {
                    assert_eq!(*failure, Failure::Suspended);
                }
            }
            Action::Refuse(request, _) => _ = self.asked.remove(request),
            Action::Release(subtask) => {
                let (before, again) = (self.waiting.remove(subtask), self.released.contains(subtask));
                match before {
                    Some(before) => assert!(before < self.completed, "{subtask:?} isn't covered: {:#?}", self.log),
                    None => assert!(again || !self.settings.after_tasks_finish || self.interval().is_none()),
                }
                assert!(!self.finished.contains(subtask), "it has finished: {:#?}", self.log);
                self.released.insert(*subtask);
            }
            Action::FailJob(job) => assert_eq!(self.must_fail_job.take(), Some(job.failure), "{:#?}", self.log),
        }
    }

    fn trigger(&mut self, now: Duration, kind: Kind, request: Option<RequestId>) {
        let log = &self.log;
        assert!(self.may_begin(), "nothing may begin: {log:#?}");
        assert_eq!(self.chosen, None, "one after the other: {log:#?}");
        let under_way = self.flights.len();
        let room = under_way < self.settings.concurrent_max as usize;
        assert!(room || self.forced(kind), "{under_way} are under way: {log:#?}");
        match request {
            Some(request) => {
                assert_eq!(self.asked.remove(&request), Some(kind), "nobody asked: {log:#?}");
                let more_urgent = self
                    .asked
                    .iter()
                    .any(|(&other, other_kind)| (!other_kind.is_savepoint(), other) < (!kind.is_savepoint(), request));
                assert!(!more_urgent, "another is more urgent: {log:#?}");
            }
            None if kind == Kind::Final => {
                let at_end = |task: &Subtask| {
                    self.finished.contains(task) || self.waiting.contains_key(task) || self.released.contains(task)
                };
                assert!(self.tasks.iter().all(at_end), "some have data: {log:#?}");
            }
            None => {
                assert_eq!(kind, Kind::Periodic);
                assert!(self.asked.is_empty(), "somebody asked: {log:#?}");
                self.beat(now);
            }
        }
        self.chosen = Some(kind);
    }

    fn beat(&mut self, now: Duration) {
        let log = &self.log;
        let interval = self.interval().expect("there are periodic ones");
        let pause = self.settings.min_pause;
        assert!(self.last_end.is_none_or(|end| now >= end + pause), "no pause: {log:#?}");
        assert!(now >= self.begun + pause, "no pause after the start: {log:#?}");
        let stops = self.flights.values().any(|flight| flight.kind.stops_job() && !flight.told_to_end);
        assert!(!stops, "the job is being stopped: {log:#?}");
        // One may have waited for room; those after it keep the beat.
        fn keeps(beats: &mut Vec<Duration>, now: Duration, interval: Duration) -> bool {
            let early = |(back, &before): (usize, &Duration)| now <= before + interval * back as u32;
            let kept = !beats.iter().rev().enumerate().skip(1).any(early);
            beats.push(now);
            kept
        }
        assert!(keeps(&mut self.beats, now, interval), "too soon: {log:#?}");
        if !self.behind.is_empty() {
            let behind = self.settings.interval_during_backlog.unwrap_or(interval);
            assert!(!behind.is_zero(), "none in a backlog: {log:#?}");
            assert!(keeps(&mut self.beats_behind, now, behind.max(interval)), "too soon in a backlog: {log:#?}");
        }
    }
}
