//! Reading takes memory in proportion to the input, whatever the input claims to hold.

// A test fails by a panic; and an allocator that counts can't be had without unsafe code.
#![allow(clippy::unwrap_used, clippy::panic, unsafe_code)]

#[path = "fixtures/mod.rs"]
mod fixtures;
#[path = "random/mod.rs"]
mod random;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use drystone::format::decode;
use random::Random;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), SeqCst) + layout.size(), SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Peak bytes of reading per byte of input.
fn assert_bounded(bytes: Bytes, what: &str) {
    let (len, before) = (bytes.len(), NOW.load(SeqCst));
    PEAK.store(before, SeqCst);
    drop(decode(bytes));
    let peak = PEAK.load(SeqCst) - before;
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

/// One test, so that nothing else allocates meanwhile.
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
