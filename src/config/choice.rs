//! The values of options that allow a few names only.

use serde::{Deserialize, Serialize};

/// An enum with the names by which Flink calls its values.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $(
                $(#[$variant_meta])*
                #[serde(rename = $text)]
                $variant,
            )*
        }

        impl $name {
            /// Flink's names, in order.
            pub const NAMES: &'static [&'static str] = &[$($text),*];

            /// Flink's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            pub(super) fn named(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

choice! {
    /// How often a record counts.
    CheckpointMode {
        /// Once, whatever fails.
        #[default]
        ExactlyOnce = "EXACTLY_ONCE",
        /// Once or more often.
        AtLeastOnce = "AT_LEAST_ONCE",
    }
}

choice! {
    /// Are a job's coordinators kept apart by claims in its directory?
    Fencing {
        /// Where the store can do it; else a warning.
        #[default]
        Auto = "auto",
        /// Or no coordinator starts.
        Required = "required",
        /// No: that there is one at a time is for others to see to.
        Off = "off",
    }
}

choice! {
    /// What happens to a job's retained checkpoints when the job ends.
    Retention {
        /// They are deleted when the job is cancelled, and kept when it fails.
        DeleteOnCancellation = "DELETE_ON_CANCELLATION",
        /// They are kept.
        RetainOnCancellation = "RETAIN_ON_CANCELLATION",
        /// They are deleted.
        #[default]
        NoExternalized = "NO_EXTERNALIZED_CHECKPOINTS",
    }
}

choice! {
    /// Who owns the checkpoint that a job was restored from.
    ClaimMode {
        /// The job: it deletes it when it is no longer needed.
        Claim = "CLAIM",
        /// Whoever made it: the job's first checkpoint is complete without it.
        #[default]
        NoClaim = "NO_CLAIM",
        /// Whoever made it, but the job builds on it until nothing of it is used any more.
        Legacy = "LEGACY",
    }
}

/// The package of Flink's storages.
const CLASSES: &str = "org.apache.flink.runtime.state.storage.";
/// Of its older state backends.
const BACKENDS: &str = "org.apache.flink.runtime.state.";

/// Where checkpoints go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StorageKind {
    /// Nothing is given: to the checkpoint directory if there is one, else to the job manager.
    #[default]
    Unset,
    /// To the job manager's memory.
    JobManager,
    /// To the checkpoint directory.
    FileSystem,
}

impl StorageKind {
    /// `None`: it is a factory of others', which nothing here opens.
    pub(super) fn named(name: &str) -> Option<Self> {
        let class = name.strip_prefix(CLASSES).map(|class| class.strip_suffix("Factory").unwrap_or(class));
        match (name.to_ascii_lowercase().as_str(), class) {
            ("jobmanager", _) | (_, Some("JobManagerCheckpointStorage")) => Some(Self::JobManager),
            ("filesystem", _) | (_, Some("FileSystemCheckpointStorage")) => Some(Self::FileSystem),
            _ => None,
        }
    }

    /// What the older name of a state backend says of the storage, before the two were separate: those names stood for the
    /// state in memory, with its checkpoints either there, too, or in files.
    pub(super) fn of_backend(name: &str) -> Option<Self> {
        let backend = name.strip_prefix(BACKENDS).map(|class| class.strip_suffix("Factory").unwrap_or(class));
        match (name.to_ascii_lowercase().as_str(), backend) {
            ("jobmanager", _) | (_, Some("memory.MemoryStateBackend")) => Some(Self::JobManager),
            ("filesystem", _) | (_, Some("filesystem.FsStateBackend")) => Some(Self::FileSystem),
            _ => None,
        }
    }

    /// As it is configured; `None` if it isn't.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Unset => None,
            Self::JobManager => Some("jobmanager"),
            Self::FileSystem => Some("filesystem"),
        }
    }
}
