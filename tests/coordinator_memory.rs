//! What a coordinator keeps in memory of checkpoints that are over: nothing, however many there were and however they ended.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/counted_memory.rs"]
mod counted_memory;
#[path = "support/live.rs"]
mod live;

use std::sync::Arc;

use counted_memory::peak_of;
use drystone::handle::{FileHandle, JavaString, SegmentHandle, StreamHandle};
use drystone::id::{CheckpointId, Scope};
use live::{Chunks, Live, settings};
use object_store::memory::InMemory;

/// The most that so many more checkpoints take, each with ten names of its own, after as many.
fn peak(live: &Live, rounds: u64, mut round: impl FnMut(u64)) -> usize {
    let first = live.coordinator.next_checkpoint().0;
    (first..first + rounds).for_each(&mut round);
    peak_of(|| (first + rounds..first + 2 * rounds).for_each(round)).1
}

#[test]
fn of_files_that_only_refused_acknowledgements_have_named_nothing_is_kept() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let live = runtime.block_on(Live::new(Arc::new(InMemory::new()), 1, settings()));
    let bytes = peak(&live, 2_000, |number| {
        let trigger = live.coordinator.trigger(CheckpointId(number)).unwrap();
        let gone = |at: u64| {
            let path = live.directory.shared().join(&format!("gone-{number}-{at}")).unwrap();
            let (path, id) = (JavaString::new(&path.name().to_string()).unwrap(), JavaString::new("gone").unwrap());
            StreamHandle::Segment(SegmentHandle { path, offset: 0, size: 10, scope: Scope::Shared, id })
        };
        let shared = (0..10).map(|at| (format!("{at}.sst"), gone(at))).collect();
        live.acknowledge(trigger.checkpoint, 0, Chunks { shared, ..Chunks::default() }).unwrap_err();
        live.coordinator.abort(trigger.checkpoint);
    });
    assert!(bytes < 1 << 20, "{bytes}");
}

#[test]
fn of_files_that_tasks_own_nothing_is_kept_when_nothing_names_them_any_more() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let live = runtime.block_on(Live::new(Arc::new(InMemory::new()), 1, settings()));
    let bytes = peak(&live, 2_000, |number| {
        let trigger = live.coordinator.trigger(CheckpointId(number)).unwrap();
        let own = |at: u64| {
            let path = live.directory.task_owned().join(&format!("own-{number}-{at}")).unwrap();
            StreamHandle::File(FileHandle { path: JavaString::new(&path.name().to_string()).unwrap(), size: 10 })
        };
        let private = (0..10).map(|at| (format!("{at}.log"), own(at))).collect();
        live.acknowledge(trigger.checkpoint, 0, Chunks { private, ..Chunks::default() }).unwrap();
        live.coordinator.abort(trigger.checkpoint);
    });
    assert!(bytes < 1 << 20, "{bytes}");
}
