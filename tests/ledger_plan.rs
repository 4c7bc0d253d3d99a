//! What is to be written again, for any use of files; and what that comes to in a round.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;

use std::collections::BTreeSet;

use cases::cases;
use drystone::id::{CheckpointId, Scope};
use drystone::ledger::{Choice, FileUse, Outlook, SpacePolicy, plan};
use drystone::protocol::Reason;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn policy() -> SpacePolicy {
    SpacePolicy {
        amplification_max: Some(2.0),
        floor_bytes: 0,
        across: false,
        fold_ratio_max: 0.5,
        file_bytes_max: 32 * MIB,
    }
}

fn outlook(survival: f64) -> Outlook {
    Outlook { latest: CheckpointId(9), survival, fold_bytes_max: u64::MAX }
}

fn file(number: u32, bytes: u64, latest_bytes: u64) -> FileUse {
    FileUse { number, bytes, latest_bytes, born: CheckpointId(3), scope: Scope::Shared, owned: true }
}

fn numbers(choices: &[Choice], reason: Reason) -> Vec<u32> {
    choices.iter().filter(|choice| choice.reason == reason).map(|choice| choice.number).collect()
}

fn folding() -> SpacePolicy {
    SpacePolicy { amplification_max: None, across: true, ..policy() }
}

/// Flink keeps one of files that waste the same.
#[test]
fn equally_wasteful_files_are_all_considered() {
    let files: Vec<FileUse> = (0..6).map(|n| file(n, 36 * MIB / 8, MIB / 2)).collect();
    assert_eq!(numbers(&plan(&files, &policy(), &outlook(1.0)), Reason::Waste), [0, 1, 2, 3, 4, 5]);
}

/// And no more of them than it takes.
#[test]
fn of_equals_only_as_many_go_as_it_takes() {
    let files: Vec<FileUse> = (0..10).map(|n| file(n, 30, 10)).collect();
    // 300 in files, 100 named: each that goes leaves 20 fewer.
    assert_eq!(numbers(&plan(&files, &policy(), &outlook(1.0)), Reason::Waste), [0, 1, 2, 3, 4]);
}

#[test]
fn exclusive_waste_counts_and_is_never_chosen() {
    let exclusive = FileUse { scope: Scope::Exclusive, ..file(0, 1_000, 100) };
    let shared = [file(1, 150, 100), file(2, 150, 100)];
    assert_eq!(plan(&shared, &policy(), &outlook(1.0)), [], "300 of 400");
    let with = [exclusive, shared[0], shared[1]];
    assert_eq!(numbers(&plan(&with, &policy(), &outlook(1.0)), Reason::Waste), [1, 2], "1300 of 600");
}

#[test]
fn what_is_not_owned_neither_counts_nor_goes() {
    let foreign = FileUse { owned: false, ..file(0, 1_000, 1) };
    let files = [foreign, file(1, 150, 100)];
    let across = SpacePolicy { across: true, ..policy() };
    assert_eq!(plan(&files, &across, &outlook(1.0)), []);
}

#[test]
fn a_limit_below_one_is_none() {
    let files = [file(0, 1_000, 1)];
    for amplification_max in [None, Some(0.0), Some(0.99), Some(-1.0), Some(f64::NAN), Some(f64::NEG_INFINITY)] {
        let choices = plan(&files, &SpacePolicy { amplification_max, ..policy() }, &outlook(1.0));
        assert_eq!(choices, [], "{amplification_max:?}");
    }
    let one = SpacePolicy { amplification_max: Some(1.0), ..policy() };
    assert_eq!(plan(&files, &one, &outlook(1.0)).len(), 1);
    assert_eq!(plan(&[file(0, 101, 100)], &one, &outlook(1.0)), [], "2 % isn't worth it");
}

#[test]
fn what_older_checkpoints_alone_name_is_left_to_die() {
    assert_eq!(plan(&[file(0, 1_000, 0), file(1, 100, 100)], &policy(), &outlook(1.0)), []);
}

#[test]
fn young_files_are_let_be() {
    let young = |n| FileUse { born: CheckpointId(9), ..file(n, 1_000, 10) };
    let files: Vec<FileUse> = (0..8).map(young).collect();
    assert_eq!(plan(&files, &SpacePolicy { across: true, ..policy() }, &outlook(1.0)), []);
}

#[test]
fn four_of_a_size_are_folded_and_three_are_not() {
    let small = |n: u32| file(n, MIB, MIB);
    let folded =
        |n: u32| numbers(&plan(&(0..n).map(small).collect::<Vec<_>>(), &folding(), &outlook(1.0)), Reason::Fold);
    assert_eq!(folded(3), [0_u32; 0]);
    assert_eq!(folded(4), [0, 1, 2, 3]);
    let large: Vec<FileUse> = (0..8).map(|n| file(n, 32 * MIB, 16 * MIB)).collect();
    assert_eq!(plan(&large, &folding(), &outlook(1.0)), [], "half full is full enough");
}

/// Each worker packs what it writes again into a file of its own: of 16 files by 16 workers none becomes larger.
#[test]
fn it_takes_four_of_each_writer() {
    let mut files: Vec<FileUse> = (0..16).map(|n| FileUse { born: CheckpointId(9), ..file(n, MIB, MIB) }).collect();
    files.extend((16..79).map(|n| file(n, MIB, MIB)));
    assert_eq!(plan(&files, &folding(), &outlook(1.0)), [], "63 files of 16 writers");
    files.push(file(79, MIB, MIB));
    assert_eq!(plan(&files, &folding(), &outlook(1.0)).len(), 64);
}

