//! What an option is: its key, its older keys, its type, its default, who uses it, and what it means.

use std::fmt;

use super::{Kind, Value};

/// An option, as the [catalogue](super::catalogue) declares it.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConfigOption {
    /// The key.
    pub key: &'static str,
    /// Other keys that give it, first that counts first.
    pub older: &'static [Older],
    /// Its type, and what is allowed.
    pub kind: Kind,
    /// What holds when nothing is given.
    pub default: Option<&'static str>,
    /// Who acts on it.
    pub user: User,
    /// What it is about: options of one group belong together.
    pub group: &'static str,
    /// What it means, in a sentence.
    pub sentence: &'static str,
}

/// Another key for an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older {
    /// The key.
    pub key: &'static str,
    /// Whether it should be replaced. Otherwise it is an option of its own, from which this one takes its value.
    pub deprecated: bool,
}

/// Who acts on an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Drystone's storage layer.
    Storage,
    /// Whoever triggers checkpoints and restores them.
    Scheduler,
    /// Other parts of a stream processor.
    Engine,
    /// Nobody here yet: it is read, checked and carried for the caller.
    Carried,
}

impl ConfigOption {
    /// The default as a value.
    pub fn default_value(&self) -> Option<Value> {
        self.default.and_then(|text| self.kind.parse(text).ok())
    }

    /// Every key that gives it, first that counts first.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.key).chain(self.older.iter().map(|older| older.key))
    }

    /// Whether a key is one of its deprecated spellings.
    pub(super) fn deprecates(&self, key: &str) -> bool {
        self.older.iter().any(|older| older.deprecated && older.key == key)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Storage => "storage",
            Self::Scheduler => "scheduler",
            Self::Engine => "engine",
            Self::Carried => "carried",
        })
    }
}
