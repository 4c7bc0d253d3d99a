//! Over random settings and random events no two rules are ever broken together, nor any alone: a watcher who knows
//! nothing of how the schedule works looks at the raw timeline, and checks each rule by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;
#[path = "support/watcher.rs"]
mod watcher;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cases::cases;
use drystone::config::CheckpointMode;
use drystone::id::{CheckpointId, OperatorId, Subtask};
use drystone::schedule::{
    Action, Backup, Event, Failure, Kind, RequestId, Schedule, ScheduleSettings, UnalignedSettings,
};
use proptest::prelude::*;
use watcher::{Seen, Watcher};

const TASKS: u8 = 3;

fn subtask(index: u8) -> Subtask {
    Subtask { operator: OperatorId([index; 16]), index: 0, parallelism: 1 }
}

/// What the world does next.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    /// A checkpoint that is under way ends; which, and how.
    End(usize, Option<Failure>),
    Ask(Kind),
    Say(Event),
    /// From here on nothing can begin, or it can again.
    Broken(Option<Failure>),
    /// From here on aborts are carried out at once, or not at all.
    Deaf(bool),
    /// The schedule is woken though it didn't ask.
    Wake,
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        3 => Just(Failure::Declined),
        3 => Just(Failure::Write),
        2 => Just(Failure::Commit),
        1 => Just(Failure::Store),
        1 => Just(Failure::TaskClosing),
        1 => Just(Failure::Subsumed),
        1 => Just(Failure::Trigger),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::OnRequest(Backup::Configured)),
        4 => Just(Kind::Savepoint),
        1 => any::<bool>().prop_map(|drain| Kind::StopWithSavepoint { drain }),
        // Nobody should, but it can be said.
        1 => prop_oneof![Just(Kind::Periodic), Just(Kind::Final)],
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let source = (0..TASKS).prop_map(|index| OperatorId([index; 16]));
    prop_oneof![
        20 => (0..400_u64).prop_map(Step::Pass),
        14 => (any::<usize>(), prop::option::weighted(0.4, failure())).prop_map(|(which, how)| Step::End(which, how)),
        5 => kind().prop_map(Step::Ask),
        4 => (source, any::<bool>()).prop_map(|(source, behind)| Step::Say(Event::Backlog(source, behind))),
        1 => (0..TASKS).prop_map(|index| Step::Say(Event::EndOfData(subtask(index)))),
        1 => (0..TASKS).prop_map(|index| Step::Say(Event::Finished(subtask(index)))),
        1 => prop_oneof![Just(Step::Say(Event::Stop)), Just(Step::Say(Event::Start))],
        1 => prop::option::of(failure()).prop_map(Step::Broken),
        1 => any::<bool>().prop_map(Step::Deaf),
        2 => Just(Step::Wake),
        // Nonsense: what nobody asked for has begun, what nobody knows has ended.
        1 => (0..50_u64).prop_map(|id| Step::Say(Event::Completed(CheckpointId(1000 + id)))),
        1 => failure().prop_map(|failure| Step::Say(Event::NotTriggered(failure))),
        1 => (0..50_u64).prop_map(|id| Step::Say(Event::Triggered(CheckpointId(1000 + id)))),
    ]
}

fn time(least: u64, most: u64) -> impl Strategy<Value = Duration> {
    (least..=most).prop_map(Duration::from_millis)
}

fn settings() -> impl Strategy<Value = ScheduleSettings> {
    let times = (
        prop::option::weighted(0.9, time(10, 300)),
        prop::option::of(prop_oneof![Just(0), 1..4_u32]),
        prop_oneof![Just(Duration::ZERO), time(1, 400)],
        time(10, 600),
    );
    let unaligned = prop::option::weighted(0.3, time(0, 20));
    (times, 1..4_u32, 0..4_u32, any::<bool>(), any::<bool>(), unaligned).prop_map(
        |((interval, behind, min_pause, timeout), many, tolerated, after_tasks_finish, exactly_once, unaligned)| {
            let one = unaligned.is_some() || !min_pause.is_zero();
            let mode = if exactly_once || unaligned.is_some() {
                CheckpointMode::ExactlyOnce
            } else {
                CheckpointMode::AtLeastOnce
            };
            ScheduleSettings {
                interval,
                interval_during_backlog: behind.map(|times| interval.unwrap_or(Duration::from_millis(10)) * times),
                min_pause,
                concurrent_max: if one { 1 } else { many },
                timeout,
                failures_tolerated: if tolerated == 3 { i32::MAX as u32 } else { tolerated },
                after_tasks_finish,
                mode,
                unaligned: unaligned.map(|aligned_timeout| UnalignedSettings { aligned_timeout, forced: false }),
                needs_alignment: false,
            }
        },
    )
}

struct World {
    schedule: Schedule,
    watcher: Watcher,
    now: Duration,
    next: u64,
    requests: u64,
    /// Checkpoints under way that somebody asked for.
    asked: BTreeMap<CheckpointId, RequestId>,
    /// In order.
    answered: Vec<RequestId>,
    broken: Option<Failure>,
    deaf: bool,
}

