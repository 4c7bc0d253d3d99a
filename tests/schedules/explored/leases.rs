//! Writers that take a file for themselves and give it back, or are dropped halfway, while others wait for it.

use std::sync::Arc;
use std::time::Duration;

use drystone::ErrorKind;
use drystone::id::Scope;
use drystone::write::{Bounds, FilePool, PoolMode, Written};
use futures::future::join_all;
use tokio::time::NEVER;

use crate::explore::explore;
use crate::rule_store::{Act, RuleStore};
use crate::seeded::bytes_of;
use crate::site::{Segment, Site, origin, write, write_settings};

const PATIENT: PoolMode = PoolMode::Blocking { lease_timeout: NEVER };
const IMPATIENT: PoolMode = PoolMode::Blocking { lease_timeout: Duration::from_secs(1) };

struct Leases {
    site: Site,
    pool: FilePool,
    bounds: Bounds,
    /// At any moment.
    open_max: usize,
}

impl Leases {
    fn new(mode: PoolMode, store: &RuleStore, open_max: usize) -> Arc<Self> {
        let (site, bounds) = (Site::new(Arc::new(store.clone())), Bounds::new(u64::MAX, 1));
        let pool = site.pool(Scope::Shared, write_settings(mode), &bounds);
        Arc::new(Self { site, pool, bounds, open_max })
    }

    fn look(&self) {
        let open = self.bounds.open_files();
        assert!(open <= self.open_max, "{open} files are open, of {} at most", self.open_max);
    }

    async fn write(self: Arc<Self>, index: u32, lengths: &[usize]) -> drystone::Result<Vec<Segment>> {
        let mut segments = Vec::new();
        for (number, &length) in lengths.iter().enumerate() {
            segments.push(write(&self.pool, index, u64::from(index) * 10 + number as u64, length).await?);
            self.look();
        }
        Ok(segments)
    }

    /// Takes a file, if it is let, and is gone.
    async fn abandon(self: Arc<Self>, index: u32) -> drystone::Result<Vec<Segment>> {
        let mut writer = self.pool.segment(origin(index), None);
        for part in 0..2 {
            writer.write(bytes_of(99 + part, 3_000)).await?;
        }
        self.look();
        drop(writer);
        self.look();
        Ok(Vec::new())
    }

    /// All that was written is there, once, and nothing else.
    async fn check(&self, segments: Vec<Segment>) {
        let sealed = self.pool.seal().await.unwrap();
        self.bounds.settled().await.unwrap();
        assert_eq!((self.bounds.open_files(), self.bounds.buffered_bytes(), self.bounds.uploads()), (0, 0, 0));
        let files = self.site.files().await;
        assert_eq!(files.values().map(|footer| footer.segments.len()).sum::<usize>(), segments.len());
        for (written, bytes) in segments {
            let Written::Placed(placement) = written else { panic!("{written:?}") };
            let entry = files[&placement.id.file.0].segments[placement.id.ordinal as usize];
            assert_eq!((entry.offset, entry.length), (placement.offset, placement.length));
            assert_eq!(self.site.read(&sealed.handle(&placement).unwrap()).await, bytes);
        }
    }
}

async fn together(mode: PoolMode, open_max: usize) {
    let leases = Leases::new(mode, &RuleStore::default(), open_max);
    let tasks = [
        tokio::spawn(leases.clone().write(0, &[6_000])),
        tokio::spawn(leases.clone().abandon(1)),
        tokio::spawn(leases.clone().write(2, &[3_000, 3_000])),
        tokio::spawn(leases.clone().write(3, &[7_000, 2_000])),
    ];
    let done = join_all(tasks).await;
    leases.check(done.into_iter().flat_map(|task| task.unwrap().unwrap()).collect()).await;
}

#[test]
fn of_those_who_wait_for_the_one_open_file_nobody_waits_for_ever() {
    explore("leases, blocking", || together(PATIENT, 1));
}

#[test]
fn who_has_waited_long_enough_goes_on_without() {
    // Each of the four may have one, beside the one that is open.
    explore("leases, blocking, impatient", || together(IMPATIENT, 5));
}

#[test]
fn who_never_waits_finds_a_file() {
    explore("leases, non-blocking", || together(PoolMode::NonBlocking, 5));
}

#[test]
fn a_writer_that_is_cut_while_it_waits_or_writes_keeps_nobody_waiting() {
    explore("leases, cut", || async {
        let leases = Leases::new(PATIENT, &RuleStore::default(), 1);
        let cut = tokio::spawn(leases.clone().write(0, &[6_000]));
        let others = [tokio::spawn(leases.clone().write(1, &[6_000])), tokio::spawn(leases.clone().write(2, &[3_000]))];
        cut.abort();
        let cut = cut.await;
        let mut segments: Vec<_> = join_all(others).await.into_iter().flat_map(|task| task.unwrap().unwrap()).collect();
        match cut {
            Ok(written) => {
                segments.extend(written.unwrap());
                leases.check(segments).await;
            }
            // What it had placed may stay, named by nobody.
            Err(_) => {
                let sealed = leases.pool.seal().await.unwrap();
                for (written, bytes) in segments {
                    let Written::Placed(placement) = written else { panic!("{written:?}") };
                    assert_eq!(leases.site.read(&sealed.handle(&placement).unwrap()).await, bytes);
                }
                leases.site.files().await;
            }
        }
    });
}

#[test]
fn a_closed_pool_tells_everybody_and_keeps_nothing() {
    explore("leases, closed", || async {
        let leases = Leases::new(PATIENT, &RuleStore::default(), 1);
        let tasks = [
            tokio::spawn(leases.clone().write(0, &[6_000])),
            tokio::spawn(leases.clone().write(1, &[3_000, 6_000])),
            tokio::spawn(leases.clone().abandon(2)),
        ];
        leases.pool.close("it is over");
        for task in join_all(tasks).await {
            if let Err(error) = task.unwrap() {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            }
        }
        leases.bounds.settled().await.unwrap();
        assert_eq!((leases.bounds.open_files(), leases.bounds.buffered_bytes()), (0, 0));
        leases.pool.abandon().await.unwrap();
        assert!(leases.site.files().await.is_empty());
    });
}

#[test]
fn a_failed_upload_fails_the_pool_and_sets_everybody_free() {
    explore("leases, failed upload", || async {
        let store = RuleStore::default();
        store.rule("put", "", Act::Fail, 1);
        let leases = Leases::new(PATIENT, &store, 1);
        let tasks = [
            tokio::spawn(leases.clone().write(0, &[6_000, 3_000])),
            tokio::spawn(leases.clone().write(1, &[7_000, 7_000])),
        ];
        for task in join_all(tasks).await {
            task.unwrap().unwrap();
        }
        assert_eq!(leases.pool.seal().await.unwrap_err().kind(), ErrorKind::Store);
        leases.bounds.settled().await.unwrap();
        assert_eq!((leases.bounds.open_files(), leases.bounds.buffered_bytes()), (0, 0));
        leases.pool.abandon().await.unwrap();
        assert!(leases.site.files().await.is_empty());
    });
}
