//! A checkpoint of Flink's, packed in memory, and what each of its bytes belongs to.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;

use bytes::Bytes;
use drystone::format::{SectionOwner, Tail, decode, footer::TAIL_BYTES};
use drystone::id::OperatorId;
use drystone::read::{Checkpoint, Content, State};
use drystone::store::{FlinkPath, Stores};
use drystone::verify::Verification;
use drystone::write::WriteSettings;

use super::runs::{self, Memory};

pub struct Packed {
    pub memory: Memory,
    pub checkpoint: FlinkPath,
    /// By key, `_metadata` included.
    pub files: BTreeMap<String, Bytes>,
    /// Key of `_metadata`.
    pub metadata: String,
    pub state: State,
}

/// Whose a byte is.
pub type Owner = (Option<OperatorId>, Option<u32>);

impl Packed {
    pub async fn of(fixture: &str, write: WriteSettings) -> Self {
        let memory = Memory::new();
        let moved = memory.stores.clone().with_rebase(runs::moved_to(runs::data().to_str().unwrap()));
        let source = runs::path(runs::data().join(fixture).to_str().unwrap());
        let report = runs::repack(&moved, &source, "memory:/packed", &runs::options(1, write)).await.unwrap();
        let checkpoint = report.destination;
        let files = memory.contents("packed").await;
        let metadata = format!("{}/_metadata", &checkpoint.path()[1..]);
        let loaded = Checkpoint::load(&memory.stores, &checkpoint).await.unwrap();
        let state = State::of(&memory.stores, &loaded).await.unwrap();
        let packed = Self { memory, checkpoint, files, metadata, state };
        assert!(packed.check().await.is_sound());
        packed
    }

    pub fn stores(&self) -> &Stores {
        &self.memory.stores
    }

    pub async fn check(&self) -> Verification {
        runs::check(self.stores(), &self.checkpoint).await.unwrap()
    }

    /// Checks with `bytes` in place of a file's, and asserts that something is found in that very file.
    pub async fn check_with(&self, key: &str, bytes: Bytes) -> Verification {
        self.memory.put(key, bytes).await;
        let found = self.check().await;
        self.restore(key).await;
        let file = runs::path(&format!("memory:/{key}"));
        assert!(found.findings.iter().any(|f| f.file == file), "{key}: {:?}", found.findings);
        found
    }

    /// Repacks with `bytes` in place of a file's, and asserts that it is refused and leaves nothing.
    pub async fn refuse_with(&self, key: &str, bytes: Bytes) -> drystone::Error {
        self.memory.put(key, bytes).await;
        let error = self.refuse().await;
        self.restore(key).await;
        error
    }

    pub async fn refuse(&self) -> drystone::Error {
        let options = runs::options(2, runs::all_packed());
        let error = runs::repack(self.stores(), &self.checkpoint, "memory:/second", &options).await.unwrap_err();
        assert_eq!(self.memory.contents("second").await, BTreeMap::new(), "{error}");
        error
    }

    pub async fn restore(&self, key: &str) {
        self.memory.put(key, self.files[key].clone()).await;
    }

    /// Keys of the physical files.
    pub fn data_keys(&self) -> impl Iterator<Item = &String> {
        self.files.keys().filter(|key| **key != self.metadata)
    }

    /// Where a physical file's footer starts.
    pub fn footer_start(&self, key: &str) -> usize {
        let bytes = &self.files[key];
        Tail::decode(&bytes[bytes.len() - TAIL_BYTES..], bytes.len() as u64).unwrap().data_len as usize
    }

    /// Where our trailer starts in `_metadata`, and whose each section before it is.
    pub fn sections(&self) -> (usize, Vec<(std::ops::Range<usize>, Owner)>) {
        let sections = decode(self.files[&self.metadata].clone()).unwrap().sections;
        let owned = sections.iter().map(|section| {
            let owner = match section.owner {
                SectionOwner::Operator(operator) => (Some(operator), None),
                SectionOwner::Subtask(operator, subtask) => (Some(operator), Some(subtask)),
                _ => (None, None),
            };
            (section.range.start as usize..section.range.end as usize, owner)
        });
        let owned: Vec<_> = owned.collect();
        (owned.last().unwrap().0.end, owned)
    }

    /// The segments of a physical file, and who names them.
    pub fn segments(&self, key: &str) -> BTreeMap<(usize, usize), Vec<Owner>> {
        let name = runs::path(&format!("memory:/{key}"));
        let mut segments: BTreeMap<_, Vec<Owner>> = BTreeMap::new();
        for stream in &self.state.streams {
            if let Content::File(wanted) = stream.content
                && self.state.files[wanted.file].name == name
            {
                let range = (wanted.offset as usize, (wanted.offset + wanted.length) as usize);
                segments.entry(range).or_default().push((Some(stream.place.operator), stream.place.subtask));
            }
        }
        segments
    }
}

pub fn flipped(bytes: &Bytes, at: usize, bit: u32) -> Bytes {
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 1 << (bit % 8);
    Bytes::from(damaged)
}
