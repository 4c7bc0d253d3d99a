//! `drystone dispose` as a user runs it, on what stock Flink and `repack` wrote: what it prints, what goes, and how it exits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/copied.rs"]
mod copied;

use std::collections::BTreeSet;
use std::time::Duration;

use copied::{Copied, err, out, parsed};
use serde_json::{Value, json};

const JOB: &str = "ckpt/00f1f1f1f1f1f1f189febbb2ae266257";
const NATIVE: &str = "savepoint-native/savepoint-00f1f1-50ca3bc9111c";

fn plain() -> Copied {
    Copied::new("v2-rocksdb-plain")
}

/// The files that a checkpoint names, by `inspect`; below the fixture's folder.
fn named(copied: &Copied, below: &str) -> BTreeSet<String> {
    let listing = parsed(&copied.drystone("inspect", below, &["--json"]));
    let path = |file: &Value| {
        let path = file["path"].as_str().unwrap();
        let marker = copied.at("").file_name().unwrap().to_str().unwrap().to_owned() + "/";
        path.split_once(&marker).unwrap().1.to_owned()
    };
    listing["files"].as_array().unwrap().iter().map(path).collect()
}

fn there(copied: &Copied) -> BTreeSet<String> {
    copied.files().into_iter().collect()
}

#[test]
fn a_dry_run_says_what_would_go_and_changes_nothing() {
    let copied = plain();
    let before = there(&copied);
    let output = copied.drystone("dispose", &format!("{JOB}/chk-2"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    let verdict = format!(
        "file:{}/chk-2, checkpoint 2: _metadata and 18 files, 93 KB in all, would go; nothing was changed: --delete deletes \
         them\n",
        copied.at(JOB).display()
    );
    assert!(text.ends_with(&verdict), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("stays ")).count(), 15, "{text}");
    assert!(text.contains("/chk-3/_metadata names it, too\n"), "{text}");
    assert_eq!(there(&copied), before);
}

#[test]
fn exactly_what_only_it_names_goes() {
    let copied = plain();
    let before = there(&copied);
    let (two, three) = (format!("{JOB}/chk-2"), format!("{JOB}/chk-3"));
    let (one, two_names, three_names) =
        (named(&copied, &format!("{JOB}/chk-1")), named(&copied, &two), named(&copied, &three));
    let others: BTreeSet<_> = one.union(&three_names).cloned().collect();
    let expected: BTreeSet<_> = two_names.difference(&others).cloned().chain([format!("{two}/_metadata")]).collect();
    let output = copied.drystone("dispose", &format!("{two}/_metadata"), &["--delete"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(
        out(&output).ends_with(": _metadata and 18 files, 93 KB in all, deleted, and 1 empty directory\n"),
        "{}",
        out(&output)
    );
    assert_eq!(before.difference(&there(&copied)).cloned().collect::<BTreeSet<_>>(), expected);
    assert!(!copied.at(&two).exists());
    // The others are whole, and when they go, too, nothing of the job is left.
    assert_eq!(copied.drystone("verify", JOB, &["--deep"]).status.code(), Some(0));
    let json = parsed(&copied.drystone("dispose", &three, &["--delete", "--json"]));
    assert_eq!((&json["kind"], &json["disposed"]["metadataGone"]), (&json!("Checkpoint"), &json!(true)));
    assert_eq!(json["doomed"], json["disposed"]["files"]);
    assert_eq!(copied.drystone("dispose", &format!("{JOB}/chk-1"), &["--delete"]).status.code(), Some(0));
    assert_eq!(there(&copied), BTreeSet::from(["expected.json".to_owned(), "fixture.properties".to_owned()]));
    let output = copied.drystone("dispose", &two, &["--delete"]);
    assert!(output.status.code() == Some(2) && err(&output).contains("no checkpoint at"), "{}", err(&output));
}

#[test]
fn savepoints_of_stock_flink_go_with_all_that_is_theirs() {
    for (fixture, below, rebased) in [
        ("v2-savepoint-native-rocksdb", NATIVE, true),
        ("v2-savepoint-native-rocksdb", NATIVE, false),
        ("v1-savepoint-canonical-rocksdb", "", false),
        ("v2-savepoint-canonical-hashmap", "", false),
    ] {
        let copied = Copied::new(fixture);
        let found =
            copied.files().into_iter().find(|file| file.ends_with("/_metadata") && file.starts_with("savepoint"));
        let metadata = found.unwrap();
        let below = if below.is_empty() { metadata.trim_end_matches("/_metadata") } else { below };
        // Relocatable: it doesn't matter where it is, nor whether its job is alive.
        copied.age(Duration::ZERO);
        copied.write(&format!("{below}/notes of the user"), "stay");
        let arguments: &[&str] = if rebased { &["--delete"] } else { &["--delete", "--rebase=file:/data=/nowhere"] };
        let before = there(&copied);
        let output = copied.drystone("dispose", below, arguments);
        assert_eq!(output.status.code(), Some(0), "{fixture}: {}", err(&output));
        let gone: BTreeSet<_> = before.difference(&there(&copied)).cloned().collect();
        let own = before.iter().filter(|file| file.starts_with(below) && !file.ends_with("notes of the user"));
        assert_eq!(gone, own.cloned().collect::<BTreeSet<_>>(), "{fixture}");
        assert!(gone.len() > 1 && copied.at(below).join("notes of the user").exists(), "{fixture}");
    }
}

#[test]
fn what_is_in_its_directory_and_named_by_nobody_is_said_to_stay() {
    let chk = format!("{JOB}/chk-3");
    for (fixture, below) in [("v2-savepoint-native-rocksdb", NATIVE), ("v2-rocksdb-plain", &chk)] {
        let copied = Copied::new(fixture);
        copied.write(&format!("{below}/sub/notes"), "stay");
        copied.write(&format!("{below}/in the making#1"), "stay");
        copied.age(Duration::from_secs(86_400 + 60));
        for arguments in [&[][..], &["--delete"]] {
            let json = parsed(&copied.drystone("dispose", below, &["--json"]));
            let unnamed = json["spared"].as_array().unwrap().iter().filter(|file| file["reason"] == json!("unnamed"));
            assert_eq!(unnamed.map(|file| &file["bytes"]).collect::<Vec<_>>(), [&json!(4), &json!(4)], "{json}");
            let output = copied.drystone("dispose", below, arguments);
            assert_eq!(output.status.code(), Some(0), "{}", err(&output));
            for left in ["in the making#1", "sub/notes"] {
                let line = format!("stays file:{}/{left}: no metadata names it", copied.at(below).display());
                assert!(out(&output).contains(&line), "{}", out(&output));
            }
        }
        let left: Vec<_> = copied.files().into_iter().filter(|file| file.starts_with(below)).collect();
        assert_eq!(left, [format!("{below}/in the making#1"), format!("{below}/sub/notes")]);
    }
}

/// What is in the directory can't be said then: all of it stays.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_no_path_has_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let copied = Copied::new("v2-savepoint-native-rocksdb");
    let foreign = copied.at(NATIVE).join(OsStr::from_bytes(b"x\xff"));
    std::fs::write(&foreign, "").unwrap();
    let output = copied.drystone("dispose", NATIVE, &["--delete"]);
    assert_eq!(output.status.code(), Some(2), "{}", out(&output));
    assert!(err(&output).contains("x%FF") && err(&output).contains("rename it"), "{}", err(&output));
    std::fs::remove_file(foreign).unwrap();
    assert_eq!(copied.drystone("dispose", NATIVE, &["--delete"]).status.code(), Some(0));
    assert!(!copied.at(NATIVE).exists());
}

#[test]
fn what_tasks_own_stays_unless_it_is_asked_for() {
    let copied = Copied::new("v1-hashmap-merged-within");
    let job = "ckpt/00f1f1f1f1f1f1f179934d66d32b80fa";
    let chk = |id| format!("{job}/chk-{id}");
    let before = there(&copied);
    let output = copied.drystone("dispose", &chk(1), &["--delete"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains(": it is the tasks' own\n"), "{}", out(&output));
    assert_eq!(before.difference(&there(&copied)).cloned().collect::<Vec<_>>(), [format!("{}/_metadata", chk(1))]);
    let names = named(&copied, &chk(2));
    let others = named(&copied, &chk(3));
    let before = there(&copied);
    assert_eq!(copied.drystone("dispose", &chk(2), &["--delete", "--task-owned"]).status.code(), Some(0));
    let mut expected: BTreeSet<_> = names.difference(&others).cloned().collect();
    assert!(!expected.is_empty());
    expected.insert(format!("{}/_metadata", chk(2)));
    assert_eq!(before.difference(&there(&copied)).cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(copied.drystone("verify", &chk(3), &[]).status.code(), Some(0));
}

#[test]
fn a_job_that_may_be_alive_is_refused() {
    let copied = plain();
    copied.age(Duration::from_secs(3_600));
    let before = there(&copied);
    let chk = format!("{JOB}/chk-1");
    let output = copied.drystone("dispose", &chk, &["--delete"]);
    assert_eq!((output.status.code(), out(&output)), (Some(2), String::new()));
    assert!(err(&output).contains("may be alive"), "{}", err(&output));
    assert_eq!(there(&copied), before);
    assert_eq!(copied.drystone("dispose", &chk, &["--grace", "1 h"]).status.code(), Some(0));
    assert_eq!(copied.drystone("dispose", &chk, &["--abandoned", "--delete"]).status.code(), Some(0));
    assert!(!copied.at(&chk).exists());
}

#[test]
fn what_was_moved_or_copied_is_refused() {
    let copied = plain();
    let before = there(&copied);
    let chk = format!("{JOB}/chk-1");
    let output = copied.drystone("dispose", &chk, &["--delete", "--rebase=file:/data/flink=/nowhere"]);
    assert_eq!(output.status.code(), Some(2), "{}", out(&output));
    assert!(err(&output).contains("the same relative paths exist beside it: try the rebase"), "{}", err(&output));
    assert_eq!(there(&copied), before);
}

#[test]
fn a_packed_checkpoint_goes_as_a_whole() {
    let copied = plain();
    let to = copied.at("packed");
    assert_eq!(copied.drystone("repack", &format!("{JOB}/chk-3"), &[to.to_str().unwrap()]).status.code(), Some(0));
    let packed = "packed/00f1f1f1f1f1f1f189febbb2ae266257/chk-3";
    let before = there(&copied);
    let output = copied.drystone("dispose", packed, &["--delete", "--grace", "0 s"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let gone = before.difference(&there(&copied)).count();
    assert!(gone >= 1 && !to.join("00f1f1f1f1f1f1f189febbb2ae266257/chk-3").exists());
    assert!(!copied.files().iter().any(|file| file.starts_with("packed/")), "{:?}", copied.files());
    assert_eq!(copied.drystone("verify", JOB, &["--deep"]).status.code(), Some(0), "the source is whole");
}

#[test]
fn an_unfinished_savepoint_is_listed_as_such_and_goes() {
    let copied = Copied::new("v2-savepoint-native-rocksdb");
    let (parent, left) = ("savepoint-native", "savepoint-native/savepoint-ababab-0123456789ab");
    let before = there(&copied);
    let files = ["ds1-a1-ww-c7-n0-00000000000000aa", "ds1-a1-ww-c7-n1-00000000000000bb"];
    files.iter().for_each(|name| copied.write(&format!("{left}/{name}"), [7; 1000]));
    copied.write(&format!("{left}/_drystone-unfinished-00000123456789ab"), "begun");
    // By its own path, and beside others.
    for (below, of) in [(left, left), (parent, left)] {
        let listed = copied.drystone("list", below, &[]);
        assert_eq!(listed.status.code(), Some(0), "{}", err(&listed));
        let line =
            out(&listed).lines().find(|line| line.trim_start().starts_with("savepoint-ababab")).unwrap().to_owned();
        assert!(line.ends_with("unfinished savepoint: under way, or left behind: 2 files of 2.0 KB"), "{of}: {line}");
        let json = parsed(&copied.drystone("list", below, &["--json"]));
        let entries = json["groups"][0]["checkpoints"].as_array().unwrap();
        let is_unfinished =
            |entry: &&Value| entry["unfinished"] == json!(true) && entry["state"] == json!("noMetadata");
        assert_eq!(entries.iter().filter(is_unfinished).count(), 1, "{json}");
    }
    let refused = copied.drystone("dispose", left, &["--delete"]);
    assert_eq!((refused.status.code(), out(&refused)), (Some(2), String::new()));
    assert!(err(&refused).contains("may be under way"), "{}", err(&refused));
    let dry = copied.drystone("dispose", left, &["--grace", "0 s"]);
    assert_eq!(dry.status.code(), Some(0), "{}", err(&dry));
    assert!(
        out(&dry).ends_with(
            "savepoint-ababab-0123456789ab, unfinished savepoint 7: 3 files, 2.0 KB in all, would go; nothing was changed: \
             --delete deletes them\n"
        ),
        "{}",
        out(&dry)
    );
    assert_eq!(there(&copied).difference(&before).count(), 3);
    copied.write(&format!("{left}/notes.txt"), "mine");
    let foreign = copied.drystone("dispose", left, &["--delete", "--abandoned"]);
    assert_eq!(foreign.status.code(), Some(2));
    assert!(err(&foreign).contains("/notes.txt in it isn't Drystone's"), "{}", err(&foreign));
    std::fs::remove_file(copied.at(left).join("notes.txt")).unwrap();
    copied.age(Duration::from_secs(86_400 + 60));
    let json = parsed(&copied.drystone("dispose", left, &["--delete", "--json"]));
    assert_eq!(
        (&json["unfinished"], &json["checkpointId"], &json["metadataBytes"]),
        (&json!(true), &json!(7), &json!(null))
    );
    assert_eq!((&json["disposed"]["stopped"], &json["disposed"]["directories"]), (&json!(null), &json!(1)));
    assert_eq!(there(&copied), before);
    assert!(!copied.at(left).exists());
}
