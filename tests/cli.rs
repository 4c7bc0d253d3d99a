//! The command as a user runs it: on real checkpoints, with what it prints and how it exits.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/stock_checkpoint.rs"]
mod stock_checkpoint;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flink")
}

fn drystone(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_drystone")).args(arguments).output().unwrap()
}

/// Runs on the fixtures, whose metadata names files below `/data/flink`.
fn on_fixtures(arguments: &[&str]) -> Output {
    let rebase = format!("--rebase=file:/data/flink={}", data().display());
    drystone(&[arguments, &[rebase.as_str()]].concat())
}

fn json(output: &Output) -> Value {
    assert!(output.status.code() != Some(2), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn fixtures() -> Vec<PathBuf> {
    let entries = fs::read_dir(data()).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.join("expected.json").is_file()).collect();
    found.sort();
    assert!(found.len() >= 9, "fixtures are missing: {found:?}");
    found
}

/// The directories of a fixture's checkpoints and savepoints, with their listings by Flink's own classes.
fn checkpoints(fixture: &Path) -> Vec<(PathBuf, Value)> {
    let text = fs::read_to_string(fixture.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let checkpoints = expected["checkpoints"].as_array().unwrap();
    let directory = |c: &Value| fixture.join(c["metadataFile"].as_str().unwrap()).parent().unwrap().to_path_buf();
    checkpoints.iter().map(|c| (directory(c), c.clone())).collect()
}

fn fixture(name: &str, checkpoint: &str) -> String {
    let all = checkpoints(&data().join(name));
    let found = all.iter().find(|(path, _)| path.file_name().unwrap().to_str().unwrap().starts_with(checkpoint));
    found.unwrap().0.display().to_string()
}

/// Type, SHA-256 and length of every stream below a listing's operators, in order.
fn contents(value: &Value, found: &mut Vec<(Value, Value)>) {
    match value {
        Value::Object(fields) => {
            if let (Some(sha256), Some(length)) = (fields.get("contentSha256"), fields.get("contentLength")) {
                found.push((sha256.clone(), length.clone()));
            }
            fields.values().for_each(|v| contents(v, found));
        }
        Value::Array(values) => values.iter().for_each(|v| contents(v, found)),
        _ => {}
    }
}

#[test]
fn inspect_lists_what_flinks_own_classes_list() {
    for fixture in fixtures() {
        for (directory, expected) in checkpoints(&fixture) {
            let listed = json(&on_fixtures(&["inspect", "--json", "--hash", directory.to_str().unwrap()]));
            for field in ["checkpointId", "version", "masterStates", "operators"] {
                // As text, so that the order of fields counts, too.
                assert_eq!(
                    listed[field].to_string(),
                    expected[field].to_string(),
                    "{field} of {}",
                    directory.display()
                );
            }
        }
    }
}

#[test]
fn repacked_and_copied_checkpoints_have_the_same_contents_stream_by_stream() {
    for fixture in fixtures() {
        for (directory, expected) in checkpoints(&fixture) {
            let mut before = Vec::new();
            contents(&expected["operators"], &mut before);
            for how in [
                ["repack", "--inline-threshold=20kb"],
                ["repack", "--inline-threshold=0"],
                ["copy", "--read-memory=1mb"],
            ] {
                let to = tempfile::tempdir().unwrap();
                let (from, destination) = (directory.to_str().unwrap(), to.path().to_str().unwrap());
                let report = json(&on_fixtures(&[how[0], "--json", how[1], from, destination]));
                let new = report["destination"].as_str().unwrap();
                let mut after = Vec::new();
                contents(&json(&drystone(&["inspect", "--json", "--hash", new]))["operators"], &mut after);
                assert_eq!(before, after, "{how:?} of {}", directory.display());
                let verified = drystone(&["verify", new]);
                assert_eq!(verified.status.code(), Some(0), "{}", stdout(&verified));
            }
        }
    }
}

#[test]
fn verify_counts_what_it_cannot_check() {
    let output = on_fixtures(&["verify", "--json", &fixture("v2-rocksdb-plain", "chk-3")]);
    assert_eq!(output.status.code(), Some(0));
    let result = json(&output);
    assert_eq!(result["streamsChecked"], 0);
    assert_eq!(result["streamsUnchecked"], result["streams"]);
    assert_eq!(result["metadataChecked"], false);
}

/// Files that handles name whole have their checksums in the trailer of a copy, whoever wrote them.
#[test]
fn a_copy_of_stock_files_can_be_checked() {
    let (to, source) = (tempfile::tempdir().unwrap(), fixture("v2-rocksdb-plain", "chk-3"));
    let report = json(&on_fixtures(&["copy", "--json", &source, to.path().to_str().unwrap()]));
    let copy = PathBuf::from(report["destination"].as_str().unwrap().trim_start_matches("file:"));
    let verified = |at: &str| json(&on_fixtures(&["verify", "--json", at]));
    let (before, after) = (verified(&source), verified(copy.to_str().unwrap()));
    assert_eq!(before["streamsChecked"], 0);
    assert_eq!(
        (&after["streamsChecked"], &after["streamsUnchecked"]),
        (&before["files"], &Value::from(1)),
        "one is inline"
    );
    let file = fs::read_dir(copy.join("shared")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let damaged = verified(copy.to_str().unwrap());
    assert_eq!(damaged["sound"], false);
    let named = damaged["findings"][0]["file"].as_str().unwrap();
    assert!(named.ends_with(file.file_name().unwrap().to_str().unwrap()), "{damaged}");
}

#[test]
fn a_missing_file_is_bad_and_named_with_its_operator_and_subtask() {
    let to = tempfile::tempdir().unwrap();
    let new = copied(to.path());
    let shared = fs::read_dir(new.join("shared")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(&shared).unwrap();
    let output = drystone(&["verify", new.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let (text, name) = (stdout(&output), shared.file_name().unwrap().to_str().unwrap().to_string());
    assert!(text.contains(&name) && text.contains("operator 96eed58e350a66c179f06330f5425345 subtask"), "{text}");
}

#[test]
fn a_moved_checkpoint_is_told_which_rebase_finds_its_files() {
    let source = fixture("v2-rocksdb-plain", "chk-3");
    let text = stdout(&drystone(&["inspect", &source]));
    let hint = text.split("try ").nth(1).expect(&text).lines().next().unwrap();
    let (flag, rule) = hint.split_once(' ').unwrap();
    let found = json(&drystone(&["inspect", "--json", &source, flag, rule]));
    assert_eq!(found["summary"]["missingFiles"], 0, "{hint}");
    let to = tempfile::tempdir().unwrap();
    let repacked = drystone(&["repack", &source, to.path().to_str().unwrap()]);
    assert_eq!(repacked.status.code(), Some(2));
    assert!(stderr(&repacked).contains(hint), "{}", stderr(&repacked));
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn a_job_directory_is_listed_checkpoint_by_checkpoint() {
    let chk = fixture("v2-rocksdb-plain", "chk-3");
    let job = Path::new(&chk).parent().unwrap().to_str().unwrap();
    let listed = json(&on_fixtures(&["inspect", "--json", job]));
    let ids: Vec<_> = listed["checkpoints"].as_array().unwrap().iter().map(|c| c["checkpointId"].clone()).collect();
    assert_eq!(ids, [1, 2, 3]);
    let text = stdout(&on_fixtures(&["inspect", job]));
    assert!(["chk-1", "chk-2", "chk-3"].iter().all(|name| text.contains(name)), "{text}");
}

#[test]
fn what_is_no_checkpoint_is_said_with_its_path() {
    let empty = tempfile::tempdir().unwrap();
    for command in ["inspect", "verify"] {
        let output = drystone(&[command, empty.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(empty.path().to_str().unwrap()), "{}", stderr(&output));
    }
}

#[test]
fn a_bad_option_is_named_with_what_is_allowed() {
    let source = fixture("v2-hashmap-plain", "chk-1");
    let to = tempfile::tempdir().unwrap();
    let to = to.path().to_str().unwrap();
    for (option, words) in [
        ("--max-file-size=32mib", ["32mib", "mebibytes"]),
        ("--max-file-size=1kb", ["--max-file-size", "64 kb"]),
        ("--inline-threshold=2mb", ["--inline-threshold", "1 mb"]),
        ("--rebase=nonsense", ["FROM=TO", "rebase"]),
        ("--job-id=xyz", ["xyz", "32"]),
    ] {
        let output = drystone(&["repack", &source, to, option]);
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert!(words.iter().all(|word| stderr(&output).contains(word)), "{option}: {}", stderr(&output));
    }
}

#[test]
fn options_of_inspect_that_can_not_be_followed_are_refused() {
    let chk = fixture("v2-rocksdb-plain", "chk-3");
    let job = Path::new(&chk).parent().unwrap().to_str().unwrap();
    for (arguments, words) in [
        (vec!["inspect", "--hash", &chk], ["--hash", "--json"]),
        (vec!["inspect", "--hash", "--json", job], ["--hash", "name one"]),
        (vec!["inspect", "--interval", "0", &chk], ["--interval", "above 0"]),
    ] {
        let output = on_fixtures(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(words.iter().all(|word| stderr(&output).contains(word)), "{arguments:?}: {}", stderr(&output));
    }
}

/// A copy of the fixture, whose files can be removed.
fn copied(to: &Path) -> PathBuf {
    let source = fixture("v2-rocksdb-plain", "chk-3");
    let report = json(&on_fixtures(&["copy", "--json", &source, to.to_str().unwrap()]));
    PathBuf::from(report["destination"].as_str().unwrap().trim_start_matches("file:"))
}

#[test]
fn missing_files_are_listed_first_and_an_error_has_one_line() {
    let to = tempfile::tempdir().unwrap();
    let new = copied(to.path());
    let mut files: Vec<_> = fs::read_dir(new.join("shared")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort_by_key(|file| fs::metadata(file).unwrap().len());
    fs::remove_file(&files[0]).unwrap();
    let text = stdout(&drystone(&["inspect", new.to_str().unwrap()]));
    let first = text.split("physical file").nth(2).expect(&text).lines().nth(1).unwrap();
    assert!(first.contains(files[0].file_name().unwrap().to_str().unwrap()) && first.contains("missing"), "{text}");
    assert!(text.contains(" more (--all lists them)"), "{text}");
    let hashed = drystone(&["inspect", "--json", "--hash", new.to_str().unwrap()]);
    assert_eq!(hashed.status.code(), Some(2));
    assert_eq!(stderr(&hashed).lines().count(), 1, "{}", stderr(&hashed));
}

#[test]
fn a_checkpoint_with_a_missing_file_of_unknown_length_is_no_job_directory() {
    let directory = tempfile::tempdir().unwrap();
    let metadata = stock_checkpoint::metadata(&[(directory.path().join("gone").display().to_string(), -1)], 1);
    fs::write(directory.path().join("_metadata"), metadata).unwrap();
    let output = drystone(&["inspect", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let line = stderr(&output);
    assert!(line.contains("/gone: there is no such file") && line.contains("subtask 0"), "{line}");
    let output = drystone(&["verify", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
}

#[test]
fn a_relative_path_is_meant_from_the_working_directory() {
    let output = Command::new(env!("CARGO_BIN_EXE_drystone"))
        .current_dir(data())
        .args(["verify", "v2-hashmap-inline/ckpt/00f1f1f1f1f1f1f1f841b03733b2f062/chk-1/_metadata"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
