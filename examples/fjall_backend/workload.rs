//! What the job does: in each round the same writes and deletes, whoever does them and how often.

use std::collections::BTreeMap;

use drystone::id::KeyGroupRange;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How many key groups the job has. It bounds the parallelism, and can't be changed later.
pub const KEY_GROUPS: u32 = 64;

const KEYS: u32 = 8_000;
const WRITES: u32 = 1_200;
const DELETES: u32 = 300;

/// The state as a plain map has it.
pub type Plain = BTreeMap<Vec<u8>, Vec<u8>>;

/// A change of one key.
pub struct Change {
    pub key: Vec<u8>,
    /// None: it is deleted.
    pub value: Option<Vec<u8>>,
}

/// The changes of a round.
pub fn changes(round: u64) -> Vec<Change> {
    let mut random = SmallRng::seed_from_u64(round);
    let changes = (0..WRITES + DELETES).map(|number| {
        let key = random.random_range(0..KEYS);
        let length = random.random_range(50..400);
        let mut value = format!("{round} of {key}: ").into_bytes();
        value.extend((0..length).map(|_| random.random::<u8>()));
        Change { key: key_of(key), value: (number % (WRITES / DELETES + 1) != 0).then_some(value) }
    });
    changes.collect()
}

/// The state after so many rounds.
pub fn after(rounds: u64) -> Plain {
    let mut state = Plain::new();
    for change in (1..=rounds).flat_map(changes) {
        match change.value {
            Some(value) => state.insert(change.key, value),
            None => state.remove(&change.key),
        };
    }
    state
}

/// A key begins with its key group, so that a task's are neighbours.
fn key_of(number: u32) -> Vec<u8> {
    let group = (number.wrapping_mul(0x9e37_79b1) >> 16) % KEY_GROUPS;
    let mut key = (group as u16).to_be_bytes().to_vec();
    key.extend_from_slice(format!("key-{number}").as_bytes());
    key
}

/// Is the key one of these groups'?
pub fn is_in(range: KeyGroupRange, key: &[u8]) -> bool {
    key.first_chunk::<2>().is_some_and(|group| range.contains(u16::from_be_bytes(*group).into()))
}
