//! `drystone config` as a user runs it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use drystone::config::{CATALOGUE, Kind, reference};
use serde_json::Value;

fn drystone(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_drystone")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config.yaml")
}

fn written(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// The words of the line that begins with a key.
fn row<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(key));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).split_whitespace().collect()
}

#[test]
fn every_option_is_listed() {
    let output = drystone(&["config"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for option in CATALOGUE {
        assert_eq!(row(&text, option.key)[1], option.kind.name());
        assert!(text.contains(option.sentence));
    }
    let listed: Value = serde_json::from_slice(&drystone(&["config", "--json"]).stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), CATALOGUE.len());
    let dir = listed.as_array().unwrap().iter().find(|o| o["key"] == "execution.checkpointing.dir").unwrap();
    assert_eq!(dir["olderKeys"][0]["key"], "state.checkpoints.dir");
    assert_eq!(dir["default"], Value::Null);
    assert_eq!(stdout(&drystone(&["config", "--markdown"])), reference());
}

#[test]
fn a_sound_file_is_listed_with_where_each_value_comes_from() {
    let path = example().display().to_string();
    let output = drystone(&["config", "check", &path]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert_eq!(row(&text, "execution.checkpointing.interval")[1..], ["1", "min", "line", "9"]);
    assert_eq!(row(&text, "execution.checkpointing.timeout")[1..], ["10", "min", "default"]);
    let retained = row(&text, "execution.checkpointing.num-retained");
    assert_eq!(retained[1..], ["3", "line", "14,", "state.checkpoints.num-retained"]);
    assert!(
        text.contains(":14: state.checkpoints.num-retained: deprecated: write execution.checkpointing.num-retained")
    );
    assert!(text.ends_with(&format!("{path}: ok: 0 errors, 1 warning\n")), "{text}");

    let json: Value = serde_json::from_slice(&drystone(&["config", "check", "--json", &path]).stdout).unwrap();
    assert_eq!((&json["sound"], json["values"].as_array().unwrap().len()), (&Value::Bool(true), CATALOGUE.len()));
    assert_eq!(json["warnings"][0]["kind"], "deprecated");
    let size = json["values"].as_array().unwrap().iter().find(|v| v["given"] == "64mb").unwrap();
    assert_eq!((&size["value"], &size["line"]), (&Value::from("64 mb"), &Value::from(13)));
}

#[test]
fn everything_that_is_wrong_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let text =
        "execution.checkpointing:\n  timeout: 1\n  mode: twice\n  intervall: 1 min\ndrystone.read.memory: lots\n";
    for name in ["x.yaml", "x.yml"] {
        let path = written(directory.path(), name, text);
        let output = drystone(&["config", "check", &path]);
        assert_eq!(output.status.code(), Some(1));
        let text = stdout(&output);
        for expected in [
            format!("BAD {path}:2: execution.checkpointing.timeout=1: allowed: "),
            format!("BAD {path}:3: execution.checkpointing.mode=twice: allowed: EXACTLY_ONCE, AT_LEAST_ONCE"),
            format!("BAD {path}:5: drystone.read.memory=lots: "),
            format!("WARN {path}:4: execution.checkpointing.intervall: no such option: is execution.checkpointing."),
            format!("{path}: bad: 3 errors, 1 warning"),
        ] {
            assert!(text.contains(&expected), "{expected} in {text}");
        }
        let json: Value = serde_json::from_slice(&drystone(&["config", "check", "--json", &path]).stdout).unwrap();
        assert_eq!(json["sound"], false);
        let lines: Vec<_> = json["errors"].as_array().unwrap().iter().map(|e| e["line"].as_u64().unwrap()).collect();
        assert_eq!(lines, [2, 3, 5]);
        assert_eq!(json["errors"][1]["value"], "twice");
    }
    let broken = written(directory.path(), "broken.yaml", "a: 1\na: 2\nb: [\n");
    let output = drystone(&["config", "check", &broken]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).starts_with(&format!("BAD {broken}: line ")), "{}", stdout(&output));
}

