//! Any bytes: read without a panic; what is read is written as it was, but for what Flink ignores.

#![no_main]

use bytes::Bytes;
use drystone::format::{Trailer, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let input = Bytes::copy_from_slice(input);
    let Ok(decoded) = decode(input.clone()) else { return };
    if decoded.metadata.version == 2 {
        return;
    }
    let encoded = encode(&decoded.metadata).expect("what was read can be written");
    let end = match Trailer::find(&input) {
        Some(Ok((offset, _))) => offset as usize,
        _ => input.len(),
    };
    assert_eq!([&encoded.bytes[..], &decoded.rest].concat(), input[..end]);
    assert_eq!(encoded.sections, decoded.sections);
});
