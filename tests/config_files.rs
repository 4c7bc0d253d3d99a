//! Configuration files: YAML as Flink 2 reads it, the line format of Flink 1, and keys that nobody knows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;

use cases::cases;
use drystone::config::{Config, MemorySize, Settings, WarningKind};
use proptest::prelude::*;

fn pairs(config: &Config) -> Vec<(&str, &str)> {
    config.iter().collect()
}

fn yaml(text: &str) -> Config {
    Config::from_yaml(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn settings(text: &str) -> Settings {
    yaml(text).settings().unwrap().0
}

#[test]
fn nested_flat_and_mixed_are_the_same() {
    for text in [
        "execution:\n  checkpointing:\n    dir: s3://b/x # here\n    file-merging:\n      enabled: true\n",
        "execution.checkpointing.dir: s3://b/x\nexecution.checkpointing.file-merging.enabled: true\n",
        "execution.checkpointing:\n  dir: 's3://b/x'\n  file-merging.enabled: true\n",
        "execution:\n  checkpointing.dir: \"s3://b/x\"\nexecution.checkpointing:\n  file-merging: {enabled: true}\n",
    ] {
        let config = yaml(text);
        let expected =
            [("execution.checkpointing.dir", "s3://b/x"), ("execution.checkpointing.file-merging.enabled", "true")];
        assert_eq!(pairs(&config), expected, "{text}");
        let (settings, warnings) = config.settings().unwrap();
        assert!(settings.merges_files() && warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn yaml_is_read_as_flink_reads_it() {
    // Each with what Flink 2.2.1 makes of it.
    for (text, expected) in [
        ("", vec![]),
        ("# x\n", vec![]),
        ("a: ''", vec![("a", "")]),
        ("a: [x, y]", vec![("a", "[x, y]")]),
        ("a:\n - 1\n - b: c", vec![("a", "[1, {b: c}]")]),
        ("a: &x 5\nb: *x", vec![("a", "5"), ("b", "5")]),
        ("a: &x {c: 5}\nb: *x", vec![("a.c", "5"), ("b.c", "5")]),
        ("a:\n  b.c: 2", vec![("a.b.c", "2")]),
        ("a: 1\na.b: 2", vec![("a", "1"), ("a.b", "2")]),
        ("a.b: 1\na:\n  b: 2", vec![("a.b", "2")]),
        ("a:\n  b: 2\na.b: 1", vec![("a.b", "1")]),
        ("a: !!str 5", vec![("a", "5")]),
        ("a: 0x10", vec![("a", "16")]),
        ("a: '0x10'", vec![("a", "0x10")]),
        ("a: 0o17", vec![("a", "15")]),
        ("a: 0x-1", vec![("a", "0x-1")]),
        ("a: 010", vec![("a", "10")]),
        ("a: '010'", vec![("a", "010")]),
        ("a: +1", vec![("a", "1")]),
        ("a: -0", vec![("a", "0")]),
        ("a: 99999999999999999999", vec![("a", "99999999999999999999")]),
        ("a: !!str null", vec![("a", "null")]),
        ("a: 1_000", vec![("a", "1_000")]),
        ("a: yes", vec![("a", "yes")]),
        ("a: 2f", vec![("a", "2f")]),
        ("a: |\n  x\n  y\n", vec![("a", "x\ny\n")]),
        ("a: {}", vec![]),
        ("a: []", vec![("a", "[]")]),
        ("a:  b  ", vec![("a", "b")]),
        ("a: 'b '", vec![("a", "b ")]),
        ("a: s3://x/#y", vec![("a", "s3://x/#y")]),
        ("? a\n: b", vec![("a", "b")]),
        ("'<<': {a: 1}", vec![("<<.a", "1")]),
    ] {
        assert_eq!(pairs(&yaml(text)), expected, "{text}");
    }
}

#[test]
fn yaml_is_refused_where_flink_refuses_it() {
    for (text, problem) in [
        ("b: 1\n\nb: 2", "line 3: b is given in line 1, too; allowed: once"),
        ("x:\n  b: 1\n  b: 2", "line 3: b is given in line 2, too"),
        ("a:", "line 1: a has no value"),
        ("a: !!null ''", "line 1: a has no value"),
        ("a: 1\nb:\n  c: ~", "line 3: b.c has no value"),
        ("--- {a: 1}\n--- {b: 2}", "line 2: another document begins"),
        ("\na: !foo 5", "line 2: has a tag ('!...'); allowed: none"),
        ("- a", "isn't a mapping; allowed: key: value"),
        ("foo", "isn't a mapping"),
        ("[1]: 2", "line 1: a key that isn't a text"),
        ("a: *x", "line 1: "),
        ("a: &x [*x]", "line 1: an alias of what it is a part of"),
        ("a: 1\nb: \"x\" y", "line 2: "),
        ("a: [1, 2", "line 1: "),
        ("a: b: c", "line 1: "),
    ] {
        let error = Config::from_yaml(text).unwrap_err();
        assert_eq!(error.kind(), drystone::ErrorKind::Invalid);
        assert!(error.to_string().contains(problem), "{text}: {error}");
    }
    let both = Config::from_yaml("a:\nb: 1\nb: 2\nc:").unwrap_err().to_string();
    assert_eq!(both.matches("; line ").count(), 2, "{both}");
}

/// Flink takes them for keys of that name, and what was to be merged is never looked at.
#[test]
fn merge_keys_are_refused() {
    for (text, line) in [("x: &x {a: 1}\ny:\n  <<: *x\n  b: 2\n", 3), ("<<: {a: 1}", 1), ("a:\n- <<: {b: 1}", 2)] {
        let error = Config::from_yaml(text).unwrap_err().to_string();
        assert_eq!(error, format!("line {line}: << merges nothing, in Flink neither; allowed: the keys themselves"));
    }
}

#[test]
fn aliases_of_aliases_are_bounded() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let alias = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", "));
    }
    assert!(Config::from_yaml(&text).unwrap_err().to_string().contains("stands for more than"));
    let deep = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Config::from_yaml(&deep).is_err());
    let chain: String = (1..5_000).map(|n| format!("k{n}: &a{n} {{a: *a{}}}\n", n - 1)).collect();
    let _ = Config::from_yaml(&format!("k0: &a0 {{a: 1}}\n{chain}"));
}

