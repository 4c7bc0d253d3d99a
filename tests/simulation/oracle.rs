//! What has to hold: plain maps of what each checkpoint holds, against what is in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use drystone::format::decode;
use drystone::handle::{KeyedHandle, LocalPathHandle, OperatorSubtasks, StreamHandle};
use drystone::jobs::Hint;
use drystone::ledger::SpaceUsage;
use drystone::protocol::RewritePlan;
use drystone::store::names::PhysicalFileName;

use crate::chaos_store::{Deed, Effect};

/// A chunk, by key group and name.
pub type ChunkKey = (u32, u32);
/// What a checkpoint holds.
pub type Contents = BTreeMap<ChunkKey, Bytes>;
pub type Objects = BTreeMap<String, Bytes>;

/// What checkpoint metadata in the store says, by the test's own reading.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub epoch: u64,
    pub number: u64,
    pub inline: BTreeMap<ChunkKey, Bytes>,
    /// Key, offset and length of what lies in files.
    pub placed: BTreeMap<ChunkKey, (String, u64, u64)>,
}

/// Seen by the store itself, as it happens.
#[derive(Default)]
pub struct Seen {
    pub violations: Vec<String>,
    /// What the metadata that is there names, by its key; that of savepoints, too.
    pub readings: BTreeMap<String, Reading>,
    /// Metadata that somebody was told is durable, by its key.
    pub committed: BTreeSet<String>,
    /// The newest coordinator that has taken the job over: those with lower numbers are over.
    pub coordinator: Option<usize>,
    pub coordinators: BTreeSet<usize>,
    discarded: BTreeSet<String>,
    pub revenants: u64,
    /// What those that are over were told.
    pub refused: u64,
    /// What they had said they would delete, and their successors didn't count on.
    pub late_deletes: u64,
}

pub fn is_metadata(key: &str) -> bool {
    key.ends_with("/_metadata")
}

/// What tells other tools of the latest checkpoint.
fn is_hint(key: &str) -> bool {
    key.ends_with("/_drystone/latest")
}

/// Something in a savepoint's own directory, wherever that is.
pub fn is_of_savepoint(key: &str) -> bool {
    key.contains("/savepoint-")
}

/// What says that a savepoint was begun, put by each worker.
pub fn is_mark(key: &str) -> bool {
    key.contains("/_drystone-unfinished-")
}

pub fn chunk_name((group, name): ChunkKey) -> String {
    format!("{group}/{name}.sst")
}

pub fn parse_chunk_name(text: &str) -> Option<ChunkKey> {
    let (group, name) = text.strip_suffix(".sst")?.split_once('/')?;
    Some((group.parse().ok()?, name.parse().ok()?))
}

impl Reading {
    /// `None` for what isn't a checkpoint of ours: a tombstone.
    pub fn of(bytes: &Bytes) -> Option<Self> {
        Self::read(None, bytes)
    }

    /// As [`of`](Self::of), of a savepoint, which names files by their names alone.
    pub fn of_savepoint(key: &str, bytes: &Bytes) -> Option<Self> {
        Self::read(key.strip_suffix("/_metadata"), bytes)
    }

    fn at(key: &str, bytes: &Bytes) -> Option<Self> {
        if is_of_savepoint(key) { Self::of_savepoint(key, bytes) } else { Self::of(bytes) }
    }

    fn read(directory: Option<&str>, bytes: &Bytes) -> Option<Self> {
        let decoded = decode(bytes.clone()).ok()?;
        let number = decoded.metadata.checkpoint_id.0;
        let mut reading = Self { epoch: decoded.trailer.as_ref()?.epoch, number, ..Self::default() };
        for operator in &decoded.metadata.operators {
            let OperatorSubtasks::Reported(entries) = &operator.subtasks else { continue };
            for state in entries.iter().filter_map(|entry| entry.state.as_ref()) {
                let Some(KeyedHandle::Incremental(keyed)) = &state.managed_keyed else { return None };
                keyed.shared.iter().chain(&keyed.private).try_for_each(|file| reading.take(directory, file))?;
            }
        }
        Some(reading)
    }

