//! `drystone list`, `drystone latest` and `--latest` as a user runs them: what they print and how they exit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/copied.rs"]
mod copied;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use copied::{Copied, err, out, parsed};
use drystone::format::{LogEntry, Step, barred};
use drystone::id::{CheckpointId, FileToken};
use drystone::jobs::Hint;
use serde_json::{Value, json};

const JOB: &str = "ckpt/00f1f1f1f1f1f1f189febbb2ae266257";

fn plain() -> Copied {
    Copied::new("v2-rocksdb-plain")
}

/// The words of a line, with one blank between them.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn log(epoch: u64, kept: &[u64], retained: u32) -> Vec<u8> {
    let kept = Some(kept.iter().copied().map(CheckpointId).collect());
    let (coordinator, next) = (FileToken(1), CheckpointId(9));
    let entry = LogEntry { epoch, coordinator, step: Step::Intent, open: vec![], kept, retained, next };
    entry.to_bytes().unwrap().to_vec()
}

#[test]
fn a_directory_of_jobs_is_listed() {
    let copied = plain();
    let output = copied.drystone("list", "ckpt", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    let lines: Vec<String> = text.lines().map(words).collect();
    let head = format!("file:{}: 3 complete, 0 broken, 0 without metadata", copied.at(JOB).display());
    let expected = [
        head.as_str(),
        "directory id kind age state files metadata status",
        "chk-1 1 Checkpoint 3 d 111 KB 27 5.0 KB complete",
        "chk-2 2 Checkpoint 3 d 131 KB 33 5.8 KB complete",
        "chk-3 3 Checkpoint 3 d 152 KB 39 6.6 KB complete, the latest",
    ];
    assert_eq!(lines, expected);
    // The job's directory alone is the same; so is what `inspect` says in figures.
    assert_eq!(out(&copied.drystone("list", JOB, &[])), text);
    let listed = parsed(&copied.drystone("list", "ckpt", &["--json"]));
    let inspected = parsed(&copied.drystone("inspect", JOB, &["--json"]));
    let [group] = listed["groups"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!(group["jobId"], json!("00f1f1f1f1f1f1f189febbb2ae266257"));
    assert_eq!(group["latest"], json!(format!("file:{}/chk-3", copied.at(JOB).display())));
    for (entry, figures) in
        group["checkpoints"].as_array().unwrap().iter().zip(inspected["checkpoints"].as_array().unwrap())
    {
        assert_eq!(
            (&entry["state"], &entry["standing"], &entry["epoch"]),
            (&json!("complete"), &json!("kept"), &Value::Null)
        );
        for key in ["stateBytes", "streams", "files", "metadataBytes", "checkpointId"] {
            assert_eq!(entry[key], figures[key], "{key}");
        }
        let age = entry["ageSeconds"].as_u64().unwrap();
        assert!((3 * 86_400 + 60..3 * 86_400 + 3_600).contains(&age), "{age}");
    }
}

#[test]
fn every_state_is_told_apart() {
    let copied = plain();
    let at = |below: &str| format!("{JOB}/{below}");
    copied.write(&at("chk-3/_metadata"), "damaged");
    fs::remove_file(
        fs::read_dir(copied.at(&at("chk-2")))
            .unwrap()
            .find_map(|file| {
                let path = file.unwrap().path();
                (!path.ends_with("_metadata")).then_some(path)
            })
            .unwrap(),
    )
    .unwrap();
    copied.write(&at("chk-4/_metadata"), barred(CheckpointId(4), 7));
    copied.write(&at("chk-5/ds1-a3-ww-c5-n0-00000000000000ff"), vec![1; 2000]);
    copied.write(&at("chk-6/_drystone-unfinished-00000000000000aa"), "");
    copied.write(&at("chk-7/_metadata"), fs::read(copied.at(&at("chk-1/_metadata"))).unwrap());
    copied.write(&at("chk-8/_drystone-disposing"), fs::read(copied.at(&at("chk-1/_metadata"))).unwrap());
    copied.write(&at("backup of 1/_metadata"), fs::read(copied.at(&at("chk-1/_metadata"))).unwrap());
    copied.age(Duration::from_secs(90));
    let text = out(&copied.drystone("list", JOB, &[]));
    let status: Vec<String> = text.lines().skip(2).map(words).collect();
    assert!(
        text.starts_with(&format!("file:{}: 1 complete, 4 broken, 4 without metadata\n", copied.at(JOB).display())),
        "{text}"
    );
    let parts = [
        ["chk-1 1 Checkpoint", "complete, the latest"],
        ["chk-2 2 Checkpoint", "BROKEN: file:/"],
        ["chk-3 1 min 30 s", "BROKEN: file:/"],
        ["chk-4", "barred by the coordinator of epoch 7: never completed"],
        ["chk-5", "no metadata: under way, or left behind: 1 file of 2.0 KB"],
        ["chk-6", "left behind: 0 files of 0 B; marked by run 00000000000000aa, which is under way or was interrupted"],
        ["chk-7 1 Checkpoint", "BROKEN: its metadata is of checkpoint 1"],
        ["chk-8", "; being disposed of, or that was interrupted: dispose of it again"],
        ["backup of 1 1 Checkpoint", "BROKEN: file:/"],
    ];
    assert_eq!(status.len(), parts.len(), "{text}");
    for (line, [start, part]) in status.iter().zip(parts) {
        let start = if start.starts_with("chk-3") { "chk-3" } else { start };
        assert!(line.starts_with(start) && line.contains(part), "{line}");
    }
    let listed = parsed(&copied.drystone("list", JOB, &["--json"]));
    let states: Vec<_> =
        listed["groups"][0]["checkpoints"].as_array().unwrap().iter().map(|e| e["state"].clone()).collect();
    let expected =
        ["complete", "broken", "broken", "barred", "noMetadata", "noMetadata", "broken", "noMetadata", "broken"];
    assert_eq!(states, expected);
    assert_eq!(listed["groups"][0]["checkpoints"][3]["barredBy"], json!(7));
}

#[test]
fn what_the_log_says_counts() {
    let copied = plain();
    copied.write(&format!("{JOB}/_drystone/log-00000000000000000007"), log(5, &[1, 2], 1));
    let hint = Hint { path: runs::path("/elsewhere/chk-1"), epoch: 4, checkpoint: CheckpointId(1) };
    copied.write(&format!("{JOB}/_drystone/latest"), hint.to_bytes());
    let output = copied.drystone("list", JOB, &[]);
    let text = out(&output);
    let lines: Vec<String> = text.lines().map(words).collect();
    assert!(lines[0].ends_with("; coordinator of epoch 5"), "{text}");
    assert_eq!(lines[1], "the file for other tools still names file:/elsewhere/chk-1");
    assert!(lines[3].ends_with("complete, replaced by newer ones"), "{text}");
    assert!(lines[4].ends_with("complete, the latest"), "{text}");
    assert!(lines[5].ends_with("complete, but given up by its job"), "{text}");
    let output = copied.drystone("latest", JOB, &[]);
    assert_eq!((output.status.code(), out(&output)), (Some(0), format!("file:{}/chk-2\n", copied.at(JOB).display())));
    assert!(err(&output).contains("WARNING: passed over ") && err(&output).contains("/chk-3: its job has given it up"));
    assert!(err(&output).contains("the file for other tools still names file:/elsewhere/chk-1"), "{}", err(&output));
    // A log that can't be read is no truth, and no reason to list nothing.
    copied.write(&format!("{JOB}/_drystone/log-00000000000000000008"), "damaged");
    let output = copied.drystone("list", JOB, &[]);
    assert!(out(&output).contains("BAD LOG") && output.status.code() == Some(0), "{}", out(&output));
    assert_eq!(copied.drystone("latest", JOB, &[]).status.code(), Some(2));
}

#[test]
fn the_latest_is_printed_and_taken() {
    let copied = plain();
    let path = |id: u32| format!("file:{}/chk-{id}\n", copied.at(JOB).display());
    let output = copied.drystone("latest", JOB, &[]);
    assert_eq!((output.status.code(), out(&output), err(&output)), (Some(0), path(3), String::new()));
    copied.write(&format!("{JOB}/chk-3/_metadata"), "damaged");
    let output = copied.drystone("latest", JOB, &[]);
    assert_eq!((output.status.code(), out(&output)), (Some(0), path(2)));
    assert!(err(&output).starts_with("drystone: WARNING: passed over file:/"), "{}", err(&output));
    assert!(err(&output).contains("/chk-3: "), "{}", err(&output));
    let json = parsed(&copied.drystone("latest", JOB, &["--json"]));
    assert_eq!(json["path"], json!(path(2).trim_end()));
    assert_eq!(json["jobs"][0]["latest"]["checkpointId"], json!(2));
    assert_eq!(json["jobs"][0]["passedOver"][0]["checkpointId"], json!(3));
    // The commands that work on a checkpoint take it.
    let output = copied.drystone("inspect", JOB, &["--latest", "--json"]);
    assert_eq!(parsed(&output)["checkpointId"], json!(2));
    assert!(err(&output).contains("WARNING: passed over"), "{}", err(&output));
    let output = copied.drystone("verify", JOB, &["--latest"]);
    assert!(out(&output).starts_with(&format!("{}: ok: ", path(2).trim_end())), "{}", out(&output));
    for command in ["repack", "copy"] {
        let to = copied.at(command);
        let output = copied.drystone(command, JOB, &[to.to_str().unwrap(), "--latest"]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert!(to.join("00f1f1f1f1f1f1f189febbb2ae266257/chk-2/_metadata").exists());
    }
    assert_eq!(copied.drystone("verify", JOB, &[]).status.code(), Some(2));
}

#[test]
fn without_any_it_exits_with_1() {
    let copied = plain();
    for id in 1..=3 {
        copied.write(&format!("{JOB}/chk-{id}/_metadata"), "damaged");
    }
    let output = copied.drystone("latest", JOB, &[]);
    assert_eq!((output.status.code(), out(&output)), (Some(1), String::new()));
    assert_eq!(err(&output).matches("WARNING: passed over").count(), 3, "{}", err(&output));
    assert!(err(&output).contains("drystone: no complete checkpoint in file:"), "{}", err(&output));
    let output = copied.drystone("inspect", JOB, &["--latest"]);
    assert!(output.status.code() == Some(2) && err(&output).contains("(and 2 more)"), "{}", err(&output));
    // Moved as a whole: all are broken, and it is said what helps.
    let copied = plain();
    let output = copied.drystone("latest", JOB, &["--rebase=file:/data/flink=/nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("try --rebase file:/data/flink"), "{}", err(&output));
}

/// Of a full disk, say, to which the log of a service goes.
#[cfg(target_os = "linux")]
#[test]
fn remarks_that_nobody_hears_cost_no_answer() {
    let copied = plain();
    let deaf = |arguments: &[&str]| {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        copied.command("latest", JOB, arguments).stdout(Stdio::piped()).stderr(full).spawn().unwrap().wait_with_output()
    };
    copied.write(&format!("{JOB}/chk-3/_metadata"), "");
    let output = deaf(&[]).unwrap();
    let path = format!("file:{}/chk-2\n", copied.at(JOB).display());
    assert_eq!((output.status.code(), out(&output)), (Some(0), path));
    let output = deaf(&["--across-jobs"]).unwrap();
    assert_eq!((output.status.code(), out(&output)), (Some(2), String::new()));
    copied.write(&format!("{JOB}/chk-1/_metadata"), "");
    copied.write(&format!("{JOB}/chk-2/_metadata"), "");
    assert_eq!(deaf(&[]).unwrap().status.code(), Some(1));
}

#[test]
fn of_several_jobs_one_has_to_be_named_or_all_asked_for() {
    let copied = plain();
    let other = "ckpt/fedcba9876543210fedcba9876543210";
    copied.write(
        &format!("{other}/chk-1/_metadata"),
        drystone::format::encode(&synthetic::checkpoint(vec![])).unwrap().bytes,
    );
    let output = copied.drystone("latest", "ckpt", &[]);
    assert_eq!(output.status.code(), Some(2));
    let names = "name one of 00f1f1f1f1f1f1f189febbb2ae266257, fedcba9876543210fedcba9876543210\n";
    assert!(err(&output).ends_with(names), "{}", err(&output));
    // Its metadata is of another number.
    let output = copied.drystone("latest", "ckpt", &["--across-jobs"]);
    assert_eq!((output.status.code(), out(&output)), (Some(0), format!("file:{}/chk-3\n", copied.at(JOB).display())));
    fs::rename(copied.at(&format!("{other}/chk-1")), copied.at(&format!("{other}/chk-7"))).unwrap();
    let output = copied.drystone("latest", "ckpt", &["--across-jobs"]);
    assert_eq!(out(&output), format!("file:{}/chk-7\n", copied.at(other).display()), "the one that was written last");
    let listed = parsed(&copied.drystone("list", "ckpt", &["--json"]));
    assert_eq!(listed["groups"].as_array().unwrap().len(), 2);
}

#[test]
fn savepoints_and_single_checkpoints_are_listed() {
    let savepoint = "savepoint-native/savepoint-00f1f1-50ca3bc9111c";
    let copied = Copied::new("v2-savepoint-native-rocksdb");
    for below in ["savepoint-native", savepoint, &format!("{savepoint}/_metadata")] {
        let listed = parsed(&copied.drystone("list", below, &["--json"]));
        let entry = &listed["groups"][0]["checkpoints"][0];
        assert_eq!((&entry["state"], &entry["kind"]), (&json!("complete"), &json!("Savepoint")), "{below}: {entry}");
        assert_eq!(
            (&entry["number"], &entry["standing"], &entry["latest"]),
            (&Value::Null, &Value::Null, &json!(false))
        );
        assert_eq!(entry["path"], json!(format!("file:{}", copied.at(savepoint).display())));
    }
    let copied = plain();
    let listed = parsed(&copied.drystone("list", &format!("{JOB}/chk-2"), &["--json"]));
    let entries = listed["groups"][0]["checkpoints"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["state"], &entries[0]["files"]), (1, &json!("complete"), &json!(33)));
    // Whether it is the latest can't be told without the others.
    assert_eq!((&entries[0]["latest"], &listed["groups"][0]["latest"]), (&json!(false), &Value::Null));
    assert_eq!(entries[0]["standing"], Value::Null);
    let text = out(&copied.drystone("list", &format!("{JOB}/chk-3"), &[]));
    assert!(text.ends_with("complete\n"), "{text}");
    for below in ["nothing", &format!("{JOB}/shared")] {
        let output = copied.drystone("list", below, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", out(&output));
        assert!(
            err(&output).contains("holds no checkpoint, no savepoint and no directory of a job"),
            "{}",
            err(&output)
        );
    }
}

#[test]
fn a_job_without_checkpoints_is_listed() {
    for below in ["chk-1", "shared", "taskowned"] {
        let copied = plain();
        fs::create_dir_all(copied.at("begun").join(below)).unwrap();
        let output = copied.drystone("list", "begun", &[]);
        let line = format!("file:{}: 0 complete, 0 broken, 0 without metadata\n", copied.at("begun").display());
        assert_eq!((output.status.code(), out(&output)), (Some(0), line), "{below}");
        let groups = parsed(&copied.drystone("list", "begun", &["--json"]))["groups"].clone();
        assert_eq!(groups.as_array().unwrap().len(), 1, "{groups}");
    }
}

/// What no path can name isn't ours, but what is in it isn't known either. The others can be listed.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_no_path_has_stops_no_other_job() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let other = "ckpt/fedcba9876543210fedcba9876543210";
    for (name, shown) in [(&b"x\xff"[..], "x%FF"), (b"sp\x1b[31m", "sp\\u{1b}[31m")] {
        let copied = plain();
        copied.write(&format!("{other}/chk-1/_metadata"), "damaged");
        fs::write(copied.at(other).join(OsStr::from_bytes(name)), "").unwrap();
        let output = copied.drystone("list", "ckpt", &[]);
        let text = out(&output);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert!(text.contains("JOB: 3 complete".replace("JOB", JOB).as_str()), "{text}");
        let told = |text: &str| text.contains(shown) && text.contains("rename it") && !text.contains('\x1b');
        let line = text.lines().last().unwrap();
        assert!(line.starts_with(&format!("file:{}: CAN'T BE LISTED ", copied.at(other).display())), "{line}");
        assert!(told(line), "{line}");
        let listed = parsed(&copied.drystone("list", "ckpt", &["--json"]));
        assert_eq!(listed["groups"][0]["problem"], Value::Null);
        assert!(told(listed["groups"][1]["problem"].as_str().unwrap()), "{listed}");
        for command in ["list", "latest", "sweep"] {
            let output = copied.drystone(command, other, &[]);
            assert_eq!(output.status.code(), Some(2), "{command}: {}", out(&output));
            assert!(told(&err(&output)), "{command}: {}", err(&output));
        }
    }
}

#[test]
fn every_fixture_is_complete() {
    for fixture in [
        "v1-hashmap-merged-within",
        "v1-rocksdb-plain",
        "v1-savepoint-canonical-rocksdb",
        "v2-hashmap-inline",
        "v2-hashmap-plain",
        "v2-rocksdb-merged-across",
        "v2-rocksdb-merged-within",
        "v2-savepoint-canonical-hashmap",
        "v2-unaligned-hashmap-plain",
        "v2-unaligned-rocksdb-merged",
    ] {
        let copied = Copied::new(fixture);
        let place = fs::read_dir(copied.at("")).unwrap().map(|entry| entry.unwrap());
        let place = place.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap());
        for below in place {
            let listed = parsed(&copied.drystone("list", &below, &["--json"]));
            for entry in
                listed["groups"].as_array().unwrap().iter().flat_map(|group| group["checkpoints"].as_array().unwrap())
            {
                assert_eq!(entry["state"], json!("complete"), "{fixture}: {entry}");
            }
        }
    }
}
