//! State in memory that is grouped by key: written by key groups, all of them or those that have changed.
//!
//! *All of them* is one stream, as Flink's hash map backend writes it: a head, then group after group, and where each
//! starts. *Those that have changed* are a segment each, beside those of the others that an earlier checkpoint has, so that
//! a task of any parallelism reads its own and no other; packing below puts them into few files. In Flink's format the
//! latter is a materialisation of several key-group handles without changes since.

mod restore;
mod written;

use std::collections::BTreeMap;
use std::sync::PoisonError;

use bytes::Bytes;

pub use self::restore::{RestoredGroup, restore};
pub use self::written::{GroupCounts, WrittenGroups};

use self::written::{Content, Piece};
use super::book::Book;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{KeyGroupsHandle, KeyedHandle, StreamHandle};
use crate::id::{CheckpointId, KeyGroupRange, Scope};
use crate::protocol::Reuse;
use crate::read::TaskRestore;
use crate::sync::{Mutex, MutexGuard};
use crate::worker::{Durable, Snapshot};
use crate::write::Written;

/// The snapshots of one subtask's state in memory, from its start to its end. The state itself is the caller's.
///
/// ```
/// use std::collections::BTreeMap;
/// use drystone::backend::keyed::KeyGroupBackend;
/// use drystone::id::KeyGroupRange;
/// # use drystone::worker::Snapshot;
/// # use drystone::{Result, handle::KeyedHandle};
///
/// async fn checkpoint(
///     backend: &KeyGroupBackend,
///     snapshot: Snapshot,
///     state: &BTreeMap<u32, Vec<u8>>,
/// ) -> Result<Option<KeyedHandle>> {
///     let encode = |group| state.get(&group).cloned().unwrap_or_default().into();
///     let written = backend.write_changed(&snapshot, encode).await?;
///     let durable = snapshot.seal().await?;
///     backend.handle(written, &durable)
/// }
///
/// let range = KeyGroupRange::of_subtask(0, 3, 128).ok_or("no such subtask")?;
/// let backend = KeyGroupBackend::new("counters", range, b"counters 1\n".as_slice().into())?;
/// backend.changed(17);
/// # let _ = checkpoint;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeyGroupBackend {
    name: String,
    range: KeyGroupRange,
    head: Bytes,
    /// Never held across an await, nor while another lock is taken.
    changes: Mutex<Changes>,
    book: Book<Groups>,
}

/// When each key group last changed.
#[derive(Default)]
struct Changes {
    last: u64,
    groups: BTreeMap<u32, u64>,
}

/// What a checkpoint has of each key group.
type Groups = BTreeMap<u32, Known>;

/// A key group as a checkpoint has it.
#[derive(Clone, Debug)]
struct Known {
    /// Its last change then.
    change: u64,
    /// None where it had no state.
    handle: Option<KeyGroupsHandle>,
}