impl World {
    fn say(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.watcher.see(self.now, Seen::Event(&event));
            if let Event::Completed(id) | Event::Failed(id, _) = &event {
                self.answered.extend(self.asked.remove(id));
            }
            for action in self.schedule.apply(event, self.now) {
                self.watcher.see(self.now, Seen::Action(&action));
                match action {
                    Action::Trigger { request, .. } => events.push_front(match self.broken {
                        Some(failure) => Event::NotTriggered(failure),
                        None => {
                            self.next += 1;
                            let id = CheckpointId(self.next);
                            self.asked.extend(request.map(|request| (id, request)));
                            Event::Triggered(id)
                        }
                    }),
                    Action::Refuse(request, _) => self.answered.push(request),
                    Action::Abort(id, failure) if !self.deaf => events.push_back(Event::Failed(id, failure)),
                    _ => {}
                }
            }
        }
        self.watcher.settle(self.now);
        let wake = self.schedule.next_wake();
        assert!(wake.is_none_or(|wake| wake > self.now), "wakes for nothing at {:?}", self.now);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Pass(millis) => {
                let end = self.now + Duration::from_millis(millis);
                while let Some(wake) = self.schedule.next_wake().filter(|&wake| wake <= end) {
                    self.now = wake;
                    self.say(Event::Tick);
                }
                self.now = end;
            }
            Step::End(which, how) => {
                let under_way: Vec<_> = self.schedule.under_way().map(|(id, _)| id).collect();
                if let Some(&id) = under_way.get(which % under_way.len().max(1)) {
                    self.say(how.map_or(Event::Completed(id), |failure| Event::Failed(id, failure)));
                }
            }
            Step::Ask(kind) => {
                self.requests += 1;
                self.say(Event::Request(RequestId(self.requests), kind));
            }
            Step::Say(event) => self.say(event),
            Step::Broken(how) => self.broken = how,
            Step::Deaf(deaf) => self.deaf = deaf,
            Step::Wake => self.say(Event::Tick),
        }
    }
}

/// Started, with so many tasks.
fn world(settings: ScheduleSettings, spread: u64, tasks: u8) -> World {
    let mut world = World {
        schedule: Schedule::new(settings.clone(), (0..tasks).map(subtask), spread).unwrap(),
        watcher: Watcher::new(settings, (0..tasks).map(subtask)),
        now: Duration::ZERO,
        next: 0,
        requests: 0,
        asked: BTreeMap::new(),
        answered: Vec::new(),
        broken: None,
        deaf: false,
    };
    world.say(Event::Start);
    world
}

fn run(settings: ScheduleSettings, spread: u64, steps: Vec<Step>) -> World {
    let mut world = world(settings, spread, TASKS);
    steps.into_iter().for_each(|step| world.step(step));
    world
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn no_rule_is_ever_broken(settings in settings(), spread in any::<u64>(), steps in prop::collection::vec(step(), 1..120)) {
        run(settings, spread, steps);
    }

    #[test]
    fn the_same_events_do_the_same(settings in settings(), spread in any::<u64>(), steps in prop::collection::vec(step(), 1..60)) {
        let one = run(settings.clone(), spread, steps.clone());
        let other = run(settings, spread, steps);
        prop_assert_eq!(one.watcher.log(), other.watcher.log());
    }

    /// Once what is under way ends, and no time need pass for it.
    #[test]
    fn every_request_is_answered_once(settings in settings(), spread in any::<u64>(), steps in prop::collection::vec(step(), 1..120)) {
        let mut world = run(settings, spread, steps);
        while world.schedule.under_way().next().is_some() {
            world.step(Step::End(0, None));
        }
        world.answered.sort_unstable();
        let asked: Vec<_> = (1..=world.requests).map(RequestId).collect();
        prop_assert_eq!(world.answered, asked, "{:#?}", world.watcher.log());
    }

    /// Left alone with tasks that take their time, it keeps the beat: nobody waits longer than the rules say.
    #[test]
    fn it_never_stops_by_itself(settings in settings(), spread in any::<u64>(), takes in 1..500_u64) {
        let settings = ScheduleSettings { failures_tolerated: i32::MAX as u32, ..settings };
        let mut world = world(settings.clone(), spread, 1);
        for _ in 0..20 {
            world.step(Step::Pass(takes));
            world.step(Step::End(0, None));
        }
        let period = settings.interval.map(|interval| interval.max(settings.min_pause));
        let each = period.map(|period| period.max(settings.min_pause + Duration::from_millis(takes)) + Duration::from_millis(takes));
        let least = each.map_or(0, |each| (Duration::from_millis(20 * takes).as_nanos() / each.as_nanos()).saturating_sub(2));
        prop_assert!(u128::from(world.next) >= least, "{} of {least}", world.next);
    }
}
