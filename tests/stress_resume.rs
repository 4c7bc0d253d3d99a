//! `drystone stress --resume`: a run goes on with what an earlier one has kept, and finds what isn't as it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const SMALL: [&str; 9] = [
    "stress",
    "--json",
    "--commits",
    "--subtasks=3",
    "--segments=4",
    "--retained=2",
    "--reuse=0.6",
    "--size=fixed:30000",
    "--max-space-amp=1.2",
];

fn stress(directory: &Path, words: &[&str]) -> Output {
    let dir = format!("--dir={}", directory.display());
    let name = |word: &str| word.split('=').next().map(str::to_owned);
    let small = SMALL.iter().filter(|small| !words.iter().any(|word| name(word) == name(small)));
    Command::new(env!("CARGO_BIN_EXE_drystone")).args(small).arg(dir).args(words).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// But the log of the job's coordinators, which grows with each.
fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true if path.ends_with("_drystone") => {}
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn a_run_goes_on_where_the_last_one_ended() {
    let directory = tempfile::tempdir().unwrap();
    // Where nothing is yet it starts anew, so that one and the same command can be repeated.
    for round in 0..3_u64 {
        let lines = lines(&stress(directory.path(), &["--resume", "--keep", "--checkpoints=3"]));
        let [resumed, commits @ .., figures] = &lines[..] else { panic!("{} lines", lines.len()) };
        assert_eq!(resumed["resumed"].as_u64(), (round > 0).then_some(3 * round), "{resumed}");
        assert_eq!((&resumed["bad"], &resumed["leftover_files"]), (&0.into(), &0.into()));
        assert_eq!(resumed["checkpoints"], if round == 0 { 0 } else { 2 });
        let commits: Vec<_> = commits.iter().map(|line| line["committed"].as_u64().unwrap()).collect();
        assert_eq!(commits, (3 * round + 1..=3 * round + 3).collect::<Vec<_>>());
        // Its first checkpoint, too, names again what is there.
        assert!(figures["segments_reused"].as_u64().unwrap() > if round == 0 { 0 } else { 2 * 12 / 3 }, "{figures}");
        // Each commit is announced in the log, then made.
        assert_eq!(figures["requests"]["put"], figures["physical_files_created"].as_u64().unwrap() + 3 * 2);
        assert_eq!(figures["verify_bad"], 0);
    }
    // Files that nothing names go, and no others.
    let before = files(directory.path());
    let data = before.iter().find(|path| path.to_string_lossy().contains("/shared/ds1-")).unwrap();
    let name = data.file_name().unwrap().to_string_lossy().into_owned();
    let orphan = name.replace("-n0-", "-n99-");
    assert_ne!(orphan, name);
    fs::write(data.with_file_name(orphan), "left").unwrap();
    fs::write(data.with_file_name(format!("{name}#1")), "half").unwrap();
    let lines = lines(&stress(directory.path(), &["--resume", "--keep", "--checkpoints=0"]));
    assert_eq!(lines[0]["leftover_files"], 2);
    assert_eq!(files(directory.path()), before);
    // Unless it is kept, all of it goes in the end.
    stress(directory.path(), &["--resume", "--checkpoints=1"]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn what_is_not_as_it_was_is_found_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    lines(&stress(directory.path(), &["--keep", "--checkpoints=3"]));
    let before = files(directory.path());
    for (words, code) in [(&["--seed=43"][..], 1), (&["--segments=5"], 1), (&["--reuse=0.1"], 1), (&["--mode=both"], 2)]
    {
        let output = stress(directory.path(), &[&["--resume"], words].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        if code == 1 {
            let resumed: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
            assert!(resumed["bad"].as_u64().unwrap() > 0, "{resumed}");
            assert_eq!(said.lines().count(), 2, "nothing is committed on top of it: {said}");
        }
        assert_eq!(files(directory.path()), before, "{words:?}");
    }
    // A flipped bit in the newest file, of which nothing is dead.
    let file = before.iter().rfind(|path| path.to_string_lossy().contains("/shared/ds1-")).unwrap();
    let mut bytes = fs::read(file).unwrap();
    bytes[1000] ^= 4;
    fs::write(file, bytes).unwrap();
    let output = stress(directory.path(), &["--resume"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(files(directory.path()), before);
}
