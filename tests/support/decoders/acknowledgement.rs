//! What a worker ships to the coordinator.

use bytes::Bytes;
use drystone::protocol::Acknowledgement;

use super::{names_its_place, sealed};

/// The input as it is; and as the fields of an acknowledgement whose seal holds.
pub fn read(input: &[u8]) -> bool {
    if let Err(error) = Acknowledgement::from_bytes(Bytes::copy_from_slice(input)) {
        names_its_place(&error, input.len());
    }
    [2, 3].map(|version| read_fields(input, version)).contains(&true)
}

fn read_fields(input: &[u8], version: u32) -> bool {
    match Acknowledgement::from_bytes(sealed(input, b"DSak", version).into()) {
        Ok(read) => {
            let again = read.to_bytes().expect("what was read can be written");
            assert_eq!(Acknowledgement::from_bytes(again), Ok(read));
            true
        }
        Err(error) => {
            names_its_place(&error, input.len() + 12);
            false
        }
    }
}
