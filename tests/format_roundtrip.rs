//! What is written is read as it was, for every version and every kind of handle.

// A test fails by a panic.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/cases.rs"]
mod cases;
#[path = "fixtures/mod.rs"]
mod fixtures;
#[path = "trees/mod.rs"]
mod trees;

use bytes::Bytes;
use cases::cases;
use drystone::format::checksum::crc32c;
use drystone::format::{Encoded, NamedFile, Properties, PropertiesRead, Trailer, check_trailer, decode, encode};
use drystone::handle::{CheckpointMetadata, JavaString, StreamHandle};
use proptest::prelude::*;

fn assert_round_trip(metadata: &CheckpointMetadata) -> Result<(), TestCaseError> {
    let encoded = encode(metadata).unwrap();
    let decoded = decode(encoded.bytes.clone()).unwrap();
    prop_assert_eq!(&decoded.metadata, metadata);
    prop_assert_eq!(&decoded.sections, &encoded.sections);
    prop_assert!(decoded.rest.is_empty() && decoded.trailer.is_none());
    let end = decoded.sections.iter().try_fold(0, |end, s| (s.range.start == end).then_some(s.range.end));
    prop_assert_eq!(end, Some(encoded.bytes.len() as u64));

    let writer = JavaString::new("drystone 0.1.0").unwrap();
    // Where a file has a checksum the trailer is of the second version.
    for (checksums, version) in [([None, None], 1), ([Some(5), None], 2), ([None, Some(0)], 2)] {
        let file = |crc32c| NamedFile { path: JavaString::new("s3://b/f").unwrap(), size: 7, crc32c };
        let files = checksums.map(file).to_vec();
        let sealed = Trailer::seal(&encoded, files.clone(), 9, writer.clone());
        prop_assert_eq!(sealed.last(), Some(&version));
        let read = decode(sealed.clone()).unwrap();
        prop_assert_eq!(&read.metadata, metadata);
        prop_assert!(read.rest.is_empty());
        let trailer = read.trailer.unwrap();
        prop_assert_eq!((trailer.files, trailer.epoch, trailer.writer), (files, 9, writer.clone()));
        prop_assert_eq!(check_trailer(&sealed), Some(Ok(vec![])));
    }
    assert_checksums_come_back(metadata, &encoded)
}

/// In the trailer alone, for Flink not to see; those of inline bytes nowhere.
fn assert_checksums_come_back(metadata: &CheckpointMetadata, plain: &Encoded) -> Result<(), TestCaseError> {
    let (mut given, mut number, mut some) = (metadata.clone(), 0, false);
    given.visit_key_groups_mut(|_, handle| {
        number += 1;
        let count = if number % 3 == 0 { 0 } else { handle.offsets.len() as u32 + number % 2 };
        handle.checksums = (0..count).map(|n| n.wrapping_mul(0x9e37_79b9) ^ number).collect();
    });
    let encoded = encode(&given).unwrap();
    prop_assert_eq!((&encoded.bytes, &encoded.sections), (&plain.bytes, &plain.sections));
    given.visit_key_groups_mut(|_, handle| {
        if matches!(handle.delegate.innermost(), StreamHandle::Inline(_) | StreamHandle::EmptySegment) {
            handle.checksums.clear();
        }
        some |= !handle.checksums.is_empty();
    });
    let seal = |encoded| Trailer::seal(encoded, Vec::new(), 9, JavaString::new("drystone 0.1.0").unwrap());
    let sealed = seal(&encoded);
    let read = decode(sealed.clone()).unwrap();
    prop_assert_eq!(read.metadata, given);
    prop_assert_eq!(check_trailer(&sealed), Some(Ok(vec![])));
    // Without any, it is what an earlier Drystone wrote and can read.
    prop_assert!(seal(plain).ends_with(&1_u32.to_be_bytes()));
    prop_assert!(sealed.ends_with(&(1 + u32::from(some)).to_be_bytes()));
    Ok(())
}

/// An extension that isn't known says how long it is; all else is read.
#[test]
fn an_unknown_extension_is_passed_over() {
    let metadata = decode(fixtures::golden("g04_operators")).unwrap().metadata;
    let (before, sealed) = {
        let encoded = encode(&metadata).unwrap();
        let sealed = Trailer::seal(&encoded, Vec::new(), 9, JavaString::new("drystone").unwrap());
        (encoded.bytes.len(), sealed)
    };
    // Without its own length and seal.
    let fields = &sealed[before..sealed.len() - 20];
    let with = |extension: &[u8]| {
        let length = (fields.len() + extension.len() + 20) as u64;
        let fields = [fields, extension, &length.to_be_bytes()].concat();
        let end = [&b"DSmt"[..], &2_u32.to_be_bytes()].concat();
        let sum = crc32c(&[&fields[..], &end].concat());
        Bytes::from([&sealed[..before], &fields, &sum.to_be_bytes(), &end].concat())
    };
    let read = decode(with(b"newsomething")).map(|read| read.trailer);
    assert_eq!(read.unwrap(), None, "it says to be longer than all");
    let read = decode(with(b"news\0\0\0\0\0\0\0\x09something")).unwrap();
    assert_eq!((&read.metadata, read.trailer.unwrap().epoch), (&metadata, 9));
    let twice = b"kgcs\0\0\0\0\0\0\0\x10\0\0\0\x01\0\0\0\0\0\0\0\x01abcd".repeat(2);
    let found = check_trailer(&with(&twice)).unwrap().unwrap_err();
    assert!(found.to_string().contains("the second one of this kind"), "{found}");
    let more = b"kgcs\0\0\0\0\0\0\0\x05\0\0\0\0x";
    let found = check_trailer(&with(more)).unwrap().unwrap_err();
    assert!(found.to_string().contains("1 bytes more than its fields take"), "{found}");
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn version_3(metadata in trees::metadata(3)) {
        assert_round_trip(&metadata)?;
    }

    #[test]
    fn version_4(metadata in trees::metadata(4)) {
        assert_round_trip(&metadata)?;
    }

    #[test]
    fn version_5(metadata in trees::metadata(5)) {
        assert_round_trip(&metadata)?;
    }

    #[test]
    fn version_6(metadata in trees::metadata(6)) {
        assert_round_trip(&metadata)?;
    }

    #[test]
    fn properties(properties in trees::properties()) {
        prop_assert_eq!(Properties::read(&properties.encode()), PropertiesRead::Known(properties));
    }
}
