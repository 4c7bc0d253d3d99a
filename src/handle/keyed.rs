//! Keyed state: whole key groups, incremental sets of files, and changelogs.

use bytes::Bytes;

use super::{JavaString, StreamHandle};
use crate::id::KeyGroupRange;

/// Keyed state of one subtask. Where the encoding has had several forms, the fields say which one was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyedHandle {
    /// All key groups in one stream.
    KeyGroups(KeyGroupsHandle),
    /// The immutable files of a database, of which later checkpoints reuse some.
    Incremental(IncrementalHandle),
    /// Materialised state and the changes since.
    Changelog(ChangelogHandle),
    /// Changes, inline.
    ChangelogMemory(ChangelogMemoryHandle),
    /// Changes, in files.
    ChangelogFiles(ChangelogFilesHandle),
}

impl KeyedHandle {
    /// The key groups that it is of.
    pub fn range(&self) -> KeyGroupRange {
        match self {
            KeyedHandle::KeyGroups(handle) => handle.range,
            KeyedHandle::Incremental(handle) => handle.range,
            KeyedHandle::Changelog(handle) => handle.range,
            KeyedHandle::ChangelogMemory(handle) => handle.range,
            KeyedHandle::ChangelogFiles(handle) => handle.range,
        }
    }
}

/// All key groups in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGroupsHandle {
    /// Which of its encodings.
    pub form: KeyGroupsForm,
    /// The key groups.
    pub range: KeyGroupRange,
    /// Where each group starts, relative to the stream; as many as the range has groups.
    pub offsets: Vec<i64>,
    /// The bytes.
    pub delegate: StreamHandle,
    /// CRC-32C of the head and of each group, in the order in which they lie in the stream, those without bytes left out;
    /// empty where nobody has worked them out. Flink knows nothing of them: they are kept behind its part of the metadata,
    /// and not at all where the bytes are inline. Who cuts a handle to fewer groups has to clear them.
    pub checksums: Vec<u32>,
}

/// Head and groups of a stream get checksums of their own where they have so many bytes on average: these take no more
/// than a 64th of the state then. Shorter ones are better read all together, and checked by the one of the stream.
pub const CHECKSUMMED_BYTES_MIN: u64 = 256;

/// The encodings of [`KeyGroupsHandle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyGroupsForm {
    /// With the handle's id (Flink 1.15 and later).
    WithId(JavaString),
    /// Without one (Flink 1.14 and earlier).
    WithoutId,
    /// Of a canonical savepoint.
    Savepoint,
}

/// The files of a database's snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncrementalHandle {
    /// The checkpoint that it was made for.
    pub checkpoint_id: i64,
    /// The database instance, a UUID as text.
    pub backend_id: JavaString,
    /// The key groups.
    pub range: KeyGroupRange,
    /// Bytes newly persisted by this checkpoint, and the handle's id; absent in the encoding of Flink 1.14 and earlier.
    pub persisted: Option<(i64, JavaString)>,
    /// The database's own metadata; null is legal.
    pub meta: Option<StreamHandle>,
    /// Files that later checkpoints may reuse.
    pub shared: Vec<LocalPathHandle>,
    /// Files of this checkpoint alone.
    pub private: Vec<LocalPathHandle>,
}

/// A stream and the name of the local file that it is a copy of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPathHandle {
    /// The file's name in the database's directory.
    pub local_path: JavaString,
    /// The bytes; null is legal.
    pub handle: Option<StreamHandle>,
}

/// Materialised state and the changes since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangelogHandle {
    /// The key groups.
    pub range: KeyGroupRange,
    /// Bytes newly persisted by this checkpoint.
    pub persisted_size: i64,
    /// The state as last materialised.
    pub materialized: Vec<KeyedHandle>,
    /// The changes since.
    pub changes: Vec<KeyedHandle>,
    /// Which materialisation.
    pub materialization_id: i64,
    /// The checkpoint it was made for; absent in the older encoding.
    pub checkpoint_id: Option<i64>,
    /// The handle's id.
    pub id: JavaString,
}

/// Changes `from .. to`, inline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangelogMemoryHandle {
    /// The key groups.
    pub range: KeyGroupRange,
    /// First sequence number.
    pub from: i64,
    /// Sequence number after the last.
    pub to: i64,
    /// The changes.
    pub changes: Vec<StateChange>,
    /// The handle's id.
    pub id: JavaString,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The key group; −1 is a change of the state's metadata.
    pub key_group: i32,
    /// The change, in the backend's encoding.
    pub bytes: Bytes,
}

/// Changes in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangelogFilesHandle {
    /// The key groups.
    pub range: KeyGroupRange,
    /// The files, and where in each to start reading.
    pub streams: Vec<(i64, Option<StreamHandle>)>,
    /// Bytes in all.
    pub size: i64,
    /// Bytes newly persisted by this checkpoint.
    pub incremental_size: i64,
    /// The handle's id.
    pub id: JavaString,
    /// The changelog storage; absent in the older encoding, which means `filesystem`.
    pub storage: Option<JavaString>,
}
