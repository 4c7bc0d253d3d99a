//! The options: defaults, older keys and which of them counts, ranges, and what is said about a wrong value.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;

use std::collections::HashSet;
use std::time::Duration;

use cases::cases;
use drystone::config::{
    CATALOGUE, CheckpointMode, ClaimMode, Config, Kind, MemorySize, Retention, Settings, StorageKind, User, Value,
    WarningKind, catalogue,
};
use proptest::prelude::*;

fn config(pairs: &[(&str, &str)]) -> Config {
    Config::from_map(pairs.iter().copied())
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    config(pairs).settings().unwrap().0
}

fn refused(pairs: &[(&str, &str)]) -> String {
    config(pairs).settings().unwrap_err().to_string()
}

/// A value of each type that isn't the default.
fn another(kind: Kind) -> (&'static str, Value) {
    match kind {
        Kind::Bool => ("TRUE", Value::Bool(true)),
        Kind::Int { max: 6, .. } => ("+5", Value::Int(5)),
        Kind::Int { .. } | Kind::Count => ("007", Value::Int(7)),
        Kind::Float { .. } => ("15e-1f", Value::Float(1.5)),
        Kind::Memory { min, .. } if min > 77 << 10 => ("7mb", Value::Memory(MemorySize(7 << 20))),
        Kind::Memory { .. } => (" 77 KB ", Value::Memory(MemorySize(77 << 10))),
        Kind::Bytes { .. } => ("70000", Value::Int(70_000)),
        Kind::Duration { .. } => ("PT7S", Value::Duration("7 s".parse().unwrap())),
        Kind::OneOf(names) => ("", Value::Text(names[1].into())),
        Kind::Storage => ("FileSystem", Value::Text("filesystem".into())),
        Kind::Name => ("x.Factory", Value::Text("x.Factory".into())),
        Kind::Path => ("s3://b/x/", Value::Path("s3://b/x".parse().unwrap())),
        _ => ("/a,/b", Value::Paths(vec!["/a".into(), "/b".into()])),
    }
}

#[test]
fn keys_are_unique_and_sentences_are_sentences() {
    let mut seen = HashSet::new();
    for option in CATALOGUE {
        assert!(seen.insert(option.key), "{} is declared twice", option.key);
        assert!(option.sentence.ends_with('.') && !option.sentence.contains('|'), "{}", option.key);
        assert_eq!(option.key.starts_with("drystone."), option.group == "Drystone's own", "{}", option.key);
    }
    for family in ["execution.checkpointing.file-merging.", "execution.state-recovery.", "drystone."] {
        assert!(CATALOGUE.iter().filter(|option| option.key.starts_with(family)).count() >= 6);
    }
}

#[test]
fn every_default_is_a_value_that_is_allowed() {
    for option in CATALOGUE {
        let Some(text) = option.default else { continue };
        let value = option.kind.parse(text).unwrap_or_else(|e| panic!("{}: {e}", option.key));
        assert_eq!(option.default_value(), Some(value.clone()));
        // And one that can be written down again.
        assert_eq!(option.kind.parse(&value.to_string()).unwrap(), value, "{}", option.key);
    }
}

#[test]
fn every_option_has_a_field() {
    let keys: Vec<_> = Settings::default().values().iter().map(|(option, _)| option.key).collect();
    assert_eq!(keys, CATALOGUE.iter().map(|option| option.key).collect::<Vec<_>>());
}

