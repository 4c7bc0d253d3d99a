//! The entries of the fence log as bytes, and the mark that bars a checkpoint.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;

use bytes::Bytes;
use cases::cases;
use drystone::format::{LogEntry, Step, barred, barred_by};
use drystone::id::{CheckpointId, FileToken};
use proptest::prelude::*;

fn entry() -> impl Strategy<Value = LogEntry> {
    let ids = || prop::collection::vec(any::<u64>().prop_map(CheckpointId), 0..20);
    let step = prop_oneof![Just(Step::Claim), Just(Step::Intent)];
    (any::<u64>(), any::<u64>(), step, ids(), prop::option::of(ids()), any::<u32>(), any::<u64>()).prop_map(
        |(epoch, coordinator, step, open, kept, retained, next)| {
            let (coordinator, next) = (FileToken(coordinator), CheckpointId(next));
            LogEntry { epoch, coordinator, step, open, kept, retained, next }
        },
    )
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn an_entry_is_read_as_it_was_written(entry in entry()) {
        prop_assert_eq!(LogEntry::from_bytes(&entry.to_bytes().unwrap()).unwrap(), entry);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        prop_assert!(LogEntry::from_bytes(&bytes).is_err());
        prop_assert_eq!(barred_by(&bytes), None);
    }

    #[test]
    fn the_bar_says_whose_it_is(checkpoint in any::<u64>(), epoch in any::<u64>()) {
        prop_assert_eq!(barred_by(&barred(CheckpointId(checkpoint), epoch)), Some(epoch));
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let (open, kept) = (vec![CheckpointId(8)], Some(vec![CheckpointId(6), CheckpointId(7)]));
    let (coordinator, next) = (FileToken(9), CheckpointId(9));
    let entry = LogEntry { epoch: 3, coordinator, step: Step::Intent, open, kept, retained: 2, next };
    let bytes = entry.to_bytes().unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        LogEntry::from_bytes(&flipped.into()).unwrap_err();
    }
    for length in 0..bytes.len() {
        LogEntry::from_bytes(&bytes.slice(..length)).unwrap_err();
    }
}

#[test]
fn a_bar_has_one_text() {
    for text in ["+7\n", "007\n", "7 \n", "7", "", "\n", "18446744073709551616\n"] {
        assert_eq!(barred_by(format!("drystone-barred 1 epoch={text}").as_bytes()), None, "{text:?}");
    }
    // The epoch of a bar that was cut would be another.
    let bar = barred(CheckpointId(42), 123);
    let line = bar.iter().position(|&byte| byte == b'\n').unwrap();
    for length in 0..=line {
        assert_eq!(barred_by(&bar[..length]), None, "{length}");
    }
    assert_eq!(barred_by(&bar[..=line]), Some(123));
}
