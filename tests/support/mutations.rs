//! Inputs that are nearly right: a fixture with some of its bytes changed.

use super::random::Random;

/// Numbers that counts and lengths are tried with.
const EXTREMES: [u64; 9] = [0, 1, 0x7f, 0xff, 0x7fff, i32::MAX as u64, u32::MAX as u64, i64::MAX as u64, u64::MAX];

/// Pieces of text that mean something to one reader or another.
const TEXTS: [&str; 16] =
    ["..", "/", "\\", ": ", "\n", "\0", "#", "'", "[", "{", "&a ", "*a", "-1", "9223372036854775808", "é", "\u{2028}"];

/// One to four changes of a fixture; another of its kind may lend its end.
pub fn mutated(random: &mut Random, fixture: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = fixture.to_vec();
    for _ in 0..1 + random.below(4) {
        change(random, &mut bytes, other);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len() + 1);
    let len = random.below(bytes.len() - at + 1).min(random.below(64));
    match random.below(9) {
        0 => overwrite(bytes, at, &[random.below(256) as u8]),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => bytes.truncate(at),
        3 => {
            let new: Vec<u8> = (0..1 + random.below(16)).map(|_| random.below(256) as u8).collect();
            bytes.splice(at..at, new);
        }
        4 => {
            let again = bytes[at..at + len].to_vec();
            bytes.splice(at..at, again);
        }
        5 => drop(bytes.drain(at..at + len)),
        6 => {
            bytes.truncate(at);
            bytes.extend(&other[random.below(other.len() + 1)..]);
        }
        7 => {
            let number = EXTREMES[random.below(EXTREMES.len())].to_be_bytes();
            overwrite(bytes, at, &number[8 - [1, 2, 4, 8][random.below(4)]..]);
        }
        _ => {
            let text = TEXTS[random.below(TEXTS.len())].bytes();
            bytes.splice(at..at, text);
        }
    }
}

/// As far as there is something at that place.
fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..].iter_mut().zip(new).for_each(|(byte, new)| *byte = *new);
}