#[test]
fn every_spelling_reaches_its_field() {
    for option in CATALOGUE {
        let (mut text, value) = another(option.kind);
        let lower;
        if let Kind::OneOf(names) = option.kind {
            lower = names[1].to_lowercase();
            text = &lower;
        }
        for key in option.keys() {
            // What the value needs beside it.
            let needs = [("execution.checkpointing.dir", "/needed"), ("drystone.segment-buffer", "0")];
            let mut pairs: Vec<_> = needs.into_iter().filter(|(needed, _)| *needed != option.key).collect();
            pairs.push((key, text));
            let (settings, warnings) = config(&pairs).settings().unwrap_or_else(|e| panic!("{key}: {e}"));
            let found = settings.values().into_iter().find(|(o, _)| o.key == option.key).unwrap().1;
            assert_eq!(found, Some(value.clone()), "{key}={text}");
            let shown = settings.values().into_iter().filter_map(|(o, value)| Some((o.key, value?.to_string())));
            let (again, _) = Config::from_map(shown).settings().unwrap_or_else(|e| panic!("{key}: {e}"));
            assert_eq!(again, settings, "{key}={text}: what is shown can be given");
            let deprecated = option.older.iter().any(|older| older.deprecated && older.key == key);
            let kinds: Vec<_> = warnings.iter().filter(|w| w.key == key).map(|w| w.kind).collect();
            assert_eq!(kinds.contains(&WarningKind::Deprecated), deprecated, "{key}: {warnings:?}");
        }
    }
}

#[test]
fn the_first_spelling_that_is_there_counts() {
    for option in CATALOGUE.iter().filter(|option| !option.older.is_empty()) {
        let keys: Vec<_> = option.keys().collect();
        for first in 0..keys.len() {
            let config = Config::from_map(keys[first..].iter().map(|key| (*key, format!("value of {key}"))));
            let given = config.get(option).unwrap();
            assert_eq!((given.key, given.text), (keys[first], format!("value of {}", keys[first]).as_str()));
        }
        assert!(Config::default().get(option).is_none());
    }
    let both = config(&[("execution.checkpointing.dir", "/new"), ("state.checkpoints.dir", "/old")]);
    let (settings, warnings) = both.settings().unwrap();
    assert_eq!(settings.checkpoint_dir, Some("/new".parse().unwrap()));
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].kind, WarningKind::Overridden);
    let text = warnings[0].to_string();
    assert!(
        text.starts_with("state.checkpoints.dir: ") && text.contains("execution.checkpointing.dir counts"),
        "{text}"
    );
}

#[test]
fn local_backup_follows_local_recovery_until_it_has_a_value() {
    let from_local = ("execution.state-recovery.from-local", "true");
    let dirs = ("execution.checkpointing.local-backup.dirs", "/a,/b");
    assert!(settings(&[from_local, dirs]).local_backup_enabled);
    let own = ("execution.checkpointing.local-backup.enabled", "false");
    let (settings, warnings) = config(&[from_local, own]).settings().unwrap();
    assert!(!settings.local_backup_enabled && settings.recovery.from_local == Some(true));
    assert_eq!(warnings, []);
}

#[test]
fn local_backup_needs_directories_and_is_read_while_either_key_says_so() {
    let (enabled, from_local) = ("execution.checkpointing.local-backup.enabled", "execution.state-recovery.from-local");
    let dirs = ("execution.checkpointing.local-backup.dirs", "/a,/b");
    let (without, warnings) = config(&[(enabled, "true")]).settings().unwrap();
    assert!(!without.restores_from_local());
    assert_eq!(warnings.len(), 1);
    assert_eq!((warnings[0].kind, warnings[0].key.as_str()), (WarningKind::Ineffective, enabled));
    assert!(settings(&[(enabled, "true"), dirs]).restores_from_local());
    assert!(settings(&[(enabled, "false"), (from_local, "true"), dirs]).restores_from_local());
    assert!(!settings(&[(enabled, "false"), dirs]).restores_from_local());
    // Said expressly, they are kept and not read.
    let unread = settings(&[(enabled, "true"), (from_local, "false"), dirs]);
    assert!(unread.keeps_local() && !unread.restores_from_local());
    assert!(!settings(&[(from_local, "false"), dirs]).keeps_local());
    assert_eq!(settings(&[]).local_backup_max_size, MemorySize(32 << 30));
}

