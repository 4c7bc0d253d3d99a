//! Acknowledgements as bytes: what a worker ships is what the coordinator gets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;

use std::fs;
use std::path::Path;

use bytes::Bytes;
use cases::cases;
use drystone::format::checksum::crc32c;
use drystone::format::decode;
use drystone::handle::{KeyedHandle, OperatorSubtasks, StreamHandle};
use drystone::id::Subtask;
use drystone::protocol::{Acknowledgement, SealedSize};
use proptest::prelude::*;

/// One for every subtask of every checkpoint that is shipped with the tests.
fn all() -> Vec<Acknowledgement> {
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flink")];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.ends_with("_metadata") || path.extension().is_some_and(|e| e == "bin") {
            let Ok(decoded) = decode(Bytes::from(fs::read(path).unwrap())) else { continue };
            for operator in &decoded.metadata.operators {
                let OperatorSubtasks::Reported(entries) = &operator.subtasks else { continue };
                found.extend(entries.iter().map(|entry| Acknowledgement {
                    epoch: u64::from(entry.index) + 7,
                    checkpoint: decoded.metadata.checkpoint_id,
                    subtask: Subtask { operator: operator.id, index: entry.index, parallelism: operator.parallelism },
                    state: entry.state.clone(),
                    sealed: vec![SealedSize { path: "s3://bücket/ä".to_owned(), bytes: u64::MAX }],
                }));
            }
        }
    }
    found
}

#[test]
fn every_state_comes_back() {
    let all = all();
    assert!(all.len() > 50, "{}", all.len());
    for acknowledgement in &all {
        let bytes = acknowledgement.to_bytes().unwrap();
        assert_eq!(&Acknowledgement::from_bytes(bytes).unwrap(), acknowledgement);
    }
}

/// Of key groups, the checksums: that Flink's encoding of the state has no place for.
#[test]
fn checksums_come_along() {
    let mut some = 0;
    for mut acknowledgement in all() {
        let plain = acknowledgement.to_bytes().unwrap();
        assert!(plain.ends_with(&2_u32.to_be_bytes()), "what an earlier coordinator can read");
        let Some(state) = &mut acknowledgement.state else { continue };
        let Some(KeyedHandle::KeyGroups(handle)) = &mut state.managed_keyed else { continue };
        if matches!(handle.delegate.innermost(), StreamHandle::Inline(_)) {
            continue;
        }
        handle.checksums = (7..8 + handle.offsets.len() as u32).collect();
        some += 1;
        let bytes = acknowledgement.to_bytes().unwrap();
        assert_eq!(bytes.len(), plain.len() + 4 + 8 + 4 * checksums(&acknowledgement));
        assert_eq!(Acknowledgement::from_bytes(bytes).unwrap(), acknowledgement);
    }
    assert!(some > 2, "{some}");
}

fn checksums(acknowledgement: &Acknowledgement) -> usize {
    match acknowledgement.state.as_ref().and_then(|state| state.managed_keyed.as_ref()) {
        Some(KeyedHandle::KeyGroups(handle)) => handle.checksums.len(),
        _ => 0,
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let all = all();
    let shortest = all.iter().filter(|a| a.state.is_some()).map(|a| a.to_bytes().unwrap()).min_by_key(Bytes::len);
    let bytes = shortest.unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Acknowledgement::from_bytes(damaged.into()).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(Acknowledgement::from_bytes(bytes.slice(..length)).is_err(), "{length} bytes");
    }
}

fn sealed(fields: &[u8], seal: &[u8]) -> Bytes {
    let checksum = crc32c(&[fields, seal].concat());
    Bytes::from([fields, &checksum.to_be_bytes(), seal].concat())
}

#[test]
fn an_error_within_the_state_names_the_byte() {
    let bytes = all().remove(0).to_bytes().unwrap();
    let mut fields = bytes[..bytes.len() - 12].to_vec();
    fields[16] ^= 1;
    let error = Acknowledgement::from_bytes(sealed(&fields, &bytes[bytes.len() - 8..])).unwrap_err();
    assert_eq!((error.offset, error.field.as_str()), (16, "state / magic"));
}

/// State that isn't the subtask's would be lost without a word.
#[test]
fn state_of_another_subtask_is_refused() {
    let mut one = all().into_iter().find(|a| a.state.is_some()).unwrap();
    one.subtask = Subtask { index: 2, parallelism: 4, ..one.subtask };
    let bytes = one.to_bytes().unwrap();
    for (index, problem) in [(1_u32, "the state of subtask 2"), (4, "4, where the parallelism is 4")] {
        let mut fields = bytes[..bytes.len() - 12].to_vec();
        fields[8..12].copy_from_slice(&index.to_be_bytes());
        let error = Acknowledgement::from_bytes(sealed(&fields, &bytes[bytes.len() - 8..])).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Acknowledgement::from_bytes(bytes.into()).is_err());
    }
}
