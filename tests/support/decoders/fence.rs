//! What coordinators write to keep each other apart.

use bytes::Bytes;
use drystone::format::{LogEntry, barred, barred_by};
use drystone::id::CheckpointId;

use super::{names_its_place, sealed};

/// The input as it is; and as the fields of an entry of the log whose seal holds. Of an entry there is one text.
pub fn entry(input: &[u8]) -> bool {
    if let Err(error) = LogEntry::from_bytes(&Bytes::copy_from_slice(input)) {
        names_its_place(&error, input.len());
    }
    let bytes = Bytes::from(sealed(input, b"DSfl", 1));
    match LogEntry::from_bytes(&bytes) {
        Ok(entry) => {
            assert_eq!(entry.to_bytes().expect("what was read can be written"), bytes);
            true
        }
        Err(error) => {
            names_its_place(&error, bytes.len());
            false
        }
    }
}

/// What bars a checkpoint says which coordinator has done so, in one way, and is nothing else.
pub fn bar(input: &[u8]) -> bool {
    let numbers = input.first_chunk::<16>().map(|number| u128::from_be_bytes(*number)).unwrap_or_default();
    let (checkpoint, epoch) = (CheckpointId((numbers >> 64) as u64), numbers as u64);
    assert_eq!(barred_by(&barred(checkpoint, epoch)), Some(epoch));
    let Some(epoch) = barred_by(input) else { return false };
    let ours = barred(checkpoint, epoch);
    let line = ours.iter().position(|&byte| byte == b'\n').expect("a line");
    assert!(input.starts_with(&ours[..=line]), "{epoch} of b\"{}\"", input.escape_ascii());
    assert!(drystone::format::decode(Bytes::copy_from_slice(input)).is_err());
    true
}
