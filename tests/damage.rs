//! Damage of every kind to a packed checkpoint: all of it is found, laid to the right file, operator and subtask, and
//! none of it gets into another checkpoint.
//!
//! Of metadata and footers every byte is damaged, in one bit of it that changes from byte to byte, and of one metadata
//! file every bit; of each segment the first byte, the last, and one within.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/packed.rs"]
mod packed;
#[path = "support/runs.rs"]
mod runs;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::format::footer::TAIL_BYTES;
use drystone::read::Content;
use drystone::write::WriteSettings;
use packed::{Owner, Packed, flipped};

/// Fixtures and settings that give metadata with and without inline state, one file and several.
async fn hashmap() -> Packed {
    Packed::of(runs::HASHMAP, runs::all_packed()).await
}

async fn across() -> Packed {
    Packed::of(runs::ACROSS, WriteSettings { file_bytes_max: 64 << 10, ..runs::all_packed() }).await
}

async fn across_inline() -> Packed {
    Packed::of(runs::ACROSS, WriteSettings::default()).await
}

async fn unaligned() -> Packed {
    Packed::of(runs::UNALIGNED, runs::all_packed()).await
}

async fn savepoint() -> Packed {
    Packed::of(runs::SAVEPOINT, runs::all_packed()).await
}

/// A flipped bit of Flink's part is laid to its byte and its subtask; of the trailer, to the file.
async fn flip_metadata(packed: &Packed, bits: impl Fn(usize) -> Vec<u32>) {
    let bytes = &packed.files[&packed.metadata];
    let (trailer, sections) = packed.sections();
    for at in 0..bytes.len() {
        for bit in bits(at) {
            let found = packed.check_with(&packed.metadata, flipped(bytes, at, bit)).await;
            let finding = &found.findings[0];
            if at < trailer {
                let owner = sections.iter().find(|(range, _)| range.contains(&at)).unwrap().1;
                assert_eq!(found.findings.len(), 1, "{at}: {:?}", found.findings);
                assert_eq!(
                    (finding.offset, (finding.operator, finding.subtask)),
                    (Some(at as u64), owner),
                    "{finding}"
                );
            } else {
                assert!(finding.offset.is_some_and(|offset| offset >= trailer as u64), "{at}: {finding}");
            }
        }
        if at % 97 == 0 || at >= trailer && at % 13 == 0 {
            let error = packed.refuse_with(&packed.metadata, flipped(bytes, at, at as u32)).await;
            assert_eq!(error.kind(), ErrorKind::Damaged, "{at}: {error}");
        }
    }
}

#[tokio::test]
async fn every_flipped_bit_of_metadata_is_found_at_its_byte() {
    flip_metadata(&hashmap().await, |_| (0..8).collect()).await;
}

#[tokio::test]
async fn a_flipped_bit_in_any_byte_of_metadata_is_found_at_its_byte() {
    for packed in [across().await, unaligned().await, savepoint().await] {
        flip_metadata(&packed, |at| vec![at as u32]).await;
    }
}

#[tokio::test]
async fn a_flipped_bit_of_metadata_with_inline_state_is_found_at_its_byte() {
    let packed = across_inline().await;
    let inline = packed.state.streams.iter().filter(|s| matches!(s.content, Content::Inline(_))).count();
    assert!(inline > 20, "{inline}");
    flip_metadata(&packed, |at| if at % 7 == 0 { vec![at as u32] } else { vec![] }).await;
}

async fn flip_data(packed: &Packed) {
    for key in packed.data_keys() {
        let bytes = &packed.files[key];
        let file = runs::path(&format!("memory:/{key}"));
        for ((start, end), owners) in packed.segments(key) {
            for at in [start, start + (end - start) / 3, end - 1] {
                let damaged = flipped(bytes, at, at as u32);
                let found = packed.check_with(key, damaged.clone()).await;
                for owner in &owners {
                    assert!(
                        found.findings.iter().any(|f| {
                            f.file == file && (f.operator, f.subtask) == *owner && f.offset == Some(at as u64)
                        }),
                        "{key} {at} {owner:?}: {:?}",
                        found.findings
                    );
                }
                if at == start {
                    let error = packed.refuse_with(key, damaged).await;
                    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
                    assert_names(&error, key, &owners);
                }
            }
        }
        for at in packed.footer_start(key)..bytes.len() {
            let found = packed.check_with(key, flipped(bytes, at, at as u32)).await;
            // Of the lengths and the magic at the very end, only the field is known.
            let tail = bytes.len() - TAIL_BYTES;
            let offsets = if at < tail { at as u64..at as u64 + 1 } else { tail as u64..bytes.len() as u64 };
            let named = found.findings.iter().any(|f| f.file == file && f.offset.is_some_and(|o| offsets.contains(&o)));
            assert!(named, "{key} {at}: {:?}", found.findings);
            if at % 31 == 0 {
                packed.refuse_with(key, flipped(bytes, at, at as u32)).await;
            }
        }
    }
}

/// The error names the file, an operator of whose state it holds, and the subtask.
fn assert_names(error: &drystone::Error, key: &str, owners: &[Owner]) {
    let line = error.one_line();
    assert!(line.contains(&format!("memory:/{key}")), "{line}");
    let named = |&(operator, subtask): &Owner| {
        operator.is_none_or(|o| line.contains(&format!("operator {o}")))
            && subtask.is_none_or(|s| line.contains(&format!("subtask {s}")))
    };
    assert!(owners.iter().any(named), "{line}");
}

