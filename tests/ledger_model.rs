//! Any events, legal or not, in any order, repeated, late or lost: the ledger and a reference model agree.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support {
    pub mod cases;
    pub mod ledger_book;
}

use std::collections::BTreeSet;
use std::sync::Arc;

use drystone::config::Retention;
use drystone::id::Scope;
use drystone::ledger::{Ledger, Named};
use proptest::prelude::*;
use support::cases::cases;
use support::ledger_book::{Book, Event, Phase, ends, ledger, step, wind_up};

/// Numbers to be made sense of when it is known what there is.
#[derive(Clone, Debug)]
struct Pick {
    kind: u8,
    which: usize,
    slot: u8,
}

#[derive(Clone, Debug)]
enum Op {
    Trigger { ahead: i8, subtasks: u8 },
    Acknowledge { back: u8, subtask: u32, picks: Vec<Pick> },
    AcknowledgeAll { back: u8, picks: Vec<Pick> },
    Finished { back: u8, subtask: u32 },
    StartCommit { back: u8 },
    Committed { back: u8 },
    Commit { back: u8 },
    CommitFailed { back: u8 },
    Abort { back: u8 },
    Restored { ahead: i8, owned: bool, picks: Vec<Pick> },
    Copied { picks: Vec<Pick> },
    SetBytes { which: usize, bytes: u64 },
    End { which: usize },
}

fn picks() -> impl Strategy<Value = Vec<Pick>> {
    let pick = (0..16_u8, any::<prop::sample::Index>(), 0..6_u8);
    let pick = pick.prop_map(|(kind, which, slot)| Pick { kind, which: which.index(1 << 20), slot });
    prop::collection::vec(pick, 0..6)
}

fn ops() -> impl Strategy<Value = Op> {
    let back = || prop_oneof![6 => Just(0_u8), 3 => Just(1_u8), 2 => 2..7_u8, 1 => Just(255_u8)];
    let which = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    prop_oneof![
        10 => (prop_oneof![8 => Just(1_i8), 2 => -2..4_i8], 0..8_u8)
            .prop_map(|(ahead, subtasks)| Op::Trigger { ahead, subtasks }),
        12 => (back(), 0..4_u32, picks())
            .prop_map(|(back, subtask, picks)| Op::Acknowledge { back, subtask, picks }),
        8 => (back(), picks()).prop_map(|(back, picks)| Op::AcknowledgeAll { back, picks }),
        2 => (back(), 0..4_u32).prop_map(|(back, subtask)| Op::Finished { back, subtask }),
        3 => back().prop_map(|back| Op::StartCommit { back }),
        3 => back().prop_map(|back| Op::Committed { back }),
        8 => back().prop_map(|back| Op::Commit { back }),
        2 => back().prop_map(|back| Op::CommitFailed { back }),
        2 => back().prop_map(|back| Op::Abort { back }),
        1 => (-4..4_i8, any::<bool>(), picks())
            .prop_map(|(ahead, owned, picks)| Op::Restored { ahead, owned, picks }),
        1 => picks().prop_map(|picks| Op::Copied { picks }),
        2 => (which(), 0..900_u64).prop_map(|(which, bytes)| Op::SetBytes { which, bytes }),
        1 => prop_oneof![12 => Just(usize::MAX), 1 => 0..4_usize].prop_map(|which| Op::End { which }),
    ]
}

/// Segments that lie side by side, overlap, and take nothing.
fn place(slot: u8) -> (u64, u64) {
    [(0, 100), (100, 100), (200, 50), (50, 10), (0, 150), (300, 0)][usize::from(slot)]
}

struct Run {
    ledger: Ledger,
    book: Book,
    /// All segments that were ever named, to be named when they are long gone, too.
    ever: Vec<Named>,
    files: u32,
}

impl Run {
    fn number(&self, back: u8) -> u64 {
        let last = self.book.last.unwrap_or(0);
        if back == u8::MAX { last + 5 } else { last.saturating_sub(u64::from(back)) }
    }

    fn names(&mut self, picks: &[Pick], new: &dyn Fn(usize, Scope) -> Option<String>, ghosts: bool) -> Vec<Named> {
        let live: Vec<_> = self.book.named().into_iter().collect();
        let mut names = Vec::new();
        for pick in picks {
            let scope = if pick.which % 4 == 0 { Scope::Exclusive } else { Scope::Shared };
            let (offset, length) = place(pick.slot);
            let known = |file: &Arc<str>| self.ever.iter().find(|named| named.file == *file).cloned();
            match (pick.kind, new(pick.which % 3, scope)) {
                (0, _) if ghosts && !self.ever.is_empty() => {
                    names.push(self.ever[pick.which % self.ever.len()].clone());
                }
                (1..8, _) | (_, None) if !live.is_empty() => {
                    let (file, offset, length) = live[pick.which % live.len()].clone();
                    let named = known(&file).unwrap();
                    names.push(Named { offset, length, ..named });
                }
                (_, Some(file)) => names.push(Named { file: file.into(), offset, length, scope, owned: true }),
                _ => {}
            }
        }
        names
    }