/// More small files than there is credit for: the oldest go first, and the rest later.
#[test]
fn what_credit_there_is_is_used() {
    let files: Vec<FileUse> =
        (0..100).map(|n| FileUse { born: CheckpointId(8 - n / 20), ..file(n as u32, MIB, MIB) }).collect();
    let choices = |fold_bytes_max| plan(&files, &folding(), &Outlook { fold_bytes_max, ..outlook(1.0) });
    assert_eq!(choices(10 * MIB).iter().map(|choice| choice.number).collect::<Vec<_>>(), (80..90).collect::<Vec<_>>());
    assert_eq!(choices(3 * MIB), []);
}

#[test]
fn a_wasteful_file_is_not_folded_as_well() {
    let files: Vec<FileUse> = (0..8).map(|n| file(n, 10 * MIB, MIB)).collect();
    let choices = plan(&files, &SpacePolicy { across: true, ..policy() }, &outlook(1.0));
    assert_eq!((choices.len(), numbers(&choices, Reason::Waste).len()), (8, 8));
}

fn uses(bytes_max: u64) -> impl Strategy<Value = Vec<FileUse>> {
    let lengths = (0..=bytes_max, 0..=bytes_max).prop_map(|(a, b)| (a.max(b), a.min(b)));
    let lengths = prop_oneof![6 => lengths, 1 => (0..=bytes_max).prop_map(|a| (a, a)), 1 => Just((7, 7))];
    let one = (lengths, 0..12_u64, 0..8_u8);
    prop::collection::vec(one, 0..60).prop_map(|uses| {
        let each = uses.into_iter().enumerate().map(|(n, ((bytes, latest_bytes), born, kind))| FileUse {
            number: n as u32,
            bytes,
            latest_bytes,
            born: CheckpointId(born.min(9)),
            scope: if kind == 0 { Scope::Exclusive } else { Scope::Shared },
            owned: kind != 1,
        });
        each.collect()
    })
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn chosen_files_are_owned_shared_named_and_older(
        (files, limit, floor, survival, across, credit) in (
            prop_oneof![uses(100), uses(64 * MIB), uses(u64::MAX)],
            prop::option::of(0.5..4.0_f64), 0..200_u64, 0.0..=1.0_f64, any::<bool>(),
            prop_oneof![Just(u64::MAX), 0..200_u64, 0..1_u64 << 30],
        )
    ) {
        let policy = SpacePolicy { amplification_max: limit, floor_bytes: floor, across, ..policy() };
        let outlook = Outlook { survival, fold_bytes_max: credit, ..outlook(1.0) };
        let choices = plan(&files, &policy, &outlook);
        let by_number = |choice: &Choice| files[choice.number as usize];
        for choice in &choices {
            let file = by_number(choice);
            prop_assert!(file.owned && file.scope == Scope::Shared && file.latest_bytes > 0);
            prop_assert!(file.born < outlook.latest);
            prop_assert_eq!(choice.bytes, file.latest_bytes);
        }
        let distinct: BTreeSet<u32> = choices.iter().map(|choice| choice.number).collect();
        prop_assert_eq!(distinct.len(), choices.len(), "each once");
        let folded = choices.iter().filter(|choice| choice.reason == Reason::Fold);
        prop_assert!(folded.clone().map(|choice| u128::from(choice.bytes)).sum::<u128>() <= u128::from(credit));
        prop_assert!(across || folded.count() == 0);
        let mut again = files.clone();
        again.reverse();
        prop_assert_eq!(plan(&again, &policy, &outlook), choices, "the order of the files means nothing");
    }

    #[test]
    fn the_bound_holds_whenever_it_can(
        (files, limit, floor, survival) in (uses(10_000), 1.0..4.0_f64, 0..100_000_u64, 0.0..=1.0_f64)
    ) {
        let policy = SpacePolicy { amplification_max: Some(limit), floor_bytes: floor, ..policy() };
        let choices = plan(&files, &policy, &outlook(survival));
        let after = |left: &BTreeSet<u32>| {
            let named = || files.iter().filter(|file| file.owned && file.latest_bytes > 0);
            let kept = || named().filter(|file| !left.contains(&file.number));
            let shared = |all: &mut dyn Iterator<Item = &FileUse>| -> u64 {
                all.filter(|file| file.scope == Scope::Shared).map(|file| file.latest_bytes).sum()
            };
            let live: u64 = named().map(|file| file.latest_bytes).sum();
            let new = shared(&mut named()) as f64 - survival * shared(&mut kept()) as f64;
            let bound = (limit * live as f64).max(floor as f64);
            (kept().map(|file| file.bytes).sum::<u64>() as f64 + new, bound)
        };
        let mut left: BTreeSet<u32> = choices.iter().map(|choice| choice.number).collect();
        let (bytes, bound) = after(&left);
        if bytes > bound + 1e-6 {
            let own_min = (1.0 + (limit - 1.0) / 4.0).max(1.02);
            let spared = files.iter().filter(|f| f.owned && f.scope == Scope::Shared && f.born.0 < 9 && f.latest_bytes > 0)
                .find(|f| !left.contains(&f.number) && f.bytes as f64 > own_min * f.latest_bytes as f64);
            prop_assert!(spared.is_none(), "{:?} is spared with {} bytes of {}", spared, bytes, bound);
        }
        // Nothing goes without need: with the last one kept, the bound didn't hold.
        if let Some(last) = choices.last() {
            left.remove(&last.number);
            let (bytes, bound) = after(&left);
            prop_assert!(bytes > bound - 1e-6, "{} bytes of {} without the last", bytes, bound);
        }
    }
}
