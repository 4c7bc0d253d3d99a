//! A job as the ledger sees it: segments that survive or are replaced at random, packed into files, checkpoint after
//! checkpoint. No store, no bytes.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::sync::Arc;

use drystone::config::Retention;
use drystone::id::{CheckpointId, OperatorId, Scope, Subtask};
use drystone::ledger::{Ledger, LedgerSettings, Named, SpacePolicy, SpaceUsage};
use drystone::protocol::RewritePlan;

pub const SEGMENT_BYTES: u64 = 64 << 10;

/// SplitMix64.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn chance(&mut self, of_one: f64) -> bool {
        ((self.next() >> 11) as f64) < of_one * (1_u64 << 53) as f64
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub workers: usize,
    /// Of each worker.
    pub segments: usize,
    pub retained: usize,
    pub space: SpacePolicy,
}

impl Shape {
    pub fn new(retained: usize, file_bytes_max: u64, across: bool) -> Self {
        let space = SpacePolicy {
            amplification_max: Some(2.0),
            floor_bytes: file_bytes_max,
            across,
            fold_ratio_max: 0.5,
            file_bytes_max,
        };
        Self { workers: 1, segments: 2048, retained, space }
    }
}

/// What was seen on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The highest amplification at any time.
    pub peak: f64,
    /// The most bytes in files at any time beyond the bound, as a share of the bound.
    pub excess: f64,
    pub files_most: u64,
    pub new_bytes: u64,
    pub rewritten_bytes: u64,
}

pub struct Job {
    pub ledger: Ledger,
    shape: Shape,
    dice: Dice,
    /// Of each worker.
    state: Vec<Vec<Named>>,
    pub checkpoint: u64,
    pub seen: Seen,
}

/// One worker's new file.
struct Packer {
    path: String,
    file: u32,
    used: u64,
}

impl Packer {
    fn place(&mut self, cap: u64) -> Named {
        if self.used + SEGMENT_BYTES > cap {
            self.file += 1;
            self.used = 0;
        }
        let file: Arc<str> = format!("{}-{}", self.path, self.file).into();
        self.used += SEGMENT_BYTES;
        Named { file, offset: self.used - SEGMENT_BYTES, length: SEGMENT_BYTES, scope: Scope::Shared, owned: true }
    }
}

impl Job {
    pub fn new(shape: Shape, seed: u64) -> Self {
        let settings =
            LedgerSettings { retained: shape.retained, space: shape.space, retention: Retention::NoExternalized };
        let state = vec![Vec::new(); shape.workers];
        Self {
            ledger: Ledger::new(settings),
            shape,
            dice: Dice::new(seed),
            state,
            checkpoint: 0,
            seen: Seen::default(),
        }
    }

    fn subtask(&self, index: usize) -> Subtask {
        Subtask { operator: OperatorId([1; 16]), index: index as u32, parallelism: self.shape.workers as u32 }
    }

    /// A whole checkpoint, in which each segment survives with this probability, and all that are missing from
    /// `segments` a worker are new.
    pub fn run(&mut self, survival: f64, segments: usize) -> RewritePlan {
        self.checkpoint += 1;
        let id = CheckpointId(self.checkpoint);
        let subtasks = (0..self.shape.workers).map(|index| self.subtask(index)).collect();
        let plan = self.ledger.trigger(id, subtasks).unwrap();
        for worker in 0..self.shape.workers {
            let names = self.snapshot(worker, &plan, survival, segments);
            let own = format!("c{id}-");
            let subtask = self.subtask(worker);
            self.ledger.acknowledge(id, subtask, &names, |named| named.file.starts_with(&own)).unwrap();
            self.state[worker] = names;
            self.look();
        }
        self.ledger.start_commit(id).unwrap();
        self.ledger.committed(id).unwrap();
        self.look();
        plan
    }

    fn snapshot(&mut self, worker: usize, plan: &RewritePlan, survival: f64, segments: usize) -> Vec<Named> {
        let mut packer = Packer { path: format!("c{}-w{worker}", self.checkpoint), file: 0, used: 0 };
        let cap = self.shape.space.file_bytes_max;
        let old = std::mem::take(&mut self.state[worker]);
        let mut names = Vec::with_capacity(old.len());
        for named in old {
            if !self.dice.chance(survival) {
                continue;
            }
            match plan.reason(&named.file) {
                None => names.push(named),
                Some(_) => {
                    self.seen.rewritten_bytes += SEGMENT_BYTES;
                    names.push(packer.place(cap));
                }
            }
        }
        while names.len() < segments {
            self.seen.new_bytes += SEGMENT_BYTES;
            names.push(packer.place(cap));
        }
        names
    }

    fn look(&mut self) {
        let usage = self.ledger.usage();
        self.seen.peak = self.seen.peak.max(usage.amplification());
        self.seen.excess = self.seen.excess.max(self.excess(&usage));
        self.seen.files_most = self.seen.files_most.max(usage.files);
    }

    /// Bytes beyond the bound, as a share of the bound; 0 if within.
    pub fn excess(&self, usage: &SpaceUsage) -> f64 {
        let Some(limit) = self.shape.space.amplification_max else { return 0.0 };
        let bound = (limit * usage.segment_bytes as f64).max(self.shape.space.floor_bytes as f64);
        (usage.file_bytes as f64 / bound - 1.0).max(0.0)
    }

    /// How many files the latest checkpoint names.
    pub fn files(&self) -> usize {
        let files: std::collections::BTreeSet<_> = self.state.iter().flatten().map(|named| &named.file).collect();
        files.len()
    }
}

impl Seen {
    pub fn write_ratio(&self) -> f64 {
        self.rewritten_bytes as f64 / self.new_bytes as f64
    }
}