#[test]
fn values_keep_their_lines() {
    let text = "execution.checkpointing:\n  interval: 1 min\n  timeout: 5\n\ndrystone.read:\n  concurrency: none\n";
    let error = yaml(text).named("conf/config.yaml").settings().unwrap_err().to_string();
    assert!(error.contains("conf/config.yaml:3: execution.checkpointing.timeout=5: allowed: "), "{error}");
    assert!(error.contains("conf/config.yaml:6: drystone.read.concurrency=none: allowed: "), "{error}");
    let nameless = yaml(text).settings().unwrap_err().to_string();
    assert!(nameless.contains("line 3: execution.checkpointing.timeout=5: "), "{nameless}");
    // What is wrong with two values together stands where the first is given, as it is given.
    let text = "execution.checkpointing.interval: 60000\nexecution.checkpointing.interval-during-backlog: 50000\n";
    let error = yaml(text).settings().unwrap_err().to_string();
    assert!(error.starts_with("line 2: execution.checkpointing.interval-during-backlog=50000: "), "{error}");
}

#[test]
fn a_key_given_nested_and_flat_is_noted() {
    let config = yaml("drystone.read.concurrency: 3\ndrystone:\n  read:\n    concurrency: 4\n").named("f");
    let (settings, warnings) = config.settings().unwrap();
    assert_eq!(settings.read_concurrency, 4);
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].to_string(), "f:4: drystone.read.concurrency: given in line 1, too; the last one counts");
}

