//! Settings: which there are, where they come from, and how their values are written.
//!
//! [`Config`] is what a file or a map says, as texts. [`catalogue`] declares every option once. [`Settings`] is what
//! comes out, typed and checked, by [`Config::settings`]; [`reference()`] is the catalogue as a page. Files are read by
//! the caller: nothing here does I/O.

mod check;
mod choice;
mod duration;
mod field;
mod finding;
mod flink_conf;
mod kind;
mod memory_size;
mod option;
mod reference;
mod settings;
mod source;
mod unknown;
mod yaml;

pub mod catalogue;

pub use catalogue::CATALOGUE;
pub use check::Check;
pub use choice::{CheckpointMode, ClaimMode, Fencing, Retention, StorageKind};
pub use duration::FlinkDuration;
pub use finding::{Place, Problem, Warning, WarningKind};
pub use kind::{Kind, Value};
pub use memory_size::MemorySize;
pub use option::{ConfigOption, Older, User};
pub use reference::reference;
pub use settings::{Recovery, Settings, Unaligned};
pub use source::{Config, Given};

/// The key of what reads like a key with its value, but isn't one: what follows may be a password. Empty: it may be all.
fn before_value(text: &str) -> &str {
    text.find([':', '=', ' ', '\t']).map_or("", |end| &text[..end])
}

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
