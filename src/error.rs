//! What can go wrong, in a few kinds that say what the caller can do.

use std::error::Error as StdError;
use std::fmt;

/// The result of most of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and why.
///
/// Its text says what was being done, the thing's name and the problem. [`source`](StdError::source) gives the store's
/// own error where there is one; [`one_line`](Self::one_line) has both.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing named doesn't exist: name another, or look for where it went.
    NotFound,
    /// The thing named is there but isn't what it must be: restore it from elsewhere.
    Damaged,
    /// An argument or a setting is wrong: change it.
    Invalid,
    /// Something is already where the result should go: choose another place.
    Conflict,
    /// Somebody newer has taken over, or the job has ended: stop.
    Fenced,
    /// This build or this store can't do it.
    Unsupported,
    /// The store failed: try again, or see its own error. A write may have succeeded all the same.
    Store,
}

impl Error {
    /// An error with a text of its own.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the error beneath.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what was being done before the text.
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The text and the causes beneath it, in one line.
    pub fn one_line(&self) -> String {
        let mut line = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line = format!("{line}: {text}");
            }
            cause = error.source();
        }
        line
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// Bytes that aren't what their format says: where, in which field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at offset {offset}, {field}: {problem}")]
pub struct FormatError {
    /// The byte at which the field starts.
    pub offset: u64,
    /// The field, from the outside in.
    pub field: String,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

impl FormatError {
    /// An [`Error`] that names the file.
    pub fn in_file(self, file: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Damaged, format!("{file}: {self}"))
    }
}
