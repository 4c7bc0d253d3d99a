//! The types of options: how a text is read, and which values are allowed.

use std::fmt;
use std::time::Duration;

use super::{FlinkDuration, MemorySize, StorageKind, java_trim};
use crate::path::FlinkPath;

/// The type of an option, with the range of what is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// `true` or `false`, in any case and without blanks.
    Bool,
    /// A whole number.
    Int {
        /// The least that is allowed.
        min: i64,
        /// The most that is allowed.
        max: i64,
    },
    /// A whole number, of which what is below 1 counts as 1.
    Count,
    /// A number as Java reads one: `2`, `1.5`, `2f`, `1e1`, `NaN`, `Infinity`. Not its hexadecimal form.
    Float {
        /// The least that is allowed; with -Infinity, NaN is allowed, too.
        min: f64,
    },
    /// A [`MemorySize`].
    Memory {
        /// The fewest bytes that are allowed.
        min: u64,
        /// The most bytes that are allowed.
        max: u64,
    },
    /// Bytes, as a whole number without a unit.
    Bytes {
        /// The fewest bytes that are allowed; -1 where that means none.
        min: i64,
    },
    /// A [`FlinkDuration`].
    Duration {
        /// The shortest that is allowed.
        min: Duration,
        /// Whether 0 is allowed all the same, to switch something off.
        off: bool,
    },
    /// One of these names, in any case.
    OneOf(&'static [&'static str]),
    /// What names a [`StorageKind`].
    Storage,
    /// The name of something that others know, also of a class.
    Name,
    /// A [`FlinkPath`](crate::store::FlinkPath).
    Path,
    /// Absolute local paths, separated by commas or colons, or a YAML list.
    Paths,
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`], [`Kind::Count`] and [`Kind::Bytes`].
    Int(i64),
    /// Of [`Kind::Float`].
    Float(f64),
    /// Of [`Kind::Memory`].
    Memory(MemorySize),
    /// Of [`Kind::Duration`].
    Duration(FlinkDuration),
    /// Of [`Kind::OneOf`] and [`Kind::Storage`], as the option spells it, and [`Kind::Name`].
    Text(String),
    /// Of [`Kind::Path`].
    Path(FlinkPath),
    /// Of [`Kind::Paths`].
    Paths(Vec<String>),
}

const MAX_INT: i64 = i32::MAX as i64;

impl Kind {
    /// Reads a text. The error is what is wrong and what is allowed.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let value = match self {
            Self::Bool => bool(text).map(Value::Bool),
            // What Java takes, but for digits of other scripts.
            Self::Int { .. } | Self::Count | Self::Bytes { .. } => text.parse().ok().map(Value::Int),
            Self::Float { .. } => float(text).map(Value::Float),
            // Their own errors say more than whether it is one.
            Self::Memory { .. } => return self.within(Value::Memory(text.parse().map_err(own)?)),
            Self::Duration { .. } => return self.within(Value::Duration(text.parse().map_err(own)?)),
            Self::OneOf(names) => {
                let found = names.iter().find(|name| name.eq_ignore_ascii_case(text));
                found.map(|name| Value::Text((*name).to_string()))
            }
            Self::Storage => {
                StorageKind::named(text).and_then(|storage| Some(Value::Text(storage.name()?.to_string())))
            }
            Self::Name => Some(Value::Text(text.to_string())),
            Self::Path => {
                let path = FlinkPath::parse(text).and_then(|path| path.check_key().map(|()| path));
                return path.map(Value::Path).map_err(|e| format!("{}; allowed: {}", own(e), self.allowed()));
            }
            Self::Paths => Some(Value::Paths(paths(text))),
        };
        self.within(value.ok_or_else(|| format!("allowed: {}", self.allowed()))?)
    }

    /// Whether a value is in the range. The error is what is allowed.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let good = match (self, value) {
            (Self::Int { min, max }, Value::Int(number)) => (min..=max).contains(&number),
            (Self::Count, Value::Int(number)) => i32::try_from(*number).is_ok(),
            (Self::Bytes { min }, Value::Int(number)) => (*min..=MAX_INT).contains(number),
            (Self::Float { min }, Value::Float(number)) => number >= min || *min == f64::NEG_INFINITY,
            (Self::Memory { min, max }, Value::Memory(size)) => (min..=max).contains(&&size.0),
            (Self::Duration { min, off }, Value::Duration(length)) => length.0 >= *min || *off && length.0.is_zero(),
            (Self::OneOf(names), Value::Text(name)) => names.contains(&name.as_str()),
            (Self::Storage, Value::Text(name)) => StorageKind::named(name).is_some(),
            // A path or a URL has strayed here, and who knows what with it.
            (Self::Name, Value::Text(name)) => !name.is_empty() && !name.contains([':', '/', '@', '?']),
            (Self::Bool, Value::Bool(_)) | (Self::Path, Value::Path(_)) => true,
            // Flink takes blanks around a path for a part of it, and relative ones from wherever it was started.
            (Self::Paths, Value::Paths(paths)) => paths.iter().all(|path| path.starts_with('/') && path.trim() == path),
            _ => false,
        };
        if good { Ok(()) } else { Err(format!("allowed: {}", self.allowed())) }
    }

    fn within(&self, value: Value) -> Result<Value, String> {
        self.check(&value).map(|()| value)
    }

    /// A field's value as its option has it: some sizes are given without a unit.
    pub(super) fn spelled(&self, value: Value) -> Value {
        match (self, value) {
            (Self::Bytes { .. }, Value::Memory(size)) => Value::Int(i64::try_from(size.0).unwrap_or(i64::MAX)),
            (_, value) => value,
        }
    }

    /// The type's name, for a table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int { .. } | Self::Count => "int",
            Self::Float { .. } => "float",
            Self::Memory { .. } => "memory",
            Self::Bytes { .. } => "bytes",
            Self::Duration { .. } => "duration",
            Self::OneOf(_) | Self::Storage => "enum",
            Self::Name => "string",
            Self::Path => "path",
            Self::Paths => "paths",
        }
    }

    /// Which values are allowed, in words.
    pub fn allowed(&self) -> String {
        match *self {
            Self::Bool => "true or false".into(),
            Self::Int { min, max } => format!("a whole number from {min} to {max}"),
            Self::Count => format!("a whole number from 1 to {MAX_INT}; what is below 1 counts as 1"),
            Self::Float { min: f64::NEG_INFINITY } => "a number, as in 2, 1.5, 1e1, NaN".into(),
            Self::Float { min } => format!("a number from {min} up, as in 2, 1.5, 1e1"),
            Self::Memory { min: 0, max } if max >= i64::MAX as u64 => "a size, as in 32mb".into(),
            Self::Memory { min: 1, max } if max >= i64::MAX as u64 => "a size above 0, as in 32mb".into(),
            Self::Memory { min, max } => format!("a size from {} to {}", MemorySize(min), MemorySize(max)),
            Self::Bytes { min } => format!("a whole number of bytes from {min} to {MAX_INT}, without a unit"),
            Self::Duration { min, .. } if min.is_zero() => "a duration, as in 10 s".into(),
            Self::Duration { min, off: true } => format!("0 (off), or a duration from {} up", FlinkDuration(min)),
            Self::Duration { min, off: false } => format!("a duration from {} up", FlinkDuration(min)),
            Self::OneOf(names) => names.join(", "),
            Self::Storage => "filesystem, jobmanager, or what Flink calls its classes for them".into(),
            Self::Name => "a name, also of a class".into(),
            Self::Path => "an absolute path, as in /x or s3://bucket/x".into(),
            Self::Paths => "absolute local paths, separated by commas without blanks, or a list in YAML".into(),
        }
    }
}

/// The error's own words are about the value, which the caller names already.
fn own(error: crate::error::Error) -> String {
    error.to_string()
}

fn bool(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// What Java's `Float.parseFloat` takes, but for its hexadecimal form: blanks around it, a sign, the type as a suffix.
fn float(text: &str) -> Option<f64> {
    let trimmed = java_trim(text);
    let unsigned = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if matches!(unsigned, "NaN" | "Infinity") {
        return trimmed.parse().ok();
    }
    let digits = trimmed.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(trimmed);
    // Rust also reads `inf` and `nan`, in any case.
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    if digits.chars().all(numeric) { digits.parse().ok() } else { None }
}

/// As Flink splits them on Unix; and the text that a YAML list has become.
fn paths(text: &str) -> Vec<String> {
    let listed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let pieces = match listed {
        Some(inside) => inside.split(", ").collect::<Vec<_>>(),
        None => text.split([',', ':']).collect(),
    };
    pieces.into_iter().filter(|piece| !piece.is_empty()).map(str::to_string).collect()
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            // As Java writes it, and Rust doesn't.
            Self::Float(f64::INFINITY) => f.write_str("Infinity"),
            Self::Float(f64::NEG_INFINITY) => f.write_str("-Infinity"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Memory(value) => write!(f, "{value}"),
            Self::Duration(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::Path(value) => write!(f, "{value}"),
            Self::Paths(values) => {
                let joined = values.join(",");
                // With commas, colons or brackets in them only YAML's way tells them apart.
                if paths(&joined) == *values { f.write_str(&joined) } else { write!(f, "[{}]", values.join(", ")) }
            }
        }
    }
}
