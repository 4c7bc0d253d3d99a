//! The text of a segment's id: what it is, and that nothing else is one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;

use cases::cases;
use drystone::id::{FileToken, SegmentId};
use proptest::prelude::*;

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_segments_id_has_one_text(file: u64, ordinal: u32, crc32c: u32) {
        let id = SegmentId { file: FileToken(file), ordinal, crc32c };
        prop_assert_eq!(id.to_string(), format!("ds1-{file:016x}-{ordinal:08x}-{crc32c:08x}"));
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }

    /// One byte more, one less, or another one at any place: no id, or another id.
    #[test]
    fn a_text_with_something_else_in_it_is_another(file: u64, ordinal: u32, crc32c: u32, at in 0..38_usize, other: char) {
        let text = SegmentId { file: FileToken(file), ordinal, crc32c }.to_string();
        let replaced = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        if let Ok(parsed) = replaced.parse::<SegmentId>() {
            prop_assert_eq!(parsed.to_string(), replaced);
        }
        let longer = format!("{}{other}{}", &text[..at], &text[at..]);
        let shorter = format!("{}{}", &text[..at], &text[at + 1..]);
        prop_assert!(longer.parse::<SegmentId>().is_err());
        prop_assert!(shorter.parse::<SegmentId>().is_err());
    }
}