#[test]
fn nothing_given_is_flinks_defaults() {
    let (settings, warnings) = Config::default().settings().unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(warnings, []);
    settings.validate().unwrap();
    assert!(settings.merges_files() && !settings.across_checkpoint_boundary && !settings.pool_blocking);
    assert_eq!(settings.max_file_size, MemorySize(32 << 20));
    assert_eq!(settings.space_floor(), MemorySize(32 << 20));
    assert_eq!((settings.max_subtasks_per_file, settings.max_space_amplification), (None, Some(2.0)));
    assert_eq!((settings.storage, settings.num_retained), (StorageKind::Unset, 1));
    assert_eq!(settings.data_inline_threshold, MemorySize(20 << 10));
    // 4096 is given, but a buffer holds at least what may go inline.
    assert_eq!(settings.write_buffer_size(), MemorySize(20 << 10));
    assert_eq!((settings.interval, settings.timeout), (None, Duration::from_secs(600)));
    assert_eq!((settings.mode, settings.retention), (CheckpointMode::ExactlyOnce, Retention::NoExternalized));
    assert_eq!(settings.recovery.claim_mode, ClaimMode::NoClaim);
    assert_eq!(settings.recovery.without_channel_state_checkpoint_id, None);
    assert_eq!((settings.seal_linger, settings.metadata_version), (Duration::from_millis(50), 4));
}