impl KeyGroupBackend {
    /// Nothing is known to be there. `name` tells the subtask's handles from others'; `head` comes before the groups of
    /// each stream, of which there can be as many as groups: it is to be short, but not empty, since by Flink's convention
    /// a group at a stream's first byte has no state.
    ///
    /// # Errors
    /// `Invalid`: the head is empty.
    pub fn new(name: &str, range: KeyGroupRange, head: Bytes) -> Result<Self> {
        if head.is_empty() {
            let message = format!("state {name}: a head of 0 bytes; at least one byte comes before the key groups");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let (changes, book) = (Mutex::default(), Book::default());
        Ok(Self { name: name.to_owned(), range, head, changes, book })
    }

    /// The subtask's key groups.
    pub fn range(&self) -> KeyGroupRange {
        self.range
    }

    /// Goes on where a restored checkpoint was: each group that has a segment of its own there may be named again as long
    /// as it doesn't change, whoever wrote it, as far as the job owns it. To be called before the first change.
    pub fn resume(&self, task: &TaskRestore) {
        if let Some((checkpoint, groups)) = restore::groups_of(task, self.range) {
            self.book.resume(checkpoint, groups);
        }
    }

    /// The key group has changed: the next snapshot writes it. Others' key groups are passed over.
    pub fn changed(&self, key_group: u32) {
        if self.range.contains(key_group) {
            let mut changes = self.changes();
            changes.last += 1;
            let last = changes.last;
            changes.groups.insert(key_group, last);
        }
    }

    /// Writes all key groups, as one stream of this checkpoint alone. `encode` gives a group's bytes, none where it has no
    /// state; it is asked for one group after the other while the earlier ones are written, so the state that it looks at
    /// must stay as it is until this is through. In a canonical savepoint the stream, its head included, is to be what
    /// every state backend reads.
    ///
    /// A checkpoint after this one writes all groups, too. After a savepoint it goes on from the checkpoint before.
    ///
    /// Cancelled or failed, what was written is named by nobody.
    ///
    /// # Errors
    /// As for [`SegmentWriter::write`](crate::write::SegmentWriter::write).
    pub async fn write_all(&self, snapshot: &Snapshot, mut encode: impl FnMut(u32) -> Bytes) -> Result<WrittenGroups> {
        let mut writer = snapshot.segment(Scope::Exclusive, None);
        let (mut offsets, mut counts) = (Vec::new(), GroupCounts::default());
        for group in self.groups() {
            let bytes = encode(group);
            if bytes.is_empty() {
                offsets.push(0);
                continue;
            }
            if writer.position() == 0 {
                writer.write(self.head.clone()).await?;
            }
            offsets.push(writer.mark() as i64);
            counts.new_groups += 1;
            counts.new_bytes += bytes.len() as u64;
            writer.write(bytes).await?;
        }
        let checksums = writer.part_checksums();
        let content = Content::All { offsets, checksums, written: writer.finish().await? };
        Ok(WrittenGroups::new(snapshot, content, counts))
    }

    /// Writes the key groups that have changed since the last completed checkpoint, or that it doesn't have as segments of
    /// their own, or that the worker wants written again; in a savepoint, [all of them](Self::write_all), as one stream. A
    /// group that changes after this has begun counts as changed for the next snapshot.
    ///
    /// # Errors
    /// As for [`write_all`](Self::write_all).
    pub async fn write_changed(
        &self,
        snapshot: &Snapshot,
        mut encode: impl FnMut(u32) -> Bytes,
    ) -> Result<WrittenGroups> {
        if snapshot.savepoint().is_some() {
            return self.write_all(snapshot, encode).await;
        }
        let changes = self.changes().groups.clone();
        let base = self.book.base(snapshot).unwrap_or_default();
        let (mut groups, mut counts) = (Vec::new(), GroupCounts::default());
        for group in self.groups() {
            let change = changes.get(&group).copied().unwrap_or_default();
            let known = base.get(&group).filter(|known| known.change == change);
            let piece = match known {
                Some(known) if may_keep(snapshot, known) => Piece::Kept(known.clone()),
                _ => Piece::New { change, written: self.write_group(snapshot, encode(group)).await? },
            };
            counts.add(&piece, self.head.len() as u64, known.is_some());
            groups.push((group, piece));
        }
        Ok(WrittenGroups::new(snapshot, Content::Each(groups), counts))
    }

    /// What the checkpoint's metadata is to say, once all is durable; `None` where there is no state at all. From here on
    /// the checkpoint is under way: say how it ends.
    ///
    /// # Errors
    /// `Invalid`: the groups were written for another snapshot.
    pub fn handle(&self, written: WrittenGroups, durable: &Durable) -> Result<Option<KeyedHandle>> {
        self.handle_by(written, |written| durable.handle(written))
    }

    /// As [`handle`](Self::handle), before anything is durable: for a coordinator that makes sure of the files, as with
    /// [`Snapshot::provisional`].
    ///
    /// # Errors
    /// As for [`handle`](Self::handle).
    pub fn provisional_handle(&self, written: WrittenGroups, snapshot: &Snapshot) -> Result<Option<KeyedHandle>> {
        self.handle_by(written, |written| snapshot.provisional(written))
    }

    /// The checkpoint is committed: what it has may be named again. Of several ends the first counts; idempotent, and
    /// legal in any order, as are [`aborted`](Self::aborted) and [`subsumed`](Self::subsumed).
    pub fn confirmed(&self, checkpoint: CheckpointId) {
        self.book.confirmed(checkpoint);
    }

    /// The checkpoint won't be committed: what it has is written again.
    pub fn aborted(&self, checkpoint: CheckpointId) {
        self.book.aborted(checkpoint);
    }

    /// The checkpoint was committed, and a newer one has taken its place. If nothing was heard of that one, nothing is
    /// known to be there.
    pub fn subsumed(&self, checkpoint: CheckpointId) {
        self.book.subsumed(checkpoint);
    }

    fn handle_by(
        &self,
        written: WrittenGroups,
        of: impl Fn(&Written) -> Result<Option<StreamHandle>>,
    ) -> Result<Option<KeyedHandle>> {
        let (checkpoint, savepoint) = (written.checkpoint, written.savepoint);
        let (handle, groups) = written.into_handle(&self.name, self.range, self.head.len(), of)?;
        if savepoint.is_none() {
            self.book.wrote(checkpoint, groups);
        }
        Ok(handle)
    }

    async fn write_group(&self, snapshot: &Snapshot, bytes: Bytes) -> Result<Option<(Written, u64)>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut writer = snapshot.segment(Scope::Shared, None);
        writer.write(self.head.clone()).await?;
        writer.write(bytes).await?;
        let position = writer.position();
        Ok(Some((writer.finish().await?, position)))
    }

    fn groups(&self) -> impl Iterator<Item = u32> + use<> {
        self.range.start..self.range.start + self.range.count
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        // No code between two changes that belong together can panic.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn may_keep(snapshot: &Snapshot, known: &Known) -> bool {
    known.handle.as_ref().is_none_or(|handle| snapshot.reuse(&handle.delegate) == Reuse::Keep)
}
