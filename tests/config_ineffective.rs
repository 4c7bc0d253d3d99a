//! What is given and does nothing is said: for lack of something else, or because another value is used.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drystone::config::{Config, WarningKind};

const DIR: (&str, &str) = ("execution.checkpointing.dir", "/x");
const IN_MEMORY: (&str, &str) = ("execution.checkpointing.storage", "jobmanager");
const UNALIGNED: (&str, &str) = ("execution.checkpointing.unaligned.enabled", "true");

/// The kinds of the warnings, and their texts with the keys.
fn warned(pairs: &[(&str, &str)]) -> Vec<(WarningKind, String)> {
    let (_, warnings) = Config::from_map(pairs.iter().copied()).settings().unwrap();
    warnings.iter().map(|warning| (warning.kind, warning.to_string())).collect()
}

#[test]
fn what_needs_something_else_is_said_to_have_no_effect() {
    let backup = ("execution.checkpointing.local-backup.dirs", "/copies");
    for (pair, with, without, needed) in [
        (
            ("execution.checkpointing.during-recovery.enabled", "true"),
            vec![("execution.checkpointing.unaligned.recover-output-on-downstream.enabled", "true")],
            vec![],
            "recover-output-on-downstream",
        ),
        (("execution.checkpointing.unaligned.forced", "true"), vec![UNALIGNED], vec![], "unaligned.enabled"),
        (
            ("execution.checkpointing.unaligned.interruptible-timers.enabled", "true"),
            vec![UNALIGNED],
            vec![],
            "unaligned.enabled",
        ),
        (("execution.checkpointing.aligned-checkpoint-timeout", "1 s"), vec![UNALIGNED], vec![], "unaligned.enabled"),
        (
            ("execution.checkpointing.interval-during-backlog", "1 min"),
            vec![("execution.checkpointing.interval", "1 s")],
            vec![],
            "execution.checkpointing.interval",
        ),
        (("execution.checkpointing.local-backup.enabled", "true"), vec![DIR, backup], vec![DIR], "local-backup.dirs"),
        // Without files. Where there is a directory, the metadata is kept in it all the same.
        (("execution.checkpointing.file-merging.enabled", "true"), vec![DIR], vec![], "without files"),
        (("execution.checkpointing.file-merging.enabled", "true"), vec![DIR], vec![DIR, IN_MEMORY], "without files"),
        (("execution.checkpointing.local-backup.enabled", "true"), vec![DIR, backup], vec![backup], "without files"),
        (("drystone.savepoint.pack", "true"), vec![DIR], vec![DIR, IN_MEMORY], "without files"),
        (("execution.checkpointing.create-subdir", "false"), vec![DIR, IN_MEMORY], vec![], "checkpointing.dir"),
        (
            ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
            vec![DIR, IN_MEMORY],
            vec![IN_MEMORY],
            "execution.checkpointing.dir",
        ),
    ] {
        let warnings = warned(&[&without[..], &[pair]].concat());
        assert_eq!(warnings.len(), 1, "{pair:?}: {warnings:?}");
        let (kind, text) = &warnings[0];
        assert_eq!(*kind, WarningKind::Ineffective);
        assert!(text.starts_with(&format!("{}: has no effect", pair.0)) && text.contains(needed), "{text}");
        assert_eq!(warned(&[&with[..], &[pair]].concat()), [], "{pair:?}");
    }
}

#[test]
fn a_piece_may_be_no_larger_than_all() {
    let (piece, all) = (("drystone.memory.state-max", "2mb"), ("drystone.memory.total-max", "1mb"));
    let warnings = warned(&[piece, all]);
    let text = "drystone.memory.state-max: has no effect above 1 mb (drystone.memory.total-max)".to_string();
    assert_eq!(warnings, [(WarningKind::Ineffective, text)]);
    assert_eq!(warned(&[piece, all, DIR]), []);
    assert_eq!(warned(&[piece]), []);
}

#[test]
fn another_value_than_the_given_one_is_said_with_it() {
    for (pairs, text) in [
        (
            &[("state.checkpoints.num-retained", "-3")][..],
            "state.checkpoints.num-retained: -3 is below 1, so that 1 is used",
        ),
        (
            &[
                ("execution.checkpointing.max-concurrent-checkpoints", "2"),
                ("execution.checkpointing.min-pause", "1 s"),
            ],
            "execution.checkpointing.max-concurrent-checkpoints: not 2 with execution.checkpointing.min-pause, which has \
             one at a time, so that 1 is used",
        ),
        (
            &[("execution.checkpointing.file-merging.max-space-amplification", "0.5")],
            "execution.checkpointing.file-merging.max-space-amplification: 0.5 is below 1 or NaN, so that nothing is \
             written anew to save space",
        ),
    ] {
        let warnings = warned(pairs);
        assert!(warnings.contains(&(WarningKind::Adjusted, text.to_string())), "{warnings:?}");
    }
}
