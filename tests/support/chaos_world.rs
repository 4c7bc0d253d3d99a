//! What is behind all clients of a chaotic store: what is stored, what is on its way, and how requests go.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use object_store::{Error, Result};
use tokio::time::Instant;

/// Numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// How often requests fail, per mille.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Nothing has happened.
    pub before: u64,
    /// It has happened, and the answer is lost.
    pub after: u64,
    /// It hasn't happened when it fails, and does later.
    pub late: u64,
    /// The body of a read breaks off.
    pub broken: u64,
    /// A byte of what is read is another, of files with segments.
    pub flipped: u64,
    /// How much later what is late lands, at most.
    pub late_ms_max: u64,
    /// How long a slow request takes on either way, at most; most take less than a hundredth of that.
    pub slow_ms_max: u64,
}

/// What a request does to the store.
#[derive(Clone, Debug)]
pub enum Effect {
    Put { key: String, bytes: Bytes, create: bool },
    Delete { key: String },
    Start { upload: u64, key: String },
    Part { upload: u64, part: usize, bytes: Bytes },
    Complete { upload: u64 },
    Abort { upload: u64 },
}

/// What a watcher is told: of writes when they are asked for, and when they have happened.
pub struct Deed<'a> {
    pub objects: &'a BTreeMap<String, Bytes>,
    pub client: usize,
    pub effect: &'a Effect,
    /// What was at the place before, where it has happened.
    pub done: Option<Option<Bytes>>,
}

pub type Watch = Arc<dyn Fn(Deed<'_>) + Send + Sync>;

pub(super) struct World {
    pub(super) random: Random,
    pub(super) weather: Weather,
    pub(super) ignores_conditions: bool,
    pub(super) started: Instant,
    pub(super) objects: BTreeMap<String, Bytes>,
    /// Parts that nobody sees, by upload.
    pub(super) uploads: BTreeMap<u64, (String, BTreeMap<usize, Bytes>)>,
    pub(super) processes: Vec<Process>,
    /// Asked for, and not yet happened.
    pub(super) in_flight: BTreeMap<u64, (usize, Effect)>,
    /// What will land without anybody waiting for it, by time.
    pub(super) landing: BTreeMap<(u64, u64), (usize, Effect)>,
    pub(super) next: u64,
    pub(super) throttled_until: u64,
    /// Of what is read next.
    pub(super) flips_next: bool,
    pub(super) trace: String,
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) watch: Watch,
    /// The run is over: what is dropped now says nothing.
    pub(super) is_over: bool,
}

pub(super) struct Process {
    pub(super) name: String,
    pub(super) is_dead: bool,
    pub(super) is_healed: bool,
    pub(super) stalled_until: u64,
    pub(super) dies_in: Option<u64>,
}

