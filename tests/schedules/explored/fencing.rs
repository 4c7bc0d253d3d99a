//! An older coordinator that is in the middle of something while a newer one takes the job over.

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone::coordinator::{CoordinatorSettings, JobEnd};
use drystone::id::{CheckpointId, Scope};
use drystone::{ErrorKind, Result};
use futures::future::join_all;
use tokio::time::NEVER;

use crate::commits::check;
use crate::explore::explore;
use crate::live::{Live, contents, settings, tokens};
use crate::rule_store::RuleStore;

/// Several coordinators of one job, each with its own process.
struct Job {
    store: Arc<RuleStore>,
    tokens: drystone::write::Tokens,
}

impl Job {
    fn new() -> Self {
        Self { store: Arc::default(), tokens: tokens() }
    }

    async fn claim(&self) -> Arc<Live> {
        let settings = CoordinatorSettings { file_timeout: NEVER, ..settings() };
        Arc::new(Live::with_tokens(self.store.clone(), 1, settings, self.tokens.clone()).await)
    }
}

async fn round(live: &Live) -> Result<()> {
    live.round(&mut [BTreeMap::new()]).await.map(drop)
}

fn assert_over(done: Result<()>) {
    if let Err(error) = done {
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    }
}

#[test]
fn what_the_older_one_completes_the_newer_one_has_or_it_never_comes() {
    explore("fencing, commit", || async {
        let job = Job::new();
        let older = job.claim().await;
        round(&older).await.unwrap();
        let second = older.coordinator.trigger(CheckpointId(2)).unwrap();
        let chunks = older.write(&second, 0, Scope::Shared, &[("s", &contents(second.checkpoint, 0))]).await.unwrap();
        older.acknowledge(second.checkpoint, 0, chunks).unwrap();
        let completing = older.clone();
        let completing = tokio::spawn(async move {
            let done = completing.coordinator.complete(CheckpointId(2)).await.map(drop);
            // It goes on, as long as it is let.
            assert_over(round(&completing).await);
            done
        });
        let newer = job.claim().await;
        let inherited = newer.coordinator.completed();
        round(&newer).await.unwrap();
        let done = completing.await.unwrap();
        let had_completed = done.is_ok();
        assert_over(done);
        assert!(!had_completed || inherited >= vec![CheckpointId(2)], "{inherited:?}");
        // The last word of the older one may be under way, and what it wrote for what never came.
        let _ = older.coordinator.settle().await;
        newer.coordinator.remove_leftovers().await.unwrap();
        check(&newer).await;
    });
}

#[test]
fn of_those_who_claim_at_the_same_time_one_goes_on() {
    explore("fencing, claims", || async {
        let job = Arc::new(Job::new());
        round(&*job.claim().await).await.unwrap();
        let claims = [job.clone(), job.clone()].map(|job| {
            tokio::spawn(async move {
                let live = job.claim().await;
                let done = round(&live).await;
                (live, done.is_ok(), done)
            })
        });
        let mut claimed: Vec<_> = join_all(claims).await.into_iter().map(std::result::Result::unwrap).collect();
        claimed.sort_by_key(|(live, ..)| live.coordinator.epoch());
        let ((older, _, first), (newer, newer_did, second)) = (claimed.remove(0), claimed.remove(0));
        assert!(older.coordinator.epoch() < newer.coordinator.epoch());
        assert_over(first);
        assert!(newer_did, "{second:?}");
        let _ = older.coordinator.settle().await;
        newer.coordinator.remove_leftovers().await.unwrap();
        check(&newer).await;
    });
}

#[test]
fn an_older_ones_end_of_the_job_takes_nothing_from_the_newer_one() {
    explore("fencing, end", || async {
        let job = Job::new();
        let older = job.claim().await;
        round(&older).await.unwrap();
        let ending = older.clone();
        let end = tokio::spawn(async move { ending.coordinator.dispose(JobEnd::Cancelled).await });
        let newer = job.claim().await;
        round(&newer).await.unwrap();
        assert_over(end.await.unwrap());
        newer.coordinator.remove_leftovers().await.unwrap();
        check(&newer).await;
    });
}
