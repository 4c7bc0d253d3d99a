//! Lengths of time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{java_trim, number_and_unit};
use crate::error::{Error, ErrorKind};

/// A length of time, written as Flink writes it: `10 min`, `500` (no unit: milliseconds), or ISO-8601 (`PT1H30M`).
///
/// Units, in any case: `d`, `h`, `min` or `m`, `s`, `ms`, `µs`, `ns`, and their names in words (`day`, `hours`, `sec`,
/// `millis` and so on). No sign and no fraction, save for the seconds of ISO-8601. At most 2^63 - 1 seconds can be read.
///
/// ```
/// use drystone::config::FlinkDuration;
/// use std::time::Duration;
/// assert_eq!("10 min".parse::<FlinkDuration>()?, FlinkDuration(Duration::from_secs(600)));
/// assert_eq!(FlinkDuration(Duration::from_millis(1500)).to_string(), "1500 ms");
/// # Ok::<(), drystone::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlinkDuration(pub Duration);

const ALLOWED: &str = "digits, then nothing (milliseconds) or one of d, h, min, s, ms, µs, ns, as in 10 min; or ISO-8601, \
                       as in PT1H30M";
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Why a text isn't a duration.
type Problem = &'static str;
const OVERFLOW: Problem = "is more than 9223372036854775807 seconds";
const NOT_ISO: Problem = "starts with no digit and isn't ISO-8601";

impl FromStr for FlinkDuration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let trimmed = java_trim(text);
        let parsed = match number_and_unit(trimmed) {
            ("", _) => iso_nanos(trimmed),
            (number, unit) => unit_nanos(number, &unit),
        };
        parsed.and_then(from_nanos).map_err(|problem| {
            Error::new(ErrorKind::Invalid, format!("duration '{text}' {problem}; allowed: {ALLOWED}"))
        })
    }
}

fn unit_nanos(number: &str, unit: &str) -> Result<u128, Problem> {
    let multiplier: u128 = match unit {
        "d" | "day" | "days" => 86_400 * NANOS_PER_SECOND,
        "h" | "hour" | "hours" => 3_600 * NANOS_PER_SECOND,
        "min" | "m" | "minute" | "minutes" => 60 * NANOS_PER_SECOND,
        "s" | "sec" | "secs" | "second" | "seconds" => NANOS_PER_SECOND,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        _ => return Err("has an unknown unit"),
    };
    number.parse().ok().and_then(|n: u128| n.checked_mul(multiplier)).ok_or(OVERFLOW)
}

fn from_nanos(nanos: u128) -> Result<FlinkDuration, Problem> {
    let seconds = i64::try_from(nanos / NANOS_PER_SECOND).map_err(|_| OVERFLOW)?;
    Ok(FlinkDuration(Duration::new(seconds.unsigned_abs(), (nanos % NANOS_PER_SECOND) as u32)))
}

/// What Java's `Duration.parse` takes: `[+-]P[nD][T[nH][nM][n[.f]S]]`, each number with a sign of its own.
fn iso_nanos(text: &str) -> Result<u128, Problem> {
    let upper = text.to_ascii_uppercase();
    let (negated, unsigned) = split_sign(&upper);
    let (date, time) = match unsigned.strip_prefix('P').ok_or(NOT_ISO)?.split_once('T') {
        // A T that nothing follows is no time.
        Some((_, "")) => return Err(NOT_ISO),
        Some((date, time)) => (date, time),
        None => (unsigned.strip_prefix('P').ok_or(NOT_ISO)?, ""),
    };
    if date.is_empty() && time.is_empty() {
        return Err(NOT_ISO);
    }
    let (days, rest) = take_field(date, 'D')?;
    if !rest.is_empty() {
        return Err(NOT_ISO);
    }
    let (hours, rest) = take_field(time, 'H')?;
    let (minutes, rest) = take_field(rest, 'M')?;
    let seconds = seconds_nanos(rest)?;
    let mut total = seconds;
    for (field, unit_seconds) in [(days, 86_400), (hours, 3_600), (minutes, 60)] {
        // Java's limit is each field's seconds in 64 bits, so that 128 bits hold their sum.
        let whole = field.checked_mul(unit_seconds).ok_or(OVERFLOW)?;
        total += i128::from(whole) * NANOS_PER_SECOND as i128;
    }
    u128::try_from(if negated { -total } else { total }).map_err(|_| "is negative")
}

/// The number before `unit` (0 if there is none) and the rest.
fn take_field(text: &str, unit: char) -> Result<(i64, &str), Problem> {
    match text.split_once(unit) {
        Some((number, rest)) => Ok((signed(number)?, rest)),
        None => Ok((0, text)),
    }
}

fn seconds_nanos(text: &str) -> Result<i128, Problem> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.strip_suffix('S').ok_or(NOT_ISO)?;
    let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NOT_ISO);
    }
    let nanos: i128 = format!("{fraction:0<9}").parse().map_err(|_| NOT_ISO)?;
    let nanos = if whole.starts_with('-') { -nanos } else { nanos };
    Ok(i128::from(signed(whole)?) * NANOS_PER_SECOND as i128 + nanos)
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn signed(number: &str) -> Result<i64, Problem> {
    let digits = split_sign(number).1;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NOT_ISO);
    }
    number.parse().map_err(|_| OVERFLOW)
}

impl fmt::Display for FlinkDuration {
    /// The largest unit that divides exactly; nothing at all is `0 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 7] = [
            (86_400 * NANOS_PER_SECOND, "d"),
            (3_600 * NANOS_PER_SECOND, "h"),
            (60 * NANOS_PER_SECOND, "min"),
            (NANOS_PER_SECOND, "s"),
            (1_000_000, "ms"),
            (1_000, "µs"),
            (1, "ns"),
        ];
        let nanos = self.0.as_nanos();
        match UNITS.iter().find(|(unit, _)| nanos != 0 && nanos.is_multiple_of(*unit)) {
            Some((unit, label)) => write!(f, "{} {label}", nanos / unit),
            None => f.write_str("0 ms"),
        }
    }
}

impl TryFrom<String> for FlinkDuration {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<FlinkDuration> for String {
    fn from(duration: FlinkDuration) -> Self {
        duration.to_string()
    }
}
