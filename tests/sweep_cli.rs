//! `drystone sweep` and `drystone verify --deep` as a user runs them: what they print and how they exit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/copied.rs"]
mod copied;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use copied::{Copied, err, out, parsed};
use serde_json::{Value, json};

const JOB: &str = "ckpt/00f1f1f1f1f1f1f189febbb2ae266257";
const UUID: &str = "0000abcd-1234-4abc-8def-0123456789ab";
const OURS: &str = "ds1-a3-wworker_1-c9-n0-00000000000000ff";

/// A copy of what stock Flink wrote, with litter, all of it a while old.
fn littered() -> Copied {
    let copied = Copied::new("v2-rocksdb-plain");
    for (below, bytes) in [
        (format!("chk-9/{UUID}"), 3_000),
        (format!("chk-9/{OURS}"), 2_000),
        (format!("shared/{UUID}"), 1_000),
        ("notes.txt".to_owned(), 10),
    ] {
        copied.write(&format!("{JOB}/{below}"), vec![7; bytes]);
    }
    copied.age(Duration::from_secs(3 * 86_400 + 60));
    copied
}

fn text(output: &Output) -> String {
    out(output) + &err(output)
}

#[test]
fn a_dry_run_lists_what_is_dead_and_changes_nothing() {
    let copied = littered();
    let before = copied.files();
    let output = copied.drystone("sweep", JOB, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let text = text(&output);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let row = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(row(lines[0]), "file size age why");
    assert_eq!(row(lines[1]), format!("chk-9/{UUID} 2.9 KB 3 d checkpoint 9 has no metadata"));
    let ours = "written for checkpoint 9 of epoch 3 by worker_1, which has no metadata";
    assert_eq!(row(lines[2]), format!("chk-9/{OURS} 2.0 KB 3 d {ours}"));
    assert_eq!(row(lines[3]), format!("shared/{UUID} 1000 B 3 d no retained checkpoint names it"));
    let verdict = format!(
        "file:{}: 3 files of 5.9 KB dead; nothing was changed: --delete deletes them",
        copied.at(JOB).display()
    );
    assert_eq!(lines[4], verdict);
    assert!(lines[5].starts_with("  3 files of metadata read; alive: 78 files of "), "{text}");
    assert_eq!(lines[6..], ["  unknown, left alone: notes.txt"]);
    assert_eq!(copied.files(), before);
}

#[test]
fn deleting_deletes_just_that_and_a_second_run_finds_nothing() {
    let copied = littered();
    let before = copied.files();
    let output = copied.drystone("sweep", JOB, &["--delete"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains(": 3 files of 5.9 KB deleted, and 1 empty directory\n"), "{}", text(&output));
    let gone: Vec<_> = before.into_iter().filter(|below| !copied.at(below).exists()).collect();
    let expected = [format!("chk-9/{UUID}"), format!("chk-9/{OURS}"), format!("shared/{UUID}")];
    assert_eq!(gone, expected.map(|below| format!("{JOB}/{below}")));
    assert!(!copied.at(&format!("{JOB}/chk-9")).exists());
    let output = copied.drystone("sweep", JOB, &["--delete"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).contains(": 0 files of 0 B deleted\n"), "{}", text(&output));
    assert_eq!(copied.drystone("verify", JOB, &["--deep"]).status.code(), Some(0));
}

#[test]
fn json_says_the_same() {
    let copied = littered();
    let output = copied.drystone("sweep", JOB, &["--json"]);
    let found = parsed(&output);
    assert_eq!((&found["deadFiles"], &found["deadBytes"]), (&json!(3), &json!(6_000)));
    assert_eq!(found["checkpoints"], json!([1, 2, 3]));
    assert_eq!(found["unknown"], json!(["notes.txt"]));
    assert_eq!(found["alive"]["files"], json!(78));
    assert_eq!(found.get("deleted"), None);
    let file = &found["dead"][1];
    assert!(file["path"].as_str().unwrap().ends_with(&format!("/chk-9/{OURS}")), "{file}");
    assert_eq!((&file["kind"], &file["bytes"], &file["reason"]), (&json!("file"), &json!(2_000), &json!("noMetadata")));
    assert!(file["ageSeconds"].as_u64().unwrap() >= 3 * 86_400);
    let deleted = parsed(&copied.drystone("sweep", JOB, &["--json", "--delete"]));
    assert_eq!(deleted["deleted"]["files"].as_array().unwrap().len(), 3);
    assert_eq!((&deleted["deleted"]["bytes"], &deleted["deleted"]["failed"]), (&json!(6_000), &json!([])));
    assert_eq!(parsed(&copied.drystone("sweep", JOB, &["--json"]))["deadFiles"], json!(0));
}

#[test]
fn the_grace_is_a_duration_of_flinks() {
    let copied = littered();
    for (grace, dead) in [("2 d", 3), ("4 d", 0), ("PT96H", 0), ("259200 s", 3), ("1", 3)] {
        let output = copied.drystone("sweep", JOB, &["--json", "--grace", grace]);
        assert_eq!(parsed(&output)["deadFiles"], json!(dead), "{grace}");
    }
    copied.age(Duration::from_secs(3_600));
    assert_eq!(parsed(&copied.drystone("sweep", JOB, &["--json"]))["deadFiles"], json!(0));
    let output = copied.drystone("sweep", JOB, &["--grace", "a while"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("a while"), "{}", text(&output));
}

#[test]
fn what_is_refused_exits_with_2_and_deletes_nothing() {
    let copied = littered();
    let before = copied.files();
    let plain = |path: &Path| {
        Command::new(env!("CARGO_BIN_EXE_drystone")).arg("sweep").arg(path).arg("--delete").output().unwrap()
    };
    let job = copied.at(JOB);
    // Without the rebase every file would seem dead.
    for (output, part) in [
        (plain(&job), "moved or copied"),
        (plain(job.parent().unwrap()), "00f1f1f1f1f1f1f189febbb2ae266257: name that"),
        (plain(&job.join("chk-3")), "name its job's directory"),
        (plain(Path::new("/nowhere/at/all")), "no job's directory"),
    ] {
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(part) && output.stdout.is_empty(), "{}", text(&output));
    }
    fs::write(job.join("chk-2/_metadata"), b"damaged").unwrap();
    let output = copied.drystone("sweep", JOB, &["--delete"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("chk-2/_metadata"), "{}", text(&output));
    assert_eq!(copied.files(), before);
}

#[test]
fn a_deep_check_says_how_much_could_be_swept_and_what_is_wrong() {
    let copied = littered();
    let output = copied.drystone("verify", JOB, &["--deep"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains(": ok: 3 checkpoints, 75 files of "), "{}", text(&output));
    assert!(text(&output).contains("to be swept: 3 files of 5.9 KB"), "{}", text(&output));
    let found = parsed(&copied.drystone("verify", JOB, &["--deep", "--json"]));
    assert_eq!((&found["sound"], &found["files"], &found["unexplainedBytes"]), (&json!(true), &json!(75), &json!(0)));
    assert_eq!((&found["bytesRead"], &found["dead"]), (&found["bytes"], &json!({ "files": 3, "bytes": 6_000 })));
    assert_eq!(found["checkpoints"].as_array().unwrap().len(), 3);
    // What it reads of one checkpoint it says without the rest.
    let one = copied.drystone("verify", &format!("{JOB}/chk-3"), &["--deep", "--json"]);
    assert_eq!((&parsed(&one)["dead"], one.status.code()), (&Value::Null, Some(0)));

    let chk = format!("{JOB}/chk-3/");
    let named = copied.files().into_iter().find(|file| file.starts_with(&chk) && !file.ends_with("_metadata")).unwrap();
    fs::remove_file(copied.at(&named)).unwrap();
    let output = copied.drystone("verify", JOB, &["--deep"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(": bad: 1 of them"), "{}", text(&output));
    assert!(text(&output).contains("what could be swept can't be told"), "{}", text(&output));
    let found = parsed(&copied.drystone("verify", JOB, &["--deep", "--json"]));
    let sound: Vec<&Value> = found["checkpoints"].as_array().unwrap().iter().map(|c| &c["sound"]).collect();
    assert_eq!(sound, [&json!(true), &json!(true), &json!(false)]);
    assert!(found["dead"]["refused"].as_str().unwrap().contains("isn't there"));
}
