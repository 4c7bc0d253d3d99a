//! Finds where the files of a moved checkpoint went.

use super::Checkpoint;
use crate::store::{FlinkPath, Rebase, Stores};

/// How far above the checkpoint's directory to look: job directory, checkpoint directory, and what holds that.
const LEVELS: usize = 4;

/// If a file that the metadata names is missing, but one with the same relative path lies beside the metadata, the
/// rebase that would find it. An error of the store counts as "not there": this is only a hint.
pub async fn suggest_rebase(stores: &Stores, checkpoint: &Checkpoint, missing: &FlinkPath) -> Option<Rebase> {
    let mut above = Some(checkpoint.directory.real().clone());
    for _ in 0..LEVELS {
        let here = above?;
        let directory = stores.locate_real(&here).ok()?;
        // The longest relative path first: it says most.
        let mut bases: Vec<FlinkPath> = std::iter::successors(missing.parent(), FlinkPath::parent).collect();
        bases.reverse();
        for base in bases {
            let Some(candidate) = missing.relative_to(&base).and_then(|rest| directory.join(rest).ok()) else {
                continue;
            };
            if candidate.exists().await.unwrap_or(false) {
                return Some(widen(base, here));
            }
        }
        above = here.parent();
    }
    None
}

/// The shortest pair of prefixes that says the same: what both end with is dropped.
fn widen(mut from: FlinkPath, mut to: FlinkPath) -> Rebase {
    while let (Some(a), Some(b)) = (from.parent(), to.parent()) {
        if from.file_name() != to.file_name() || a.parent().is_none() || b.parent().is_none() {
            break;
        }
        (from, to) = (a, b);
    }
    Rebase { from, to }
}
