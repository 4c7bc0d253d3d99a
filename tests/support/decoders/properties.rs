//! The properties at the end of `_metadata`, which Java serialised.

use drystone::format::properties::NULL;
use drystone::format::{Properties, PropertiesRead};

/// What is known is written as it was.
pub fn read(input: &[u8]) -> bool {
    match Properties::read(input) {
        PropertiesRead::Known(known) => {
            assert_eq!(known.encode(), input);
            assert!(known.to_string().contains(known.kind.name()));
            true
        }
        PropertiesRead::Null => {
            assert_eq!(input, NULL);
            true
        }
        PropertiesRead::Other => false,
    }
}
