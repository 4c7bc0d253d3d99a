//! Counters in a hash map, snapshotted by key groups: all of it each time, as one stream of one checkpoint.

use std::collections::{BTreeMap, HashMap};

use bytes::BytesMut;
use drystone::Result;
use drystone::handle::{JavaString, KeyGroupsForm, KeyGroupsHandle, KeyedHandle, SubtaskState};
use drystone::id::{KeyGroupRange, Scope};
use drystone::read::{KeyedState, TaskRestore};
use drystone::worker::{Durable, Snapshot};
use drystone::write::Written;

use crate::entries::{damaged, each, key_group, put};

/// What comes before the first key group: a key group at offset 0 would count as one without state.
const HEAD: &[u8] = b"counters 1\n";

/// The counters of one subtask.
pub struct Counters {
    range: KeyGroupRange,
    groups: BTreeMap<u32, HashMap<String, u64>>,
}

/// A snapshot whose bytes are written, and not yet durable.
pub struct CountersSnapshot {
    range: KeyGroupRange,
    offsets: Vec<i64>,
    checksums: Vec<u32>,
    written: Written,
}

impl Counters {
    pub fn new(range: KeyGroupRange) -> Self {
        Self { range, groups: BTreeMap::new() }
    }

    pub fn add(&mut self, key: &str, amount: u64) {
        *self.groups.entry(key_group(key)).or_default().entry(key.to_owned()).or_default() += amount;
    }

    /// All counters.
    pub fn entries(&self) -> impl Iterator<Item = (&str, u64)> {
        self.groups.values().flatten().map(|(key, value)| (key.as_str(), *value))
    }

    /// Writes all counters, group by group, and keeps where each group starts.
    pub async fn snapshot(&self, snapshot: &Snapshot) -> Result<CountersSnapshot> {
        let mut writer = snapshot.segment(Scope::Exclusive, None);
        writer.write_slice(HEAD).await?;
        let mut offsets = Vec::new();
        for group in self.range.start..self.range.start + self.range.count {
            let Some(counters) = self.groups.get(&group) else {
                offsets.push(0);
                continue;
            };
            offsets.push(writer.mark() as i64);
            let mut bytes = BytesMut::new();
            counters.iter().for_each(|(key, value)| put(&mut bytes, key, *value));
            writer.write(bytes.freeze()).await?;
        }
        let checksums = writer.part_checksums();
        Ok(CountersSnapshot { range: self.range, offsets, checksums, written: writer.finish().await? })
    }

    /// Reads the key groups of one subtask, whoever wrote them.
    pub async fn restore(task: &TaskRestore) -> Result<Self> {
        let restored = task.read_all().await?;
        let mut found = Self::new(task.key_groups);
        for keyed in &task.managed_keyed {
            let KeyedState::KeyGroups { stream: Some(stream), .. } = keyed.state else {
                return Err(damaged("no key groups"));
            };
            if restored.bytes(stream) != HEAD {
                return Err(damaged("another head"));
            }
            for part in restored.parts(stream).iter().filter(|part| part.key_group.is_some()) {
                each(part.bytes.clone(), |key, value| found.add(&key, value))?;
            }
        }
        Ok(found)
    }
}

impl CountersSnapshot {
    /// What the checkpoint's metadata is to say.
    pub fn state(self, durable: &Durable, id: JavaString) -> Result<SubtaskState> {
        let delegate = durable.handle(&self.written)?.ok_or_else(|| damaged("the head was not written"))?;
        let form = KeyGroupsForm::WithId(id);
        let Self { range, offsets, checksums, .. } = self;
        let handle = KeyGroupsHandle { form, range, offsets, delegate, checksums };
        Ok(SubtaskState { managed_keyed: Some(KeyedHandle::KeyGroups(handle)), ..SubtaskState::default() })
    }
}
