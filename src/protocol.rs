//! What a coordinator and its workers tell each other: plain values, to be shipped however the caller ships its own.
//!
//! Down go a [`Trigger`] and the news of a checkpoint's end, up comes an [`Acknowledgement`]. Nothing here does I/O.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::handle::{JavaString, SubtaskState};
use crate::id::{CheckpointId, OperatorId, Subtask};

/// Tells the workers to take a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Which checkpoint.
    pub checkpoint: CheckpointId,
    /// The coordinator's epoch; the names of the checkpoint's files hold it as their attempt.
    pub epoch: u64,
    /// What to write again rather than to reuse.
    pub plan: RewritePlan,
    /// Directories outside the job's own whose files the job owns since it claimed a checkpoint, in Flink's spelling.
    pub claimed: Vec<String>,
    /// The completed checkpoints that stay until this one has ended, the newest first: it may name what they have. None in
    /// a savepoint, which names nothing of theirs.
    #[serde(default)]
    pub base: Vec<CheckpointId>,
    /// Those under way, savepoints and this one among them: any other before it has ended, whatever news of that got lost.
    /// `None`: nothing is said of them.
    #[serde(default)]
    pub under_way: Option<Vec<CheckpointId>>,
    /// What is to be taken. What was serialised before there were savepoints says nothing of it, and means a checkpoint.
    #[serde(default)]
    pub kind: SnapshotKind,
}

impl Trigger {
    /// Of a checkpoint that has nothing to write again and nothing to name, and says nothing of others.
    pub fn new(epoch: u64, checkpoint: CheckpointId) -> Self {
        let (plan, kind) = (RewritePlan::default(), SnapshotKind::Checkpoint);
        Self { checkpoint, epoch, plan, claimed: Vec::new(), base: Vec::new(), under_way: None, kind }
    }
}

/// What a trigger asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotKind {
    /// The job's own, which a newer one replaces.
    #[default]
    Checkpoint,
    /// The user's, which holds all that it names.
    Savepoint(SavepointTarget),
}

/// Where a savepoint goes, and how its files are laid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointTarget {
    /// Its own directory, in Flink's spelling.
    pub directory: String,
    /// What the state in it is like.
    pub format: SavepointFormat,
    /// Are small pieces packed into common files? Those are named by absolute paths, so that the savepoint can be moved by a
    /// copy only that writes them anew. Otherwise each piece is a file of its own, without a byte beside it.
    pub pack: bool,
}

/// How a savepoint is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SavepointFormat {
    /// The same for every state backend.
    Canonical,
    /// The state backend's own.
    Native,
}

/// What the job does after a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SavepointAction {
    /// Goes on.
    None,
    /// Ends, having drained its sources.
    Terminate,
    /// Stops, to be resumed.
    Suspend,
}

/// The files whose segments are to be written again rather than named once more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewritePlan {
    /// By path, as the handles have it.
    pub files: BTreeMap<String, Reason>,
}

/// Why a file's segments are to be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// Too much of the file is dead.
    Waste,
    /// The file is small, and goes together with others into a larger one.
    Fold,
}

/// What to do with a segment that an earlier checkpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reuse {
    /// Name it again: the handle as it is goes into the new snapshot.
    Keep,
    /// Write its bytes again, as a new segment.
    Rewrite(RewriteReason),
}

/// Why a segment can't be named again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewriteReason {
    /// The plan says so, to save space.
    Planned(Reason),
    /// It is private to the checkpoint that wrote it.
    Exclusive,
    /// It is in a file that the job doesn't own: a restore that claimed nothing, or a path from elsewhere.
    NotOwned,
    /// The checkpoint that wrote it was aborted, or has not completed yet.
    NotCommitted,
    /// A savepoint holds all that it names.
    SelfContained,
}

/// An operator of the job, as its metadata will name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSpec {
    /// Its id.
    pub id: OperatorId,
    /// Its name; kept from metadata version 5 on.
    pub name: Option<JavaString>,
    /// Its user-given id; kept from metadata version 5 on.
    pub uid: Option<JavaString>,
    /// How many subtasks it has.
    pub parallelism: u32,
    /// How many key groups it has; at least the parallelism.
    pub max_parallelism: u32,
}

impl OperatorSpec {
    /// An operator without name and user-given id.
    pub fn new(id: OperatorId, parallelism: u32, max_parallelism: u32) -> Self {
        Self { id, name: None, uid: None, parallelism, max_parallelism }
    }

    /// One of its subtasks.
    pub fn subtask(&self, index: u32) -> Subtask {
        Subtask { operator: self.id, index, parallelism: self.parallelism }
    }

    /// All of its subtasks, in order.
    pub fn subtasks(&self) -> impl Iterator<Item = Subtask> + '_ {
        (0..self.parallelism).map(|index| self.subtask(index))
    }
}

/// What a subtask has to say of a checkpoint when its snapshot is done. As bytes:
/// [`to_bytes`](Acknowledgement::to_bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The epoch of the trigger: of another coordinator's checkpoint of this number it says nothing.
    pub epoch: u64,
    /// Which checkpoint.
    pub checkpoint: CheckpointId,
    /// Who says it.
    pub subtask: Subtask,
    /// Its state; `None` when it had none, or had finished.
    pub state: Option<Box<SubtaskState>>,
    /// The new files that the state names, as far as they are sealed. Those that aren't are looked for at the commit.
    pub sealed: Vec<SealedSize>,
}

/// How long a sealed file is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SealedSize {
    /// Where, as the handles have it.
    pub path: String,
    /// Its length in bytes, footer included.
    pub bytes: u64,
}

impl SavepointFormat {
    /// As Flink calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Canonical => "CANONICAL",
            Self::Native => "NATIVE",
        }
    }
}

impl SavepointAction {
    /// As Flink calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Terminate => "TERMINATE",
            Self::Suspend => "SUSPEND",
        }
    }
}

impl RewritePlan {
    /// Is the file to be left?
    pub fn reason(&self, path: &str) -> Option<Reason> {
        self.files.get(path).copied()
    }

    /// Nothing to write again?
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Waste => "waste",
            Reason::Fold => "fold",
        })
    }
}
