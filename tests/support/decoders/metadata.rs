//! `_metadata`: as it is read, and as it is written again in every version and sealed.

use bytes::Bytes;
use drystone::format::checksum::crc32c;
use drystone::format::{NamedFile, Trailer, check_trailer, decode, encode, merged_channels};
use drystone::format::{Section, properties};
use drystone::handle::{ChannelHandle, CheckpointMetadata, JavaString, OperatorSubtasks, StreamHandle};

use super::names_its_place;

/// What is read is written as it was, but for what Flink ignores.
pub fn read(input: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(input);
    let _ = check_trailer(&bytes);
    let decoded = match decode(bytes.clone()) {
        Ok(decoded) => decoded,
        Err(error) => {
            names_its_place(&error, input.len());
            return false;
        }
    };
    let end = match Trailer::find(&bytes) {
        Some(Ok((offset, _))) => offset as usize,
        _ => input.len(),
    };
    cover(&decoded.sections, end - decoded.rest.len());
    channels(&decoded.metadata);
    if decoded.metadata.version == 2 {
        return true;
    }
    let encoded = encode(&decoded.metadata).expect("what was read can be written");
    assert_eq!([&encoded.bytes[..], &decoded.rest].concat(), input[..end]);
    assert_eq!(encoded.sections, decoded.sections);
    true
}

/// What is read can be written in every version that holds it, and sealed; and is then read as the same.
pub fn round_trip(input: &[u8]) -> bool {
    let Ok(decoded) = decode(Bytes::copy_from_slice(input)) else { return false };
    let mut metadata = decoded.metadata;
    for version in [6, 5, 4, 3] {
        lower(&mut metadata, version);
        let encoded = match encode(&metadata) {
            Ok(encoded) => encoded,
            Err(error) => {
                // The one thing that no field can be left out for.
                assert!(version < 6 && error.problem.contains("merged channels"), "{error}");
                continue;
            }
        };
        cover(&encoded.sections, encoded.bytes.len());
        let again = decode(encoded.bytes.clone()).expect("what was written can be read");
        let mut bare = metadata.clone();
        bare.visit_key_groups_mut(|_, handle| handle.checksums.clear());
        // An unknown object goes on to the end, over a damaged trailer, which may fit the file that is written now.
        if again.trailer.is_none() {
            assert_eq!((&again.metadata, &again.sections), (&bare, &encoded.sections));
        }

        let files = files(&metadata);
        let sealed = Trailer::seal(&encoded, files.clone(), 7, JavaString::new("drystone").unwrap());
        assert_eq!(check_trailer(&sealed), Some(Ok(Vec::new())));
        let again = decode(sealed.clone()).expect("what was sealed can be read");
        let trailer = again.trailer.expect("a trailer");
        assert_eq!((again.metadata, trailer.files, trailer.epoch), (metadata.clone(), files, 7));
        assert!(again.rest.is_empty());
        let mut damaged = sealed.to_vec();
        let bit = crc32c(input) as usize % (damaged.len() * 8);
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(check_trailer(&damaged.into()), Some(Ok(Vec::new())), "bit {bit}");
    }
    true
}

fn lower(metadata: &mut CheckpointMetadata, version: u32) {
    metadata.version = version;
    if version < 5 {
        metadata.operators.iter_mut().for_each(|operator| (operator.name, operator.uid) = (None, None));
    }
    match version {
        ..4 => metadata.properties = Bytes::new(),
        _ if metadata.properties.is_empty() => metadata.properties = Bytes::from_static(properties::NULL),
        _ => {}
    }
}

/// Sections lie one behind the other up to `end`, and none is empty.
fn cover(sections: &[Section], end: usize) {
    let mut at = 0;
    for Section { range, .. } in sections {
        assert!(range.start == at && range.end > at, "{range:?} after {at}");
        at = range.end;
    }
    assert_eq!(at, end as u64);
}

fn files(metadata: &CheckpointMetadata) -> Vec<NamedFile> {
    let mut files = Vec::new();
    metadata.visit_streams(|_, handle| {
        let path = match handle {
            StreamHandle::File(file) => &file.path,
            StreamHandle::Segment(segment) => &segment.path,
            _ => return,
        };
        let size = handle.size().unwrap_or_default();
        files.push(NamedFile { path: path.clone(), size, crc32c: (size % 2 == 1).then_some(size as u32) });
    });
    files
}

/// Merged channels have an encoding of their own within the metadata's.
fn channels(metadata: &CheckpointMetadata) {
    for operator in &metadata.operators {
        let OperatorSubtasks::Reported(entries) = &operator.subtasks else { continue };
        for state in entries.iter().filter_map(|entry| entry.state.as_deref()) {
            for channel in state.input_channels.iter().chain(&state.output_channels) {
                let ChannelHandle::Merged(merged) = channel else { continue };
                match merged_channels(merged) {
                    Ok(channels) => assert!(channels.len() <= merged.channels.len() / 20),
                    Err(error) => names_its_place(&error, merged.channels.len()),
                }
            }
        }
    }
}
