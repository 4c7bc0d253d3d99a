//! Any bytes as a footer, alone and with a tail that holds.

#![no_main]

use bytes::Bytes;
use drystone::format::checksum::crc32c;
use drystone::format::footer::TAIL_BYTES;
use drystone::format::{Footer, FooterBuilder, Tail};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = Tail::decode(input, input.len() as u64);
    let _ = Footer::decode(Bytes::copy_from_slice(input), input.len() as u64);

    let (data_len, body) = match input.split_first_chunk::<2>() {
        Some((len, body)) => (u64::from(u16::from_be_bytes(*len)), body),
        None => return,
    };
    let footer_len = (body.len() + TAIL_BYTES) as u64;
    let mut sealed = [body, &data_len.to_be_bytes(), &footer_len.to_be_bytes()].concat();
    let seal = *b"DSsf\0\0\0\x01";
    let checksum = crc32c(&[&sealed[..], &seal].concat());
    sealed.extend(checksum.to_be_bytes());
    sealed.extend(seal);
    let Ok(footer) = Footer::decode(Bytes::from(sealed), data_len + footer_len) else { return };
    let mut builder = FooterBuilder::new(footer.token);
    for s in &footer.segments {
        builder.push(s.length, s.crc32c, s.scope, s.checkpoint, s.subtask);
    }
    // Owners may be listed in another order, or without a segment; the segments are the same.
    let bytes = builder.encode();
    let file_len = builder.data_len() + bytes.len() as u64;
    assert_eq!(Footer::decode(bytes, file_len).as_ref(), Ok(&footer));
});
