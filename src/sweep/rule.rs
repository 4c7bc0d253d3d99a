//! The one rule: is a file dead, and why. Pure, so that whoever deletes can go by it.

use std::fmt;
use std::time::Duration;

use super::spot::{Author, Spot};
use crate::id::CheckpointId;

/// What is known of a file, of an upload, or of a local file in the making.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What it is by place and name.
    pub spot: &'a Spot,
    /// In which state.
    pub kind: Kind,
    /// Does any metadata name it?
    pub is_named: bool,
    /// Has the directory of its checkpoint metadata? Of no meaning for shared files.
    pub has_metadata: bool,
    /// How long nothing has been written to it, and, where its directory has no metadata, to any file in that. None where
    /// its time is in the future.
    pub age: Option<Duration>,
}

/// In which state a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It is there.
    File,
    /// On a local disk, under a name of its own until all is written.
    Partial,
    /// An upload in parts that the store knows of.
    Upload,
}

/// What is to become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Metadata names it, or is it.
    Alive,
    /// It isn't the job's to delete: the tasks' own, the user's, another job's, or the log.
    NotOurs,
    /// Nobody can say what it is.
    Unknown,
    /// Nothing names it, but something may yet: it isn't as old as the time of grace.
    Young,
    /// Nothing names it, nor will.
    Dead(Reason),
}

/// Why a file is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its checkpoint's directory has no metadata.
    NoMetadata {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Who wrote it.
        author: Author,
    },
    /// There are checkpoints, of which none names it.
    Unnamed {
        /// Who wrote it.
        author: Author,
    },
    /// A write on a local disk was cut off.
    InTheMaking {
        /// Who wrote it.
        author: Author,
    },
    /// An upload in parts was neither completed nor given up.
    NeverCompleted {
        /// Who began it.
        author: Author,
    },
    /// A run of `repack` or `copy` has ended without removing its mark.
    MarkLeft,
}

/// Liveness goes by the names in metadata alone; what a file's own name says is for the reason. In doubt it isn't dead.
pub fn judge(facts: Facts<'_>, grace: Duration) -> Verdict {
    let author = match facts.spot {
        Spot::Metadata => return Verdict::Alive,
        // Also where it isn't ours: what is alive is to be counted as such.
        _ if facts.is_named && facts.kind == Kind::File => return Verdict::Alive,
        Spot::TaskOwned | Spot::Log | Spot::Savepoint | Spot::OtherJob => return Verdict::NotOurs,
        Spot::Unknown => return Verdict::Unknown,
        Spot::Exclusive(_, author) | Spot::Shared(author) => author.clone(),
    };
    if facts.age.is_none_or(|age| age < grace) {
        return Verdict::Young;
    }
    Verdict::Dead(match (facts.kind, facts.spot) {
        (Kind::Partial, _) => Reason::InTheMaking { author },
        (Kind::Upload, _) => Reason::NeverCompleted { author },
        (Kind::File, Spot::Exclusive(checkpoint, _)) if !facts.has_metadata => {
            Reason::NoMetadata { checkpoint: *checkpoint, author }
        }
        (Kind::File, _) if author == Author::Run => Reason::MarkLeft,
        (Kind::File, _) if author == Author::Committer => Reason::InTheMaking { author },
        (Kind::File, _) => Reason::Unnamed { author },
    })
}

impl Reason {
    /// One word for machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoMetadata { .. } => "noMetadata",
            Self::Unnamed { .. } => "unnamed",
            Self::InTheMaking { .. } => "inTheMaking",
            Self::NeverCompleted { .. } => "neverCompleted",
            Self::MarkLeft => "markLeft",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMetadata { checkpoint, author } => match author {
                Author::Worker(name) if name.checkpoint == *checkpoint => {
                    write!(f, "{author}, which has no metadata")
                }
                Author::Flink => write!(f, "checkpoint {checkpoint} has no metadata"),
                _ => write!(f, "{author}; checkpoint {checkpoint} has no metadata"),
            },
            Self::Unnamed { author: Author::Flink } => f.write_str("no retained checkpoint names it"),
            Self::Unnamed { author } => write!(f, "{author}; no retained checkpoint names it"),
            Self::InTheMaking { author } => write!(f, "in the making, and left so; {author}"),
            Self::NeverCompleted { author } => write!(f, "an upload that was never completed; {author}"),
            Self::MarkLeft => f.write_str("marks a run that has committed, and was cut off before it removed the mark"),
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(name) => {
                let (checkpoint, attempt, worker) = (name.checkpoint, name.attempt, &name.worker);
                write!(f, "written for checkpoint {checkpoint} of epoch {attempt} by {worker}")
            }
            Self::Flink => f.write_str("of stock Flink, by its name"),
            Self::Run => f.write_str("marks a run that was interrupted"),
            Self::Committer => f.write_str("to become a checkpoint's metadata"),
            Self::Disposal => f.write_str("marks a disposal that was interrupted"),
        }
    }
}
