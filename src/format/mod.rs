//! Bytes to types and back: Flink's `_metadata`, our trailer behind it, and the footer of a physical file.
//!
//! Owns every byte layout. Works on bytes in memory only: no I/O, no clock, no async. Never panics, whatever it is
//! given; checks each count and length against what is left before it allocates. `design/format.md` has the byte maps
//! of our own parts and the rules for Flink's.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod acknowledgement;
mod channel;
pub mod checksum;
mod fence;
pub mod footer;
mod in_flight;
mod input;
mod key_groups;
mod keyed;
mod metadata;
mod operator;
mod output;
pub mod properties;
mod section;
mod state;
mod stream;
pub mod trailer;

pub use channel::{MergedChannel, merged_channels};
pub use fence::{LogEntry, Step, barred, barred_by};
pub use footer::{Footer, FooterBuilder, SegmentEntry, Tail};
pub use in_flight::{CHUNK_HEADER_BYTES, IN_FLIGHT_HEADER, chunk_header, chunks, encode_merged_channels};
pub use key_groups::GroupChecksums;
pub use metadata::{Decoded, Encoded, decode, encode};
pub use properties::{Properties, PropertiesKind, PropertiesRead};
pub use section::{Section, SectionOwner};
pub use trailer::{Damage, NamedFile, SectionSum, Trailer, check_trailer};

/// How deep handles may nest. Flink's own nest three deep and its reader knows no limit.
const NESTING_MAX: u32 = 16;

type Result<T, E = crate::error::FormatError> = std::result::Result<T, E>;
