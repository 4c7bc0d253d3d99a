//! Every history of three checkpoints by two subtasks: all orders of all events, each repeated and late as well.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod ledger_book;
}

use std::collections::{BTreeMap, BTreeSet};

use drystone::config::Retention;
use drystone::id::Scope;
use drystone::ledger::{JobEnd, Ledger, Named};
use support::ledger_book::{Book, Event, Phase, ledger, step, wind_up};

const CHECKPOINTS: u64 = 3;

fn segment(file: String, offset: u64, scope: Scope) -> Named {
    Named { file: file.into(), offset, length: 100, scope, owned: true }
}

/// What a subtask names: something of its own in a file that both share, and something exclusive; then either
/// everything that `reuses` names, or (folding) another new segment in its place.
fn names(book: &Book, id: u64, subtask: u32, reuses: Option<u64>) -> Vec<Named> {
    let offset = u64::from(subtask) * 200;
    let mut names = vec![
        segment(format!("c{id}-shared"), offset, Scope::Shared),
        segment(format!("c{id}-exclusive"), offset, Scope::Exclusive),
    ];
    match reuses {
        Some(other) => {
            names.extend(book.pages[&other].names.iter().filter(|named| named.scope == Scope::Shared).cloned());
        }
        None => names.push(segment(format!("c{id}-shared"), offset + 100, Scope::Shared)),
    }
    names
}

/// Whatever somebody may say of a checkpoint.
fn events(book: &Book) -> Vec<Event> {
    let mut events = Vec::new();
    for id in 1..=CHECKPOINTS {
        if book.last.unwrap_or(0) + 1 >= id {
            events.push(Event::Trigger(id, BTreeSet::from([0, 1])));
        }
        for subtask in 0..2 {
            events.push(Event::Acknowledge(id, subtask, names(book, id, subtask, None)));
            // All that it may build on: retained when it was triggered, or completed since.
            let base = book.pages.get(&id).map(|page| page.base.clone()).unwrap_or_default();
            let reusable =
                base.into_iter().filter(|base| book.pages.contains_key(base) && (subtask == 0 || id == CHECKPOINTS));
            events.extend(reusable.map(|b| Event::Acknowledge(id, subtask, names(book, id, subtask, Some(b)))));
        }
        events.extend([Event::StartCommit(id), Event::Committed(id), Event::CommitFailed(id), Event::Abort(id)]);
    }
    events
}

#[derive(Default)]
struct Search {
    /// How many histories lead from a state to the end of all checkpoints.
    seen: BTreeMap<Book, u128>,
    events: u64,
}

impl Search {
    fn histories(&mut self, ledger: &Ledger, book: &Book) -> u128 {
        if let Some(&histories) = self.seen.get(book) {
            return histories;
        }
        let mut histories = 0;
        for event in events(book) {
            let (mut next, mut page) = (ledger.clone(), book.clone());
            step(&mut next, &mut page, &event);
            self.events += 1;
            // What changes nothing may come as often as it likes.
            if page != *book {
                histories += self.histories(&next, &page);
            }
        }
        let is_over = book.last == Some(CHECKPOINTS) && book.pending().is_empty();
        if is_over {
            assert_eq!(histories, 0, "nothing that comes late changes anything");
            histories = 1;
            let (mut ledger, mut book) = (ledger.clone(), book.clone());
            wind_up(&mut ledger, &mut book, true);
        } else {
            // The job may end at any time, with commits under way.
            let commits = book.pages.values().any(|page| page.phase == Phase::Committing);
            for end in [JobEnd::Failed, JobEnd::Suspended] {
                let (mut ledger, mut book) = (ledger.clone(), book.clone());
                step(&mut ledger, &mut book, &Event::End(end));
                wind_up(&mut ledger, &mut book, commits);
            }
        }
        self.seen.insert(book.clone(), histories);
        histories
    }
}

fn search(retained: usize) -> (usize, u128) {
    let mut search = Search::default();
    let (ledger, book) =
        (ledger(retained, Retention::DeleteOnCancellation), Book::new(retained, Retention::DeleteOnCancellation));
    let histories = search.histories(&ledger, &book);
    println!("retained {retained}: {histories} histories, {} states, {} events", search.seen.len(), search.events);
    (search.seen.len(), histories)
}

#[test]
fn every_history_of_three_checkpoints() {
    let (states, histories) = search(1);
    assert!(states > 1_000 && histories > 1_000_000, "{states} states, {histories} histories");
}

#[test]
fn every_history_of_three_checkpoints_of_which_two_are_kept() {
    let (states, histories) = search(2);
    assert!(states > 1_000 && histories > 1_000_000, "{states} states, {histories} histories");
}
