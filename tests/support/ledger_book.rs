//! A reference model of the ledger: plain maps, everything counted anew after each event.
//!
//! `step` gives one event to both, and checks that they agree on the answer, on what is deleted, and on all figures.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use drystone::ErrorKind;
use drystone::config::Retention;
use drystone::id::{CheckpointId, OperatorId, Scope, Subtask};
use drystone::ledger::{Acknowledged, Effect, JobEnd, Ledger, LedgerSettings, Named, SpacePolicy, SpaceUsage};

#[derive(Clone, Debug)]
pub enum Event {
    Trigger(u64, BTreeSet<u32>),
    Acknowledge(u64, u32, Vec<Named>),
    Finished(u64, u32),
    StartCommit(u64),
    Committed(u64),
    CommitFailed(u64),
    Abort(u64),
    Restored(u64, bool, Vec<Named>),
    Copied(Vec<Named>),
    SetBytes(Arc<str>, u64),
    End(JobEnd),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Pending,
    Committing,
    Completed(bool),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Page {
    pub phase: Phase,
    pub waiting: BTreeSet<u32>,
    pub heard: BTreeSet<u32>,
    pub names: BTreeSet<Named>,
    /// What it may reuse: the retained ones at its trigger, and those that completed since.
    pub base: BTreeSet<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Book {
    pub retained: usize,
    pub discards_at: Vec<bool>,
    pub pages: BTreeMap<u64, Page>,
    pub copies: Vec<(Option<u64>, BTreeSet<Named>)>,
    pub last: Option<u64>,
    pub discards_late: Option<bool>,
    /// Was it said by a commit, or the end, what stays?
    pub has_said: bool,
    /// Aborted ones to be cleaned once more, by the last one triggered before the abort.
    pub unclean: BTreeMap<u64, u64>,
    pub lengths: BTreeMap<Arc<str>, u64>,
    pub disowned: BTreeSet<Arc<str>>,
    pub deleted: BTreeSet<Arc<str>>,
}

/// What an event is expected to come to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Error(ErrorKind),
    Acknowledged(Acknowledged),
    Done(Vec<Effect>),
}

pub fn policy() -> SpacePolicy {
    SpacePolicy {
        amplification_max: Some(1.5),
        floor_bytes: 100,
        across: true,
        fold_ratio_max: 0.5,
        file_bytes_max: 1_000,
    }
}

pub fn ledger(retained: usize, retention: Retention) -> Ledger {
    Ledger::new(LedgerSettings { retained, space: policy(), retention })
}

pub fn subtask(index: u32) -> Subtask {
    Subtask { operator: OperatorId([7; 16]), index, parallelism: 8 }
}

/// Was the file written for the checkpoint, as its name says?
pub fn is_new(checkpoint: u64, named: &Named) -> bool {
    named.file.starts_with(&format!("c{checkpoint}-"))
}

pub fn ends() -> [JobEnd; 4] {
    [JobEnd::Finished, JobEnd::Cancelled, JobEnd::Failed, JobEnd::Suspended]
}

impl Book {
    pub fn new(retained: usize, retention: Retention) -> Self {
        Self {
            retained,
            discards_at: ends().into_iter().map(|end| end.discards(retention)).collect(),
            pages: BTreeMap::new(),
            copies: Vec::new(),
            last: None,
            discards_late: None,
            has_said: false,
            unclean: BTreeMap::new(),
            lengths: BTreeMap::new(),
            disowned: BTreeSet::new(),
            deleted: BTreeSet::new(),
        }
    }

    pub fn named(&self) -> BTreeSet<(Arc<str>, u64, u64)> {
        let pages = self.pages.values().flat_map(|page| &page.names);
        let all = pages.chain(self.copies.iter().flat_map(|(_, names)| names));
        all.map(|n| (n.file.clone(), n.offset, n.length)).collect()
    }

    /// Live files, and whether the job may delete them.
    pub fn files(&self) -> BTreeMap<Arc<str>, bool> {
        self.named().into_iter().map(|(file, ..)| (file.clone(), !self.disowned.contains(&file))).collect()
    }

    pub fn completed(&self) -> Vec<u64> {
        self.pages.iter().filter(|(_, p)| matches!(p.phase, Phase::Completed(_))).map(|(&id, _)| id).collect()
    }

    pub fn pending(&self) -> Vec<u64> {
        self.pages.iter().filter(|(_, p)| !matches!(p.phase, Phase::Completed(_))).map(|(&id, _)| id).collect()
    }