#[tokio::test]
async fn a_flipped_bit_of_hashmap_state_is_found_and_refused() {
    flip_data(&hashmap().await).await;
}

#[tokio::test]
async fn a_flipped_bit_of_rocksdb_state_is_found_and_refused() {
    flip_data(&across().await).await;
}

#[tokio::test]
async fn a_flipped_bit_of_unaligned_state_is_found_and_refused() {
    flip_data(&unaligned().await).await;
}

#[tokio::test]
async fn a_flipped_bit_of_a_savepoint_is_found_and_refused() {
    flip_data(&savepoint().await).await;
}

#[tokio::test]
async fn metadata_cut_short_anywhere_is_found() {
    let packed = hashmap().await;
    let bytes = &packed.files[&packed.metadata];
    for length in 0..bytes.len() {
        packed.check_with(&packed.metadata, bytes.slice(..length)).await;
        if length % 97 == 0 {
            packed.refuse_with(&packed.metadata, bytes.slice(..length)).await;
        }
    }
    let (trailer, _) = packed.sections();
    packed.refuse_with(&packed.metadata, bytes.slice(..trailer)).await;
}

#[tokio::test]
async fn a_file_cut_short_anywhere_is_found() {
    let packed = hashmap().await;
    for key in packed.data_keys() {
        let bytes = &packed.files[key];
        let footer = packed.footer_start(key);
        let lengths = (footer..bytes.len()).chain([0, 1, footer / 3, footer / 2, footer - 1]);
        for length in lengths {
            let found = packed.check_with(key, bytes.slice(..length)).await;
            assert!(found.findings.iter().all(|f| f.operator.is_some()), "{length}: {:?}", found.findings);
            if length % 31 == 0 {
                packed.refuse_with(key, bytes.slice(..length)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_missing_file_is_found_for_every_stream_in_it() {
    let packed = across().await;
    assert!(packed.files.len() > 3);
    for key in packed.data_keys() {
        packed.memory.delete(key).await;
        let found = packed.check().await;
        let file = runs::path(&format!("memory:/{key}"));
        let owners: Vec<Owner> = packed.segments(key).into_values().flatten().collect();
        assert_eq!(found.findings.len(), owners.len());
        for owner in owners {
            assert!(found.findings.iter().any(|f| f.file == file && (f.operator, f.subtask) == owner), "{owner:?}");
        }
        packed.refuse().await;
        packed.restore(key).await;
    }
    packed.memory.delete(&packed.metadata).await;
    let error = runs::check(packed.stores(), &packed.checkpoint).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(packed.refuse().await.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn bytes_behind_the_end_of_any_file_are_found() {
    for packed in [across().await, across_inline().await, savepoint().await] {
        for (key, bytes) in &packed.files {
            for more in [vec![0; 1], vec![0xa5; 1000], bytes.to_vec()] {
                let longer = Bytes::from([&bytes[..], &more].concat());
                packed.check_with(key, longer.clone()).await;
                packed.refuse_with(key, longer).await;
            }
        }
    }
}

#[tokio::test]
async fn swapped_files_are_found() {
    let packed = across().await;
    let keys: Vec<&String> = packed.data_keys().collect();
    let (a, b) = (keys[0], keys[1]);
    packed.memory.put(a, packed.files[b].clone()).await;
    packed.check_with(b, packed.files[a].clone()).await;
    packed.memory.put(a, packed.files[b].clone()).await;
    packed.memory.put(b, packed.files[a].clone()).await;
    let found = packed.check().await;
    for key in [a, b] {
        let file = runs::path(&format!("memory:/{key}"));
        assert!(found.findings.iter().any(|f| f.file == file && f.operator.is_some()));
    }
    packed.refuse().await;
}

#[tokio::test]
async fn another_file_of_the_same_length_is_found() {
    let packed = hashmap().await;
    for (key, bytes) in &packed.files {
        let reversed: Bytes = bytes.iter().rev().copied().collect::<Vec<u8>>().into();
        for other in [reversed, Bytes::from(vec![0; bytes.len()])] {
            packed.check_with(key, other.clone()).await;
            packed.refuse_with(key, other).await;
        }
    }
}

#[tokio::test]
async fn data_of_another_run_under_the_same_name_is_found() {
    // The same state, so of the same length to the byte; only the token within differs.
    let packed = hashmap().await;
    let moved = packed.stores().clone().with_rebase(runs::moved_to(runs::data().to_str().unwrap()));
    let source = runs::path(runs::data().join(runs::HASHMAP).to_str().unwrap());
    runs::repack(&moved, &source, "memory:/other", &runs::options(9, runs::all_packed())).await.unwrap();
    let others = packed.memory.contents("other").await;
    let others: Vec<_> = others.iter().filter(|(key, _)| !key.ends_with("_metadata")).collect();
    for (key, (_, other)) in packed.data_keys().zip(others) {
        assert_eq!(other.len(), packed.files[key].len());
        packed.check_with(key, other.clone()).await;
        packed.refuse_with(key, other.clone()).await;
    }
}
