//! Which checkpoints there are, what they name, and therefore what lives: all decisions of a running job, and nothing
//! else.
//!
//! An event goes in, effects come out; the coordinator carries them out and reports back. No clock, no store, no
//! async. What lives is the union of what retained and pending checkpoints name, so the whole can be rebuilt from their
//! metadata at any time: memory is only a cache of it.
//!
//! ```text
//! trigger -> acknowledge* -> start_commit -> committed -> (a newer one commits) -> discarded
//!    |            |               |-> commit_failed            every event may be repeated, late, or never come
//!    +------------+--> abort
//! ```

mod flow;
mod lifecycle;
mod plan;
mod queries;
mod registry;
mod retention;
mod space;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use plan::{Choice, FileUse, Outlook, SpacePolicy, plan};
pub use registry::Named;
pub use retention::JobEnd;
pub use space::SpaceUsage;

use crate::config::Retention;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, Subtask};
use crate::protocol::RewritePlan;
use flow::Flow;
use registry::{Registry, SegmentNumber};

/// How long checkpoints are kept, and how tightly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LedgerSettings {
    /// Completed checkpoints to keep; at least 1.
    pub retained: usize,
    /// When space is won back.
    pub space: SpacePolicy,
    /// What becomes of checkpoints when the job ends.
    pub retention: Retention,
}

/// What the coordinator has to do. In the order given, and each before the next event that depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The workers are to drop what they have of this checkpoint, which will never complete.
    Aborted(CheckpointId),
    /// A newer checkpoint has replaced this one: delete its metadata, then the files that nothing names any more.
    Discard {
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Files to delete, by path.
        files: Vec<Arc<str>>,
    },
    /// Delete these files: nothing names them any more.
    Delete(Vec<Arc<str>>),
    /// Delete every file that was written for one of these checkpoints, as its name says, and that nothing names.
    Clean(Vec<CheckpointId>),
}

/// What became of an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// So many subtasks have yet to say something.
    Waiting(usize),
    /// It was the last one: the checkpoint can be completed.
    Ready,
    /// This subtask had acknowledged before; what it said then counts.
    Repeated,
    /// The checkpoint has ended: what was written for it is dead.
    Late,
}

/// The books of one job. See the module's page.
#[derive(Clone, Debug)]
pub struct Ledger {
    settings: LedgerSettings,
    registry: Registry,
    checkpoints: BTreeMap<CheckpointId, Checkpoint>,
    /// Aborted ones whose files may still land, with the last checkpoint that had been triggered by then: looked for
    /// once more when one that was triggered later commits.
    aborted: BTreeMap<CheckpointId, Option<CheckpointId>>,
    /// No checkpoint up to this one is triggered any more.
    last: Option<CheckpointId>,
    /// Was it said in public, by a commit or the job's end, which completed checkpoints stay?
    has_said: bool,
    /// Segments copied in the background, each set held until a checkpoint triggered after it has completed.
    copies: Vec<Copies>,
    /// Nothing begins any more; commits that were under way may still land.
    ended: Option<JobEnd>,
    flow: Flow,
}

/// One checkpoint's page.
#[derive(Clone, Debug)]
struct Checkpoint {
    state: State,
    /// It is to belong to the user: nothing of it is in the registry, and when it is complete it is forgotten here.
    is_savepoint: bool,
    /// What it names, a reference each.
    names: Vec<SegmentNumber>,
}

#[derive(Clone, Debug)]
enum State {
    Pending(Pending),
    /// Its metadata is being written; the outcome may be unknown.
    Committing(Pending),
    Completed {
        /// May the job discard it?
        owned: bool,
    },
}

#[derive(Clone, Debug, Default)]
struct Pending {
    waiting_for: BTreeSet<Subtask>,
    acknowledged: BTreeSet<Subtask>,
    /// Older checkpoints that were retained when it was triggered, or have completed since: its subtasks may name
    /// again what those name, so they stay until it has ended (I4). Not those that only wait for another one's end:
    /// else checkpoints that overlap without end would keep all that ever completed (I8).
    base: Vec<CheckpointId>,
    /// The files, by number, that the plan asked to be written again. The base names them, so the numbers hold.
    planned: BTreeSet<u32>,
}

#[derive(Clone, Debug)]
struct Copies {
    names: Vec<SegmentNumber>,
    /// Checkpoints triggered after it come after this one.
    after: Option<CheckpointId>,
}

impl Ledger {
    /// The books of a job that has no checkpoint yet.
    pub fn new(settings: LedgerSettings) -> Self {
        let settings = LedgerSettings { retained: settings.retained.max(1), ..settings };
        Self {
            settings,
            registry: Registry::default(),
            checkpoints: BTreeMap::new(),
            aborted: BTreeMap::new(),
            last: None,
            has_said: false,
            copies: Vec::new(),
            ended: None,
            flow: Flow::default(),
        }
    }

    /// What the next checkpoint should write again. Changes nothing.
    pub fn plan(&self) -> RewritePlan {
        self.choose().0
    }

    /// The plan, and the numbers of its files.
    fn choose(&self) -> (RewritePlan, BTreeSet<u32>) {
        let Some((latest, checkpoint)) = self.latest().and_then(|id| Some((id, self.checkpoints.get(&id)?))) else {
            return (RewritePlan::default(), BTreeSet::new());
        };
        let latest_bytes = self.registry.bytes_by_file(&checkpoint.names);
        let uses = self.registry.files().map(|(number, file)| FileUse {
            number,
            bytes: file.bytes,
            latest_bytes: latest_bytes.get(&number).copied().unwrap_or_default(),
            born: file.born,
            scope: file.scope,
            owned: file.owned,
        });
        let outlook = self.flow.outlook(latest, &self.settings.space);
        let choices = plan(&uses.collect::<Vec<_>>(), &self.settings.space, &outlook);
        let path = |choice: &Choice| Some((self.registry.path_of(choice.number)?, choice.reason));
        let files = choices.iter().filter_map(path).collect();
        (RewritePlan { files }, choices.iter().map(|choice| choice.number).collect())
    }

    fn page(&mut self, checkpoint: CheckpointId) -> Result<&mut Checkpoint> {
        self.checkpoints.get_mut(&checkpoint).ok_or_else(|| not_under_way(checkpoint))
    }

    /// Takes references away; the files that are dead by that.
    fn release(&mut self, names: Vec<SegmentNumber>) -> Vec<Arc<str>> {
        names.into_iter().filter_map(|number| self.registry.remove(number)).collect()
    }
}

fn not_under_way(checkpoint: CheckpointId) -> Error {
    Error::new(ErrorKind::NotFound, format!("checkpoint {checkpoint} is not under way: never triggered, or ended"))
}
