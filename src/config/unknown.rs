//! Keys that look like ours but aren't, and the ones that may be meant.

use super::ConfigOption;
use super::catalogue::{CATALOGUE, find};

/// Families of keys that the catalogue has all of. Outside, there are keys of Flink's that aren't our business.
const FAMILIES: [&str; 9] = [
    "execution.checkpointing.",
    "execution.state-recovery.",
    "execution.savepoint.",
    "drystone.",
    "state.checkpoints.",
    "state.savepoints.",
    "state.storage.fs.",
    "state.backend.fs.",
    "savepoints.state.backend.fs.",
];

pub(super) fn is_unknown(key: &str) -> bool {
    family(key).is_some() && find(key).is_none()
}

fn family(key: &str) -> Option<&'static str> {
    FAMILIES.into_iter().find(|family| key.starts_with(family))
}

/// The key that may be meant, if one is near enough and no other is as near.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let own = key.strip_prefix(family(key)?)?;
    let most = own.chars().count().div_ceil(3);
    let mut ranked: Vec<_> = CATALOGUE.iter().map(|option| (distance(key, own, option, most), option.key)).collect();
    ranked.sort();
    match ranked[..] {
        [(nearest, found), (next, _), ..] if nearest < next && nearest <= most => Some(found),
        _ => None,
    }
}

/// What a name in the wrong place costs. More than a letter, which is the likelier slip.
const MISPLACED: usize = 2;

/// Letters to change; what is beyond `most` may count as any number beyond. Either in the whole key, or in the end of
/// one: the right name in the wrong place.
fn distance(key: &str, own: &str, option: &ConfigOption, most: usize) -> usize {
    let whole = option.keys().filter_map(|known| letters(key, known, most));
    let ends = option.key.match_indices('.').filter_map(|(at, _)| letters(own, &option.key[at + 1..], most));
    whole.chain(ends.map(|letters| MISPLACED + letters)).min().unwrap_or(usize::MAX)
}

/// Not counted where the lengths alone differ by more than `most`: it takes time by both lengths, and a key from a file
/// may have any.
fn letters(key: &str, known: &str, most: usize) -> Option<usize> {
    let difference = key.chars().count().abs_diff(known.chars().count());
    (difference <= most).then(|| strsim::osa_distance(key, known))
}
