//! Any bytes as a trailer, alone and with a seal that holds.

#![no_main]

use bytes::Bytes;
use drystone::format::checksum::crc32c;
use drystone::format::{Trailer, check_trailer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = check_trailer(&Bytes::copy_from_slice(input));
    let mut sealed = [input, &(input.len() as u64 + 20).to_be_bytes()].concat();
    let seal = *b"DSmt\0\0\0\x01";
    let checksum = crc32c(&[&sealed[..], &seal].concat());
    sealed.extend(checksum.to_be_bytes());
    sealed.extend(seal);
    if let Some(Ok((offset, trailer))) = Trailer::find(&Bytes::from(sealed)) {
        assert_eq!(offset, trailer.sections.iter().map(|section| section.length).sum::<u64>());
    }
});
