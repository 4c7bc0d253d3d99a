//! Damaged files: every error is an error, none a panic, and what is wrong is laid to its place. Any mutation at all:
//! `decoders_mutated.rs`.

// A test fails by a panic.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "fixtures/mod.rs"]
mod fixtures;

use bytes::Bytes;
use drystone::error::FormatError;
use drystone::format::{NamedFile, Section, SectionOwner, Trailer, check_trailer, decode, encode};
use drystone::handle::JavaString;

fn assert_names_its_place(error: &FormatError, len: usize) {
    assert!(error.offset <= len as u64, "{error}");
    assert!(!error.field.is_empty() && !error.problem.is_empty(), "{error}");
}

/// The trailer is of the second version where a file has a checksum.
fn sealed(bytes: Bytes, crc32c: Option<u32>) -> Bytes {
    let encoded = encode(&decode(bytes).unwrap().metadata).unwrap();
    let files = vec![NamedFile { path: JavaString::new("s3://b/job/shared/d/f1").unwrap(), size: 150, crc32c }];
    Trailer::seal(&encoded, files, 3, JavaString::new("drystone 0.1.0").unwrap())
}

fn flipped(bytes: &Bytes, bit: usize) -> Bytes {
    let mut copy = bytes.to_vec();
    copy[bit / 8] ^= 1 << (bit % 8);
    copy.into()
}

#[test]
fn every_truncation_is_an_error() {
    for (name, bytes) in fixtures::all() {
        let step = if name.starts_with("golden") { 1 } else { 17 };
        for len in (0..bytes.len()).step_by(step) {
            match decode(bytes.slice(..len)) {
                Ok(_) => panic!("{name} cut to {len} bytes"),
                Err(error) => assert_names_its_place(&error, len),
            }
        }
    }
}