    fn take(&mut self, directory: Option<&str>, file: &LocalPathHandle) -> Option<()> {
        let chunk = parse_chunk_name(&file.local_path.to_text())?;
        let is_new = match file.handle.as_ref()? {
            StreamHandle::Inline(inline) => self.inline.insert(chunk, inline.bytes.clone()).is_none(),
            StreamHandle::Segment(segment) => {
                let key = segment.path.to_text().trim_start_matches("memory:").trim_start_matches('/').to_owned();
                self.placed.insert(chunk, (key, segment.offset, segment.size)).is_none()
            }
            StreamHandle::Relative(file) => {
                let key = format!("{}/{}", directory?, file.path.to_text());
                self.placed.insert(chunk, (key, 0, u64::try_from(file.size).ok()?)).is_none()
            }
            _ => return None,
        };
        is_new.then_some(())
    }

    /// A savepoint's file in a checkpoint, or any other than its own in a savepoint.
    fn astray(&self, key: &str) -> Option<&str> {
        let own = key.strip_suffix("_metadata").unwrap_or(key);
        let is_astray = |file: &&str| if is_of_savepoint(key) { !file.starts_with(own) } else { is_of_savepoint(file) };
        self.placed.values().map(|(file, ..)| file.as_str()).find(is_astray)
    }

    /// What is wrong with a file it names.
    pub fn missing(&self, objects: &Objects) -> Option<String> {
        let mut placed = self.placed.values();
        let short = placed
            .find(|(key, offset, length)| objects.get(key).is_none_or(|bytes| (bytes.len() as u64) < offset + length));
        short.map(|(key, offset, length)| match objects.get(key) {
            None => format!("{key}, which is gone"),
            Some(bytes) => format!("{length} bytes at {offset} of {key}, which has {}", bytes.len()),
        })
    }

    pub fn contents(&self, objects: &Objects) -> Contents {
        let piece = |(key, offset, length): &(String, u64, u64)| {
            objects.get(key).map(|bytes| bytes.slice(*offset as usize..(*offset + *length) as usize))
        };
        let placed = self.placed.iter().filter_map(|(chunk, place)| Some((*chunk, piece(place)?)));
        self.inline.clone().into_iter().chain(placed).collect()
    }
}

/// The space that these take, counted anew (I5).
pub fn recount<'a>(readings: impl Iterator<Item = &'a Reading>, objects: &Objects) -> SpaceUsage {
    let places: BTreeSet<_> = readings.flat_map(|reading| reading.placed.values()).collect();
    let files: BTreeSet<&str> = places.iter().map(|(key, ..)| key.as_str()).collect();
    SpaceUsage {
        files: files.len() as u64,
        file_bytes: files.iter().filter_map(|&key| objects.get(key)).map(|bytes| bytes.len() as u64).sum(),
        segments: places.len() as u64,
        segment_bytes: places.iter().map(|(.., length)| length).sum(),
    }
}

impl Seen {
    pub fn watch(seen: &Arc<Mutex<Self>>) -> crate::chaos_store::Watch {
        let seen = seen.clone();
        Arc::new(move |deed| seen.lock().unwrap().look(&deed))
    }

    fn look(&mut self, deed: &Deed<'_>) {
        match (deed.effect, &deed.done) {
            (Effect::Put { key, bytes, .. }, None) if is_metadata(key) => self.commit_asked(deed, key, bytes),
            (Effect::Put { key, bytes, .. }, None) if is_hint(key) => self.hint_asked(key, bytes),
            (Effect::Delete { key }, None) => self.delete_asked(deed, key),
            // The one file that is: a zombie may do it, too.
            (Effect::Put { key, .. }, Some(_)) if is_hint(key) => {}
            (Effect::Put { key, bytes, .. }, Some(before)) => {
                if self.discarded.contains(key) {
                    // Of several puts of one commit the last to land may come after the checkpoint was replaced.
                    self.revenants += 1;
                    return;
                }
                if is_metadata(key)
                    && !is_of_savepoint(key)
                    && self.is_over(deed.client)
                    && Reading::of(bytes).is_some()
                {
                    self.violations.push(format!("I10: {key} was put by a coordinator that is over"));
                }
                if before.is_some() && !is_mark(key) {
                    self.violations.push(format!("I2: {key} was replaced"));
                }
                if is_metadata(key)
                    && let Some(reading) = Reading::at(key, bytes)
                {
                    if is_of_savepoint(key)
                        && let Some(what) = reading.missing(deed.objects)
                    {
                        self.violations.push(format!("savepoint: {key} looks complete and names {what}"));
                    }
                    self.readings.insert(key.clone(), reading);
                }
            }
            (Effect::Delete { key }, Some(_)) => self.deleted(key),
            _ => {}
        }
    }

