//! Stock Flink as the judge: it restores what Drystone packed, and its own classes read the same bytes from it.
//!
//! Needs `DRYSTONE_FLINK`, a command with the verbs `restore --path=URI --n=N --backend=B` (prints PASS or FAIL) and
//! `dump DIR OUT.json` (lists every handle with hashes). Built with the feature `flink-oracle` only. With
//! `DRYSTONE_FLINK_ALL=1` every checkpoint of every fixture is restored, packed and copied; else the newest of each.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A checkpoint or savepoint of a fixture, and what Flink needs to know to restore it.
struct Case {
    directory: PathBuf,
    backend: String,
    records: u64,
    /// Taken while records were in flight.
    in_flight: bool,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flink")
}

fn flink() -> Command {
    Command::new(std::env::var("DRYSTONE_FLINK").expect("DRYSTONE_FLINK names the command that runs stock Flink"))
}

fn properties(fixture: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(fixture.join("fixture.properties")).unwrap();
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn metadata_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            metadata_below(&path, found);
        } else if path.ends_with("_metadata") {
            found.push(directory.to_path_buf());
        }
    }
}

fn cases(fixture: &Path, all: bool) -> Vec<Case> {
    let properties = properties(fixture);
    let number = |key: &str| properties[key].parse::<u64>().unwrap();
    let (total, per_round) = (number("n"), number("per_round"));
    let mut directories = Vec::new();
    metadata_below(fixture, &mut directories);
    directories.sort();
    let case = |directory: PathBuf| {
        let name = directory.file_name().unwrap().to_str().unwrap().to_string();
        let records = name.strip_prefix("chk-").map_or(total, |n| n.parse::<u64>().unwrap() * per_round);
        let in_flight = properties["unaligned"] == "true" && records == total && name.starts_with("chk-");
        Case { directory, backend: properties["arg.backend"].clone(), records, in_flight }
    };
    directories.into_iter().map(case).filter(|case| all || case.records == total).collect()
}

fn transfer(how: &[&str], from: &Path, to: &Path) -> PathBuf {
    let output = Command::new(env!("CARGO_BIN_EXE_drystone"))
        .args(how)
        .arg("--json")
        .arg(format!("--rebase=file:/data/flink={}", data().display()))
        .args([from, to])
        .output()
        .unwrap();
    assert!(output.status.success(), "{how:?} {}: {}", from.display(), String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    PathBuf::from(report["destination"].as_str().unwrap().trim_start_matches("file:"))
}

fn restore(case: &Case, checkpoint: &Path) {
    let output = flink()
        .arg("restore")
        .arg(format!("--path=file://{}", checkpoint.display()))
        .args([format!("--n={}", case.records), format!("--backend={}", case.backend)])
        .arg(format!("--unaligned-source={}", case.in_flight))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = text.lines().any(|line| line.starts_with("PASS "));
    assert!(passed, "{}\n{text}\n{}", case.directory.display(), String::from_utf8_lossy(&output.stderr));
}

fn fixtures() -> Vec<PathBuf> {
    let entries = fs::read_dir(data()).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.join("fixture.properties").is_file()).collect();
    found.sort();
    found
}

#[test]
fn stock_flink_restores_what_was_packed_and_copied() {
    let all = std::env::var("DRYSTONE_FLINK_ALL").is_ok_and(|v| v == "1");
    for fixture in fixtures() {
        for case in cases(&fixture, all) {
            let to = tempfile::tempdir().unwrap();
            restore(
                &case,
                &transfer(&["repack", "--inline-threshold=2kb"], &case.directory, &to.path().join("packed")),
            );
            if all {
                restore(&case, &transfer(&["repack"], &case.directory, &to.path().join("inline")));
                restore(&case, &transfer(&["copy"], &case.directory, &to.path().join("copied")));
            }
        }
    }
}

/// SHA-256 and length of every stream, in order, by checkpoint.
fn contents(listing: &Value) -> BTreeMap<u64, Vec<(Value, Value)>> {
    let streams = |checkpoint: &Value| {
        let streams = checkpoint["streams"].as_array().unwrap();
        streams.iter().map(|s| (s["contentSha256"].clone(), s["contentLength"].clone())).collect()
    };
    let checkpoints = listing["checkpoints"].as_array().unwrap();
    checkpoints.iter().map(|c| (c["checkpointId"].as_u64().unwrap(), streams(c))).collect()
}

#[test]
fn flinks_own_classes_read_the_same_contents_from_what_was_packed_and_copied() {
    for fixture in fixtures() {
        let text = fs::read_to_string(fixture.join("expected.json")).unwrap();
        let expected = contents(&serde_json::from_str(&text).unwrap());
        for how in [&["repack", "--inline-threshold=0"][..], &["repack"], &["copy"]] {
            let to = tempfile::tempdir().unwrap();
            for case in cases(&fixture, true) {
                transfer(how, &case.directory, to.path());
            }
            let listing = to.path().join("listing.json");
            let output = flink().arg("dump").args([to.path(), &listing]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = fs::read_to_string(&listing).unwrap();
            assert!(text.contains("\"reserializedByFlinkIdentical\""));
            assert_eq!(contents(&serde_json::from_str(&text).unwrap()), expected, "{how:?} of {}", fixture.display());
        }
    }
}
