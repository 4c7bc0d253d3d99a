//! What the driver is told, and how.

use std::fmt;

use tokio::sync::{mpsc, oneshot};

use crate::coordinator::{Completed, Coordinator, SavepointRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, OperatorId, Subtask};
use crate::protocol::{SavepointAction, SavepointFormat};
use crate::schedule::{Event, Failure, Kind, Refusal, RequestId};

/// Tells a [`Driver`](super::Driver) what happens in the job. Cheap to clone; with the last one the driver ends.
///
/// Calls wait for room in a queue, no more, and return before the driver has done anything about it. They are cancel safe:
/// cancelled, nothing was said.
#[derive(Clone)]
pub struct Handle {
    say: mpsc::Sender<Said>,
    /// Says where savepoints may go.
    coordinator: Coordinator,
}

/// What became of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    Completed(Completed),
    /// It began, and came to nothing.
    Failed {
        /// Which it was.
        checkpoint: CheckpointId,
        /// Why.
        failure: Failure,
        /// The same in words, with what is known beyond.
        reason: String,
    },
    /// It never began.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The same in words, with what is known beyond.
        reason: String,
    },
}

/// What the driver hears.
pub(super) enum Said {
    Event(Event),
    Request(RequestId, Kind, Option<SavepointRequest>, oneshot::Sender<Outcome>),
    Ready(CheckpointId),
    Declined { epoch: u64, checkpoint: CheckpointId, subtask: Subtask, failure: Failure, reason: String },
    Abort { checkpoint: CheckpointId, failure: Failure, reason: String },
}

impl Handle {
    pub(super) fn new(say: mpsc::Sender<Said>, coordinator: Coordinator) -> Self {
        Self { say, coordinator }
    }

    /// All tasks run, from the beginning or from a checkpoint: checkpoints may begin. Who had finished by then is said
    /// after this.
    ///
    /// # Errors
    /// `Conflict`: the driver has ended. So for all that follow.
    pub async fn start(&self) -> Result<()> {
        self.event(Event::Start).await
    }

    /// The tasks are about to be stopped, or have failed: what is under way is aborted, and nothing begins before the next
    /// [`start`](Self::start).
    ///
    /// # Errors
    /// `Conflict`.
    pub async fn stop(&self) -> Result<()> {
        self.event(Event::Stop).await
    }

    /// Asks for a checkpoint or a savepoint, and waits for what becomes of it. `request` comes with the
    /// [`Take`](super::Take), and is to be another than those that still wait. Cancelled, it goes on all the same.
    ///
    /// A savepoint goes where the [configuration](crate::coordinator::SavepointDefaults) says, to a directory of its own there,
    /// `savepoint-<6 hex of the job's id>-<12 random hex>`. It is canonical, as Flink's are if nobody says otherwise; for
    /// another there is [`savepoint`](Self::savepoint).
    ///
    /// # Errors
    /// `Conflict`: the driver has ended before it has; or another of this number waits. Of savepoints, before anything is
    /// given up for them: `Invalid`: `execution.checkpointing.savepoint-dir` isn't set, or is one of the job's own
    /// directories. `Unsupported`: it is of a store that this build doesn't have.
    pub async fn request(&self, request: RequestId, kind: Kind) -> Result<Outcome> {
        let action = match kind {
            Kind::Periodic | Kind::OnRequest(_) | Kind::Final => return self.ask(request, kind, None).await,
            Kind::Savepoint => SavepointAction::None,
            Kind::StopWithSavepoint { drain: true } => SavepointAction::Terminate,
            Kind::StopWithSavepoint { drain: false } => SavepointAction::Suspend,
        };
        let defaults = self.coordinator.savepoint_defaults();
        self.savepoint(request, defaults.request(None, SavepointFormat::Canonical, action)?).await
    }

