//! The tasks of a pool: a file is made durable, or given up, in one of its own, so that no cancelled caller cuts it.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Instrument;

use super::Shared;
use super::state::{Outcome, PoolState, Refusal};
use crate::error::{Error, ErrorKind, Result};
use crate::id::FileToken;
use crate::metrics;
use crate::store::Location;
use crate::write::bounds::OnItsWay;
use crate::write::file::{OpenFile, SealedFile, no_runtime};

/// A file to be sealed: it counts as on its way already.
pub(in crate::write) struct Sealing {
    file: OpenFile,
    ending: SealEnd,
}

impl Sealing {
    pub(super) fn new(shared: &Arc<Shared>, state: &mut PoolState, file: OpenFile) -> Self {
        state.seals += 1;
        if let Some(entry) = state.files.get_mut(&file.token()) {
            entry.outcome = Outcome::OnItsWay;
        }
        let (token, location) = (file.token(), file.location().clone());
        let on_its_way = shared.bounds.sealing(file.held_bytes());
        let ending = SealEnd { shared: shared.clone(), token, location, result: None, on_its_way };
        Self { file, ending }
    }

    /// Seals the file in a task of its own. Not to be called under the pool's lock: where no task can be started, the
    /// end is recorded at once.
    pub(super) fn start(self) {
        let Self { file, mut ending } = self;
        let span = tracing::debug_span!("seal", file = %ending.location.name());
        match Handle::try_current() {
            Ok(runtime) => drop(
                runtime.spawn(
                    async move {
                        let sealed = {
                            let _permit = ending.on_its_way.permit().await;
                            let started = Instant::now();
                            let sealed = file.seal(ending.shared.settings.part_bytes).await;
                            metrics::seal_took(started.elapsed());
                            sealed
                        };
                        ending.result = Some(sealed);
                        drop(ending);
                    }
                    .instrument(span),
                ),
            ),
            Err(_) => ending.result = Some(Err(no_runtime(&ending.location))),
        }
    }
}

/// Records how a seal ended, also when its task is cut.
struct SealEnd {
    shared: Arc<Shared>,
    token: FileToken,
    location: Location,
    result: Option<Result<SealedFile>>,
    /// Dropped last: whoever waits for an end then finds it recorded.
    on_its_way: OnItsWay,
}

impl Drop for SealEnd {
    fn drop(&mut self) {
        let cut = || Error::new(ErrorKind::Store, format!("the upload of {} was cut", self.location.name()));
        let result = self.result.take().unwrap_or_else(|| Err(cut()));
        let mut state = self.shared.state();
        state.seals -= 1;
        let outcome = match result {
            Ok(sealed) => Outcome::Sealed(sealed),
            Err(error) => {
                let refusal = Refusal::of(&error);
                if self.shared.on_failure == super::OnFailure::Close {
                    self.shared.closed.get_or_init(|| refusal.clone());
                }
                Outcome::Failed(refusal)
            }
        };
        if let Some(entry) = state.files.get_mut(&self.token) {
            entry.outcome = outcome;
        }
        drop(state);
        self.shared.ended.notify_waiters();
    }
}

/// Gives a file up that isn't sealed: its memory is released, and what was streamed into it is aborted. Nobody else may
/// have a segment in it, or they have been told.
pub(super) fn retire(shared: &Arc<Shared>, file: OpenFile) {
    let token = file.token();
    let upload = file.give_up();
    {
        let mut state = shared.state();
        // One that others are told of stays.
        if matches!(state.files.get(&token).map(|entry| &entry.outcome), Some(Outcome::Open)) {
            state.files.remove(&token);
        }
        if upload.is_some() {
            state.retirements += 1;
        }
    }
    if let Some((upload, runtime)) = upload {
        let mut ending = RetireEnd { shared: shared.clone(), on_its_way: shared.bounds.retiring() };
        runtime.spawn(async move {
            if let Err(error) = upload.abort().await {
                ending.on_its_way.failed(error);
            }
            drop(ending);
        });
    }
}

struct RetireEnd {
    shared: Arc<Shared>,
    on_its_way: OnItsWay,
}

impl Drop for RetireEnd {
    fn drop(&mut self) {
        self.shared.state().retirements -= 1;
        self.shared.ended.notify_waiters();
    }
}
