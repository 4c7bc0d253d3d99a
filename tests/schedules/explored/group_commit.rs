//! Subtasks that write for one checkpoint into common files, while somebody forgets, aborts, completes or closes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drystone::id::{CheckpointId, Scope};
use drystone::worker::{Snapshot, Ticket, Worker, WorkerSettings, WorkerUsage};
use drystone::write::{PoolMode, Written};
use drystone::{ErrorKind, Result};
use futures::future::join_all;
use tokio::time::NEVER;

use crate::explore::explore;
use crate::rule_store::{Act, RuleStore};
use crate::seeded::bytes_of;
use crate::site::{Segment, Site, subtask, trigger, write_settings};

const CHECKPOINT: CheckpointId = CheckpointId(1);
const LINGER: Duration = Duration::from_secs(1);

struct Working {
    site: Site,
    worker: Worker,
}

impl Working {
    fn new(store: &RuleStore, linger: Duration, registered: u32) -> Arc<Self> {
        let site = Site::new(Arc::new(store.clone()));
        let write = write_settings(PoolMode::BLOCKING);
        let settings = WorkerSettings { write, channels: None, buffered_bytes_total_max: 1 << 20, linger };
        let worker = site.worker(settings);
        (0..registered).for_each(|index| worker.register(subtask(index)));
        Arc::new(Self { site, worker })
    }

    /// A snapshot with one segment of either scope; it is there when the ticket says so (I1).
    async fn snapshot(self: Arc<Self>, index: u32, epoch: u64) -> Result<()> {
        let snapshot = self.worker.begin(subtask(index), &trigger(CHECKPOINT.0, epoch))?;
        let segments = write_both(&snapshot, index).await?;
        let ticket = snapshot.finish();
        self.seal(&ticket, &segments).await
    }

    async fn seal(&self, ticket: &Ticket, segments: &[Segment]) -> Result<()> {
        let durable = ticket.seal().await?;
        for (written, bytes) in segments {
            assert_eq!(self.site.read(&durable.handle(written)?.unwrap()).await, bytes);
        }
        Ok(())
    }

    /// Everything has ended, and nothing is held.
    async fn check_idle(&self) {
        self.worker.close().await.unwrap();
        assert_eq!(self.worker.usage(), WorkerUsage::default());
        self.site.files().await;
    }
}

async fn write_both(snapshot: &Snapshot, index: u32) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    // The second one is streamed.
    for (scope, length) in [(Scope::Exclusive, 3_000), (Scope::Shared, 5_000)] {
        segments.push(write(snapshot, scope, bytes_of(u64::from(index) * 10 + length, length as usize)).await?);
    }
    Ok(segments)
}

async fn write(snapshot: &Snapshot, scope: Scope, bytes: Bytes) -> Result<Segment> {
    let mut writer = snapshot.segment(scope, None);
    writer.write(bytes.clone()).await?;
    Ok((writer.finish().await?, bytes))
}

