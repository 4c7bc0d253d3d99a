//! What is kept, what goes, and what there is room for. Pure.

use std::collections::BTreeMap;

use crate::id::{CheckpointId, FileToken};
use crate::store::names::PhysicalFileName;

/// A checkpoint, by its coordinator's epoch first: a newer one may go back to lower numbers.
pub(super) type Mark = (u64, CheckpointId);

/// Files that are named before what is there was looked at: more aren't remembered.
const EARLY_MAX: usize = 1 << 16;

/// The copies of one worker.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    bytes_max: u64,
    /// Of all below, as they will be.
    bytes: u64,
    files: BTreeMap<FileToken, Copy>,
    /// What was named though there is no copy of it: one may yet be found on the disk.
    early: BTreeMap<FileToken, Mark>,
    /// All that is named by nothing newer than this is gone, or is to go.
    pruned_before: Option<Mark>,
}

#[derive(Clone, Debug)]
struct Copy {
    name: PhysicalFileName,
    /// None while nothing of it is on a disk.
    directory: Option<usize>,
    bytes: u64,
    /// The newest checkpoint that is known to name it.
    named: Mark,
    phase: Phase,
    /// An earlier process wrote it, and nothing has named it since.
    is_found: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Copying,
    Whole,
    /// To be deleted, once nobody writes it.
    Doomed {
        is_written: bool,
    },
}

/// A copy that is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doomed {
    pub(super) name: PhysicalFileName,
    pub(super) directory: usize,
}

/// May a copy grow?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    Fits,
    /// When these are gone.
    After(Vec<Doomed>),
    Full,
    /// Nobody wants it any more.
    Unwanted,
}

fn written_for(name: &PhysicalFileName) -> Mark {
    (name.attempt, name.checkpoint)
}