#[test]
fn lists_are_lists_of_paths() {
    let key = "execution.checkpointing.local-backup.dirs";
    for text in ["[/a, /b c]", "/a,/b c", "/a:/b c", "\n  - /a\n  - /b c"] {
        assert_eq!(settings(&format!("{key}: {text}")).local_backup_dirs, ["/a", "/b c"], "{text}");
    }
    assert!(settings(&format!("{key}: []")).local_backup_dirs.is_empty());
}

#[test]
fn both_unaligned_and_what_is_below_it() {
    let text = "execution.checkpointing.unaligned: true\nexecution.checkpointing.unaligned.forced: true\n";
    let unaligned = settings(text).unaligned;
    assert!(unaligned.enabled && unaligned.forced);
    assert!(!settings("execution.checkpointing.unaligned: {forced: true}").unaligned.enabled);
}

#[test]
fn the_old_format_is_read_as_flink_1_read_it() {
    let text = "\
# comment
state.checkpoints.dir: hdfs://nn:8020/x  # where
  execution.checkpointing.interval :   1 min
a: b: c
quoted: \"x\"
no-blank:value
empty:
: nothing
execution.checkpointing.num-retained: 2
execution.checkpointing.num-retained: 3
  nested: 1\r
state.backend.fs.memory-threshold: 1kb#no blank needed
";
    let config = Config::from_flink_conf(text).named("flink-conf.yaml");
    assert_eq!(
        pairs(&config),
        [
            ("a", "b: c"),
            ("execution.checkpointing.interval", "1 min"),
            ("execution.checkpointing.num-retained", "3"),
            ("nested", "1"),
            ("quoted", "\"x\""),
            ("state.backend.fs.memory-threshold", "1kb"),
            ("state.checkpoints.dir", "hdfs://nn:8020/x"),
        ]
    );
    let (settings, warnings) = config.settings().unwrap();
    assert_eq!((settings.num_retained, settings.data_inline_threshold), (3, MemorySize(1024)));
    let found: Vec<_> = warnings.iter().map(|w| (w.kind, w.place.line.unwrap())).collect();
    assert_eq!(
        found,
        [
            (WarningKind::Deprecated, 2),
            (WarningKind::Unreadable, 6),
            (WarningKind::Unreadable, 7),
            (WarningKind::Unreadable, 8),
            (WarningKind::Overridden, 10),
            (WarningKind::Deprecated, 12),
        ]
    );
    assert!(warnings[1].to_string().starts_with("flink-conf.yaml:6: no-blank: "), "{}", warnings[1]);
}

#[test]
fn of_a_map_the_last_value_counts() {
    let config = Config::from_map([("drystone.read.memory", "1mb"), ("drystone.read.memory", "2mb")]);
    let (settings, warnings) = config.settings().unwrap();
    assert_eq!(settings.read_memory, MemorySize(2 << 20));
    assert_eq!(warnings, []);
}

