//! The footer of a physical file: written, read, damaged.

// A test fails by a panic.
#![allow(clippy::unwrap_used)]

#[path = "support/cases.rs"]
mod cases;

use bytes::Bytes;
use cases::cases;
use drystone::format::checksum::{Crc32c, crc32c, flipped_bit};
use drystone::format::footer::{FOOTER_BYTES_MAX, TAIL_BYTES};
use drystone::format::{Footer, FooterBuilder, SegmentEntry, Tail};
use drystone::id::{CheckpointId, FileToken, OperatorId, Scope, Subtask};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn segment() -> impl Strategy<Value = SegmentEntry> {
    let subtask = ((0..3_u8).prop_map(|id| OperatorId([id; 16])), 0..3_u32, 3..5_u32)
        .prop_map(|(operator, index, parallelism)| Subtask { operator, index, parallelism });
    let scope = prop_oneof![Just(Scope::Exclusive), Just(Scope::Shared)];
    ((0..5000_u64), any::<u32>(), scope, 0..3_u64, option::of(subtask)).prop_map(
        |(length, crc32c, scope, checkpoint, subtask)| {
            let checkpoint = CheckpointId(checkpoint);
            SegmentEntry { offset: 0, length, crc32c, scope, checkpoint, subtask }
        },
    )
}

fn built(token: u64, segments: &[SegmentEntry]) -> FooterBuilder {
    let mut builder = FooterBuilder::new(FileToken(token));
    for (ordinal, s) in segments.iter().enumerate() {
        let expected = builder.encoded_len_with(s.checkpoint, s.subtask);
        assert_eq!(builder.push(s.length, s.crc32c, s.scope, s.checkpoint, s.subtask), ordinal as u32);
        assert_eq!(builder.encoded_len(), expected);
    }
    builder
}

fn sample() -> (Bytes, u64) {
    let subtask = |index| Some(Subtask { operator: OperatorId([5; 16]), index, parallelism: 4 });
    let mut builder = FooterBuilder::new(FileToken(77));
    builder.push(10, 1, Scope::Shared, CheckpointId(4), subtask(0));
    builder.push(0, 2, Scope::Exclusive, CheckpointId(4), subtask(1));
    builder.push(30, 3, Scope::Exclusive, CheckpointId(4), None);
    builder.push(5, 4, Scope::Shared, CheckpointId(4), subtask(0));
    let file_len = builder.data_len() + builder.encoded_len();
    (builder.encode(), file_len)
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn what_is_written_is_read(token in any::<u64>(), mut segments in vec(segment(), 0..40)) {
        let mut offset = 0;
        for segment in &mut segments {
            segment.offset = offset;
            offset += segment.length;
        }
        let builder = built(token, &segments);
        let bytes = builder.encode();
        prop_assert_eq!(bytes.len() as u64, builder.encoded_len());
        prop_assert_eq!(builder.data_len(), offset);
        let file_len = offset + bytes.len() as u64;
        let tail = Tail::decode(&bytes[bytes.len() - TAIL_BYTES..], file_len).unwrap();
        prop_assert_eq!(tail, Tail { data_len: offset, footer_len: bytes.len() as u64 });
        let footer = Footer::decode(bytes, file_len).unwrap();
        prop_assert_eq!(footer, Footer { token: FileToken(token), segments });
    }

    #[test]
    fn a_flipped_bit_is_located(mut bytes in vec(any::<u8>(), 1..3000), bit in any::<prop::sample::Index>()) {
        let before = crc32c(&bytes);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(flipped_bit(before ^ crc32c(&bytes), bytes.len() as u64), Some(bit as u64 / 8));
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let (footer, file_len) = sample();
    let start = file_len - footer.len() as u64;
    assert!(Footer::decode(footer.clone(), file_len).is_ok());
    for bit in 0..footer.len() * 8 {
        let mut damaged = footer.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = Footer::decode(damaged.into(), file_len).unwrap_err();
        assert!((start..file_len).contains(&error.offset) && error.field.starts_with("footer / "), "{error}");
    }
}

#[test]
fn every_truncation_and_any_garbage_is_found() {
    let (footer, file_len) = sample();
    for len in 0..footer.len() {
        let lost = (footer.len() - len) as u64;
        assert!(Footer::decode(footer.slice(..len), file_len - lost).is_err());
        assert!(Footer::decode(footer.slice(footer.len() - len..), file_len).is_err());
        assert!(Tail::decode(&footer[..len], file_len - lost).is_err());
    }
    let longer = Bytes::from([&footer[..], b"x"].concat());
    assert!(Footer::decode(longer, file_len + 1).is_err());
    let tail = &footer[footer.len() - TAIL_BYTES..];
    for wrong in [0, 1, file_len - 1, file_len + 1, u64::MAX] {
        assert!(Tail::decode(tail, wrong).is_err());
        assert!(Footer::decode(footer.clone(), wrong).is_err());
    }
}

#[test]
fn no_more_than_the_longest_footer_is_asked_for() {
    let (footer, _) = sample();
    let mut tail = footer[footer.len() - TAIL_BYTES..].to_vec();
    for (more, is_allowed) in [(0, true), (1, false), (u64::MAX - FOOTER_BYTES_MAX - 45, false)] {
        let length = FOOTER_BYTES_MAX + more;
        tail[8..16].copy_from_slice(&length.to_be_bytes());
        let read = Tail::decode(&tail, 45 + length);
        assert_eq!(read.is_ok(), is_allowed, "{read:?}");
        assert!(read.is_ok() || read.unwrap_err().field == "footer / footer length");
    }
}

#[test]
fn the_bytes_are_as_documented() {
    let (footer, _) = sample();
    assert_eq!(footer.len(), 4 + 3 * 32 + 4 + 4 * 25 + 8 + TAIL_BYTES);
    assert_eq!(footer[..4], 3_u32.to_be_bytes());
    assert_eq!(footer[100..104], 4_u32.to_be_bytes());
    assert_eq!(footer[204..212], 77_u64.to_be_bytes());
    assert_eq!(footer[212..220], 45_u64.to_be_bytes());
    assert_eq!(footer[232..], *b"DSsf\0\0\0\x01");
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    let mut crc = Crc32c::new();
    crc.update(b"1234");
    crc.update(b"56789");
    assert_eq!((crc.value(), Crc32c::new().value()), (0xe306_9283, 0));
}