impl Shelf {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: 0, files: BTreeMap::new(), early: BTreeMap::new(), pruned_before: None }
    }

    /// Whole copies, and all their bytes on the disk, those in the making included.
    pub(super) fn held(&self) -> (u64, u64) {
        let whole = self.files.values().filter(|copy| copy.phase == Phase::Whole).count();
        (whole as u64, self.bytes)
    }

    /// Is there such a copy, or one in the making?
    pub(super) fn has(&self, token: FileToken) -> bool {
        self.files.contains_key(&token)
    }

    /// A copy of an earlier process is there.
    pub(super) fn find(&mut self, name: PhysicalFileName, directory: usize, bytes: u64) {
        let token = name.token;
        if self.files.contains_key(&token) {
            return;
        }
        let named = self.early.remove(&token);
        let is_found = named.is_none();
        let named = named.map_or(written_for(&name), |named| named.max(written_for(&name)));
        self.bytes += bytes;
        let directory = Some(directory);
        self.files.insert(token, Copy { name, directory, bytes, named, phase: Phase::Whole, is_found });
        self.doom_unnamed();
    }

    /// All that is there has been found, in every directory.
    pub(super) fn found_all(&mut self) {
        self.early.clear();
    }

    /// What has to go, now that all that is there is known, since there may be less than there was.
    pub(super) fn trim(&mut self) -> Vec<Doomed> {
        let excess = self.bytes.saturating_sub(self.bytes_max);
        if excess == 0 { Vec::new() } else { self.doom_for(excess, (0, CheckpointId(0))) }
    }

    /// A file is to be copied. False if nobody wants it any more.
    pub(super) fn begin(&mut self, name: PhysicalFileName) -> bool {
        let named = written_for(&name);
        if self.pruned_before.is_some_and(|before| named < before) || self.files.contains_key(&name.token) {
            return false;
        }
        let (directory, phase) = (None, Phase::Copying);
        self.files.insert(name.token, Copy { name, directory, bytes: 0, named, phase, is_found: false });
        true
    }

    /// Its first bytes are about to be written. False if nobody wants it any more.
    pub(super) fn place(&mut self, token: FileToken, directory: usize) -> bool {
        let Some(copy) = self.files.get_mut(&token).filter(|copy| copy.phase == Phase::Copying) else { return false };
        copy.directory = Some(directory);
        true
    }

    /// A copy comes to so many bytes.
    pub(super) fn grow(&mut self, token: FileToken, bytes: u64) -> Growth {
        let Some(copy) = self.files.get_mut(&token).filter(|copy| copy.phase == Phase::Copying) else {
            return Growth::Unwanted;
        };
        let others = self.bytes - copy.bytes;
        let needed = others.saturating_add(bytes).saturating_sub(self.bytes_max);
        if needed == 0 {
            self.bytes = others + bytes;
            copy.bytes = bytes;
            return Growth::Fits;
        }
        let named = copy.named;
        match self.doom_for(needed, named) {
            victims if victims.is_empty() => Growth::Full,
            victims => Growth::After(victims),
        }
    }

    /// A copy has got its name. False if it is to be deleted.
    pub(super) fn finish(&mut self, token: FileToken) -> bool {
        match self.files.get_mut(&token).map(|copy| &mut copy.phase) {
            Some(phase @ Phase::Copying) => {
                *phase = Phase::Whole;
                true
            }
            Some(phase) => {
                *phase = Phase::Doomed { is_written: true };
                false
            }
            None => false,
        }
    }

    /// What is on a disk of a copy can't become one.
    pub(super) fn give_up(&mut self, token: FileToken) {
        if let Some(copy) = self.files.get_mut(&token) {
            copy.phase = Phase::Doomed { is_written: true };
        }
    }

    /// A checkpoint names a file.
    pub(super) fn name(&mut self, token: FileToken, mark: Mark) {
        match self.files.get_mut(&token) {
            Some(copy) => {
                copy.named = copy.named.max(mark);
                copy.is_found = false;
            }
            None if self.early.len() < EARLY_MAX || self.early.contains_key(&token) => {
                let named = self.early.entry(token).or_insert(mark);
                *named = mark.max(*named);
            }
            None => {}
        }
    }

    /// A checkpoint is committed: what nothing names from it on goes.
    pub(super) fn complete(&mut self, mark: Mark) {
        self.pruned_before = self.pruned_before.max(Some(mark));
        self.early.retain(|_, named| *named >= mark);
        self.doom_unnamed();
    }

    /// A checkpoint won't be committed: what was written for it goes.
    pub(super) fn abort(&mut self, mark: Mark) {
        self.doom(|copy| written_for(&copy.name) == mark);
    }

    /// Everything goes.
    pub(super) fn discard(&mut self) {
        self.doom(|_| true);
    }

    /// What can be deleted now.
    pub(super) fn doomed(&self) -> Vec<Doomed> {
        let doomed = self.files.values().filter(|copy| copy.phase == Phase::Doomed { is_written: true });
        doomed.filter_map(Copy::doomed).collect()
    }

    /// Nothing of a copy is on a disk.
    pub(super) fn removed(&mut self, token: FileToken) {
        if let Some(copy) = self.files.remove(&token) {
            self.bytes -= copy.bytes;
        }
    }

    fn doom_unnamed(&mut self) {
        if let Some(before) = self.pruned_before {
            self.doom(|copy| copy.named < before);
        }
    }

    fn doom(&mut self, is_over: impl Fn(&Copy) -> bool) {
        for copy in self.files.values_mut().filter(|copy| is_over(copy)) {
            copy.phase = match copy.phase {
                Phase::Copying => Phase::Doomed { is_written: false },
                Phase::Whole => Phase::Doomed { is_written: true },
                doomed => doomed,
            };
        }
    }

    /// Makes room for a file of a checkpoint; nothing if there isn't enough to be had.
    ///
    /// First goes what an earlier process left and nothing has named since, the newest first: the oldest of it is what its
    /// last completed checkpoint named, for else it would have been deleted; the newest may be of one that never completed.
    /// Then what only older checkpoints name, the oldest first.
    fn doom_for(&mut self, needed: u64, mark: Mark) -> Vec<Doomed> {
        let is_spare = |copy: &&Copy| copy.phase == Phase::Whole && (copy.is_found || copy.named < mark);
        let mut spare: Vec<&Copy> = self.files.values().filter(is_spare).collect();
        let order = |copy: &Copy| (!copy.is_found, copy.named);
        spare.sort_by(|a, b| match (a.is_found, b.is_found) {
            (true, true) => b.named.cmp(&a.named),
            _ => order(a).cmp(&order(b)),
        });
        let mut freed = 0;
        let enough = spare.iter().position(|copy| {
            freed += copy.bytes;
            freed >= needed
        });
        let Some(last) = enough else { return Vec::new() };
        let victims: Vec<Doomed> = spare[..=last].iter().filter_map(|copy| copy.doomed()).collect();
        for victim in &victims {
            self.give_up(victim.name.token);
        }
        victims
    }
}

