//! Checksums of whole files, which handles can't have, in a job that has claimed them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/heir.rs"]
mod heir;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/scenario.rs"]
mod scenario;

use std::collections::BTreeSet;

use drystone::config::ClaimMode;
use drystone::handle::StreamHandle;
use heir::Heir;
use runs::Memory;
use scenario::{AMPLIFICATION, path};

const PLAIN: &str = "v2-rocksdb-plain/ckpt/00f1f1f1f1f1f1f189febbb2ae266257/chk-3";

/// Flink's handles of whole files have no checksums. Those that a copy has made stay with the files as long as a job that has
/// claimed the copy names them.
#[tokio::test]
async fn the_checksums_of_a_copy_stay_with_its_files() {
    let memory = Memory::with_flink(PLAIN).await;
    let stores = &memory.stores;
    let from = path(&format!("memory:/flink/{PLAIN}"));
    let options = runs::options(1, runs::all_packed());
    let copied = runs::copy(stores, &from, "memory:/copied", &options).await.unwrap().destination;
    let mut heir = Heir::new(stores, "memory:/new", &copied, ClaimMode::Claim, &[(AMPLIFICATION, "0")]).await;
    for _ in 0..2 {
        let (_, answers) = heir.round(false).await;
        let whole = answers.kept.iter().filter_map(|handle| match handle {
            StreamHandle::File(file) => Some(file.path.to_text().replace("memory:/", "")),
            _ => None,
        });
        let keys: BTreeSet<String> = whole.collect();
        assert!(!keys.is_empty());
        for key in &keys {
            let bytes = memory.contents("copied").await.remove(key).unwrap();
            let mut flipped = bytes.to_vec();
            *flipped.last_mut().unwrap() ^= 4;
            memory.put(key, flipped.into()).await;
            let found = runs::check(stores, &heir.latest).await.unwrap().findings;
            assert!(found.iter().any(|finding| finding.file.to_string().contains(key)), "{key}: {found:?}");
            memory.put(key, bytes).await;
        }
    }
}
