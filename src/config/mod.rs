//! Values of settings in Flink's syntax: sizes and durations.
//!
//! Owns how such a value is read and written. Which settings there are, and where they come from, is not known here.

mod duration;
mod memory_size;

pub use duration::FlinkDuration;
pub use memory_size::MemorySize;

/// Java's `String.trim`: every character up to the blank, not only what Unicode calls white space.
fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// The leading ASCII digits, and the unit after them in lower case.
fn number_and_unit(text: &str) -> (&str, String) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, java_trim(unit).to_lowercase())
}
