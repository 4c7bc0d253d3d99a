//! What waits to be triggered, and in which order.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// So many requests may wait (I8).
pub const REQUESTS_MAX: usize = 1000;

/// Names a request: whatever the one who asks likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// What kind of checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Its time has come. Asked for, it is one on request, as configured.
    Periodic,
    /// Somebody has asked for it.
    OnRequest(Backup),
    /// All tasks have come to the end of their data, and wait for it.
    Final,
    /// Belongs to the user; the job goes on.
    Savepoint,
    /// The same, and the job ends with it.
    StopWithSavepoint {
        /// Windows and timers fire before, as at the end of the data.
        drain: bool,
    },
}

/// How much a checkpoint on request writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Backup {
    /// As configured.
    #[default]
    Configured,
    /// All state, even what earlier ones have.
    Full,
    /// What earlier ones lack.
    Incremental,
}

/// Why a request won't be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// So many others wait that are at least as urgent.
    TooMany,
    /// The job isn't running, or some of its tasks have finished and checkpoints after that are off.
    NotAllRunning,
    /// The job was stopped, or a savepoint is to stop it.
    Stopped,
    /// It couldn't begin.
    NotTriggered(super::Failure),
}

/// The most urgent first: savepoints, then what was asked for, then the periodic one; among equals, the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    class: Class,
    arrived: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Savepoint,
    Asked,
    Periodic,
}

/// The requests that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    waiting: BTreeMap<Rank, Waiting>,
    arrived: u64,
}

/// One that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) kind: Kind,
    pub(super) request: Option<RequestId>,
}

impl Kind {
    /// Does it belong to the user?
    pub fn is_savepoint(self) -> bool {
        matches!(self, Self::Savepoint | Self::StopWithSavepoint { .. })
    }

    /// Does the job end with it?
    pub fn stops_job(self) -> bool {
        matches!(self, Self::StopWithSavepoint { .. })
    }

    fn class(self) -> Class {
        match self {
            Self::Savepoint | Self::StopWithSavepoint { .. } => Class::Savepoint,
            Self::OnRequest(_) | Self::Final => Class::Asked,
            Self::Periodic => Class::Periodic,
        }
    }
}

impl Requests {
    /// Has one wait. Returns the one that finds no room: this one, or a periodic one, which is no loss. Of a kind that
    /// nobody asked for one waits: another would say the same.
    pub(super) fn push(&mut self, waiting: Waiting) -> Option<Waiting> {
        let class = waiting.kind.class();
        if waiting.request.is_none() && self.waiting.values().any(|other| other.kind == waiting.kind) {
            return Some(waiting);
        }
        let last = self.waiting.keys().next_back().map(|rank| rank.class);
        if self.waiting.len() >= REQUESTS_MAX && last != Some(Class::Periodic) {
            return Some(waiting);
        }
        self.waiting.insert(Rank { class, arrived: self.arrived }, waiting);
        self.arrived = self.arrived.saturating_add(1);
        if self.waiting.len() > REQUESTS_MAX { self.waiting.pop_last().map(|(_, last)| last) } else { None }
    }

    /// The most urgent.
    pub(super) fn first(&self) -> Option<Waiting> {
        self.waiting.values().next().copied()
    }

    /// Takes the most urgent.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop_first().map(|(_, first)| first)
    }

    /// Takes them all, the most urgent first.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Waiting> + use<> {
        std::mem::take(&mut self.waiting).into_values()
    }

    /// Does one wait that is to stop the job?
    pub(super) fn stop_job(&self) -> bool {
        self.waiting.values().any(|waiting| waiting.kind.stops_job())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Periodic => "periodic checkpoint",
            Self::OnRequest(Backup::Configured) => "checkpoint on request",
            Self::OnRequest(Backup::Full) => "full checkpoint on request",
            Self::OnRequest(Backup::Incremental) => "incremental checkpoint on request",
            Self::Final => "final checkpoint",
            Self::Savepoint => "savepoint",
            Self::StopWithSavepoint { drain: false } => "stop with savepoint",
            Self::StopWithSavepoint { drain: true } => "stop with savepoint and drain",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "{REQUESTS_MAX} requests wait already"),
            Self::NotAllRunning => f.write_str("not all tasks are running"),
            Self::Stopped => f.write_str("the job is being stopped"),
            Self::NotTriggered(failure) => write!(f, "it couldn't begin: {failure}"),
        }
    }
}
