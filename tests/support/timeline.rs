//! A schedule in virtual time: what happens and what is done, both written as lines of text.
//!
//! A line is a time in milliseconds and what happens at it:
//!
//! * `start`, `stop`; `behind S`, `level S`: a source works off a backlog, or no longer;
//! * `ask KIND N`: request N, of kind `checkpoint`, `full`, `savepoint`, `stop`, `drain`;
//! * `ok N`, `fail N REASON`: checkpoint N ends; `end S`: subtask S is at the end of its data; `gone S`: it has finished;
//! * `deaf`, `hears`: from here on nothing that is to be aborted is, and it is again; `broken REASON`: from here on nothing
//!   can begin; `works`: it can again; `nothing`.
//!
//! What is done: `take N KIND`, `abort N REASON`, `refuse N WHY`, `release S`, `fail-job HOW-MANY REASON`.

use std::time::Duration;

use drystone::id::{CheckpointId, OperatorId, Subtask};
use drystone::schedule::{
    Action, Backup, Event, Failure, Kind, Refusal, RequestId, Schedule, ScheduleSettings, UnalignedSettings,
};

pub fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Subtask `index` is the only one of operator `index`, and the source of this number.
pub fn subtask(index: u8) -> Subtask {
    Subtask { operator: OperatorId([index; 16]), index: 0, parallelism: 1 }
}

/// A schedule whose orders are carried out at once.
pub struct Timeline {
    pub schedule: Schedule,
    next: u64,
    deaf: bool,
    broken: Option<Failure>,
    done: Vec<String>,
}

impl Timeline {
    /// A job of `tasks` tasks.
    pub fn new(settings: ScheduleSettings, tasks: u8, spread: u64) -> Self {
        let schedule = Schedule::new(settings, (0..tasks).map(subtask), spread).unwrap();
        Self { schedule, next: 1, deaf: false, broken: None, done: Vec::new() }
    }

    /// Runs what is in the lines, and returns what was done.
    pub fn run(mut self, lines: &str) -> Vec<String> {
        for line in lines.split(';').map(str::trim).filter(|line| !line.is_empty()) {
            let (at, what) = line.split_once(' ').expect("a time, and what happens");
            let at = millis(at.parse().expect("milliseconds"));
            self.pass_until(at);
            match what.split_whitespace().collect::<Vec<_>>()[..] {
                ["deaf"] => self.deaf = true,
                ["hears"] => self.deaf = false,
                ["broken", why] => self.broken = Some(failure(why)),
                ["works"] => self.broken = None,
                _ => self.say(event(what), at),
            }
        }
        self.done
    }

    /// Lets time pass, waking the schedule when it asks for it.
    fn pass_until(&mut self, end: Duration) {
        while let Some(wake) = self.schedule.next_wake().filter(|&wake| wake <= end) {
            self.say(Event::Tick, wake);
            assert!(self.schedule.next_wake().is_none_or(|next| next > wake), "it wakes for nothing at {wake:?}");
        }
    }

    fn say(&mut self, event: Event, at: Duration) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.schedule.apply(event, at) {
                let text = match action {
                    Action::Trigger { kind, .. } => match self.broken {
                        Some(failure) => {
                            events.push_back(Event::NotTriggered(failure));
                            continue;
                        }
                        None => {
                            let id = CheckpointId(self.next);
                            self.next += 1;
                            events.push_back(Event::Triggered(id));
                            format!("take {id} {}", kind_text(kind))
                        }
                    },
                    Action::Abort(id, failure) => {
                        if !self.deaf {
                            events.push_back(Event::Failed(id, failure));
                        }
                        format!("abort {id} {failure:?}").to_lowercase()
                    }
                    Action::Refuse(id, refusal) => format!("refuse {} {}", id.0, refusal_text(refusal)),
                    Action::Release(subtask) => format!("release {}", subtask.operator.0[0]),
                    Action::FailJob(job) => {
                        let count = job.in_a_row.map_or("none".to_string(), |count| count.to_string());
                        format!("fail-job {count} {:?}", job.failure).to_lowercase()
                    }
                };
                self.done.push(format!("{} {text}", at.as_millis()));
            }
        }
    }
}

