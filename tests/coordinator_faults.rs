//! A job on a store that fails at every operation in turn: what was committed stays whole, whatever happens, and a
//! restart finds it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/fault_store.rs"]
mod fault_store;
#[path = "support/live.rs"]
mod live;

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::coordinator::{CoordinatorSettings, JobEnd};
use drystone::handle::StreamHandle;
use drystone::id::{CheckpointId, Scope};
use drystone::ledger::SpacePolicy;
use fault_store::{Fault, FaultStore};
use live::{Live, settings, tokens};
use object_store::memory::InMemory;

const SUBTASKS: u32 = 2;

fn tight() -> CoordinatorSettings {
    let mut settings = settings();
    settings.ledger.retained = 2;
    settings.ledger.space = SpacePolicy {
        amplification_max: Some(1.5),
        floor_bytes: 0,
        across: true,
        fold_ratio_max: 1.0,
        file_bytes_max: 1 << 20,
    };
    settings.write.inline_bytes_max = 0;
    settings
}

/// What the job believes to have.
#[derive(Default)]
struct Believed {
    completed: Vec<CheckpointId>,
    /// Commits that ended in an error: they may have happened.
    doubtful: Vec<CheckpointId>,
}

/// Rounds with aborts, an expired one, a background rewrite; errors end a round, not the job.
async fn work(live: &Live) -> Believed {
    let mut believed = Believed::default();
    let mut states: Vec<BTreeMap<String, StreamHandle>> = vec![BTreeMap::new(); SUBTASKS as usize];
    for round in 0..6 {
        let checkpoint = live.coordinator.next_checkpoint();
        let trigger = live.coordinator.trigger(checkpoint).unwrap();
        let mut next = states.clone();
        let mut sound = true;
        for (index, state) in next.iter_mut().enumerate() {
            let names = [format!("{round}.a"), format!("{round}.b")];
            let bytes = live::contents(checkpoint, index as u32);
            let chunks = [(&*names[0], &bytes[..]), (&*names[1], &bytes[..700])];
            let Ok(mut written) = live.write(&trigger, index as u32, Scope::Shared, &chunks).await else {
                sound = false;
                break;
            };
            let Ok(private) = live.write(&trigger, index as u32, Scope::Exclusive, &[("p", b"private")]).await else {
                sound = false;
                break;
            };
            // Half of what was there is dropped.
            state.retain(|name, _| name.ends_with('a') && round % 3 != 2);
            written.shared.extend(state.clone());
            *state = written.shared.clone();
            written.private = private.private;
            written.sealed.extend(private.sealed);
            live.acknowledge(checkpoint, index as u32, written).unwrap();
        }
        if !sound || round == 3 {
            live.coordinator.abort(checkpoint);
            continue;
        }
        match live.coordinator.complete(checkpoint).await {
            Ok(_) => {
                believed.completed.push(checkpoint);
                states = next;
            }
            Err(_) => believed.doubtful.push(checkpoint),
        }
        if round == 4 {
            // May fail like anything else, and then has done nothing.
            let _ = live.coordinator.rewrite(u64::MAX).await;
        }
    }
    let _ = live.coordinator.settle().await;
    believed
}

async fn run(faults: impl IntoIterator<Item = (usize, Fault)>) -> (Live, FaultStore, Arc<InMemory>, Believed) {
    let objects = Arc::new(InMemory::new());
    let store = FaultStore::new(objects.clone(), []);
    let live = Live::new(Arc::new(store.clone()), SUBTASKS, tight()).await;
    store.begin(faults);
    let believed = work(&live).await;
    (live, store, objects, believed)
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_what_was_committed_stays() {
    let (live, store, objects, believed) = run([]).await;
    assert_eq!(believed.completed.len(), 5);
    live.check(*believed.completed.last().unwrap()).await;
    assert_eq!(live.coordinator.space(), live.recount().await);
    drop(objects);
    let operations = store.operations().len();
    assert!(operations > 60, "{operations}");
    for fault in [Fault::Before, Fault::After, Fault::Crash] {
        for number in 0..operations {
            let (live, store, objects, mut believed) = run([(number, fault)]).await;
            let context = format!("{fault:?} at operation {number}");
            if fault != Fault::Crash {
                // The one failure is over: nothing is lost, and nothing is left over.
                store.heal();
                live.coordinator.settle().await.unwrap_or_else(|e| panic!("{context}: {e}"));
                // Copies of a background rewrite count until a checkpoint has named them or not.
                let mut states = vec![BTreeMap::new(); SUBTASKS as usize];
                let completed = live.round(&mut states).await.unwrap_or_else(|e| panic!("{context}: {e}"));
                believed.completed.push(completed.checkpoint);
                check_books(&live, &believed, &context).await;
            }
            let mut heir = Live::with_tokens(objects, SUBTASKS, tight(), offset_tokens()).await;
            heir.restart().await.unwrap_or_else(|e| panic!("{context}: {e}"));
            check_books(&heir, &believed, &context).await;
            let mut states = vec![BTreeMap::new(); SUBTASKS as usize];
            for _ in 0..3 {
                heir.round(&mut states).await.unwrap_or_else(|e| panic!("{context}: {e}"));
            }
            heir.coordinator.dispose(JobEnd::Finished).await.unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(heir.files().await, BTreeMap::new(), "{context}");
        }
    }
}

/// What was reported as completed is there, or a newer one; each retained one is whole; the figures are right.
async fn check_books(live: &Live, believed: &Believed, context: &str) {
    let latest = live.coordinator.latest().map(|latest| latest.checkpoint);
    let promised = believed.completed.last().copied();
    assert!(latest >= promised, "{context}: {latest:?}, {promised:?} was promised");
    let known: Vec<_> = believed.completed.iter().chain(&believed.doubtful).collect();
    for checkpoint in live.coordinator.completed() {
        assert!(known.contains(&&checkpoint), "{context}: {checkpoint} came from nowhere");
        live.check(checkpoint).await;
    }
    assert_eq!(live.coordinator.space(), live.recount().await, "{context}");
}

/// Unguessable numbers aren't repeated after a restart.
fn offset_tokens() -> drystone::write::Tokens {
    let tokens = tokens();
    Arc::new(move || tokens() + (1 << 32))
}
