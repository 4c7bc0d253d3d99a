//! Every decoder of bytes and text from outside: what it keeps to whatever it is given, and inputs that it takes.
//!
//! The fuzz targets and the test with mutated fixtures call the same functions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken promise is a panic")]
#![allow(dead_code, reason = "each fuzz target uses a part")]

pub mod acknowledgement;
pub mod config;
pub mod fence;
pub mod footer;
pub mod hint;
pub mod ids;
pub mod in_flight;
pub mod metadata;
pub mod names;
pub mod paths;
pub mod properties;
pub mod read_plan;
pub mod seeds;
pub mod trailer;
pub mod values;

use drystone::format::checksum::crc32c;
use drystone::{Error, ErrorKind, FormatError};

pub struct Decoder {
    /// Also the fuzz target's.
    pub name: &'static str,
    /// Decodes the input, and panics where the decoder doesn't keep to what it must. Was it decoded?
    pub check: fn(&[u8]) -> bool,
    /// What it decodes.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const ALL: &[Decoder] = &[
    Decoder { name: "metadata", check: metadata::read, seeds: seeds::metadata },
    Decoder { name: "round_trip", check: metadata::round_trip, seeds: seeds::metadata },
    Decoder { name: "trailer", check: trailer::read, seeds: seeds::trailers },
    Decoder { name: "footer", check: footer::read, seeds: seeds::footers },
    Decoder { name: "acknowledgement", check: acknowledgement::read, seeds: seeds::acknowledgements },
    Decoder { name: "fence_log", check: fence::entry, seeds: seeds::log_entries },
    Decoder { name: "barred", check: fence::bar, seeds: seeds::bars },
    Decoder { name: "hint", check: hint::read, seeds: seeds::hints },
    Decoder { name: "in_flight", check: in_flight::read, seeds: seeds::in_flight },
    Decoder { name: "properties", check: properties::read, seeds: seeds::properties },
    Decoder { name: "config_yaml", check: config::yaml, seeds: seeds::yaml },
    Decoder { name: "flink_conf", check: config::flink_conf, seeds: seeds::flink_conf },
    Decoder { name: "config_values", check: values::read, seeds: seeds::values },
    Decoder { name: "names", check: names::read, seeds: seeds::names },
    Decoder { name: "ids", check: ids::read, seeds: seeds::ids },
    Decoder { name: "paths", check: paths::path, seeds: seeds::paths },
    Decoder { name: "rebase", check: paths::rebase, seeds: seeds::rebases },
    Decoder { name: "read_plan", check: read_plan::plan_tasks, seeds: seeds::metadata },
];

/// An error of a format says where, in which field, and what is wrong.
fn names_its_place(error: &FormatError, len: usize) {
    assert!(error.offset <= len as u64, "{error}");
    assert!(!error.field.is_empty() && !error.problem.is_empty(), "{error}");
}

fn is_invalid(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(!error.to_string().is_empty());
}

/// The fields of a block of ours with a seal that holds, so that a mutated field gets past the checksum.
fn sealed(fields: &[u8], magic: &[u8; 4], version: u32) -> Vec<u8> {
    let seal = [&magic[..], &version.to_be_bytes()].concat();
    let checksum = crc32c(&[fields, &seal].concat());
    [fields, &checksum.to_be_bytes(), &seal].concat()
}
