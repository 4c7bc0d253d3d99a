//! The properties at the end of a metadata file: one object that Java serialised.
//!
//! Nothing is deserialised: an object is compared with the few that Flink writes, which also tells where it ends. Any
//! other is kept as it is.

use std::fmt;

use bytes::Bytes;

pub use crate::protocol::{SavepointAction, SavepointFormat};

/// Null, serialised.
pub const NULL: &[u8] = b"\xac\xed\x00\x05p";

const STREAM_HEADER: &[u8] = b"\xac\xed\x00\x05";

/// Stream header, then the class of the properties with its fields; seven flags follow.
const PREFIX: &[u8; 258] = b"\
    \xac\xed\x00\x05sr\x008org.apache.flink.runtime.checkpoint.CheckpointProperties\x00\x00\x00\x00\x00\x00\x00\
    \x02\x02\x00\x08Z\x00\x10discardCancelledZ\x00\x0ddiscardFailedZ\x00\x0fdiscardFinishedZ\x00\x0fdiscardSubsu\
    medZ\x00\x10discardSuspendedZ\x00\x06forcedZ\x00\x09unclaimedL\x00\x0echeckpointTypet\x002Lorg/apache/flink/\
    runtime/checkpoint/SnapshotType;xp";

/// The class `CheckpointType`; its name follows.
const CHECKPOINT_TYPE: &[u8; 192] = b"\
    sr\x002org.apache.flink.runtime.checkpoint.CheckpointType\xd6\xdeO\x03\x05\xae\x1d:\x02\x00\x02L\x00\x04name\
    t\x00\x12Ljava/lang/String;L\x00\x14sharingFilesStrategyt\x00GLorg/apache/flink/runtime/checkpoint/SnapshotT\
    ype$SharingFilesStrategy;xp";

/// The enum `SharingFilesStrategy`; its constant's name follows.
const SHARING_STRATEGY: &[u8; 115] = b"\
    ~r\x00Eorg.apache.flink.runtime.checkpoint.SnapshotType$SharingFilesStrategy\x00\x00\x00\x00\x00\x00\x00\x00\
    \x12\x00\x00xr\x00\x0ejava.lang.Enum\x00\x00\x00\x00\x00\x00\x00\x00\x12\x00\x00xp";

/// The class `SavepointType` and the enum `SavepointFormatType`; the constant's name and the type's name follow.
const SAVEPOINT_TYPE: &[u8; 358] = b"\
    sr\x001org.apache.flink.runtime.checkpoint.SavepointType\xa0\x87\xd3\x08\xa4X\x14\xb8\x02\x00\x03L\x00\x0afo\
    rmatTypet\x005Lorg/apache/flink/core/execution/SavepointFormatType;L\x00\x04namet\x00\x12Ljava/lang/String;L\
    \x00\x14postCheckpointActiont\x00HLorg/apache/flink/runtime/checkpoint/SavepointType$PostCheckpointAction;xp\
    ~r\x003org.apache.flink.core.execution.SavepointFormatType\x00\x00\x00\x00\x00\x00\x00\x00\x12\x00\x00xr\x00\
    \x0ejava.lang.Enum\x00\x00\x00\x00\x00\x00\x00\x00\x12\x00\x00xp";

/// The enum `PostCheckpointAction`; its constant's name follows.
const POST_CHECKPOINT_ACTION: &[u8; 91] = b"\
    ~r\x00Forg.apache.flink.runtime.checkpoint.SavepointType$PostCheckpointAction\x00\x00\x00\x00\x00\x00\x00\
    \x00\x12\x00\x00xq\x00~\x00\x09";

/// What kind of snapshot a metadata file is of, and when it may be discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Properties {
    /// The kind.
    pub kind: PropertiesKind,
    /// Discard it when the job is cancelled.
    pub discard_cancelled: bool,
    /// Discard it when the job fails.
    pub discard_failed: bool,
    /// Discard it when the job finishes.
    pub discard_finished: bool,
    /// Discard it when a newer one replaces it.
    pub discard_subsumed: bool,
    /// Discard it when the job is suspended.
    pub discard_suspended: bool,
    /// Taken whatever the limits on concurrent checkpoints said.
    pub forced: bool,
    /// Belongs to the user after a restore that claimed nothing.
    pub unclaimed: bool,
}

/// The kind of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PropertiesKind {
    /// An ordinary checkpoint.
    Checkpoint,
    /// A checkpoint that shares no file with earlier ones.
    FullCheckpoint,
    /// A savepoint.
    Savepoint(SavepointFormat, SavepointAction),
}

/// Serialised properties, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PropertiesRead {
    /// None were given.
    Null,
    /// As Flink writes them.
    Known(Properties),
    /// Something else.
    Other,
}

/// What the start of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recognised {
    Null,
    /// Properties, and how many bytes they take.
    Known(Properties, usize),
    /// An object of another kind; where it ends is unknown.
    Other,
    /// Right so far, but there is too little.
    CutShort,
    /// Not what Java serialised.
    NotJava,
}

impl PropertiesKind {
    const ALL: [Self; 8] = {
        use SavepointAction::{None, Suspend, Terminate};
        use SavepointFormat::{Canonical, Native};
        [
            Self::Checkpoint,
            Self::FullCheckpoint,
            Self::Savepoint(Canonical, None),
            Self::Savepoint(Native, None),
            Self::Savepoint(Canonical, Terminate),
            Self::Savepoint(Native, Terminate),
            Self::Savepoint(Canonical, Suspend),
            Self::Savepoint(Native, Suspend),
        ]
    };

