//! May a segment of an earlier checkpoint be named again?

use super::Worker;
use super::running::Running;
use crate::handle::{JavaString, StreamHandle};
use crate::id::{CheckpointId, Scope};
use crate::metrics::{self, Rewriting};
use crate::protocol::{Reason, Reuse, RewriteReason};
use crate::store::FlinkPath;
use crate::store::names::{self, PhysicalFileName};

#[derive(PartialEq, Eq)]
enum Owner {
    Job,
    /// The job has claimed the directory that the file lies in.
    Claim,
}

/// What doesn't change of a file while a checkpoint is under way.
#[derive(Clone, Copy, Default)]
pub(super) struct KnownFile {
    is_owned: bool,
    is_in_shared: bool,
    planned: Option<Reason>,
    /// The attempt and the checkpoint that a worker of this job wrote it for.
    written_for: Option<(u64, CheckpointId)>,
}

pub(super) fn reuse(worker: &Worker, running: &Running, handle: &StreamHandle) -> Reuse {
    match rewrite_reason(worker, running, handle.innermost()) {
        Some(reason) => Reuse::Rewrite(reason),
        None => Reuse::Keep,
    }
}

fn rewrite_reason(worker: &Worker, running: &Running, handle: &StreamHandle) -> Option<RewriteReason> {
    if running.is_savepoint() && !matches!(handle, StreamHandle::Inline(_) | StreamHandle::EmptySegment) {
        return Some(RewriteReason::SelfContained);
    }
    match handle {
        // In a file its bytes cost less than in the metadata.
        StreamHandle::Inline(inline) => {
            let is_kept = running.inline.spend(inline.bytes.len() as u64);
            (!is_kept).then_some(RewriteReason::Planned(Reason::Waste))
        }
        // Beside the metadata of the checkpoint that wrote it, where no other finds it.
        StreamHandle::Relative(_) => Some(RewriteReason::Exclusive),
        StreamHandle::Segment(segment) if segment.scope == Scope::Exclusive => Some(RewriteReason::Exclusive),
        StreamHandle::Segment(segment) => {
            file_reason(worker, running, &segment.path, segment.size, Some(segment.scope))
        }
        StreamHandle::File(file) => file_reason(worker, running, &file.path, handle.size().unwrap_or_default(), None),
        StreamHandle::EmptySegment | StreamHandle::KeyGroups(_) => None,
    }
}

/// `scope` is what the handle says; a whole file's is told by its directory.
fn file_reason(
    worker: &Worker,
    running: &Running,
    path: &JavaString,
    bytes: u64,
    scope: Option<Scope>,
) -> Option<RewriteReason> {
    let file = match scope {
        // Of a file that is one segment there is nothing to remember.
        None => KnownFile::of(worker, running, path),
        Some(_) => running.known_file(path, || KnownFile::of(worker, running, path)),
    };
    if !file.is_owned {
        return Some(RewriteReason::NotOwned);
    }
    if scope.is_none() && !file.is_in_shared {
        return Some(RewriteReason::Exclusive);
    }
    if let Some(reason) = file.planned {
        let rewriting = match reason {
            Reason::Waste => Rewriting::Waste,
            Reason::Fold => Rewriting::Fold,
        };
        metrics::rewritten(rewriting, bytes);
        return Some(RewriteReason::Planned(reason));
    }
    let (attempt, checkpoint) = file.written_for?;
    worker.state().is_uncommitted(attempt, checkpoint).then_some(RewriteReason::NotCommitted)
}

impl KnownFile {
    fn of(worker: &Worker, running: &Running, path: &JavaString) -> Self {
        let Ok(path) = FlinkPath::parse(&path.to_text()) else { return Self::default() };
        let Some(owner) = owner(worker, running, &path) else { return Self::default() };
        let name = PhysicalFileName::of(&path);
        if let (Some(backup), Some(name)) = (&worker.inner.backup, &name) {
            backup.name(name.token, running.epoch, running.checkpoint);
        }
        // Another job's numbers say nothing of this one's checkpoints.
        let name = name.filter(|_| owner == Owner::Job);
        Self {
            is_owned: true,
            is_in_shared: is_in_shared(worker, &owner, &path),
            planned: running.planned.get(&path).copied(),
            written_for: name.map(|name| (name.attempt, name.checkpoint)),
        }
    }
}

/// By whole components: `.../task_0_1` owns nothing of `.../task_0_12`.
fn owner(worker: &Worker, running: &Running, path: &FlinkPath) -> Option<Owner> {
    if worker.inner.directory.holds(path) {
        return Some(Owner::Job);
    }
    let is_below = |claimed: &FlinkPath| path.relative_to(claimed).is_some_and(|below| !below.is_empty());
    running.claimed.iter().any(is_below).then_some(Owner::Claim)
}

fn is_in_shared(worker: &Worker, owner: &Owner, path: &FlinkPath) -> bool {
    match owner {
        Owner::Job => path.is_within(worker.inner.directory.shared().name()),
        Owner::Claim => path.parent().is_some_and(|parent| parent.file_name() == Some(names::SHARED)),
    }
}
