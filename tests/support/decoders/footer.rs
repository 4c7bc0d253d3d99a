//! The footer of a physical file.

use bytes::Bytes;
use drystone::format::footer::TAIL_BYTES;
use drystone::format::{Footer, FooterBuilder, Tail};

use super::{names_its_place, sealed};

/// The input as it is; and as a footer's fields, behind as many bytes of segments as its first two say.
pub fn read(input: &[u8]) -> bool {
    let len = input.len();
    if let Err(error) = Tail::decode(input, len as u64) {
        names_its_place(&error, len);
    }
    if let Err(error) = Footer::decode(Bytes::copy_from_slice(input), len as u64) {
        names_its_place(&error, len);
    }
    let Some((data_len, fields)) = input.split_first_chunk::<2>() else { return false };
    let data_len = u64::from(u16::from_be_bytes(*data_len));
    let footer_len = (fields.len() + TAIL_BYTES) as u64;
    let footer = sealed(&[fields, &data_len.to_be_bytes(), &footer_len.to_be_bytes()].concat(), b"DSsf", 1);
    let file_len = data_len + footer_len;
    let tail = &footer[footer.len() - TAIL_BYTES..];
    // Too short for any footer's fields.
    if fields.len() >= 16 {
        assert_eq!(Tail::decode(tail, file_len), Ok(Tail { data_len, footer_len }));
    }
    let footer = match Footer::decode(Bytes::from(footer), file_len) {
        Ok(footer) => footer,
        Err(error) => {
            names_its_place(&error, file_len as usize);
            return false;
        }
    };
    let mut builder = FooterBuilder::new(footer.token);
    for segment in &footer.segments {
        builder.push(segment.length, segment.crc32c, segment.scope, segment.checkpoint, segment.subtask);
    }
    // Owners may be listed in another order, or without a segment; the segments are the same.
    let bytes = builder.encode();
    let file_len = builder.data_len() + bytes.len() as u64;
    assert_eq!(Footer::decode(bytes, file_len).as_ref(), Ok(&footer));
    true
}
