//! Data in flight.

use bytes::Bytes;
use drystone::format::{chunk_header, chunks};

/// Chunk after chunk they are what was written, one behind the other.
pub fn read(input: &[u8]) -> bool {
    let stream = Bytes::copy_from_slice(input);
    if chunks(&stream, &[]).is_err() {
        return false;
    }
    let mut end = 4;
    while let Ok(found) = chunks(&stream, &[end as i64]) {
        let header = chunk_header(found[0].len() as u64).expect("no longer than the input");
        assert_eq!(stream[end..end + 4], header);
        assert_eq!(stream[end + 4..end + 4 + found[0].len()], found[0]);
        end += 4 + found[0].len();
    }
    end == input.len()
}