#[test]
fn values_are_written_as_java_reads_them() {
    let amplification = "execution.checkpointing.file-merging.max-space-amplification";
    for (text, most) in [
        ("2", Some(2.0)),
        ("2f", Some(2.0)),
        (" 2.5D\t", Some(2.5)),
        ("1e1", Some(10.0)),
        ("+1.", Some(1.0)),
        ("1", Some(1.0)),
        (".5", None),
        ("0.999", None),
        ("-Infinity", None),
        ("NaN", None),
        ("Infinity", None),
    ] {
        assert_eq!(settings(&[(amplification, text)]).max_space_amplification, most, "{text}");
    }
    for text in ["2222222E222222", "-1e999", "1e-999", "NaN", "-0"] {
        let kind = catalogue::MAX_SPACE_AMPLIFICATION.kind;
        let written = kind.parse(text).unwrap().to_string();
        assert_eq!(kind.parse(&written).map(|again| again.to_string()), Ok(written), "{text}");
    }
    for text in ["", "nan", "inf", "infinity", "2 f", "2ff", "f", "1e", "1_0", "0x1p3", "e1", "."] {
        assert!(refused(&[(amplification, text)]).contains(&format!("{amplification}={text}: allowed: ")), "{text}");
    }
    for text in ["true", "True", "tRUE"] {
        assert!(settings(&[(catalogue::INCREMENTAL.key, text)]).incremental);
    }
    for text in ["", " true", "true ", "yes", "1", "on"] {
        assert!(refused(&[(catalogue::INCREMENTAL.key, text)]).ends_with("allowed: true or false"));
    }
    for text in ["", " 1", "1.0", "0x1", "1_0", "2147483648", "-2147483649", "one", "9999999999999999999999"] {
        assert!(
            refused(&[(catalogue::NUM_RETAINED.key, text)]).contains("allowed: a whole number from 1 to 2147483647"),
            "{text}"
        );
    }
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_what_is_allowed() {
    for (key, value, allowed) in [
        ("execution.checkpointing.file-merging.max-file-size", "0", "a size above 0"),
        ("execution.checkpointing.file-merging.max-file-size", "-1", "as in 32mb"),
        ("execution.checkpointing.file-merging.max-subtasks-per-file", "0", "from 1 to 2147483647"),
        ("execution.checkpointing.data-inline-threshold", "1048577", "from 0 bytes to 1 mb"),
        ("state.backend.fs.memory-threshold", "2mb", "from 0 bytes to 1 mb"),
        ("drystone.upload.part-size", "4mb", "from 5 mb to 5 gb"),
        ("execution.checkpointing.write-buffer-size", "-2", "from -1 to 2147483647"),
        ("execution.checkpointing.write-buffer-size", "4kb", "without a unit"),
        ("execution.checkpointing.storage", "", "filesystem, jobmanager"),
        ("execution.checkpointing.storage", "x.Factory", "filesystem, jobmanager"),
        ("state.backend.type", "", "a name"),
        ("state.backend.type", "s3://x", "a name"),
        ("execution.checkpointing.dir", "", "an absolute path"),
        ("execution.checkpointing.dir", "x/y", "an absolute path"),
        ("execution.checkpointing.savepoint-dir", "s3:", "an absolute path"),
        ("execution.state-recovery.path", "/x/../y", "an absolute path"),
        ("execution.checkpointing.interval", "9", "0 (off), or a duration from 10 ms up"),
        ("execution.checkpointing.interval-during-backlog", "9 ms", "0 (off), or a duration from 10 ms up"),
        ("execution.checkpointing.timeout", "0", "a duration from 10 ms up"),
        ("execution.checkpointing.min-pause", "-1 s", "ISO-8601"),
        ("execution.checkpointing.max-concurrent-checkpoints", "0", "from 1 to 2147483647"),
        ("execution.checkpointing.tolerable-failed-checkpoints", "-1", "from 0 to 2147483647"),
        ("execution.checkpointing.mode", "exactly-once", "EXACTLY_ONCE, AT_LEAST_ONCE"),
        ("execution.checkpointing.externalized-checkpoint-retention", "x", "RETAIN_ON_CANCELLATION"),
        ("execution.state-recovery.claim-mode", "mine", "CLAIM, NO_CLAIM, LEGACY"),
        ("execution.state-recovery.without-channel-state.checkpoint-id", "-2", "from -1 to 9223372036854775807"),
        ("drystone.metadata-version", "3", "from 4 to 6"),
        ("drystone.metadata-version", "7", "from 4 to 6"),
        ("drystone.upload.concurrency", "0", "from 1 to 2147483647"),
        ("drystone.upload.concurrency", "4294967295", "from 1 to 2147483647"),
        ("drystone.fold.write-amplification", "-0.1", "from 0 up"),
        ("drystone.fold.write-amplification", "NaN", "from 0 up"),
    ] {
        let error = refused(&[(key, value)]);
        assert!(error.contains(&format!("{key}={value}: ")) && error.contains(allowed), "{error}");
        assert!(error.contains("allowed: "), "{error}");
    }
}

#[test]
fn values_must_go_with_each_other() {
    let interval = ("execution.checkpointing.interval", "1 min");
    for (pairs, problem) in [
        (
            vec![("execution.checkpointing.storage", "FileSystem")],
            "storage=FileSystem: needs execution.checkpointing.dir",
        ),
        (
            vec![interval, ("execution.checkpointing.interval-during-backlog", "59 s")],
            "backlog=59 s: allowed: 0 (none), or a duration from 1 min (execution.checkpointing.interval) up",
        ),
        (
            vec![
                ("execution.checkpointing.unaligned", "true"),
                ("execution.checkpointing.max-concurrent-checkpoints", "2"),
            ],
            "max-concurrent-checkpoints=2: allowed: 1, with execution.checkpointing.unaligned.enabled=true",
        ),
        (
            vec![
                ("execution.checkpointing.unaligned.enabled", "true"),
                ("execution.checkpointing.max-concurrent-checkpoints", "2"),
                ("execution.checkpointing.min-pause", "1 s"),
            ],
            "max-concurrent-checkpoints=2: allowed: 1, with execution.checkpointing.unaligned.enabled=true",
        ),
        (
            vec![
                ("execution.checkpointing.unaligned.enabled", "true"),
                ("execution.checkpointing.mode", "at_least_once"),
            ],
            "unaligned.enabled=true: allowed: false, with execution.checkpointing.mode=AT_LEAST_ONCE",
        ),
        (vec![("drystone.write-memory", "1mb")], "segment-buffer=8 mb: allowed: at most 1 mb (drystone.write-memory)"),
    ] {
        let error = refused(&pairs);
        assert!(error.contains(problem), "{error}");
    }
    for longer in ["0", "1 min", "1 h"] {
        settings(&[interval, ("execution.checkpointing.interval-during-backlog", longer)]);
    }
}

#[test]
fn what_is_in_effect_may_differ_from_what_is_given() {
    assert_eq!(settings(&[("state.checkpoints.num-retained", "-3")]).num_retained, 1);
    let paused =
        [("execution.checkpointing.min-pause", "1 s"), ("execution.checkpointing.max-concurrent-checkpoints", "2")];
    assert_eq!(settings(&paused).max_concurrent_checkpoints, 1);
    assert_eq!(settings(&[("execution.checkpointing.interval", "0")]).interval, None);
    let buffer = ("execution.checkpointing.write-buffer-size", "50000");
    assert_eq!(settings(&[buffer]).write_buffer_size(), MemorySize(50_000));
    let threshold = ("execution.checkpointing.data-inline-threshold", "1mb");
    assert_eq!(settings(&[buffer, threshold]).write_buffer_size(), MemorySize(1 << 20));
    let none = [("execution.checkpointing.write-buffer-size", "-1"), (threshold.0, "0")];
    assert_eq!(settings(&none).write_buffer_size(), MemorySize(0));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let pairs = [("execution.checkpointing.timeout", "1"), ("drystone.read.concurrency", "x"), ("drystone.typo", "1")];
    let check = config(&pairs).check();
    assert_eq!(check.problems.iter().map(|p| p.key.as_str()).collect::<Vec<_>>(), [pairs[0].0, pairs[1].0]);
    assert_eq!(check.settings, Settings::default());
    assert_eq!(check.warnings.len(), 1);
    // What doesn't go with a value that can be read is said as well; with one that can't, nothing can be said.
    let more = [pairs[0], ("execution.checkpointing.storage", "filesystem"), ("drystone.segment-buffer", "1gb")];
    assert_eq!(config(&more).check().problems.len(), 3);
    assert_eq!(config(&[more[1], ("execution.checkpointing.dir", "")]).check().problems.len(), 1);
    let error = refused(&pairs);
    assert!(error.contains("timeout=1: ") && error.contains("; drystone.read.concurrency=x: "), "{error}");
}

#[test]
fn settings_made_by_hand_are_checked_too() {
    let good = Settings::default();
    for (settings, problem) in [
        (Settings { max_file_size: MemorySize(0), ..good.clone() }, "max-file-size=0 bytes: allowed: a size above 0"),
        (Settings { metadata_version: 9, ..good.clone() }, "drystone.metadata-version=9: allowed: "),
        (Settings { timeout: Duration::from_millis(1), ..good.clone() }, "timeout=1 ms: allowed: "),
        (Settings { storage: StorageKind::FileSystem, ..good.clone() }, "needs execution.checkpointing.dir"),
        (Settings { num_retained: 0, ..good.clone() }, "num-retained=0: allowed: 1, as which it would be used"),
        (Settings { interval: Some(Duration::ZERO), ..good.clone() }, "interval=0 ms: allowed: none, as which"),
        (
            Settings { min_pause: Duration::from_secs(1), max_concurrent_checkpoints: 2, ..good.clone() },
            "max-concurrent-checkpoints=2: allowed: 1, as which it would be used",
        ),
        (Settings { max_space_amplification: Some(0.5), ..good.clone() }, "amplification=0.5: allowed: none"),
        (Settings { fold_write_amplification: f64::NAN, ..good.clone() }, "write-amplification=NaN: allowed: "),
    ] {
        let error = settings.validate().unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn a_larger_inline_threshold_needs_no_larger_buffer_beside_it() {
    let made = Settings { data_inline_threshold: MemorySize(21 << 10), ..Settings::default() };
    made.validate().unwrap();
    assert_eq!(made.write_buffer_size(), MemorySize(21 << 10));
}

#[test]
fn settings_travel_as_json() {
    let made = settings(&[("execution.checkpointing.dir", "/x"), ("execution.state-recovery.claim-mode", "claim")]);
    let text = serde_json::to_string(&made).unwrap();
    assert!(text.contains("\"max_file_size\":\"32 mb\"") && text.contains("\"claim_mode\":\"CLAIM\""), "{text}");
    assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), made);
    assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
    assert!(serde_json::from_str::<Settings>("{\"max_fil_size\":\"1mb\"}").is_err());
}

#[test]
fn an_option_is_found_by_any_of_its_keys() {
    assert_eq!(catalogue::find("state.backend.fs.checkpointdir").unwrap().key, "execution.checkpointing.dir");
    // A key of its own comes before the same key as another one's.
    let found = catalogue::find("execution.state-recovery.from-local").unwrap();
    assert_eq!((found.key, found.user), ("execution.state-recovery.from-local", User::Storage));
    assert!(catalogue::find("parallelism.default").is_none());
}

/// Whoever says that storage acts on an option must have it read somewhere, and the other way round.
#[test]
fn storage_reads_what_it_is_said_to_act_on_and_nothing_else() {
    // The one place where settings become those of the parts.
    let code = include_str!("../src/storage.rs");
    let is_read = |name: &str| {
        ["", "unaligned.", "recovery."].iter().any(|group| {
            let access = format!("settings.{group}{name}");
            let ends = |at: usize| !code[at + access.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
            code.match_indices(&access).any(|(at, _)| ends(at))
        })
    };
    let source = include_str!("../src/config/settings.rs");
    let mut fields = 0;
    for line in source.lines().filter_map(|line| line.strip_suffix(',')) {
        let Some((field, option)) = line.rsplit_once(" = ") else { continue };
        let Some((field, _)) = field.trim().split_once(": ") else { continue };
        let named = include_str!("../src/config/catalogue.rs").split_once(&format!("\n        {option} \""));
        let Some((_, rest)) = named else { continue };
        let found = catalogue::find(rest.split('"').next().unwrap()).unwrap();
        let reader = match field {
            "file_merging_enabled" => "merges_files",
            "from_local" => "restores_from_local",
            "local_backup_enabled" => "keeps_local",
            "storage" => "storage_kind",
            field => field,
        };
        assert_eq!(is_read(reader), found.user == User::Storage, "{}: {}", found.key, found.user);
        fields += 1;
    }
    assert_eq!(fields, CATALOGUE.len());
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn no_value_panics(index in 0..CATALOGUE.len(), text in ".{0,30}") {
        let config = Config::from_map([(CATALOGUE[index].key, text)]);
        let _ = config.settings();
    }

    #[test]
    fn what_is_accepted_can_be_given_again(index in 0..CATALOGUE.len(), number in any::<i64>(), unit in "[a-z]{0,2}") {
        let option = CATALOGUE[index];
        if let Ok(value) = option.kind.parse(&format!("{number}{unit}")) {
            prop_assert_eq!(option.kind.parse(&value.to_string()).unwrap(), value);
        }
    }
}

/// Flink splits a list at commas and colons, unless YAML has made it one.
#[test]
fn lists_of_paths_are_read_as_they_are_shown() {
    let cases: [(&str, &[&str], &str); 5] = [
        ("/a,/b:/c", &["/a", "/b", "/c"], "/a,/b,/c"),
        ("[/a, /b]", &["/a", "/b"], "/a,/b"),
        ("[/a,b, /c:/d]", &["/a,b", "/c:/d"], "[/a,b, /c:/d]"),
        ("[/,,,[,,]", &["/,,,[,,"], "[/,,,[,,]"),
        (":,", &[], ""),
    ];
    for (text, expected, shown) in cases {
        let value = Kind::Paths.parse(text).unwrap();
        assert_eq!(value, Value::Paths(expected.iter().map(|path| path.to_string()).collect()), "{text}");
        assert_eq!(value.to_string(), shown, "{text}");
        assert_eq!(Kind::Paths.parse(shown).unwrap(), value, "{text}");
    }
}

/// Flink takes blanks around a path for a part of it, and one that isn't absolute from where its process was started.
#[test]
fn lists_of_paths_that_mean_something_else_are_refused() {
    let key = "execution.checkpointing.local-backup.dirs";
    for text in ["/a, /b", "/a ,/b", " /a", "/a,\t/b", "[/a,  /b]", "/a,b", "[/a, b]", "a", "/a,s3://x", "file:/a"] {
        let error = refused(&[(key, text)]);
        let expected = "allowed: absolute local paths, separated by commas without blanks, or a list in YAML";
        assert_eq!(error, format!("{key}={text}: {expected}"));
    }
    let made = Settings { local_backup_dirs: vec!["a".into()], ..Settings::default() };
    assert!(made.validate().unwrap_err().to_string().contains(&format!("{key}=a: allowed: absolute")));
}