    /// Asks for a savepoint below the directory that is named; what the job does afterwards is what `savepoint` says. Else as
    /// [`request`](Self::request).
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub async fn savepoint(&self, request: RequestId, savepoint: SavepointRequest) -> Result<Outcome> {
        self.coordinator.check_savepoint(&savepoint)?;
        let kind = match savepoint.action {
            SavepointAction::None => Kind::Savepoint,
            SavepointAction::Terminate => Kind::StopWithSavepoint { drain: true },
            SavepointAction::Suspend => Kind::StopWithSavepoint { drain: false },
        };
        self.ask(request, kind, Some(savepoint)).await
    }

    async fn ask(&self, request: RequestId, kind: Kind, savepoint: Option<SavepointRequest>) -> Result<Outcome> {
        let (answer, outcome) = oneshot::channel();
        self.say(Said::Request(request, kind, savepoint, answer)).await?;
        let gone = |_| {
            let message = format!("request {}: another of this number waits, or the driver has ended", request.0);
            Error::new(ErrorKind::Conflict, message)
        };
        outcome.await.map_err(gone)
    }

    /// All have acknowledged, as the coordinator says: it is to be committed. Leave
    /// [`complete`](crate::coordinator::Coordinator::complete) to the driver.
    ///
    /// # Errors
    /// `Conflict`.
    pub async fn ready(&self, checkpoint: CheckpointId) -> Result<()> {
        self.say(Said::Ready(checkpoint)).await
    }

    /// A subtask can't do its part of the checkpoint that was triggered with this epoch. Leave
    /// [`decline`](crate::coordinator::Coordinator::decline) to the driver.
    ///
    /// # Errors
    /// `Conflict`.
    pub async fn declined(
        &self,
        epoch: u64,
        checkpoint: CheckpointId,
        subtask: Subtask,
        failure: Failure,
        reason: impl Into<String>,
    ) -> Result<()> {
        self.say(Said::Declined { epoch, checkpoint, subtask, failure, reason: reason.into() }).await
    }

    /// It is to be given up. Leave [`abort`](crate::coordinator::Coordinator::abort) to the driver.
    ///
    /// # Errors
    /// `Conflict`.
    pub async fn abort(&self, checkpoint: CheckpointId, failure: Failure, reason: impl Into<String>) -> Result<()> {
        self.say(Said::Abort { checkpoint, failure, reason: reason.into() }).await
    }

    /// A source works off a backlog, or does so no longer.
    ///
    /// # Errors
    /// `Conflict`.
    pub async fn backlog(&self, source: OperatorId, is_behind: bool) -> Result<()> {
        self.event(Event::Backlog(source, is_behind)).await
    }

    /// A subtask has come to the end of its data, and waits for [`Order::Release`](super::Order::Release) before it
    /// finishes. Until then it takes part in checkpoints.
    ///
    /// # Errors
    /// `Conflict`.
    pub async fn end_of_data(&self, subtask: Subtask) -> Result<()> {
        self.event(Event::EndOfData(subtask)).await
    }

    /// A subtask has finished, and won't be asked again. One under way that it has not acknowledged waits for it all the
    /// same, unless the coordinator is told that it [had finished](crate::coordinator::Coordinator::finished).
    ///
    /// # Errors
    /// `Conflict`.
    pub async fn finished(&self, subtask: Subtask) -> Result<()> {
        self.event(Event::Finished(subtask)).await
    }

    async fn event(&self, event: Event) -> Result<()> {
        self.say(Said::Event(event)).await
    }

    async fn say(&self, said: Said) -> Result<()> {
        let gone = |_| Error::new(ErrorKind::Conflict, "the driver of the schedule has ended");
        self.say.send(said).await.map_err(gone)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed(completed) => write!(f, "checkpoint {} completed", completed.checkpoint),
            Self::Failed { checkpoint, reason, .. } => write!(f, "checkpoint {checkpoint} failed: {reason}"),
            Self::Refused { reason, .. } => write!(f, "refused: {reason}"),
        }
    }
}
