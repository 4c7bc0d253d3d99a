//! Keeps an older coordinator of the job from committing and deleting once there is a newer one (I10).
//!
//! A log of small files, each created once, at the next free position. Whatever a coordinator may commit or give up it
//! says there first, and a newer one's claim takes the position that the older would write next:
//! `design/0006-fencing.md` has the argument.

use super::FencingSettings;
use crate::config::Fencing;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{LogEntry, Step};
use crate::id::{CheckpointId, FileToken};
use crate::jobs::{Inheritance, log as entries};
use crate::store::{CreateOnly, JobDirectory, Location, names};
use crate::sync::OnceLock;
use crate::write::Tokens;

/// So often another may be faster, or a file be gone between two looks.
const ATTEMPTS_MAX: u32 = 32;
/// So often a request is made again whose outcome is unknown.
const TRIES_MAX: u32 = 5;
const WAIT_MIN: std::time::Duration = std::time::Duration::from_millis(50);

const ENDED: &str = "the job has ended, and nothing is left of it";

/// A claim on the job: the right to say in its log what is done to it, for as long as nobody newer claims it.
pub(super) struct Fence {
    log: Location,
    pub(super) epoch: u64,
    coordinator: FileToken,
    /// The position of the claim.
    claimed_at: u64,
    /// Held across the requests of one entry: they are written one after another, each with what is true then.
    position: tokio::sync::Mutex<Position>,
    /// Why nothing is committed or deleted any more.
    over: OnceLock<String>,
}

struct Position {
    next: u64,
    /// This coordinator's last entry, unless it is its claim: of no use once there is another.
    last: Option<u64>,
}

/// What came of an attempt to write an entry at a position.
enum Placed {
    Here,
    /// Something else is there.
    Taken(LogEntry),
}

impl Fence {
    /// Claims the next epoch: the claim, and what the coordinator before may have done. `None` where there is no fence, by
    /// the settings or because the store can't have one.
    ///
    /// # Errors
    /// `Unsupported`: the store can't have one, and it is required or there is one from before. `Invalid`: it is switched
    /// off, and there is one from before. `Conflict`: others claim the job all the time. `Damaged`, `Store`.
    pub(super) async fn claim<F: Future<Output = Result<u64>>>(
        directory: &JobDirectory,
        settings: FencingSettings,
        tokens: &Tokens,
        epoch_before: impl Fn() -> F,
    ) -> Result<Option<(Self, Inheritance)>> {
        let log = directory.fence();
        let mut last = entries::last(log).await?;
        if !is_possible(log, settings, tokens, last.is_some()).await? {
            return Ok(None);
        }
        let coordinator = FileToken(tokens());
        for _ in 0..ATTEMPTS_MAX {
            let inheritance = Inheritance::of(last.as_ref().map(|(_, entry)| entry));
            let (position, epoch) = match &last {
                // Another position follows the claim's.
                Some((position, _)) if *position >= u64::MAX - 1 => return Err(is_last(log, "position", *position)),
                Some((position, entry)) => (position + 1, epoch_after(log, entry.epoch)?),
                None => (1, epoch_after(log, epoch_before().await?)?),
            };
            let claim = inheritance.claim(epoch, coordinator);
            if let Placed::Here = place(log, position, &claim).await? {
                // One that came late may have filled a gap among entries that are no more.
                match entries::last(log).await? {
                    Some((newest, _)) if newest > position => {}
                    _ => {
                        let next = position + 1;
                        let position = tokio::sync::Mutex::new(Position { next, last: None });
                        let over = OnceLock::new();
                        let (log, claimed_at) = (log.clone(), next - 1);
                        let fence = Self { log, epoch, coordinator, claimed_at, position, over };
                        return Ok(Some((fence, inheritance)));
                    }
                }
            }
            last = entries::last(log).await?;
        }
        let message = format!("{}: other coordinators claim the job at the same time, again and again", log.name());
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// Says what this coordinator may do from now on; `says` is asked when nobody else is writing. Then the entry that is
    /// of no use any more.
    ///
    /// # Errors
    /// `Fenced`: a newer coordinator has claimed the job. `Store`: it isn't known whether it is said; it counts as not.
    /// Those of `says`.
    ///
    /// Cancel safe: what a cancelled call was writing counts as said or not, as it happens.
    pub(super) async fn say(&self, says: impl Fn() -> Result<Saying>) -> Result<Option<Location>> {
        let mut at = self.position.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            self.refuse_if_over()?;
            let Saying { open, kept, retained, next } = says()?;
            let (epoch, coordinator, kept) = (self.epoch, self.coordinator, Some(kept));
            let entry = LogEntry { epoch, coordinator, step: Step::Intent, open, kept, retained, next };
            let here = at.next;
            match place(&self.log, here, &entry).await? {
                Placed::Here => {
                    at.next += 1;
                    let before = at.last.replace(here);
                    return before.map(|position| self.log.join(&names::log_entry(position))).transpose();
                }
                // An earlier attempt, of which nothing was known.
                Placed::Taken(own) if own.coordinator == self.coordinator => {
                    at.next += 1;
                    at.last = Some(here);
                }
                Placed::Taken(newer) => return Err(self.is_over(newer.epoch)),
            }
        }
        Err(Error::new(ErrorKind::Store, format!("{}: no position is free", self.log.name())))
    }

