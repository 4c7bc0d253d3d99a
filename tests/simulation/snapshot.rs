//! One subtask's snapshot, as a state backend takes it: what it may name again it does, the rest is written.

use std::collections::BTreeMap;

use drystone::handle::{IncrementalHandle, JavaString, KeyedHandle, LocalPathHandle, StreamHandle, SubtaskState};
use drystone::id::{CheckpointId, KeyGroupRange, Scope, Subtask};
use drystone::protocol::{Acknowledgement, Reuse, RewriteReason, Trigger};
use drystone::worker::{Ticket, Worker};
use drystone::write::Written;
use drystone::{Error, ErrorKind};

use crate::history::How;
use crate::job::Chunk;
use crate::oracle::{ChunkKey, chunk_name};

/// A subtask's part of a checkpoint, to be acknowledged.
pub struct Part {
    pub acknowledgement: Acknowledgement,
    pub handles: BTreeMap<ChunkKey, (u64, StreamHandle)>,
    /// Where it was made before the files are sealed.
    pub ticket: Option<Ticket>,
}

/// Where a chunk goes.
enum Place {
    Kept(StreamHandle),
    New(Written),
}

pub async fn snapshot(
    worker: Worker,
    trigger: Trigger,
    subtask: Subtask,
    range: KeyGroupRange,
    chunks: Vec<(ChunkKey, Chunk)>,
    how: How,
) -> drystone::Result<Part> {
    let snapshot = worker.begin(subtask, &trigger)?;
    let mut places = Vec::new();
    for (key, chunk) in chunks {
        let known = if how.eager { chunk.fresh.as_ref().or(chunk.handle.as_ref()) } else { chunk.handle.as_ref() };
        // Some files are compacted by the backend itself.
        let is_new = (chunk.version * 31 + trigger.checkpoint.0).is_multiple_of(6);
        let place = match known.filter(|_| !is_new).map(|handle| (handle, snapshot.reuse(handle))) {
            Some((handle, Reuse::Keep)) => {
                if chunk.scope == Scope::Exclusive && !matches!(handle, StreamHandle::Inline(_)) {
                    return Err(Error::new(ErrorKind::Invalid, "an exclusive segment may be named again"));
                }
                Place::Kept(handle.clone())
            }
            // Some backends can't write a segment again for the sake of space.
            Some((handle, Reuse::Rewrite(RewriteReason::Planned(_))))
                if (chunk.version + trigger.checkpoint.0).is_multiple_of(4)
                    && matches!(handle, StreamHandle::Segment(_)) =>
            {
                Place::Kept(handle.clone())
            }
            _ => {
                let hint = (chunk.version.is_multiple_of(3)).then_some(chunk.bytes.len() as u64);
                let mut segment = snapshot.segment(chunk.scope, hint);
                let half = chunk.bytes.len() / 2;
                segment.write(chunk.bytes.slice(..half)).await?;
                segment.write_slice(&chunk.bytes[half..]).await?;
                Place::New(segment.finish().await?)
            }
        };
        places.push((key, chunk.version, chunk.scope, place));
    }
    let mut found = Vec::new();
    let (mut sealed, mut waits) = (Vec::new(), None);
    if how.provisional {
        for (key, version, scope, place) in places {
            let handle = match place {
                Place::Kept(handle) => Some(handle),
                Place::New(written) => snapshot.provisional(&written)?,
            };
            found.extend(handle.map(|handle| (key, version, scope, handle)));
        }
        waits = Some(snapshot.finish());
    } else {
        let durable = snapshot.seal().await?;
        for (key, version, scope, place) in places {
            let handle = match place {
                Place::Kept(handle) => Some(handle),
                Place::New(written) => durable.handle(&written)?,
            };
            found.extend(handle.map(|handle| (key, version, scope, handle)));
        }
        sealed = durable.sealed().to_vec();
    }
    let checkpoint = trigger.checkpoint;
    let state = Some(Box::new(state_of(checkpoint, range, &found)?));
    let acknowledgement = Acknowledgement { epoch: trigger.epoch, checkpoint, subtask, state, sealed };
    let handles = found.into_iter().map(|(key, version, _, handle)| (key, (version, handle))).collect();
    Ok(Part { acknowledgement, handles, ticket: waits })
}

fn state_of(
    checkpoint: CheckpointId,
    range: KeyGroupRange,
    found: &[(ChunkKey, u64, Scope, StreamHandle)],
) -> drystone::Result<SubtaskState> {
    let text = |text: &str| JavaString::new(text).map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()));
    let files = |wanted: Scope| {
        let of_scope = found.iter().filter(|(.., scope, _)| *scope == wanted);
        let file = |(key, _, _, handle): &(ChunkKey, u64, Scope, StreamHandle)| {
            Ok(LocalPathHandle { local_path: text(&chunk_name(*key))?, handle: Some(handle.clone()) })
        };
        of_scope.map(file).collect::<drystone::Result<Vec<_>>>()
    };
    let keyed = IncrementalHandle {
        checkpoint_id: checkpoint.0 as i64,
        backend_id: text("00000000-0000-0000-0000-000000000001")?,
        range,
        persisted: Some((0, text(&format!("handle-{checkpoint}-{}", range.start))?)),
        meta: None,
        shared: files(Scope::Shared)?,
        private: files(Scope::Exclusive)?,
    };
    Ok(SubtaskState { managed_keyed: Some(KeyedHandle::Incremental(keyed)), ..SubtaskState::default() })
}