#[test]
fn what_no_store_is_for_is_wrong_and_credentials_are_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    for option in CATALOGUE.iter().filter(|option| option.kind == Kind::Path) {
        for (value, problem) in [
            ("s3://AKIA:SECRET@bucket/x", "credentials"),
            ("'s3:'", "names no bucket"),
            ("relative/x", "isn't absolute"),
            ("foo://x/y", "no store for the scheme 'foo'"),
            ("file://host/x", "names a host"),
        ] {
            let path = written(directory.path(), "x.yaml", &format!("{}: {value}\n", option.key));
            for json in [&[][..], &["--json"]] {
                let output = drystone(&[&["config", "check", &path], json].concat());
                let said = stdout(&output) + &stderr(&output);
                assert_eq!(output.status.code(), Some(1), "{value}: {said}");
                assert!(said.contains(problem) && !said.contains("SECRET"), "{said}");
            }
            let text = stdout(&drystone(&["config", "check", &path]));
            assert!(text.starts_with(&format!("BAD {path}:1: {}=", option.key)), "{text}");
            assert!(text.ends_with("bad: 1 error, 0 warnings\n"), "{text}");
        }
        // Also in a build without that store.
        let path = written(directory.path(), "x.yaml", &format!("{}: gs://bucket/x\n", option.key));
        assert_eq!(drystone(&["config", "check", &path]).status.code(), Some(0), "{}", option.key);
    }
    let path = written(directory.path(), "x.yaml", "execution.checkpointing.storage: s3\n");
    let output = drystone(&["config", "check", &path]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("BAD {path}:1: execution.checkpointing.storage=s3: allowed: filesystem, jobmanager");
    assert!(stdout(&output).starts_with(&expected), "{}", stdout(&output));
}

#[test]
fn other_names_are_in_the_old_format() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["flink-conf.yaml", "settings.conf", "plain"] {
        let text = "drystone.read.concurrency: 5 # not YAML: [\ndrystone.read.concurrency: 6\n";
        let path = written(directory.path(), name, text);
        let output = drystone(&["config", "check", &path]);
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert_eq!(row(&text, "drystone.read.concurrency")[1..], ["6", "line", "2"]);
        assert!(text.contains("ok: 0 errors, 1 warning"), "{text}");
    }
}

#[test]
fn lines_that_can_not_be_read_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let lines = "drystone.read.concurrency: 5\nnothing\ndrystone.read.memory:1mb\n";
    let nested = "execution.checkpointing:\n  interval: 1 min\n  dir: file:/x\n";
    // Read by no YAML reader either.
    let broken = "a: 1\na: 2\nexecution:\n  checkpointing:\n    dir: 'file:/x\n";
    for (name, text, unread, hints) in [
        ("plain.conf", lines, vec![2, 3], false),
        ("nested.conf", nested, vec![1], true),
        ("flink-conf.yaml", nested, vec![1], true),
        ("broken.conf", broken, vec![3, 4], true),
    ] {
        let path = written(directory.path(), name, text);
        let output = drystone(&["config", "check", &path]);
        let shown = stdout(&output);
        assert_eq!(output.status.code(), Some(1), "{shown}");
        for line in &unread {
            assert!(shown.contains(&format!("BAD {path}:{line}: ")), "{shown}");
        }
        assert_eq!(shown.contains(&format!("BAD {path}: looks like YAML")), hints, "{shown}");
        assert!(shown.contains(&format!("bad: {}", unread.len())), "{shown}");
        let json: Value = serde_json::from_slice(&drystone(&["config", "check", "--json", &path]).stdout).unwrap();
        let found: Vec<_> = json["errors"].as_array().unwrap().iter().map(|e| e["line"].as_u64().unwrap()).collect();
        assert_eq!((&json["sound"], found, json["hint"].is_string()), (&Value::Bool(false), unread, hints));
    }
}

#[test]
fn what_can_not_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.yaml").display().to_string();
    let binary = directory.path().join("binary.yaml");
    fs::write(&binary, [0xff, 0xfe, 0x80]).unwrap();
    let binary = binary.display().to_string();
    for arguments in [vec!["config", "check", &missing], vec!["config", "check", &binary, "--json"]] {
        let output = drystone(&arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).starts_with(&format!("drystone: {}: ", arguments[2])), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    for arguments in [vec!["config", "check"], vec!["config", "--json", "--markdown"], vec!["config", "unknown"]] {
        assert_eq!(drystone(&arguments).status.code(), Some(2), "{arguments:?}");
    }
}
