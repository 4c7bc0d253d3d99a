//! Damage to metadata that Flink wrote, which has no checksums: it may go unnoticed, but nothing ever panics, and what
//! is refused leaves nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/runs.rs"]
mod runs;

use std::collections::BTreeMap;

use bytes::Bytes;
use drystone::inspect::inspect;
use drystone::read::ReadLimits;
use drystone::write::WriteSettings;
use runs::Memory;

/// Xorshift: the same sequence each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

async fn survive(fixture: &str, seed: u64, rounds: usize) {
    let memory = Memory::with_flink(fixture).await;
    let key = format!("flink/{fixture}/_metadata");
    let checkpoint = runs::path(&format!("memory:/flink/{fixture}"));
    let bytes = memory.contents(&format!("flink/{fixture}")).await.remove(&key).unwrap();
    let mut dice = Dice(seed);
    let mut refused = 0;
    for round in 0..rounds {
        let mut damaged = bytes.to_vec();
        for _ in 0..=dice.below(3) {
            damaged[dice.below(bytes.len())] ^= 1 << dice.below(8);
        }
        if dice.below(8) == 0 {
            damaged.truncate(dice.below(bytes.len()));
        }
        memory.put(&key, Bytes::from(damaged)).await;
        let _ = runs::check(&memory.stores, &checkpoint).await;
        let _ = inspect(&memory.stores, &checkpoint, &ReadLimits::default()).await;
        if round % 8 == 0 {
            let options = runs::options(1, WriteSettings::default());
            let done = match round % 16 {
                0 => runs::repack(&memory.stores, &checkpoint, "memory:/result", &options).await,
                _ => runs::copy(&memory.stores, &checkpoint, "memory:/result", &options).await,
            };
            match done {
                Ok(report) => assert!(runs::check(&memory.stores, &report.destination).await.unwrap().is_sound()),
                Err(error) => {
                    refused += 1;
                    assert_eq!(memory.contents("result").await, BTreeMap::new(), "{round}: {error}");
                }
            }
            for key in memory.contents("result").await.keys() {
                memory.delete(key).await;
            }
        }
    }
    assert!(refused > rounds / 50, "{refused}");
}

#[tokio::test]
async fn hashmap_metadata_of_flink_with_random_damage() {
    survive(runs::HASHMAP, 0x5eed_0001, 2000).await;
}

#[tokio::test]
async fn merged_metadata_of_flink_with_random_damage() {
    survive(runs::ACROSS, 0x5eed_0002, 1000).await;
}

#[tokio::test]
async fn unaligned_metadata_of_flink_with_random_damage() {
    survive(runs::UNALIGNED, 0x5eed_0003, 2000).await;
}

#[tokio::test]
async fn savepoint_metadata_of_flink_with_random_damage() {
    survive(runs::SAVEPOINT, 0x5eed_0004, 2000).await;
}