    /// Every file that it names is there and whole before metadata is put, and only the newest coordinator puts any.
    fn commit_asked(&mut self, deed: &Deed<'_>, key: &str, bytes: &Bytes) {
        let Some(reading) = Reading::at(key, bytes) else {
            if is_of_savepoint(key) {
                self.violations.push(format!("savepoint: {key} is put and can't be read"));
            }
            return;
        };
        if let Some(file) = reading.astray(key) {
            self.violations.push(format!("savepoint: {key} is put and names {file}"));
        }
        // Nobody goes by a savepoint, whoever took it.
        if self.is_over(deed.client) && !is_of_savepoint(key) {
            self.refused += 1;
            return;
        }
        if let Some(what) = reading.missing(deed.objects) {
            self.violations.push(format!("I2: {key} is put and names {what}"));
        }
    }

    /// Other tools are told only of what is durable.
    fn hint_asked(&mut self, key: &str, bytes: &Bytes) {
        let Some(hint) = Hint::from_bytes(bytes) else {
            self.violations.push(format!("{key} is put, and is no hint"));
            return;
        };
        let metadata = format!("{}/_metadata", hint.path.path().trim_start_matches('/'));
        let is_durable = self.readings.get(&metadata).is_some_and(|reading| reading.epoch == hint.epoch);
        if !is_durable && !self.discarded.contains(&metadata) {
            self.violations.push(format!("{key} is put and names {}, which isn't there", hint.path));
        }
    }

    fn delete_asked(&mut self, deed: &Deed<'_>, key: &str) {
        if !self.coordinators.contains(&deed.client) {
            self.violations.push(format!("I3: a worker deletes {key}"));
        }
        if self.is_over(deed.client) {
            self.late_deletes += 1;
        }
    }

    fn is_over(&self, client: usize) -> bool {
        self.coordinators.contains(&client) && self.coordinator.is_some_and(|newest| client < newest)
    }

    /// Nothing goes that metadata which is there names.
    fn deleted(&mut self, key: &str) {
        if is_of_savepoint(key) && is_metadata(key) {
            self.violations.push(format!("savepoint: {key} was deleted, which is the user's"));
        }
        if is_metadata(key) {
            self.readings.remove(key);
            self.committed.remove(key);
            self.discarded.insert(key.to_owned());
            return;
        }
        for (metadata, reading) in &self.readings {
            if reading.placed.values().any(|(file, ..)| file == key) {
                self.violations.push(format!("I3: {key} was deleted while {metadata} names it"));
            }
        }
    }
}

/// Nothing is written again for the sake of less.
pub const FLOOR_BYTES: u64 = 2_000;