/// Nobody wants it any more.
fn assert_refused(done: Result<()>) {
    if let Err(error) = done {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
}

#[test]
fn without_linger_the_last_to_finish_or_to_be_forgotten_has_the_files_sealed() {
    explore("group commit, forget", || async {
        let working = Working::new(&RuleStore::default(), NEVER, 3);
        let tasks = [0, 1].map(|index| tokio::spawn(working.clone().snapshot(index, 1)));
        let forgetting = working.clone();
        let forget = tokio::spawn(async move { forgetting.worker.forget(subtask(2)) });
        for done in join_all(tasks).await {
            done.unwrap().unwrap();
        }
        forget.await.unwrap();
        working.worker.complete(1, CHECKPOINT);
        working.check_idle().await;
    });
}

#[test]
fn one_that_is_given_up_or_forgotten_while_it_writes_keeps_nobody_waiting() {
    explore("group commit, given up", || async {
        let working = Working::new(&RuleStore::default(), NEVER, 3);
        let tasks = [0, 1].map(|index| tokio::spawn(working.clone().snapshot(index, 1)));
        let giving_up = working.clone();
        let given_up = tokio::spawn(async move {
            let snapshot = giving_up.worker.begin(subtask(2), &trigger(1, 1)).unwrap();
            let mut writer = snapshot.segment(Scope::Shared, None);
            writer.write(bytes_of(7, 6_000)).await.unwrap();
            drop((snapshot, writer));
        });
        working.worker.forget(subtask(1));
        for done in join_all(tasks).await {
            done.unwrap().unwrap();
        }
        given_up.await.unwrap();
        working.check_idle().await;
    });
}

#[test]
fn with_a_linger_nobody_waits_for_ever_for_one_who_never_comes() {
    explore("group commit, linger", || async {
        let working = Working::new(&RuleStore::default(), LINGER, 3);
        let tasks = [0, 1].map(|index| tokio::spawn(working.clone().snapshot(index, 1)));
        for done in join_all(tasks).await {
            done.unwrap().unwrap();
        }
        working.worker.abort(1, CHECKPOINT);
        working.check_idle().await;
    });
}

/// How a checkpoint ends, while it is being written.
async fn ended(end: fn(&Worker)) {
    let working = Working::new(&RuleStore::default(), LINGER, 3);
    let tasks = [0, 1, 2].map(|index| tokio::spawn(working.clone().snapshot(index, 1)));
    let ending = working.clone();
    let end = tokio::spawn(async move { end(&ending.worker) });
    for done in join_all(tasks).await {
        assert_refused(done.unwrap());
    }
    end.await.unwrap();
    working.check_idle().await;
}

#[test]
fn an_abort_ends_every_ticket() {
    explore("group commit, abort", || ended(|worker| worker.abort(1, CHECKPOINT)));
}

#[test]
fn a_completion_ends_every_ticket() {
    explore("group commit, complete", || ended(|worker| worker.complete(1, CHECKPOINT)));
}

#[test]
fn a_newer_checkpoint_that_completes_ends_every_ticket() {
    explore("group commit, overtaken", || ended(|worker| worker.complete(1, CheckpointId(2))));
}

#[test]
fn a_close_ends_every_ticket_and_leaves_nothing_under_way() {
    explore("group commit, close", || async {
        let working = Working::new(&RuleStore::default(), NEVER, 3);
        let tasks = [0, 1, 2].map(|index| tokio::spawn(working.clone().snapshot(index, 1)));
        let closing = working.clone();
        let close = tokio::spawn(async move { closing.worker.close().await });
        for done in join_all(tasks).await {
            assert_refused(done.unwrap());
        }
        close.await.unwrap().unwrap();
        working.check_idle().await;
    });
}

#[test]
fn an_earlier_epochs_tickets_end_when_a_newer_one_begins() {
    explore("group commit, epochs", || async {
        let working = Working::new(&RuleStore::default(), LINGER, 2);
        let old = [0, 1].map(|index| tokio::spawn(working.clone().snapshot(index, 1)));
        let new = [0, 1].map(|index| tokio::spawn(working.clone().snapshot(index, 2)));
        for done in join_all(old).await {
            assert_refused(done.unwrap());
        }
        for done in join_all(new).await {
            done.unwrap().unwrap();
        }
        working.check_idle().await;
    });
}

#[test]
fn a_seal_from_outside_and_a_cut_ticket_disturb_nobody() {
    explore("group commit, seal", || async {
        let working = Working::new(&RuleStore::default(), NEVER, 2);
        let tasks = [0, 1].map(|index| tokio::spawn(working.clone().snapshot(index, 1)));
        let sealing = working.clone();
        let seal = tokio::spawn(async move { sealing.worker.seal(CHECKPOINT).await });
        let writing = working.clone();
        let cut = tokio::spawn(writing.snapshot(5, 1));
        cut.abort();
        let _ = cut.await;
        for done in join_all(tasks).await {
            done.unwrap().unwrap();
        }
        seal.await.unwrap().unwrap();
        working.check_idle().await;
    });
}

#[test]
fn a_failed_upload_fails_exactly_the_snapshots_that_wrote_into_it() {
    explore("group commit, failed upload", || async {
        let store = RuleStore::default();
        store.rule("put", "shared", Act::Fail, 1);
        let working = Working::new(&store, NEVER, 4);
        let tasks = [0, 1, 2, 3].map(|index| {
            let working = working.clone();
            tokio::spawn(async move {
                let snapshot = working.worker.begin(subtask(index), &trigger(1, 1)).unwrap();
                let segment = write(&snapshot, Scope::Shared, bytes_of(index.into(), 3_900)).await.unwrap();
                let ticket = snapshot.finish();
                let done = working.seal(&ticket, std::slice::from_ref(&segment)).await;
                (segment.0, done)
            })
        });
        let done = join_all(tasks).await;
        let files = working.site.files().await;
        for (written, done) in done.into_iter().map(std::result::Result::unwrap) {
            let Written::Placed(placement) = written else { panic!("{written:?}") };
            assert_eq!(files.contains_key(&placement.id.file.0), done.is_ok(), "{done:?}");
        }
        assert!(!files.is_empty(), "three fit into a file, the fourth is in another");
        working.worker.abort(1, CHECKPOINT);
        working.check_idle().await;
    });
}
