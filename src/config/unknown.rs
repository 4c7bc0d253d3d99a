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
    let mut ranked: Vec<_> = CATALOGUE.iter().map(|option| (distance(key, own, option), option.key)).collect();
    ranked.sort();
    match ranked[..] {
        [(nearest, found), (next, _), ..] if nearest < next && nearest <= own.chars().count().div_ceil(3) => {
            Some(found)
        }
        _ => None,
    }
}

/// What a name in the wrong place costs. More than a letter, which is the likelier slip.
const MISPLACED: usize = 2;

/// Letters to change. Either in the whole key, or in the end of one: the right name in the wrong place.
fn distance(key: &str, own: &str, option: &ConfigOption) -> usize {
    let whole = option.keys().map(|known| strsim::osa_distance(key, known));
    let ends =
        option.key.match_indices('.').map(|(at, _)| MISPLACED + strsim::osa_distance(own, &option.key[at + 1..]));
    whole.chain(ends).min().unwrap_or(usize::MAX)
}