    fn step(&mut self, event: &Event) {
        if let Event::Acknowledge(_, _, names) | Event::Restored(_, _, names) | Event::Copied(names) = event {
            self.ever.extend(names.iter().cloned());
        }
        step(&mut self.ledger, &mut self.book, event);
    }

    fn acknowledge(&mut self, id: u64, subtask: u32, picks: &[Pick]) {
        let names = self.names(picks, &|file, scope| Some(format!("c{id}-{scope}-{file}")), subtask < 3);
        self.step(&Event::Acknowledge(id, subtask, names));
    }

    fn acknowledge_all(&mut self, id: u64, picks: &[Pick]) {
        let Some(page) = self.book.pages.get(&id).filter(|page| page.phase == Phase::Pending) else { return };
        for subtask in page.waiting.clone() {
            let names = self.names(picks, &|file, scope| Some(format!("c{id}-{scope}-{file}")), false);
            self.step(&Event::Acknowledge(id, subtask, names));
        }
    }

    fn restored(&mut self, id: u64, owned: bool, picks: &[Pick]) {
        self.files += 1;
        let files = self.files;
        let mut names = self.names(picks, &|file, scope| Some(format!("r{files}-{scope}-{file}")), false);
        if !owned {
            names.iter_mut().filter(|n| n.file.starts_with(&format!("r{files}-"))).for_each(|n| n.owned = false);
            // What is said to be somebody else's is left alone, whatever was said before.
            names.iter_mut().take(1).for_each(|n| {
                let file = n.file.clone();
                n.owned = false;
                self.ever.iter_mut().filter(|named| named.file == file).for_each(|named| named.owned = false);
            });
        }
        self.step(&Event::Restored(id, owned, names));
    }

    fn op(&mut self, op: &Op) {
        let last = self.book.last.unwrap_or(0);
        let ahead = |ahead: i8| last.saturating_add_signed(i64::from(ahead));
        match op {
            Op::Trigger { ahead: by, subtasks } => {
                let subtasks: BTreeSet<u32> = (0..3).filter(|bit| subtasks >> bit & 1 == 1).collect();
                self.step(&Event::Trigger(ahead(*by), subtasks));
            }
            Op::Acknowledge { back, subtask, picks } => self.acknowledge(self.number(*back), *subtask, picks),
            Op::AcknowledgeAll { back, picks } => self.acknowledge_all(self.number(*back), picks),
            Op::Finished { back, subtask } => self.step(&Event::Finished(self.number(*back), *subtask)),
            Op::StartCommit { back } => self.step(&Event::StartCommit(self.number(*back))),
            Op::Committed { back } => self.step(&Event::Committed(self.number(*back))),
            Op::Commit { back } => {
                let id = self.number(*back);
                self.acknowledge_all(id, &[]);
                self.step(&Event::StartCommit(id));
                self.step(&Event::Committed(id));
            }
            Op::CommitFailed { back } => self.step(&Event::CommitFailed(self.number(*back))),
            Op::Abort { back } => self.step(&Event::Abort(self.number(*back))),
            Op::Restored { ahead: by, owned, picks } => self.restored(ahead(*by), *owned, picks),
            Op::Copied { picks } => {
                self.files += 1;
                let files = self.files;
                let names = self.names(picks, &|file, scope| Some(format!("copy{files}-{scope}-{file}")), false);
                self.step(&Event::Copied(names));
            }
            Op::SetBytes { which, bytes } => {
                let files: Vec<_> = self.book.files().into_keys().collect();
                let file = files.get(which % (files.len() + 1)).cloned().unwrap_or_else(|| "unknown".into());
                self.step(&Event::SetBytes(file, *bytes));
            }
            Op::End { which } => {
                if let Some(end) = ends().get(*which) {
                    self.step(&Event::End(*end));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn any_history_agrees_with_the_model(
        ops in prop::collection::vec(ops(), 1..80),
        retained in 1..=3_usize,
        retention in prop::sample::select(vec![
            Retention::NoExternalized, Retention::NoExternalized, Retention::DeleteOnCancellation, Retention::RetainOnCancellation,
        ]),
        commits in any::<bool>(),
    ) {
        let (ledger, book) = (ledger(retained, retention), Book::new(retained, retention));
        let mut run = Run { ledger, book, ever: Vec::new(), files: 0 };
        ops.iter().for_each(|op| run.op(op));
        wind_up(&mut run.ledger, &mut run.book, commits);
    }
}
