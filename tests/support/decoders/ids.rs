//! Ids in names and handles, and Java's texts.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use bytes::Bytes;
use drystone::handle::JavaString;
use drystone::id::{FileToken, JobId, OperatorId, SegmentId};

/// As text: of each id there is one. As numbers: each has a text.
pub fn read(input: &[u8]) -> bool {
    java(input);
    if let Some(numbers) = input.first_chunk::<16>() {
        let number = u128::from_be_bytes(*numbers);
        comes_back(FileToken(number as u64));
        comes_back(JobId(*numbers));
        comes_back(OperatorId(*numbers));
        comes_back(SegmentId {
            file: FileToken(number as u64),
            ordinal: (number >> 64) as u32,
            crc32c: (number >> 96) as u32,
        });
    }
    let Ok(text) = std::str::from_utf8(input) else { return false };
    is_canonical::<SegmentId>(text)
        | is_canonical::<FileToken>(text)
        | is_canonical::<JobId>(text)
        | is_canonical::<OperatorId>(text)
}

fn comes_back<T: Display + FromStr + PartialEq + Debug>(id: T) {
    assert_eq!(id.to_string().parse::<T>().ok(), Some(id));
}

fn is_canonical<T: Display + FromStr>(text: &str) -> bool {
    match text.parse::<T>() {
        Ok(id) => {
            assert_eq!(id.to_string(), text);
            true
        }
        Err(_) => false,
    }
}

/// A text that Java encoded keeps its bytes; one of ours comes back as it was.
fn java(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(read) = JavaString::from_encoded(bytes.clone()) {
        assert_eq!(read.encoded(), &bytes);
        let text = read.to_text();
        if let Ok(ours) = JavaString::new(&text) {
            assert_eq!(ours.to_text(), text);
        }
    }
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(ours) = JavaString::new(text)
    {
        assert_eq!(ours.to_text(), text);
        assert_eq!(JavaString::from_encoded(ours.encoded().clone()), Ok(ours));
    }
}