impl World {
    pub(super) fn new(seed: u64, weather: Weather, watch: Watch) -> Self {
        Self {
            random: Random::new(seed),
            weather,
            ignores_conditions: false,
            started: Instant::now(),
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            processes: Vec::new(),
            in_flight: BTreeMap::new(),
            landing: BTreeMap::new(),
            next: 0,
            throttled_until: 0,
            flips_next: false,
            trace: String::new(),
            counts: BTreeMap::new(),
            watch,
            is_over: false,
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(super) fn note(&mut self, who: &str, what: &str, key: &str, outcome: &str) {
        let now = self.now();
        // Into memory.
        let _ = writeln!(self.trace, "{now} {who} {what} {key} {outcome}");
    }

    pub(super) fn note_of(&mut self, client: usize, what: &'static str, key: &str, outcome: &'static str) {
        let name = std::mem::take(&mut self.processes[client].name);
        self.note(&name, what, key, outcome);
        self.processes[client].name = name;
        *self.counts.entry(outcome).or_default() += 1;
    }

    pub(super) fn die(&mut self, client: usize) {
        if std::mem::replace(&mut self.processes[client].is_dead, true) {
            return;
        }
        self.note_of(client, "dies", "", "crashed");
        let own: Vec<u64> = self.in_flight.iter().filter(|(_, (c, _))| *c == client).map(|(&id, _)| id).collect();
        own.into_iter().for_each(|id| self.give_up(id));
    }

    /// Nobody waits for it any more: it lands or not.
    pub(super) fn give_up(&mut self, id: u64) {
        let Some((client, effect)) = self.in_flight.remove(&id) else { return };
        if self.random.one_in(2) {
            self.note_of(client, "gives up", effect.key(), "vanished");
        } else {
            self.note_of(client, "gives up", effect.key(), "cut");
            self.land_later(client, effect);
        }
    }

    pub(super) fn land_later(&mut self, client: usize, effect: Effect) {
        let later = 1 + self.random.below(self.weather.late_ms_max);
        self.next += 1;
        self.landing.insert((self.now() + later, self.next), (client, effect));
    }

    /// Nobody has seen the store since these landed.
    pub(super) fn land_due(&mut self) {
        let now = self.now();
        while let Some((&(time, number), _)) = self.landing.first_key_value()
            && time <= now
            && let Some((client, effect)) = self.landing.remove(&(time, number))
        {
            self.land(client, effect);
        }
    }

    pub(super) fn land(&mut self, client: usize, effect: Effect) {
        let key = effect.key().to_owned();
        let outcome = if self.apply(client, effect).is_ok() { "landed" } else { "landed on another" };
        self.note_of(client, "late", &key, outcome);
    }

    pub(super) fn apply(&mut self, client: usize, effect: Effect) -> Result<()> {
        let before = match &effect {
            Effect::Put { key, bytes, create } => {
                if *create && !self.ignores_conditions && self.objects.contains_key(key) {
                    return Err(Error::AlreadyExists { path: key.clone(), source: "it is there".into() });
                }
                self.objects.insert(key.clone(), bytes.clone())
            }
            Effect::Delete { key } => match self.objects.remove(key) {
                None => return Err(missing(key)),
                gone => gone,
            },
            Effect::Start { upload, key } => {
                self.uploads.insert(*upload, (key.clone(), BTreeMap::new()));
                None
            }
            Effect::Part { upload, part, bytes } => {
                let parts = self.uploads.get_mut(upload).ok_or_else(|| missing("upload"))?;
                parts.1.insert(*part, bytes.clone());
                None
            }
            Effect::Complete { upload } => {
                let (key, parts) = self.uploads.remove(upload).ok_or_else(|| missing("upload"))?;
                let bytes: Bytes = parts.into_values().collect::<Vec<_>>().concat().into();
                return self.apply(client, Effect::Put { key, bytes, create: false });
            }
            Effect::Abort { upload } => {
                self.uploads.remove(upload).ok_or_else(|| missing("upload"))?;
                None
            }
        };
        let watch = self.watch.clone();
        watch(Deed { objects: &self.objects, client, effect: &effect, done: Some(before) });
        Ok(())
    }

    /// How a request of this process goes.
    pub(super) fn fate(&mut self, client: usize) -> Fate {
        let Weather { before, after, late, broken, flipped, slow_ms_max, .. } = self.weather;
        let way = |random: &mut Random| match random.below(40) {
            0 => random.below(slow_ms_max + 1),
            1..16 => 0,
            _ => 1 + random.below(slow_ms_max / 100 + 1),
        };
        let (there, back) = (way(&mut self.random), way(&mut self.random));
        let (dice, is_healed) = (self.random.below(1000), self.processes[client].is_healed);
        let kind = match dice {
            _ if is_healed => "ok",
            _ if self.now() < self.throttled_until && dice < 600 => "throttled",
            _ if dice < before => "failed before",
            _ if dice < before + after => "failed after",
            _ if dice < before + after + late => "failed, late",
            _ if dice < before + after + late + broken => "broken",
            _ if dice < before + after + late + broken + flipped => "flipped",
            _ => "ok",
        };
        Fate { there, back, kind }
    }
}

pub(super) struct Fate {
    pub(super) there: u64,
    pub(super) back: u64,
    pub(super) kind: &'static str,
}

impl Effect {
    pub fn key(&self) -> &str {
        match self {
            Effect::Put { key, .. } | Effect::Delete { key } | Effect::Start { key, .. } => key,
            Effect::Part { .. } | Effect::Complete { .. } | Effect::Abort { .. } => "upload",
        }
    }
}

pub(super) fn missing(key: &str) -> Error {
    Error::NotFound { path: key.to_owned(), source: "no such object".into() }
}

pub(super) fn failed(what: &'static str) -> Error {
    Error::Generic { store: "chaos", source: what.into() }
}