impl Copy {
    fn doomed(&self) -> Option<Doomed> {
        Some(Doomed { name: self.name.clone(), directory: self.directory? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::names::WorkerName;

    fn name(attempt: u64, checkpoint: u64, token: u64) -> PhysicalFileName {
        let (worker, checkpoint) = (WorkerName::sanitise("w"), CheckpointId(checkpoint));
        PhysicalFileName { attempt, worker, checkpoint, sequence: token, token: FileToken(token) }
    }

    fn mark(epoch: u64, checkpoint: u64) -> Mark {
        (epoch, CheckpointId(checkpoint))
    }

    /// Copies of 10 bytes.
    fn add(shelf: &mut Shelf, attempt: u64, checkpoint: u64, token: u64) {
        assert!(shelf.begin(name(attempt, checkpoint, token)) && shelf.place(FileToken(token), 0));
        assert_eq!(shelf.grow(FileToken(token), 10), Growth::Fits);
        assert!(shelf.finish(FileToken(token)));
    }

    fn tokens(doomed: &[Doomed]) -> Vec<u64> {
        doomed.iter().map(|doomed| doomed.name.token.0).collect()
    }

    #[test]
    fn what_no_newer_checkpoint_names_goes_and_what_one_does_stays() {
        let mut shelf = Shelf::new(100);
        (1..=3).for_each(|token| add(&mut shelf, 1, 1, token));
        shelf.name(FileToken(2), mark(1, 2));
        add(&mut shelf, 1, 2, 4);
        shelf.complete(mark(1, 2));
        assert_eq!(tokens(&shelf.doomed()), [1, 3]);
        // A late word of an older one changes nothing.
        shelf.complete(mark(1, 1));
        assert_eq!(tokens(&shelf.doomed()), [1, 3]);
        // They count until they are gone.
        assert_eq!(shelf.held(), (2, 40));
        shelf.removed(FileToken(1));
        shelf.removed(FileToken(3));
        assert_eq!(shelf.held(), (2, 20));
    }

    #[test]
    fn a_newer_epoch_counts_more_than_a_higher_number() {
        let mut shelf = Shelf::new(100);
        add(&mut shelf, 1, 9, 1);
        shelf.complete(mark(1, 9));
        shelf.name(FileToken(1), mark(2, 5));
        add(&mut shelf, 1, 9, 2);
        shelf.complete(mark(2, 5));
        assert_eq!(tokens(&shelf.doomed()), [2]);
        assert!(!shelf.begin(name(1, 10, 3)), "nobody will name it");
    }

    #[test]
    fn an_abort_takes_what_was_written_for_it_also_what_is_being_written() {
        let mut shelf = Shelf::new(100);
        add(&mut shelf, 1, 1, 1);
        add(&mut shelf, 1, 2, 2);
        shelf.name(FileToken(1), mark(1, 2));
        assert!(shelf.begin(name(1, 2, 3)));
        assert!(shelf.begin(name(1, 2, 4)) && shelf.place(FileToken(4), 0));
        shelf.abort(mark(1, 2));
        assert_eq!(tokens(&shelf.doomed()), [2], "those being written are their writers' to end");
        assert!(!shelf.place(FileToken(3), 0));
        assert_eq!(shelf.grow(FileToken(4), 10), Growth::Unwanted);
        assert!(!shelf.finish(FileToken(4)));
        assert_eq!(tokens(&shelf.doomed()), [2, 4]);
    }

    #[test]
    fn what_is_found_later_was_named_before() {
        let mut shelf = Shelf::new(100);
        shelf.name(FileToken(1), mark(2, 5));
        shelf.complete(mark(2, 5));
        (1..=2).for_each(|token| shelf.find(name(1, 4, token), 0, 10));
        assert_eq!(tokens(&shelf.doomed()), [2]);
    }

    #[test]
    fn room_is_made_by_the_newest_that_was_found_then_by_the_oldest_of_our_own() {
        let mut shelf = Shelf::new(60);
        (1..=3).for_each(|checkpoint| shelf.find(name(1, checkpoint, checkpoint), 0, 10));
        // Named again, it is as one of our own.
        shelf.name(FileToken(3), mark(2, 4));
        add(&mut shelf, 2, 4, 4);
        add(&mut shelf, 2, 5, 5);
        assert!(shelf.begin(name(2, 6, 6)) && shelf.place(FileToken(6), 0));
        let wants = |shelf: &mut Shelf, bytes| match shelf.grow(FileToken(6), bytes) {
            Growth::After(doomed) => tokens(&doomed),
            growth => panic!("{growth:?}"),
        };
        assert_eq!(shelf.grow(FileToken(6), 10), Growth::Fits);
        assert_eq!(wants(&mut shelf.clone(), 11), [2]);
        assert_eq!(wants(&mut shelf.clone(), 30), [2, 1]);
        assert_eq!(wants(&mut shelf.clone(), 31), [2, 1, 3]);
        assert_eq!(wants(&mut shelf.clone(), 60), [2, 1, 3, 4, 5]);
        assert_eq!(shelf.grow(FileToken(6), 61), Growth::Full, "and nothing is deleted for it");
        assert_eq!(shelf.doomed(), []);
        // What the file's own checkpoint names isn't given for it.
        shelf.name(FileToken(1), mark(2, 6));
        assert_eq!(shelf.grow(FileToken(6), 60), Growth::Full);
    }

    #[test]
    fn what_is_there_is_trimmed_to_a_lower_bound() {
        let mut shelf = Shelf::new(25);
        (1..=4).for_each(|checkpoint| shelf.find(name(1, checkpoint, checkpoint), 0, 10));
        assert_eq!(tokens(&shelf.trim()), [4, 3]);
        assert_eq!(tokens(&shelf.doomed()), [3, 4]);
    }
}
