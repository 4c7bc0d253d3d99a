//! What can be said about a configuration: problems, which must be mended, and warnings.

use std::fmt;

/// Where something is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, where its name is known.
    pub file: Option<String>,
    /// The line, counted from 1, where it comes from a file.
    pub line: Option<u64>,
}

/// A setting that can't be used. Its text names the key, the value, what is wrong and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as it is given.
    pub key: String,
    /// The value, as it is given; stars in its place where it may hold a password or a key.
    pub value: String,
    /// Where.
    pub place: Place,
    /// What is wrong, and what is allowed.
    pub text: String,
}

/// Something to look at. Its text names the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// The key, as it is given. Empty: it is unknown, of a line that can't be read.
    pub key: String,
    /// Where.
    pub place: Place,
    /// What to know.
    pub text: String,
}

/// What a [`Warning`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WarningKind {
    /// No option has this key.
    Unknown,
    /// The key has been replaced by another.
    Deprecated,
    /// The option is given more than once.
    Overridden,
    /// Another value than the given one is used.
    Adjusted,
    /// The setting has no effect.
    Ineffective,
    /// A line that can't be read was passed over.
    Unreadable,
}

impl WarningKind {
    /// In one lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Deprecated => "deprecated",
            Self::Overridden => "overridden",
            Self::Adjusted => "adjusted",
            Self::Ineffective => "ineffective",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Place {
    /// In front of a message; empty if nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: "),
            (Some(file), None) => write!(f, "{file}: "),
            (None, Some(line)) => write!(f, "line {line}: "),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}={}: {}", self.place, self.key, self.value, self.text)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}{}", self.place, self.text),
            key => write!(f, "{}{key}: {}", self.place, self.text),
        }
    }
}
