//! Every bit of every byte of a packed checkpoint flipped, and every file of it cut to every length: `verify` finds all of
//! it, and a restore delivers what was written or nothing.
//!
//! `DRYSTONE_LONG=1` takes a checkpoint of several times the bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/crash_job.rs"]
mod crash_job;
#[path = "support/seeded.rs"]
mod seeded;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use crash_job::{Job, settings, storage};
use drystone::ErrorKind;
use drystone::config::Settings;
use drystone::format::Trailer;
use drystone::format::footer::{TAIL_BYTES, Tail};
use drystone::id::OperatorId;
use drystone::read::{KeyedRestore, ReadLimits, Restore};
use drystone::store::{FlinkPath, Stores};
use drystone::verify::verify;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};

/// All that a restore delivers: each task's handles, and the bytes of its streams.
type Delivered = Vec<(Vec<KeyedRestore>, Vec<(String, Bytes)>)>;

struct Target {
    objects: Arc<InMemory>,
    stores: Stores,
    checkpoint: FlinkPath,
    /// Every file of it, by key.
    files: BTreeMap<String, Bytes>,
    delivered: Delivered,
}

/// What became of the damage.
#[derive(Debug, Default)]
struct Tally {
    damaged: u64,
    /// By `verify`.
    found: u64,
    /// The restore gave an error.
    refused: u64,
    /// It delivered all that was written: nobody reads what was damaged.
    unread: u64,
}

impl Target {
    /// Two subtasks with shared and private segments, and inline ones; some named from the checkpoint before.
    async fn new() -> Self {
        let sizes: &[usize] = if std::env::var_os("DRYSTONE_LONG").is_some() { &[900, 3000, 1500] } else { &[50, 110] };
        let objects = Arc::new(InMemory::new());
        let root = FlinkPath::parse("memory:/c").unwrap();
        let stores = Stores::new().with_store(&root, objects.clone());
        let settings =
            Settings { data_inline_threshold: drystone::config::MemorySize(40), num_retained: 1, ..settings() };
        let open = storage(stores.clone(), &root, settings, 1).unwrap();
        let mut job = Job::start(open, Arc::default()).await.unwrap();
        job.private_bytes = sizes[0];
        for _ in 0..2 {
            job.change(sizes, |_| true);
            job.checkpoint().await.unwrap();
        }
        job.coordinator.settle().await.unwrap();
        let checkpoint = job.coordinator.latest().unwrap().path;
        let mut files = BTreeMap::new();
        for path in job.named().await.unwrap() {
            let key = path.to_string().strip_prefix("memory:/").unwrap().to_owned();
            let bytes = objects.get(&Key::from(key.as_str())).await.unwrap().bytes().await.unwrap();
            files.insert(key, bytes);
        }
        let mut target = Self { objects, stores, checkpoint, files, delivered: Vec::new() };
        target.delivered = target.restore().await.unwrap();
        let streams = target.delivered.iter().map(|(_, streams)| streams.len()).sum::<usize>();
        assert_eq!(streams, 2 * (2 * sizes.len() + 2));
        assert!(
            verify(&target.stores, &target.checkpoint, &ReadLimits::default(), &|_, _| {}).await.unwrap().is_sound()
        );
        target
    }

    async fn restore(&self) -> drystone::Result<Delivered> {
        let restore = Restore::open(&self.stores, &self.checkpoint, ReadLimits::default()).await?;
        let mut delivered = Delivered::new();
        for index in 0..2 {
            let task = restore.task(OperatorId([9; 16]), index, 2)?;
            let restored = task.read_all().await?;
            let streams = task.streams().iter().enumerate().map(|(number, stream)| {
                (
                    stream.place().local_path.as_ref().map(ToString::to_string).unwrap_or_default(),
                    restored.bytes(number),
                )
            });
            delivered.push((task.managed_keyed.clone(), streams.collect()));
        }
        Ok(delivered)
    }

    /// Which bytes of a file a restore needs: all of the metadata, and all before a data file's footer.
    fn needed(&self, key: &str) -> usize {
        let bytes = &self.files[key];
        if key.ends_with("_metadata") {
            return bytes.len();
        }
        let tail = Tail::decode(&bytes[bytes.len() - TAIL_BYTES..], bytes.len() as u64).unwrap();
        tail.data_len as usize
    }

    /// Puts damaged bytes in a file's place, and sees that all that can know of it does.
    async fn damage(&self, key: &str, damaged: Vec<u8>, is_needed: bool, context: &str, tally: &mut Tally) {
        tally.damaged += 1;
        self.objects.put(&Key::from(key), PutPayload::from(damaged)).await.unwrap();
        let found = verify(&self.stores, &self.checkpoint, &ReadLimits::default(), &|_, _| {}).await.unwrap();
        assert!(!found.is_sound(), "{context}: verify finds nothing");
        tally.found += 1;
        match self.restore().await {
            Ok(delivered) => {
                assert!(delivered == self.delivered, "{context}: other bytes were delivered");
                assert!(!is_needed, "{context}: who checked it?");
                tally.unread += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{context}: {error}");
                tally.refused += 1;
            }
        }
    }

    async fn mend(&self, key: &str) {
        self.objects.put(&Key::from(key), PutPayload::from(self.files[key].clone())).await.unwrap();
    }

    fn print(&self, what: &str, tally: &Tally) {
        let (files, bytes) = (self.files.len(), self.files.values().map(Bytes::len).sum::<usize>());
        let Tally { damaged, found, refused, unread } = tally;
        println!(
            "{files} files of {bytes} bytes: {damaged} {what}, {found} found by verify; a restore refused {refused}, and \
             delivered what was written in {unread}, where it reads nothing"
        );
        assert_eq!((damaged, *damaged), (found, refused + unread));
    }
}

async fn flip(is_wanted: impl Fn(&str) -> bool, what: &str) {
    let (target, mut tally) = (Target::new().await, Tally::default());
    for (key, bytes) in target.files.iter().filter(|(key, _)| is_wanted(key)) {
        let needed = target.needed(key);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            target.damage(key, damaged, bit / 8 < needed, &format!("{key}, bit {bit}"), &mut tally).await;
        }
        target.mend(key).await;
    }
    target.print(what, &tally);
}

#[tokio::test]
async fn every_flipped_bit_of_the_metadata_is_found() {
    flip(|key| key.ends_with("_metadata"), "flips in the metadata").await;
}

#[tokio::test]
async fn every_flipped_bit_of_a_data_file_is_found() {
    flip(|key| !key.ends_with("_metadata"), "flips in data files").await;
}

#[tokio::test]
async fn every_cut_is_found() {
    let (target, mut tally) = (Target::new().await, Tally::default());
    for (key, bytes) in &target.files {
        let needed = target.needed(key);
        // Cut right there, it is a checkpoint as stock Flink writes them, which is restored.
        let trailer = Trailer::find(bytes).and_then(Result::ok).map(|(start, _)| start as usize);
        for length in 0..bytes.len() {
            let (context, is_needed) = (format!("{key}, cut to {length}"), length < needed && Some(length) != trailer);
            target.damage(key, bytes[..length].to_vec(), is_needed, &context, &mut tally).await;
        }
        target.mend(key).await;
    }
    target.print("truncations", &tally);
}