    /// What Flink calls it, such as `Full Checkpoint`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "Checkpoint",
            Self::FullCheckpoint => "Full Checkpoint",
            Self::Savepoint(_, SavepointAction::None) => "Savepoint",
            Self::Savepoint(_, SavepointAction::Terminate) => "Terminate Savepoint",
            Self::Savepoint(_, SavepointAction::Suspend) => "Suspend Savepoint",
        }
    }

    fn sharing(self) -> &'static str {
        match self {
            Self::Checkpoint => "FORWARD_BACKWARD",
            Self::FullCheckpoint => "FORWARD",
            Self::Savepoint(..) => "NO_SHARING",
        }
    }

    /// What follows the flags.
    fn suffix(self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Checkpoint | Self::FullCheckpoint => {
                out.extend_from_slice(CHECKPOINT_TYPE);
                push_string(&mut out, self.name());
                out.extend_from_slice(SHARING_STRATEGY);
                push_string(&mut out, self.sharing());
            }
            Self::Savepoint(format, action) => {
                out.extend_from_slice(SAVEPOINT_TYPE);
                push_string(&mut out, format.name());
                push_string(&mut out, self.name());
                out.extend_from_slice(POST_CHECKPOINT_ACTION);
                push_string(&mut out, action.name());
            }
        }
        out
    }
}

/// A new string object, in ASCII.
fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b't');
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl Properties {
    /// Reads a whole properties object, such as [`CheckpointMetadata::properties`].
    ///
    /// [`CheckpointMetadata::properties`]: crate::handle::CheckpointMetadata::properties
    pub fn read(bytes: &[u8]) -> PropertiesRead {
        match recognise(bytes) {
            Recognised::Null if bytes.len() == NULL.len() => PropertiesRead::Null,
            Recognised::Known(properties, len) if bytes.len() == len => PropertiesRead::Known(properties),
            _ => PropertiesRead::Other,
        }
    }

    /// Serialises it as Java would.
    pub fn encode(&self) -> Bytes {
        let mut out = PREFIX.to_vec();
        out.extend(self.flags().map(u8::from));
        out.extend(self.kind.suffix());
        Bytes::from(out)
    }

    /// In the order of the serialised form.
    fn flags(&self) -> [bool; 7] {
        [
            self.discard_cancelled,
            self.discard_failed,
            self.discard_finished,
            self.discard_subsumed,
            self.discard_suspended,
            self.forced,
            self.unclaimed,
        ]
    }

    fn from_flags(kind: PropertiesKind, flags: [bool; 7]) -> Self {
        let [
            discard_cancelled,
            discard_failed,
            discard_finished,
            discard_subsumed,
            discard_suspended,
            forced,
            unclaimed,
        ] = flags;
        Self {
            kind,
            discard_cancelled,
            discard_failed,
            discard_finished,
            discard_subsumed,
            discard_suspended,
            forced,
            unclaimed,
        }
    }
}

/// What do the bytes start with?
pub(super) fn recognise(bytes: &[u8]) -> Recognised {
    if bytes.starts_with(NULL) {
        return Recognised::Null;
    }
    if !bytes.starts_with(STREAM_HEADER) {
        return if STREAM_HEADER.starts_with(bytes) { Recognised::CutShort } else { Recognised::NotJava };
    }
    let Some(behind_prefix) = bytes.strip_prefix(PREFIX) else {
        return if PREFIX.starts_with(bytes) { Recognised::CutShort } else { Recognised::Other };
    };
    let Some((flags, suffix)) = behind_prefix.split_first_chunk::<7>() else { return Recognised::CutShort };
    if flags.iter().any(|&flag| flag > 1) {
        return Recognised::Other;
    }
    let mut cut_short = false;
    for kind in PropertiesKind::ALL {
        let expected = kind.suffix();
        if suffix.starts_with(&expected) {
            let properties = Properties::from_flags(kind, flags.map(|flag| flag == 1));
            return Recognised::Known(properties, PREFIX.len() + flags.len() + expected.len());
        }
        cut_short |= expected.starts_with(suffix);
    }
    if cut_short { Recognised::CutShort } else { Recognised::Other }
}

impl fmt::Display for PropertiesKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint | Self::FullCheckpoint => {
                write!(f, "CheckpointType{{name='{}', sharingFilesStrategy={}}}", self.name(), self.sharing())
            }
            Self::Savepoint(format, action) => write!(
                f,
                "SavepointType{{name='{}', postCheckpointAction={}, formatType={}}}",
                self.name(),
                action.name(),
                format.name()
            ),
        }
    }
}

impl fmt::Display for Properties {
    /// As Flink prints them, which leaves out `unclaimed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointProperties{{forced={}, checkpointType={}", self.forced, self.kind)?;
        write!(f, ", discardSubsumed={}, discardFinished={}", self.discard_subsumed, self.discard_finished)?;
        write!(f, ", discardCancelled={}, discardFailed={}", self.discard_cancelled, self.discard_failed)?;
        write!(f, ", discardSuspended={}}}", self.discard_suspended)
    }
}

impl fmt::Display for PropertiesRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Known(properties) => properties.fmt(f),
            Self::Other => f.write_str("not properties that Flink writes"),
        }
    }
}