#[test]
fn an_unknown_key_is_reported_with_the_nearest() {
    for (key, near) in [
        ("execution.checkpointing.intervall", Some("execution.checkpointing.interval")),
        ("execution.checkpointing.max-file-size", Some("execution.checkpointing.file-merging.max-file-size")),
        ("execution.checkpointing.max-filesize", Some("execution.checkpointing.file-merging.max-file-size")),
        ("execution.checkpointing.file-merging.enable", Some("execution.checkpointing.file-merging.enabled")),
        ("execution.checkpointing.num_retained", Some("execution.checkpointing.num-retained")),
        (
            "execution.checkpointing.unaligned.during-recovery.enabled",
            Some("execution.checkpointing.during-recovery.enabled"),
        ),
        ("execution.state-recovery.claimmode", Some("execution.state-recovery.claim-mode")),
        ("drystone.upload.concurency", Some("drystone.upload.concurrency")),
        ("drystone.num-retained", Some("execution.checkpointing.num-retained")),
        // By way of an older spelling.
        ("state.checkpoints.dri", Some("execution.checkpointing.dir")),
        ("state.savepoints.dirs", Some("execution.checkpointing.savepoint-dir")),
        ("state.backend.fs.memory-treshold", Some("execution.checkpointing.data-inline-threshold")),
        ("execution.checkpointing.foo", None),
        ("execution.checkpointing.enabled", None),
        ("drystone.", None),
    ] {
        let warnings = Config::from_map([(key, "1")]).settings().unwrap().1;
        assert_eq!(warnings.len(), 1, "{key}");
        assert_eq!((warnings[0].kind, warnings[0].key.as_str()), (WarningKind::Unknown, key));
        let expected = near.map_or("no such option".to_string(), |near| format!("no such option: is {near} meant?"));
        assert_eq!(warnings[0].text, expected, "{key}");
    }
}

/// Letters are compared in time by both lengths.
#[test]
fn a_key_of_any_length_is_reported() {
    let key = format!("drystone.{}", "upload.concurrency".repeat(50_000));
    let warnings = Config::from_map([(key, "1")]).settings().unwrap().1;
    assert_eq!((warnings[0].kind, warnings[0].text.as_str()), (WarningKind::Unknown, "no such option"));
}

/// A key goes before each of those below it.
#[test]
fn keys_below_long_keys_are_bounded() {
    let below: String = (0..20_000).map(|n| format!("a{n}: 1, ")).collect();
    let text = format!("? {}\n: {{{below}}}", "k".repeat(100_000));
    let error = Config::from_yaml(&text).unwrap_err().to_string();
    assert_eq!(error, "line 1: stands for more than 1048576 bytes");
    let deep: String = (0..200).map(|n| format!("{}{}:\n", " ".repeat(n), "k".repeat(900))).collect();
    let last = " ".repeat(200);
    let wide: String = (0..20_000).map(|n| format!("{last}a{n}: 1\n")).collect();
    assert!(Config::from_yaml(&(deep + &wide)).unwrap_err().to_string().contains("stands for more than"));
}

#[test]
fn keys_of_others_are_none_of_our_business() {
    let others = [
        "state.backend.latency-track.keyed-state-enabled",
        "state.backend.rocksdb.localdir",
        "state.backend.incremental-x",
        "state.changelog.enabled",
        "execution.runtime-mode",
        "execution.target",
        "parallelism.default",
        "taskmanager.memory.process.size",
        "execution.checkpointing",
        "",
    ];
    let (settings, warnings) = Config::from_map(others.map(|key| (key, "x"))).settings().unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(warnings, []);
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn no_text_panics(text in "([a-z.]{1,6}|: |:|\n|  |- |\\[|\\]|\\{|\\}|,|&x |\\*x|!|'|\"|#|\\||>|~|%|---|\\PC){0,40}") {
        let _ = Config::from_yaml(&text).map(|config| config.check());
        let _ = Config::from_flink_conf(&text).check();
    }

    #[test]
    fn nesting_makes_no_difference(keys in prop::collection::btree_map("[a-f]{1,3}", "[a-z0-9]{1,8}", 1..6)) {
        let flat: String = keys.iter().map(|(key, value)| format!("drystone.x.{key}: '{value}'\n")).collect();
        let below: String = keys.iter().map(|(key, value)| format!("    {key}: '{value}'\n")).collect();
        let nested = format!("drystone:\n  x:\n{below}");
        let (flat, nested) = (yaml(&flat), yaml(&nested));
        prop_assert_eq!(pairs(&flat), pairs(&nested));
        let lines: String = keys.iter().map(|(key, value)| format!("drystone.x.{key}: {value}\n")).collect();
        let old = Config::from_flink_conf(&lines);
        prop_assert_eq!(pairs(&flat), pairs(&old));
    }
}
