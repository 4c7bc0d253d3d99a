//! A coordinator that doesn't know it has a successor, and goes on.

use std::sync::{Arc, Mutex};

use drystone::coordinator::{Coordinator, JobEnd};
use drystone::id::CheckpointId;
use drystone::{ErrorKind, Result};
use futures::future::join;

use crate::history::{Act, How};
use crate::job::{Job, Step};
use crate::oracle::Seen;
use crate::savepoint::save;

/// How often they were told that their time is over, and what they say is durable.
#[derive(Default)]
pub struct Zombies {
    clients: Vec<crate::chaos_store::Client>,
    said: Arc<Mutex<Vec<u64>>>,
}

impl Job {
    /// Its requests hang for a while; then it does all it would have done. Meanwhile there is another.
    pub async fn haunt(&mut self, stall_ms: u64, acts: &[Act], starts_first: bool) -> Step {
        let how = How { provisional: false, eager: false, lost_one_in: u64::MAX };
        let mut ready = None;
        if let Some(trigger) = self.trigger().await? {
            let parts = self.snapshots(trigger, u64::MAX, how).await?;
            if self.acknowledge(&parts)? {
                ready = Some(parts.checkpoint());
            }
        }
        if stall_ms > 0 {
            self.client.stall(stall_ms);
        }
        self.chaos.count("zombies");
        let (old, client) = (self.coordinator.clone(), self.client.clone());
        let savepoint = self.savepoints.leave().map(|checkpoint| (checkpoint, self.savepoints.told.clone()));
        let saves_first = acts.len().is_multiple_of(2);
        let going_on = go_on(old.clone(), acts.to_vec(), ready, self.zombies.said.clone(), self.seen.clone());
        let going_on = async move {
            let save = async |is_now: bool| match &savepoint {
                Some((checkpoint, told)) if is_now => save(&old, *checkpoint, told).await,
                _ => {}
            };
            save(saves_first).await;
            going_on.await;
            save(!saves_first).await;
        };
        let mut waiting = Some(going_on);
        if starts_first {
            self.may_have_ended = acts.contains(&Act::Dispose) || acts.contains(&Act::DisposeBeside);
            waiting.take().map(tokio::spawn);
        }
        self.zombies.clients.push(client);
        // Its workers go on with what they have on its way.
        self.succeed(self.workers.len().max(1)).await?;
        waiting.map(tokio::spawn);
        Ok(())
    }

    /// What one of them was told is durable is so for its successor as well.
    pub fn check_zombies(&self, completed: &[u64]) -> std::result::Result<(), String> {
        for said in self.zombies.said.lock().unwrap().drain(..) {
            let newer = completed.iter().filter(|&&number| number > said).count();
            if !completed.contains(&said) && newer < self.retained_min {
                return Err(format!("I10: a coordinator that is over says that checkpoint {said} is durable"));
            }
        }
        Ok(())
    }

    /// It was the job's end that made what one of them said void.
    pub fn forget_what_zombies_said(&self) {
        self.zombies.said.lock().unwrap().clear();
    }

    pub fn bury_zombies(&mut self) {
        self.zombies.clients.drain(..).for_each(|client| client.crash());
    }
}

async fn go_on(
    old: Coordinator,
    acts: Vec<Act>,
    ready: Option<CheckpointId>,
    said: Arc<Mutex<Vec<u64>>>,
    seen: Arc<Mutex<Seen>>,
) {
    for act in acts {
        let done: Result<()> = match act {
            Act::Complete => match ready {
                Some(checkpoint) => old.complete(checkpoint).await.map(|completed| {
                    said.lock().unwrap().push(completed.checkpoint.0);
                }),
                None => Ok(()),
            },
            Act::Abort => {
                ready.into_iter().for_each(|checkpoint| {
                    old.abort(checkpoint);
                });
                Ok(())
            }
            Act::Settle => old.settle().await,
            Act::Rewrite => old.rewrite(20_000).await.map(drop),
            Act::Leftovers => old.remove_leftovers().await.map(drop),
            Act::Dispose => old.dispose(JobEnd::Finished).await,
            Act::DisposeBeside => match ready {
                // What it hears of the commit is void.
                Some(checkpoint) => join(old.complete(checkpoint), old.dispose(JobEnd::Finished)).await.1,
                None => old.dispose(JobEnd::Finished).await,
            },
        };
        if done.is_err_and(|error| error.kind() == ErrorKind::Fenced) {
            seen.lock().unwrap().refused += 1;
        }
    }
}