    /// Is the claim the only entry that there ever was? Then nobody goes by what it says.
    pub(super) async fn has_said_nothing(&self) -> bool {
        self.claimed_at == 1 && self.position.lock().await.last.is_none()
    }

    /// After the job's end: deletes the entries that nobody misses. The last one stays, unless it is the claim. It says that
    /// the job has ended, to who comes next, and to who was about to claim the job and slept: that position is taken.
    /// Where no coordinator was before this one nobody waits for any other.
    pub(super) async fn bury(&self) -> Result<()> {
        let at = self.position.lock().await;
        if self.claimed_at == 1 {
            let end = at.last.unwrap_or(self.claimed_at + 1);
            let is_older = |name: &str| names::parse_log_entry(name).is_some_and(|position| position < end);
            for file in self.log.list_dir().await?.files {
                if file.path.file_name().is_some_and(is_older) {
                    self.log.join(file.path.file_name().unwrap_or_default())?.delete().await?;
                }
            }
        }
        // From here on a job of this name is another.
        self.over.get_or_init(|| ENDED.to_owned());
        Ok(())
    }

    /// Is the job over, and nothing left of it?
    pub(super) fn has_ended(&self) -> bool {
        self.over.get().is_some_and(|over| over == ENDED)
    }

    /// A newer coordinator was met.
    pub(super) fn is_over(&self, newer: u64) -> Error {
        let over = self.over.get_or_init(|| {
            tracing::error!(epoch = self.epoch, newer, "a newer coordinator has the job: nothing is done any more");
            format!("the coordinator of epoch {newer} has taken the job over from this one, of epoch {}", self.epoch)
        });
        Error::new(ErrorKind::Fenced, over.clone())
    }

    /// Was a file of this name written before this coordinator had its claim? Not an entry after that, which may be on its
    /// way now.
    pub(super) fn is_before(&self, name: &str) -> bool {
        names::parse_log_entry(name).is_none_or(|position| position <= self.claimed_at)
    }

    pub(super) fn refuse_if_over(&self) -> Result<()> {
        match self.over.get() {
            Some(over) => Err(Error::new(ErrorKind::Fenced, over.clone())),
            None => Ok(()),
        }
    }
}

/// What a coordinator may do.
pub(super) struct Saying {
    pub(super) open: Vec<CheckpointId>,
    pub(super) kept: Vec<CheckpointId>,
    pub(super) retained: u32,
    pub(super) next: CheckpointId,
}

/// Is there to be a fence? Where there was one before, who does without it would be taken for dead.
async fn is_possible(log: &Location, settings: FencingSettings, tokens: &Tokens, is_there: bool) -> Result<bool> {
    if settings.mode == Fencing::Off {
        if !is_there {
            return Ok(false);
        }
        let message = format!(
            "fencing is off, but {} keeps coordinators apart: switch it on, or remove that directory when none is alive",
            log.name()
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let why = match log.try_create_only(settings.proof_rounds, &**tokens).await? {
        CreateOnly::Honoured => return Ok(true),
        CreateOnly::Missing => "has no conditional put",
        CreateOnly::Ignored => "takes the condition of a put and ignores it",
        CreateOnly::Racy => "lets several writers create one file at the same time",
    };
    let message = format!("the store of {} {why}: it can't keep coordinators apart", log.name());
    if settings.mode == Fencing::Required || is_there {
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    tracing::warn!("{message}: see to it that the job has one at a time");
    Ok(false)
}

/// The next epoch. One that is named may be any number: after the last there is none that is newer.
///
/// # Errors
/// `Damaged`: there is no next one.
pub(super) fn epoch_after(directory: &Location, epoch: u64) -> Result<u64> {
    epoch.checked_add(1).ok_or_else(|| is_last(directory, "epoch", epoch))
}

fn is_last(directory: &Location, what: &str, number: u64) -> Error {
    let message = format!("{}: {what}={number} is named, after which there is none", directory.name());
    Error::new(ErrorKind::Damaged, message)
}

/// Writes an entry, and finds out what came of it.
async fn place(log: &Location, position: u64, entry: &LogEntry) -> Result<Placed> {
    let invalid = |e| Error::new(ErrorKind::Invalid, format!("an entry of {}: {e}", log.name()));
    let bytes = entry.to_bytes().map_err(invalid)?;
    let file = log.join(&names::log_entry(position))?;
    let mut wait = WAIT_MIN;
    let mut tries = 1;
    loop {
        let error = match file.create(vec![bytes.clone()]).await {
            Ok(()) => return Ok(Placed::Here),
            Err(error) => error,
        };
        match entries::read(log, position).await {
            Ok(there) if there == *entry => return Ok(Placed::Here),
            Ok(there) => return Ok(Placed::Taken(there)),
            Err(look) if look.kind() == ErrorKind::Damaged => return Err(look),
            Err(_) if tries < TRIES_MAX => {}
            // That something is there says nothing of what it is.
            Err(look) if look.kind() == ErrorKind::Store => return Err(look),
            Err(_) => return Err(error),
        }
        tries += 1;
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
}