/// Either what stays is within the limit, or every file that can be left is: those that are shared, older than the
/// latest checkpoint, and waste more than a quarter of what the limit allows.
pub fn check_plan(
    latest: u64,
    reading: &Reading,
    objects: &Objects,
    plan: &RewritePlan,
    limit: f64,
) -> Result<(), String> {
    let mut live: BTreeMap<&str, BTreeSet<(u64, u64)>> = BTreeMap::new();
    for (key, offset, length) in reading.placed.values() {
        live.entry(key).or_default().insert((*offset, *length));
    }
    let planned: BTreeSet<&str> =
        plan.files.keys().map(|path| path.trim_start_matches("memory:").trim_start_matches('/')).collect();
    let file = |(key, pieces): (&&str, &BTreeSet<(u64, u64)>)| {
        let bytes = objects.get(*key).map_or(0, |bytes| bytes.len() as u64);
        (bytes, pieces.iter().map(|(_, length)| length).sum::<u64>())
    };
    let live_bytes: u64 = live.iter().map(|named| file(named).1).sum();
    let kept_bytes: u64 = live.iter().filter(|(key, _)| !planned.contains(*key)).map(|named| file(named).0).sum();
    if kept_bytes as f64 <= (limit * live_bytes as f64).max(FLOOR_BYTES as f64) {
        return Ok(());
    }
    let is_older = |key: &str| {
        let written_for = key.rsplit('/').next().and_then(|name| name.parse::<PhysicalFileName>().ok());
        key.contains("/shared/") && written_for.is_some_and(|name| name.checkpoint.0 < latest)
    };
    let own_limit = (1.0 + (limit - 1.0) / 4.0).max(1.02);
    let forgotten = live.iter().filter(|(key, _)| is_older(key) && !planned.contains(*key));
    let wasteful = forgotten
        .map(|named| (named.0, file(named)))
        .find(|(_, (bytes, live))| *bytes as f64 > own_limit * *live as f64);
    wasteful.map_or(Ok(()), |(key, (bytes, live))| {
        Err(format!(
            "space: {kept_bytes} bytes stay for {live_bytes}, and {key} with {live} of {bytes} isn't in the plan"
        ))
    })
}

/// What checkpoints must hold.
#[derive(Default)]
pub struct Model {
    /// By epoch and number.
    pub taken: BTreeMap<(u64, u64), Contents>,
    /// Those that somebody was told are durable, and not that they were replaced.
    pub acknowledged: BTreeSet<u64>,
}

impl Model {
    /// The completed checkpoints, as the coordinator has them, against what is there.
    pub fn check(
        &mut self,
        completed: &[u64],
        retained: usize,
        directory: &str,
        objects: &Objects,
        seen: &mut Seen,
    ) -> Result<Vec<Reading>, String> {
        // One that is gone was replaced by newer ones.
        for lost in self.acknowledged.iter().filter(|number| !completed.contains(number)) {
            let newer = completed.iter().filter(|&number| number > lost).count();
            if newer < retained {
                return Err(format!("checkpoint {lost} had completed and is gone, with {newer} newer ones"));
            }
        }
        self.acknowledged = completed.iter().copied().collect();
        let mut readings = Vec::new();
        for number in completed {
            let key = format!("{directory}/chk-{number}/_metadata");
            let Some(bytes) = objects.get(&key) else { return Err(format!("{key} of a completed checkpoint is gone")) };
            let reading = match seen.readings.get(&key) {
                Some(reading) => reading.clone(),
                None => Reading::of(bytes).ok_or_else(|| format!("{key} can't be read"))?,
            };
            if let Some(what) = reading.missing(objects) {
                return Err(format!("checkpoint {number} names {what}"));
            }
            if seen.committed.insert(key) {
                let Some(expected) = self.taken.get(&(reading.epoch, *number)) else {
                    return Err(format!("nobody took checkpoint {number} of epoch {}", reading.epoch));
                };
                compare(*number, &reading.contents(objects), expected)?;
            }
            readings.push(reading);
        }
        Ok(readings)
    }
}

/// Byte for byte.
pub fn compare(checkpoint: u64, found: &Contents, expected: &Contents) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let names = |contents: &Contents, other: &Contents| {
        let differ = contents.iter().filter(|(chunk, bytes)| other.get(chunk) != Some(bytes));
        differ.map(|(chunk, bytes)| format!("{chunk:?} of {} bytes", bytes.len())).collect::<Vec<_>>().join(", ")
    };
    let (found, expected) = (names(found, expected), names(expected, found));
    Err(format!("checkpoint {checkpoint} holds [{found}] where [{expected}] was taken"))
}
