//! Reading takes memory in proportion to the input, whatever the input claims to hold.

// A test fails by a panic.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/counted_memory.rs"]
mod counted_memory;
#[path = "fixtures/mod.rs"]
mod fixtures;
#[path = "random/mod.rs"]
mod random;

use bytes::Bytes;
use counted_memory::peak_of;
use drystone::format::decode;
use random::Random;

/// Peak bytes of reading per byte of input.
fn assert_bounded(bytes: Bytes, what: &str) {
    let len = bytes.len();
    let (_, peak) = peak_of(|| decode(bytes));
    assert!(peak <= 64 * len + (1 << 20), "{what}: {peak} bytes for {len}");
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A file of one operator with one subtask, up to its managed keyed state.
fn up_to_keyed(parallelism: u32) -> Vec<u8> {
    let mut bytes = words(&[0x4960_672d, 4, 0, 1, 0, 1, 0, 0, 0, 0, parallelism, parallelism]);
    bytes.push(0);
    bytes
}

#[test]
fn memory_is_bounded() {
    let mut random = Random::new();
    for (name, bytes) in fixtures::all() {
        for _ in 0..300 {
            let mut copy = bytes.to_vec();
            let at = random.below(copy.len());
            copy[at] = [0x7f, 0, random.below(256) as u8][random.below(3)];
            assert_bounded(copy.into(), &name);
        }
    }

    const N: u32 = 1 << 18;
    let mut finished = up_to_keyed(N);
    finished.extend(words(&[N]));
    (0..N).for_each(|index| finished.extend((!index).to_be_bytes()));
    assert_bounded(finished.into(), "finished subtasks");

    let mut paths = up_to_keyed(1);
    paths.extend(words(&[1, 0, 0, 0]));
    paths.extend([&[5][..], &[0; 8], &[0, 0], &[0; 8], &[0]].concat());
    paths.extend(words(&[N]));
    paths.extend(vec![0; 3 * N as usize]);
    assert_bounded(paths.into(), "null paths");

    let mut nested = up_to_keyed(1);
    nested.extend(words(&[1, 0, 0, 0]));
    for _ in 0..17 {
        nested.push(14);
        nested.extend(words(&[0, 0, 0, 0, N]));
    }
    nested.extend(vec![0; 10 * N as usize]);
    assert_bounded(nested.into(), "nested claims");

    let mut groups = up_to_keyed(1);
    groups.extend(words(&[1, 0, 0, 0]));
    groups.push(14);
    groups.extend(words(&[0, 0, 0, 0, N]));
    (0..N).for_each(|_| groups.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 16]));
    assert_bounded(groups.into(), "smallest key groups");
}