fn event(what: &str) -> Event {
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let source = |text: &str| subtask(number(text) as u8).operator;
    match what.split_whitespace().collect::<Vec<_>>()[..] {
        ["start"] => Event::Start,
        ["stop"] => Event::Stop,
        ["nothing"] => Event::Tick,
        ["ask", kind, request] => Event::Request(RequestId(number(request)), kind_of(kind)),
        ["ok", id] => Event::Completed(CheckpointId(number(id))),
        ["fail", id, why] => Event::Failed(CheckpointId(number(id)), failure(why)),
        ["behind", index] => Event::Backlog(source(index), true),
        ["level", index] => Event::Backlog(source(index), false),
        ["end", index] => Event::EndOfData(subtask(number(index) as u8)),
        ["gone", index] => Event::Finished(subtask(number(index) as u8)),
        _ => panic!("no event: {what}"),
    }
}

fn kind_of(text: &str) -> Kind {
    match text {
        "checkpoint" => Kind::OnRequest(Backup::Configured),
        "full" => Kind::OnRequest(Backup::Full),
        "savepoint" => Kind::Savepoint,
        "stop" => Kind::StopWithSavepoint { drain: false },
        "drain" => Kind::StopWithSavepoint { drain: true },
        "periodic" => Kind::Periodic,
        _ => panic!("no kind: {text}"),
    }
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Periodic => "periodic",
        Kind::OnRequest(Backup::Configured) => "checkpoint",
        Kind::OnRequest(Backup::Full) => "full",
        Kind::OnRequest(Backup::Incremental) => "incremental",
        Kind::Final => "final",
        Kind::Savepoint => "savepoint",
        Kind::StopWithSavepoint { drain: false } => "stop",
        Kind::StopWithSavepoint { drain: true } => "drain",
    }
}

fn refusal_text(refusal: Refusal) -> String {
    match refusal {
        Refusal::TooMany => "too-many".into(),
        Refusal::NotAllRunning => "not-all-running".into(),
        Refusal::Stopped => "stopped".into(),
        Refusal::NotTriggered(failure) => format!("not-triggered {failure:?}").to_lowercase(),
    }
}

/// From `interval=100 pause=50`: what isn't named is as by default, but that the timeout is 1000 and any number may fail.
pub fn settings(text: &str) -> ScheduleSettings {
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
pub fn check(rows: &[(&str, &str, &str, &str)]) {
    for (rule, with, lines, expected) in rows {
        let done = Timeline::new(settings(with), 2, u64::MAX).run(lines);
        let expected: Vec<_> = expected.split(';').map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(done, expected, "{rule}\n  {with}\n  {lines}");
    }
}

/// Every reason there is.
pub const FAILURES: [Failure; 21] = [
    Failure::Expired,
    Failure::Declined,
    Failure::Write,
    Failure::Store,
    Failure::Commit,
    Failure::TaskNotReady,
    Failure::TaskClosing,
    Failure::Overtaken,
    Failure::BarrierCancelled,
    Failure::InputEnded,
    Failure::SharedChannelFile,
    Failure::TaskFailed,
    Failure::TaskLocal,
    Failure::UnknownTask,
    Failure::Trigger,
    Failure::BlockingOutput,
    Failure::NotAllRunning,
    Failure::Subsumed,
    Failure::Suspended,
    Failure::ShutDown,
    Failure::Failover,
];

pub fn failure(text: &str) -> Failure {
    let found = FAILURES.into_iter().find(|failure| format!("{failure:?}").to_lowercase() == text);
    found.unwrap_or_else(|| panic!("no failure: {text}"))
}
