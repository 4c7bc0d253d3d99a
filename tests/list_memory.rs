//! A directory of 10,000 checkpoints: what a look at all of them, and at the latest, takes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/counted_memory.rs"]
mod counted_memory;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/shelf.rs"]
mod shelf;
#[path = "support/synthetic.rs"]
mod synthetic;

use counted_memory::peak_of;
use drystone::jobs::{State, list};
use drystone::read::ReadLimits;
use shelf::{Shelf, metadata};
use synthetic::JOB;

const CHECKPOINTS: u64 = 10_000;
const FILES: u64 = 12;

#[test]
fn memory_is_for_names_and_results_not_for_metadata() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let shelf = Shelf::new();
    let metadata_bytes: usize = runtime.block_on(async {
        // Each names files that others name, too.
        for number in 0..FILES + CHECKPOINTS / 100 {
            shelf.put(&format!("shared/{number:04}"), vec![1; 10]).await;
        }
        let mut total = 0;
        for id in 1..=CHECKPOINTS {
            let named: Vec<_> = (0..FILES).map(|n| (format!("memory:/{JOB}/shared/{:04}", id / 100 + n), 10)).collect();
            let bytes = metadata(id, Some(1), &named);
            total += bytes.len();
            shelf.put(&format!("chk-{id}/_metadata"), bytes).await;
        }
        total
    });
    let limits = ReadLimits { memory_bytes_max: 4 << 20, ..ReadLimits::default() };
    let (listing, peak) = peak_of(|| runtime.block_on(list(&shelf.stores, &shelf.job(), &limits)).unwrap());
    let group = &listing.groups[0];
    assert_eq!((group.entries.len() as u64, group.latest), (CHECKPOINTS, Some(CHECKPOINTS as usize - 1)));
    assert!(group.entries.iter().all(|entry| entry.state == State::Complete));
    println!("list of {CHECKPOINTS} checkpoints: {metadata_bytes} bytes of metadata, peak {peak} bytes");
    // Decoded, all of it would take several times its length.
    assert!(peak < 16 << 20 && metadata_bytes > 24 << 20, "{peak} bytes for {metadata_bytes}");
    let (latest, peak) = peak_of(|| runtime.block_on(shelf.latest()).unwrap());
    assert_eq!(latest.found.unwrap().checkpoint.0, CHECKPOINTS);
    println!("latest of them: peak {peak} bytes");
    assert!(peak < 8 << 20, "{peak}");
}
