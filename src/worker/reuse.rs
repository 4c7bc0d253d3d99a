//! May a segment of an earlier checkpoint be named again?

use super::Worker;
use super::running::Running;
use crate::handle::{JavaString, StreamHandle};
use crate::id::Scope;
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

pub(super) fn reuse(worker: &Worker, running: &Running, handle: &StreamHandle) -> Reuse {
    match rewrite_reason(worker, running, handle.innermost()) {
        Some(reason) => Reuse::Rewrite(reason),
        None => Reuse::Keep,
    }
}

fn rewrite_reason(worker: &Worker, running: &Running, handle: &StreamHandle) -> Option<RewriteReason> {
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
    let Ok(path) = FlinkPath::parse(&path.to_text()) else { return Some(RewriteReason::NotOwned) };
    let Some(owner) = owner(worker, running, &path) else { return Some(RewriteReason::NotOwned) };
    if scope.is_none() && !is_in_shared(worker, &owner, &path) {
        return Some(RewriteReason::Exclusive);
    }
    if let Some(&reason) = running.planned.get(&path) {
        let rewriting = match reason {
            Reason::Waste => Rewriting::Waste,
            Reason::Fold => Rewriting::Fold,
        };
        metrics::rewritten(rewriting, bytes);
        return Some(RewriteReason::Planned(reason));
    }
    // Another job's numbers say nothing of this one's checkpoints.
    let name = PhysicalFileName::of(&path).filter(|_| owner == Owner::Job)?;
    worker.state().is_uncommitted(name.attempt, name.checkpoint).then_some(RewriteReason::NotCommitted)
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