    fn usage(&self) -> SpaceUsage {
        let mut usage = SpaceUsage::default();
        for (file, owned) in self.files() {
            usage.files += u64::from(owned);
            usage.file_bytes += if owned { self.lengths[&file] } else { 0 };
        }
        for (_, _, length) in self.named().iter().filter(|(file, ..)| !self.disowned.contains(file)) {
            usage.segments += 1;
            usage.segment_bytes += length;
        }
        usage
    }

    fn name(&mut self, names: &[Named]) {
        for named in names {
            if !named.owned {
                self.disowned.insert(named.file.clone());
            }
            let bytes = self.lengths.entry(named.file.clone()).or_default();
            *bytes = (*bytes).max(named.offset + named.length);
        }
    }

    fn set_bytes(&mut self, file: &Arc<str>, bytes: u64) {
        let end = self.named().iter().filter(|n| n.0 == *file).map(|n| n.1 + n.2).max();
        if let Some(end) = end {
            self.lengths.insert(file.clone(), bytes.max(end));
        }
    }

    fn drop_aborted(&mut self, id: u64, effects: &mut Vec<Effect>) {
        self.pages.remove(&id);
        effects.push(Effect::Aborted(CheckpointId(id)));
        effects.push(Effect::Clean(vec![CheckpointId(id)]));
        self.unclean.insert(id, self.last.unwrap());
        self.drop_surplus(effects);
    }

    fn drop_completed(&mut self, id: u64, effects: &mut Vec<Effect>) {
        let page = self.pages.remove(&id).unwrap();
        if page.phase == Phase::Completed(true) {
            effects.push(Effect::Discard { checkpoint: CheckpointId(id), files: Vec::new() });
        }
    }

    fn drop_surplus(&mut self, effects: &mut Vec<Effect>) {
        if !self.has_said {
            return;
        }
        let completed = self.completed();
        let based: BTreeSet<u64> = self.pending().iter().flat_map(|id| self.pages[id].base.clone()).collect();
        for id in &completed[..completed.len().saturating_sub(self.retained)] {
            if !based.contains(id) {
                self.drop_completed(*id, effects);
            }
        }
    }

    fn apply(&mut self, event: &Event) -> Answer {
        let mut effects = Vec::new();
        match event {
            Event::Trigger(id, subtasks) => {
                if self.discards_late.is_some() || self.last.is_some_and(|last| *id <= last) {
                    return Answer::Error(ErrorKind::Conflict);
                }
                let base = self.completed().into_iter().rev().take(self.retained).collect();
                let (waiting, heard, names) = (subtasks.clone(), BTreeSet::new(), BTreeSet::new());
                self.pages.insert(*id, Page { phase: Phase::Pending, waiting, heard, names, base });
                self.last = Some(*id);
            }
            Event::Acknowledge(id, subtask, names) => return self.acknowledge(*id, *subtask, names),
            Event::Finished(id, subtask) => return self.acknowledge(*id, *subtask, &[]),
            Event::StartCommit(id) => match self.pages.get_mut(id) {
                None => return Answer::Error(ErrorKind::NotFound),
                Some(page) if page.phase == Phase::Pending && page.waiting.is_empty() => page.phase = Phase::Committing,
                Some(_) => return Answer::Error(ErrorKind::Conflict),
            },
            Event::Committed(id) => match self.pages.get(id).map(|page| page.phase) {
                None => return Answer::Error(ErrorKind::NotFound),
                Some(Phase::Committing) => self.committed(*id, &mut effects),
                Some(_) => return Answer::Error(ErrorKind::Conflict),
            },
            Event::CommitFailed(id) | Event::Abort(id) => {
                let ends = if matches!(event, Event::Abort(_)) { Phase::Pending } else { Phase::Committing };
                if self.pages.get(id).is_some_and(|page| page.phase == ends) {
                    self.drop_aborted(*id, &mut effects);
                }
            }
            Event::Restored(..) | Event::Copied(_) if self.discards_late.is_some() => {
                return Answer::Error(ErrorKind::Conflict);
            }
            Event::Restored(id, ..) if self.pages.contains_key(id) => {}
            Event::Restored(id, owned, names) => {
                self.name(names);
                let (phase, names) = (Phase::Completed(*owned), names.iter().cloned().collect());
                let (waiting, heard, base) = Default::default();
                self.pages.insert(*id, Page { phase, waiting, heard, names, base });
                self.last = self.last.max(Some(*id));
                self.has_said = false;
            }
            Event::Copied(names) => {
                self.name(names);
                self.copies.push((self.last, names.iter().cloned().collect()));
            }
            Event::SetBytes(file, bytes) => self.set_bytes(file, *bytes),
            Event::End(end) => {
                self.has_said = true;
                for id in self.pending() {
                    if self.pages[&id].phase == Phase::Pending {
                        self.drop_aborted(id, &mut effects);
                    }
                }
                self.copies.clear();
                let discards = self.discards_at[ends().iter().position(|e| e == end).unwrap()];
                self.discards_late = Some(discards);
                if discards {
                    self.completed().into_iter().for_each(|id| self.drop_completed(id, &mut effects));
                }
            }
        }
        Answer::Done(effects)
    }

