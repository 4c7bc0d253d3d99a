//! One object per chunk, as Flink writes checkpoints without merging: what the packed way is compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use drystone::format;
use drystone::handle::{
    CheckpointMetadata, FileHandle, InlineHandle, JavaString, Operator, OperatorSubtasks, StreamHandle, SubtaskEntry,
};
use drystone::id::{CheckpointId, Scope, Subtask};
use drystone::protocol::{Acknowledgement, OperatorSpec, Reuse, RewriteReason, SealedSize, Trigger};
use drystone::store::{JobDirectory, Location, names};
use drystone::write::Tokens;
use drystone::{Error, ErrorKind, Result};
use futures::stream::{self, TryStreamExt};

use super::run::Plan;
use super::side::{Completed, Side};
use super::state::JOB;

/// Version 3 has what Flink needs, and no Java objects.
const METADATA_VERSION: u32 = 3;

pub struct Unmerged {
    directory: JobDirectory,
    operator: OperatorSpec,
    scope: Scope,
    /// Chunks up to this size go into the metadata.
    inline_bytes_max: u64,
    retained: usize,
    /// Deletes at the same time.
    threads: usize,
    tokens: Tokens,
    /// The files that each retained checkpoint names.
    named: Mutex<BTreeMap<CheckpointId, BTreeSet<String>>>,
    /// Named by checkpoints that were subsumed, and by none that is retained.
    dead: Mutex<BTreeSet<String>>,
}

impl Side for Unmerged {
    /// Where its files go.
    type Snapshot = Location;
    type Written = StreamHandle;
    type Ticket = ();

    fn trigger(&self, checkpoint: CheckpointId) -> Result<Trigger> {
        Ok(Trigger::new(0, checkpoint))
    }

    fn begin(&self, _subtask: Subtask, trigger: &Trigger) -> Result<Location> {
        match self.scope {
            Scope::Exclusive => self.directory.checkpoint(trigger.checkpoint),
            Scope::Shared => Ok(self.directory.shared().clone()),
        }
    }

    fn reuse(&self, _snapshot: &Location, handle: &StreamHandle) -> Reuse {
        match (self.scope, handle) {
            (Scope::Exclusive, StreamHandle::File(_)) => Reuse::Rewrite(RewriteReason::Exclusive),
            _ => Reuse::Keep,
        }
    }

    async fn write(&self, directory: &Location, bytes: &[u8]) -> Result<StreamHandle> {
        let name = format!("{:016x}", (self.tokens)());
        let (size, bytes) = (bytes.len() as u64, Bytes::copy_from_slice(bytes));
        if size <= self.inline_bytes_max {
            return Ok(StreamHandle::Inline(InlineHandle { name: text(&name)?, bytes }));
        }
        let file = directory.join(&name)?;
        file.create(vec![bytes]).await?;
        let path = text(&file.name().to_string())?;
        Ok(StreamHandle::File(FileHandle { path, size: i64::try_from(size).unwrap_or(i64::MAX) }))
    }

    fn finish(&self, _snapshot: Location) {}

    async fn seal(&self, _ticket: &(), written: &[StreamHandle]) -> Result<(Vec<StreamHandle>, Vec<SealedSize>)> {
        Ok((written.to_vec(), Vec::new()))
    }

    async fn complete(&self, checkpoint: CheckpointId, reported: Vec<Acknowledgement>) -> Result<Completed> {
        let mut files = BTreeSet::new();
        for state in reported.iter().filter_map(|a| a.state.as_ref().map(|state| (a.subtask, state))) {
            state.1.visit_streams(state.0, |_, handle| {
                if let StreamHandle::File(file) = handle {
                    files.insert(file.path.to_string());
                }
            });
        }
        let directory = self.directory.checkpoint(checkpoint)?;
        let metadata = directory.join(names::METADATA)?;
        let encoded = format::encode(&self.metadata(checkpoint, reported)).map_err(|e| e.in_file(metadata.name()))?;
        let metadata_bytes = encoded.bytes.len() as u64;
        metadata.create(vec![encoded.bytes]).await?;
        Ok(Completed { path: directory.name().clone(), metadata_bytes, subsumed: self.published(checkpoint, files) })
    }

    async fn subsume(&self, subsumed: &[CheckpointId]) -> Result<()> {
        let dead = std::mem::take(&mut *self.dead.lock().unwrap_or_else(PoisonError::into_inner));
        let files = dead.into_iter().map(|path| {
            let path = path.parse::<drystone::store::FlinkPath>()?;
            match path.relative_to(self.directory.root().name()) {
                Some(below) => self.directory.root().join(below),
                None => Err(Error::new(ErrorKind::Invalid, format!("{path} is elsewhere"))),
            }
        });
        let deleted =
            stream::iter(files).try_for_each_concurrent(self.threads, |file| async move { file.delete().await });
        deleted.await?;
        for checkpoint in subsumed {
            let directory = self.directory.checkpoint(*checkpoint)?;
            directory.join(names::METADATA)?.delete().await?;
            directory.remove_empty_dirs().await?;
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

impl Unmerged {
    pub fn start(plan: &Plan) -> Result<Self> {
        let settings = plan.storage.settings();
        Ok(Self {
            directory: plan.storage.job_directory(JOB)?,
            operator: plan.operator.clone(),
            scope: plan.scope,
            inline_bytes_max: settings.data_inline_threshold.0,
            retained: settings.num_retained as usize,
            threads: plan.threads,
            tokens: Arc::new(rand::random),
            named: Mutex::default(),
            dead: Mutex::default(),
        })
    }

    /// Enters a committed checkpoint, and tells which ones it subsumes.
    fn published(&self, checkpoint: CheckpointId, files: BTreeSet<String>) -> Vec<CheckpointId> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.insert(checkpoint, files);
        let (mut subsumed, mut candidates) = (Vec::new(), BTreeSet::new());
        while named.len() > self.retained
            && let Some((oldest, files)) = named.pop_first()
        {
            subsumed.push(oldest);
            candidates.extend(files);
        }
        candidates.retain(|file| !named.values().any(|files| files.contains(file)));
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).extend(candidates);
        subsumed
    }

    fn metadata(&self, checkpoint_id: CheckpointId, mut reported: Vec<Acknowledgement>) -> CheckpointMetadata {
        reported.sort_by_key(|a| a.subtask.index);
        let entries = reported.into_iter().map(|a| SubtaskEntry { index: a.subtask.index, state: a.state }).collect();
        let operator = Operator {
            name: None,
            uid: None,
            id: self.operator.id,
            parallelism: self.operator.parallelism,
            max_parallelism: self.operator.max_parallelism,
            coordinator: None,
            subtasks: OperatorSubtasks::Reported(entries),
        };
        CheckpointMetadata {
            version: METADATA_VERSION,
            checkpoint_id,
            master_states: Vec::new(),
            operators: vec![operator],
            properties: Bytes::new(),
        }
    }
}

fn text(text: &str) -> Result<JavaString> {
    JavaString::new(text).map_err(|e| Error::new(ErrorKind::Invalid, format!("name {text:?}: {e}")))
}
