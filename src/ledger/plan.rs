//! What to write again: a pure function of how the files are used. `design/space.md` has the argument.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{CheckpointId, Scope};
use crate::protocol::Reason;

/// When space is won back, and what that may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpacePolicy {
    /// Bytes in files for each byte that is named, at most; `None`, or less than 1, lets files be.
    pub amplification_max: Option<f64>,
    /// Up to this many bytes of files nothing is written again.
    pub floor_bytes: u64,
    /// Fold small files of earlier checkpoints into larger ones?
    pub across: bool,
    /// Bytes folded for each byte that the job itself wrote, at most, together with what was written again for space.
    pub fold_ratio_max: f64,
    /// Bytes of a full file.
    pub file_bytes_max: u64,
}

/// How one file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileUse {
    /// The caller's number for it.
    pub number: u32,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes of it that the latest checkpoint names: what older ones name beyond that will die with them.
    pub latest_bytes: u64,
    /// The first checkpoint that named it.
    pub born: CheckpointId,
    /// May later checkpoints name it?
    pub scope: Scope,
    /// May the job leave and delete it?
    pub owned: bool,
}

/// What is expected of the next checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// The latest checkpoint; its own new files are left alone.
    pub latest: CheckpointId,
    /// The share of shared bytes that a checkpoint names again of the one before, 0 to 1.
    pub survival: f64,
    /// Bytes that may be folded.
    pub fold_bytes_max: u64,
}

/// A file to be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The caller's number for it.
    pub number: u32,
    /// Why.
    pub reason: Reason,
    /// Bytes to be written again.
    pub bytes: u64,
}

/// So many files of one size class are folded together, for each who writes.
const FOLD_FILES: usize = 4;
/// Each size class holds files of up to so many times the bytes of the one below.
const CLASS_FACTOR: u64 = 4;
/// Whatever the limit, a file with less dead in it isn't worth being written again.
const OWN_AMPLIFICATION_MIN: f64 = 1.02;

/// Which files' segments the next checkpoint should write again rather than name.
///
/// After it, and with all that only older checkpoints name gone, there are at most
/// `max(amplification_max * live, floor_bytes)` bytes in files, if as much survives as the outlook says, every
/// segment of a chosen file is written again, and no file that has to stay wastes too much by itself: those that are
/// exclusive, new, or dead by less than a quarter of what the limit allows. In the order of the choice: the most
/// wasteful first.
pub fn plan(files: &[FileUse], policy: &SpacePolicy, outlook: &Outlook) -> Vec<Choice> {
    let mut choices = Vec::new();
    if let Some(amplification_max) = policy.amplification_max.filter(|&limit| limit >= 1.0) {
        choose_wasteful(files, amplification_max, policy.floor_bytes, outlook, &mut choices);
    }
    if policy.across {
        choose_small(files, policy, outlook, &mut choices);
    }
    choices
}

fn choose_wasteful(
    files: &[FileUse],
    amplification_max: f64,
    floor_bytes: u64,
    outlook: &Outlook,
    choices: &mut Vec<Choice>,
) {
    let named = || files.iter().filter(|file| file.latest_bytes > 0 && file.owned);
    let live: u128 = named().map(|file| wide(file.latest_bytes)).sum();
    let mut kept_bytes: u128 = named().map(|file| wide(file.bytes)).sum();
    let mut kept_live: u128 =
        named().filter(|file| file.scope == Scope::Shared).map(|file| wide(file.latest_bytes)).sum();
    let shared_live = kept_live;
    let bound = (amplification_max * live as f64).max(floor_bytes as f64);
    // Where all that is left is this full or fuller, the whole is below the limit by a margin.
    let own_min = (1.0 + (amplification_max - 1.0) / 4.0).max(OWN_AMPLIFICATION_MIN);

    let is_worth_it = |file: &&FileUse| file.bytes as f64 > own_min * file.latest_bytes as f64;
    let mut candidates: Vec<&FileUse> = named().filter(|file| may_be_left(file, outlook)).filter(is_worth_it).collect();
    // By what share is dead; equal ones stay apart by their numbers, so none is lost.
    candidates.sort_by(|a, b| {
        let (dead_a, dead_b) = (wide(a.latest_bytes) * wide(b.bytes), wide(b.latest_bytes) * wide(a.bytes));
        dead_a.cmp(&dead_b).then(a.number.cmp(&b.number))
    });
    for file in candidates {
        // What dies by the next checkpoint is written anew elsewhere, while the files kept stay as long as they are.
        let replaced = shared_live as f64 - outlook.survival * kept_live as f64;
        if kept_bytes as f64 + replaced <= bound {
            break;
        }
        kept_bytes -= wide(file.bytes);
        kept_live -= wide(file.latest_bytes);
        choices.push(Choice { number: file.number, reason: Reason::Waste, bytes: file.latest_bytes });
    }
}

/// Tiered: files of one size class go together into one of the next, so that a byte is folded at most once a class.
///
/// Each worker packs what it writes again into a file of its own, so it takes several files of each: the latest
/// checkpoint's small files tell how many there are. What credit there is goes to the smallest and oldest first, and a
/// class that is beyond it is folded in part: else a long class would be waited for while it grows longer.
fn choose_small(files: &[FileUse], policy: &SpacePolicy, outlook: &Outlook, choices: &mut Vec<Choice>) {
    let chosen: BTreeSet<u32> = choices.iter().map(|choice| choice.number).collect();
    let is_small = |file: &&FileUse| file.latest_bytes > 0 && file.latest_bytes < policy.file_bytes_max / 2;
    let small = || files.iter().filter(is_small).filter(|file| file.scope == Scope::Shared && file.owned);
    let writers = small().filter(|file| file.born == outlook.latest).count().max(1);
    let mut classes: BTreeMap<u32, Vec<&FileUse>> = BTreeMap::new();
    for file in small().filter(|file| may_be_left(file, outlook) && !chosen.contains(&file.number)) {
        classes.entry(file.latest_bytes.ilog(CLASS_FACTOR)).or_default().push(file);
    }
    let mut credit = outlook.fold_bytes_max;
    for mut members in classes.into_values() {
        members.sort_by_key(|file| (file.born, file.number));
        let mut left = credit;
        let affordable = members.iter().map_while(|file| {
            left = left.checked_sub(file.latest_bytes)?;
            Some(Choice { number: file.number, reason: Reason::Fold, bytes: file.latest_bytes })
        });
        let folded: Vec<Choice> = affordable.collect();
        if folded.len() >= FOLD_FILES * writers {
            credit = left;
            choices.extend(folded);
        }
    }
}

/// Its segments are the job's to write elsewhere, and it isn't the latest checkpoint's own.
fn may_be_left(file: &FileUse, outlook: &Outlook) -> bool {
    file.scope == Scope::Shared && file.owned && file.born < outlook.latest
}

fn wide(bytes: u64) -> u128 {
    u128::from(bytes)
}