/// What a damaged file is still read as can be written, and is then read as the same.
#[test]
fn what_is_read_can_be_written() {
    for (name, bytes) in fixtures::all().into_iter().filter(|(name, _)| name.starts_with("golden")) {
        for bit in 0..bytes.len() * 8 {
            let damaged = flipped(&bytes, bit);
            match decode(damaged.clone()) {
                Ok(decoded) if decoded.metadata.version == 2 => {}
                Ok(decoded) => {
                    let encoded = encode(&decoded.metadata).unwrap_or_else(|e| panic!("{name}, bit {bit}: {e}"));
                    assert_eq!([&encoded.bytes[..], &decoded.rest].concat(), damaged, "{name}, bit {bit}");
                }
                Err(error) => assert_names_its_place(&error, bytes.len()),
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_file_is_found() {
    for name in ["g04_operators", "g09_incremental_segments", "g13_savepoint_canonical"] {
        for crc32c in [None, Some(0x0123_4567)] {
            every_flipped_bit_is_found(name, &sealed(fixtures::golden(name), crc32c));
        }
    }
}

fn every_flipped_bit_is_found(name: &str, sealed: &Bytes) {
    let (trailer_at, _) = Trailer::find(sealed).unwrap().unwrap();
    for bit in 0..sealed.len() * 8 {
        let damaged = flipped(sealed, bit);
        let at = bit as u64 / 8;
        match check_trailer(&damaged) {
            Some(Ok(found)) => {
                let [one] = &found[..] else { panic!("{name}, bit {bit}: {found:?}") };
                assert!(one.range.contains(&at) && one.offset == Some(at), "{name}, bit {bit}: {one:?}");
            }
            Some(Err(error)) => {
                assert!(at >= trailer_at, "{name}, bit {bit}: {error}");
                assert_names_its_place(&error, sealed.len());
                assert!(!decode(damaged).unwrap().rest.is_empty());
            }
            None => {
                assert!(at >= trailer_at, "{name}, bit {bit}");
                assert!(!decode(damaged).unwrap().rest.is_empty());
            }
        }
    }
}

#[test]
fn every_truncation_of_a_sealed_file_loses_the_trailer() {
    let sealed = sealed(fixtures::golden("g09_incremental_segments"), Some(3));
    let (trailer_at, _) = Trailer::find(&sealed).unwrap().unwrap();
    for len in 0..sealed.len() {
        let cut = sealed.slice(..len);
        assert!(check_trailer(&cut).is_none_or(|found| found.is_err()), "{len}");
        match decode(cut) {
            Ok(decoded) => {
                assert!(decoded.trailer.is_none());
                assert_eq!(decoded.rest.len() as u64, len as u64 - trailer_at);
            }
            Err(error) => assert_names_its_place(&error, len),
        }
    }
}

#[test]
fn bytes_added_or_lost_before_the_trailer_are_found() {
    let sealed = sealed(fixtures::golden("g04_operators"), None);
    let (trailer_at, _) = Trailer::find(&sealed).unwrap().unwrap();
    let trailer_at = trailer_at as usize;
    let added = [&sealed[..trailer_at], b"x", &sealed[trailer_at..]].concat();
    let lost = [&sealed[..100], &sealed[101..]].concat();
    for bytes in [added, lost, sealed[trailer_at..].to_vec()] {
        let error = check_trailer(&bytes.into()).unwrap().unwrap_err();
        assert!(error.field.starts_with("trailer / sections"), "{error}");
    }
    let garbage = Bytes::from([&sealed[..], b"garbage"].concat());
    assert_eq!(check_trailer(&garbage), None);
    assert_eq!(decode(garbage).unwrap().rest.len(), sealed.len() - trailer_at + 7);
}

#[test]
fn damage_is_laid_to_operator_and_subtask() {
    let sealed = sealed(fixtures::golden("g05_opstate_bytestream"), None);
    let decoded = decode(sealed.clone()).unwrap();
    let operator = decoded.metadata.operators[0].id;
    let Section { owner, range } = &decoded.sections[2];
    assert_eq!(*owner, SectionOwner::Subtask(operator, 0));
    let mut bytes = sealed.to_vec();
    bytes[range.start as usize + 9] ^= 0xff;
    bytes[range.start as usize + 50] ^= 0x81;
    let found = check_trailer(&bytes.into()).unwrap().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].owner, found[0].range.clone(), found[0].offset), (*owner, range.clone(), None));
    assert_eq!(owner.to_string(), "operator 01020304050607081112131415161718 subtask 0");
}

/// The golden files, each with one number set to what it can't be.
#[test]
fn errors_name_offset_and_field() {
    for (name, at, patch, expected) in [
        ("g01_empty", 0, &[0][..], "at offset 0, magic: 0060672d"),
        ("g01_empty", 7, &[7], "at offset 4, version: 7, where 2 to 6 can be read"),
        ("g01_empty", 8, &[0x80], "at offset 8, checkpoint id: -9223372036854775766"),
        ("g01_empty", 16, &[0x7f], "at offset 16, master states: 2130706432 of at least 18 bytes each"),
        ("g01_empty", 20, &[0xff], "at offset 20, operators: -16777216"),
        ("g01_empty", 24, &[0], "at offset 24, properties: no object that Java serialised"),
        ("g03_master", 27, &[17], "at offset 44, master states[0] / state: 1 bytes more than its fields take"),
        (
            "g04_operators",
            52,
            &[0, 0, 0, 200],
            "at offset 52, operator 0 (01020304050607081112131415161718) / parallelism: 200, where 128",
        ),
        ("g04_operators", 60, &[2], "/ coordinator"),
        ("g04_operators", 77, &[9], "/ subtasks: 9, where the parallelism is 3"),
        (
            "g09_incremental_segments",
            140,
            &[99],
            "/ subtask 0 / managed keyed state / meta / tag: 99 is no stream handle",
        ),
    ] {
        let mut bytes = fixtures::golden(name).to_vec();
        bytes[at..at + patch.len()].copy_from_slice(patch);
        let error = decode(bytes.into()).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}