    fn acknowledge(&mut self, id: u64, subtask: u32, names: &[Named]) -> Answer {
        let live = self.named();
        let Some(page) = self.pages.get_mut(&id) else {
            let is_known = self.last.is_some_and(|last| id <= last);
            return if is_known {
                Answer::Acknowledged(Acknowledged::Late)
            } else {
                Answer::Error(ErrorKind::NotFound)
            };
        };
        match page.phase {
            Phase::Completed(_) => return Answer::Acknowledged(Acknowledged::Late),
            Phase::Committing => return Answer::Acknowledged(Acknowledged::Repeated),
            Phase::Pending if page.heard.contains(&subtask) => return Answer::Acknowledged(Acknowledged::Repeated),
            Phase::Pending => {}
        }
        let is_held = |n: &Named| is_new(id, n) || live.contains(&(n.file.clone(), n.offset, n.length));
        if !page.waiting.contains(&subtask) || !names.iter().all(is_held) {
            return Answer::Error(ErrorKind::Invalid);
        }
        page.waiting.remove(&subtask);
        page.heard.insert(subtask);
        let more = page.waiting.len();
        self.name(names);
        self.pages.get_mut(&id).unwrap().names.extend(names.iter().cloned());
        Answer::Acknowledged(if more == 0 { Acknowledged::Ready } else { Acknowledged::Waiting(more) })
    }

    fn committed(&mut self, id: u64, effects: &mut Vec<Effect>) {
        self.pages.get_mut(&id).unwrap().phase = Phase::Completed(true);
        self.has_said = true;
        let due: Vec<u64> = self.unclean.iter().filter(|&(_, &after)| after < id).map(|(&id, _)| id).collect();
        if !due.is_empty() {
            effects.push(Effect::Clean(due.iter().map(|&id| CheckpointId(id)).collect()));
        }
        self.unclean.retain(|id, _| !due.contains(id));
        for page in self.pages.range_mut(id + 1..).map(|(_, page)| page).filter(|p| p.phase == Phase::Pending) {
            page.base.insert(id);
        }
        for older in self.pending().into_iter().filter(|&older| older < id) {
            if self.pages[&older].phase == Phase::Pending {
                self.drop_aborted(older, effects);
            }
        }
        self.copies.retain(|(after, _)| after.is_some_and(|after| after >= id));
        self.drop_surplus(effects);
        if self.discards_late == Some(true) {
            self.completed().into_iter().for_each(|id| self.drop_completed(id, effects));
        }
    }

    /// The owned files that the effects delete are those that nobody names any more; what is gone is forgotten.
    fn settle(&mut self, before: &BTreeMap<Arc<str>, bool>, effects: &[Effect]) {
        let after = self.files();
        let gone: Vec<_> = before.iter().filter(|(file, _)| !after.contains_key(*file)).collect();
        let dead: BTreeSet<_> = gone.iter().filter(|(_, owned)| **owned).map(|(file, _)| (*file).clone()).collect();
        let mut deleted = BTreeSet::new();
        for file in effects.iter().flat_map(|effect| match effect {
            Effect::Delete(files) | Effect::Discard { files, .. } => files.as_slice(),
            Effect::Aborted(_) | Effect::Clean(_) => &[],
        }) {
            assert!(deleted.insert(file.clone()), "{file} is deleted twice by one event");
            assert!(self.deleted.insert(file.clone()), "{file} was deleted before");
        }
        assert_eq!(deleted, dead, "I3, I6, I7: deleted is what nothing names and is owned, and all of it");
        for (file, _) in gone {
            self.lengths.remove(file);
            self.disowned.remove(file);
        }
    }

