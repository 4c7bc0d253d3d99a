//! Sizes in bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{java_trim, number_and_unit};
use crate::error::{Error, ErrorKind};

/// A number of bytes, written as Flink writes it: `32mb`, `20 kb`, `1024` (no unit: bytes).
///
/// Units, in any case: `b`, `bytes`; `k`, `kb`, `kibibytes`; `m`, `mb`, `mebibytes`; `g`, `gb`, `gibibytes`; `t`, `tb`,
/// `tebibytes`. Each is 1,024 of the one before. No sign and no fraction. At most 2^63 - 1 bytes can be read.
///
/// ```
/// use drystone::config::MemorySize;
/// assert_eq!("32mb".parse::<MemorySize>()?, MemorySize(32 << 20));
/// assert_eq!(MemorySize(20 << 10).to_string(), "20 kb");
/// # Ok::<(), drystone::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemorySize(pub u64);

const ALLOWED: &str = "digits, then nothing or one of b, bytes, k, kb, kibibytes, m, mb, mebibytes, g, gb, gibibytes, t, \
                       tb, tebibytes, as in 32mb";

impl FromStr for MemorySize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid =
            |problem: &str| Error::new(ErrorKind::Invalid, format!("size '{text}' {problem}; allowed: {ALLOWED}"));
        let (number, unit) = number_and_unit(java_trim(text));
        if number.is_empty() {
            return Err(invalid("doesn't start with a digit"));
        }
        let multiplier = match unit.as_str() {
            "" | "b" | "bytes" => 1_u64,
            "k" | "kb" | "kibibytes" => 1 << 10,
            "m" | "mb" | "mebibytes" => 1 << 20,
            "g" | "gb" | "gibibytes" => 1 << 30,
            "t" | "tb" | "tebibytes" => 1 << 40,
            _ => return Err(invalid("has an unknown unit")),
        };
        let bytes = number.parse().ok().and_then(|n: u64| n.checked_mul(multiplier));
        match bytes.filter(|b| i64::try_from(*b).is_ok()) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(invalid("is more than 9223372036854775807 bytes")),
        }
    }
}

impl fmt::Display for MemorySize {
    /// The largest unit that divides exactly, as Flink has it: whole tebibytes are written in bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(1, "bytes"), (1 << 10, "kb"), (1 << 20, "mb"), (1 << 30, "gb")];
        let mut largest = UNITS[0];
        if !self.0.is_multiple_of(1 << 40) {
            for unit in UNITS {
                if self.0.is_multiple_of(unit.0) {
                    largest = unit;
                }
            }
        }
        write!(f, "{} {}", self.0 / largest.0, largest.1)
    }
}

impl TryFrom<String> for MemorySize {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<MemorySize> for String {
    fn from(size: MemorySize) -> Self {
        size.to_string()
    }
}
