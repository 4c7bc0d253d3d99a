//! What is written is read as it was, for every version and every kind of handle.

// A test fails by a panic.
#![allow(clippy::unwrap_used)]

#[path = "trees/mod.rs"]
mod trees;

use drystone::format::{NamedFile, Properties, PropertiesRead, Trailer, check_trailer, decode, encode};
use drystone::handle::{CheckpointMetadata, JavaString};
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
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

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