    /// What else must hold between events.
    fn check(&self, ledger: &Ledger) {
        let usage = self.usage();
        assert_eq!((ledger.usage(), ledger.recount()), (usage, usage), "I5");
        assert_eq!(ledger.completed().map(|id| id.0).collect::<Vec<_>>(), self.completed());
        assert_eq!(ledger.pending().map(|id| id.0).collect::<Vec<_>>(), self.pending());
        for file in self.files().keys() {
            assert!(ledger.names_file(file), "{file} is named");
            assert_eq!(ledger.file_bytes(file), Some(self.lengths[file]), "{file}");
        }
        for file in &self.deleted {
            assert!(!ledger.names_file(file), "{file} is deleted");
        }
        for id in self.pending() {
            let gone = self.pages[&id].base.iter().find(|base| !self.pages.contains_key(base));
            assert!(gone.is_none() || self.discards_late.is_some(), "I4: {gone:?} is gone, and {id} builds on it");
        }
        let latest = self.completed().pop();
        for file in ledger.plan().files.keys() {
            let names = latest.map(|id| self.pages[&id].names.clone()).unwrap_or_default();
            let named = names.iter().find(|named| *named.file == **file);
            assert!(named.is_some_and(|named| named.scope == Scope::Shared), "{file} is in the plan");
            assert!(!self.disowned.contains(file.as_str()), "I7: {file} is in the plan");
        }
    }
}

/// Without the files that an effect names, and in an order that means nothing.
fn bare(effects: &[Effect]) -> Vec<String> {
    let mut bare: Vec<String> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Delete(_) => None,
            Effect::Discard { checkpoint, .. } => Some(format!("discard {checkpoint}")),
            other => Some(format!("{other:?}")),
        })
        .collect();
    bare.sort();
    bare
}

fn run(ledger: &mut Ledger, event: &Event) -> Answer {
    let id = CheckpointId;
    let done = |result: drystone::Result<Vec<Effect>>| match result {
        Ok(effects) => Answer::Done(effects),
        Err(error) => Answer::Error(error.kind()),
    };
    let heard = |result: drystone::Result<Acknowledged>| match result {
        Ok(acknowledged) => Answer::Acknowledged(acknowledged),
        Err(error) => Answer::Error(error.kind()),
    };
    match event {
        Event::Trigger(n, s) => {
            let expected = ledger.plan();
            let plan = ledger.trigger(id(*n), s.iter().copied().map(subtask).collect());
            plan.iter().for_each(|plan| assert_eq!(*plan, expected));
            done(plan.map(|_| Vec::new()))
        }
        Event::Acknowledge(n, s, names) => heard(ledger.acknowledge(id(*n), subtask(*s), names, |x| is_new(*n, x))),
        Event::Finished(n, s) => heard(ledger.finished(id(*n), subtask(*s))),
        Event::StartCommit(n) => done(ledger.start_commit(id(*n)).map(|()| Vec::new())),
        Event::Committed(n) => done(ledger.committed(id(*n))),
        Event::CommitFailed(n) => Answer::Done(ledger.commit_failed(id(*n))),
        Event::Abort(n) => Answer::Done(ledger.abort(id(*n))),
        Event::Restored(n, owned, names) => done(ledger.restored(id(*n), *owned, names, []).map(|()| Vec::new())),
        Event::Copied(names) => done(ledger.copied(names).map(|()| Vec::new())),
        Event::SetBytes(file, bytes) => {
            ledger.set_file_bytes(file, *bytes);
            Answer::Done(Vec::new())
        }
        Event::End(end) => Answer::Done(ledger.end(*end)),
    }
}

/// Gives the event to both, and compares.
pub fn step(ledger: &mut Ledger, book: &mut Book, event: &Event) {
    let before = (ledger.clone(), book.files());
    let expected = book.apply(event);
    let answer = run(ledger, event);
    match (&answer, &expected) {
        (Answer::Done(effects), Answer::Done(expected)) => {
            assert_eq!(bare(effects), bare(expected), "{event:?}");
            book.settle(&before.1, effects);
        }
        _ => assert_eq!(answer, expected, "{event:?}"),
    }
    if let Answer::Error(_) = answer {
        assert_eq!(format!("{ledger:?}"), format!("{:?}", before.0), "an error changes nothing");
    }
    book.check(ledger);
}

/// Ends whatever is open; then nothing is left.
pub fn wind_up(ledger: &mut Ledger, book: &mut Book, commits: bool) {
    step(ledger, book, &Event::End(JobEnd::Finished));
    for id in book.pending() {
        step(ledger, book, &if commits { Event::Committed(id) } else { Event::CommitFailed(id) });
    }
    assert_eq!(book.files().len(), 0, "everything is released");
    assert_eq!(ledger.usage(), SpaceUsage::default());
}
