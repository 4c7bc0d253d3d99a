//! `drystone stress` in small: in every mode what was written is read back whole, and the figures are right.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The fields of the bench that it is compared with.
const FIELDS: &str = "impl mode scope across blocking subtasks threads segments_per_subtask size seed checkpoints \
    retained reuse max_file_size max_space_amp dir wall_s write_s complete_s subsume_s bytes_written segments_written \
    segments_reused reuse_refused inline_segments physical_files_created files_deleted peak_files final_files \
    final_disk_bytes final_live_bytes space_amp peak_disk_bytes peak_space_amp mb_s segments_s write_mb_s \
    write_segments_s lat_p50_us lat_p99_us lat_max_us read_mb_s verify_bad requests";

const KINDS: [&str; 10] = [
    "put",
    "multipart_create",
    "multipart_part",
    "multipart_complete",
    "multipart_abort",
    "get",
    "head",
    "list",
    "delete",
    "copy",
];

fn drystone(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_drystone")).args(arguments).output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// A small run: the lines of its JSON.
fn stress(arguments: &[&str]) -> Vec<Value> {
    let small = ["stress", "--json", "--subtasks=5", "--threads=3", "--checkpoints=6", "--retained=2"];
    let output = drystone(&[&small, arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(line: &Value, field: &str) -> u64 {
    line[field].as_u64().expect(field)
}

#[test]
fn every_mode_reads_back_what_it_wrote() {
    for scope in ["EXCLUSIVE", "SHARED"] {
        for across in ["true", "false"] {
            for blocking in ["true", "false"] {
                for reuse in ["0.0", "0.6"] {
                    let words = ["--scope", scope, "--across", across, "--blocking", blocking, "--reuse", reuse];
                    let sizes = ["--segments=4", "--size=lognormal:20000:1.0:90000", "--max-file-size=256kb"];
                    let lines = stress(&[&words[..], &sizes, &["--max-space-amp=1.3"]].concat());
                    let [line] = &lines[..] else { panic!("{} lines", lines.len()) };
                    assert_eq!(number(line, "verify_bad"), 0, "{line}");
                    assert_eq!((&line["scope"], &line["mode"]), (&scope.into(), &"merge".into()));
                    let (written, reused) = (number(line, "segments_written"), number(line, "segments_reused"));
                    assert_eq!(written + reused, 6 * 5 * 4, "{line}");
                    assert_eq!(reused > 0, reuse != "0.0", "{line}");
                    if scope == "EXCLUSIVE" && reused > 0 {
                        // Only what is inline is in no file that is private to its checkpoint.
                        assert!(number(line, "reuse_refused") > 0, "{line}");
                    }
                    assert!(number(line, "inline_segments") > 0, "{line}");
                    let files = number(line, "physical_files_created");
                    assert_eq!(files - number(line, "files_deleted"), number(line, "final_files"), "{line}");
                    assert!(number(line, "final_disk_bytes") >= number(line, "final_live_bytes"), "{line}");
                    // Each file in one put, and of each checkpoint the metadata and what the fence log says before.
                    assert_eq!(number(&line["requests"], "put"), files + 6 + 6, "{line}");
                    assert_eq!(number(&line["requests"], "delete"), number(line, "files_deleted") + 4 + 5, "{line}");
                }
            }
        }
    }
}

#[test]
fn packed_files_are_as_few_as_the_cap_allows() {
    for blocking in ["true", "false"] {
        for (segments, bytes) in [(32, 655_360_u64), (64, 1_310_720)] {
            let segments = format!("--segments={segments}");
            let words = ["--size=fixed:4096", "--inline-threshold=0", "--max-file-size=512kb"];
            let line = &stress(&[&words[..], &[segments.as_str(), "--blocking", blocking]].concat())[0];
            assert_eq!(number(line, "bytes_written"), 6 * bytes, "{line}");
            assert_eq!(number(line, "physical_files_created"), 6 * bytes.div_ceil(512 << 10), "{line}");
            assert_eq!(number(line, "inline_segments"), 0);
            assert_eq!(number(line, "peak_files"), 3 * bytes.div_ceil(512 << 10), "{line}");
            assert!(line["peak_space_amp"].as_f64().unwrap() < 1.02, "{line}");
        }
    }
}

#[test]
fn one_object_per_chunk_is_what_it_says() {
    let lines = stress(&["--mode=both", "--segments=4", "--size=fixed:30000"]);
    let [files, merge] = &lines[..] else { panic!("{} lines", lines.len()) };
    assert_eq!((&files["mode"], &merge["mode"]), (&"files".into(), &"merge".into()));
    assert_eq!(number(files, "physical_files_created"), 6 * 5 * 4);
    assert_eq!(number(&files["requests"], "put"), 6 * 5 * 4 + 6);
    assert_eq!(number(&merge["requests"], "put"), 6 + 6 + 6);
    for line in lines.iter() {
        assert_eq!(number(line, "verify_bad"), 0);
        assert_eq!(number(line, "bytes_written"), 6 * 5 * 4 * 30000);
    }
    let shared = &stress(&["--mode=files", "--segments=4", "--size=fixed:30000", "--reuse=0.5"])[0];
    assert_eq!(shared["scope"], "SHARED");
    assert_eq!(number(shared, "physical_files_created"), number(shared, "segments_written"));
    assert_eq!(number(shared, "final_disk_bytes"), number(shared, "final_live_bytes"));
}

#[test]
fn json_has_every_field_on_one_line() {
    let line = &stress(&["--segments=2", "--size=fixed:1000"])[0];
    for field in FIELDS.split_whitespace() {
        assert!(!line[field].is_null(), "{field} is missing: {line}");
    }
    for kind in KINDS {
        assert!(line["requests"][kind].is_u64(), "{kind}: {line}");
    }
    assert_eq!(line["size"], "fixed:1000");
    assert_eq!((number(line, "max_file_size"), number(line, "space_floor")), (32 << 20, 32 << 20));
    let line = &stress(&["--segments=2", "--size=fixed:4kb", "--inline-threshold=21kb", "--space-floor=1mb"])[0];
    assert_eq!((&line["size"], number(line, "space_floor")), (&"fixed:4096".into(), 1 << 20));
}

#[test]
fn a_seed_gives_the_same_bytes_again() {
    let words = ["--segments=8", "--size=lognormal:30000:1.2:200000", "--reuse=0.5", "--inline-threshold=0"];
    let run = |seed: &str| {
        let line = stress(&[&words[..], &["--seed", seed]].concat()).remove(0);
        ["bytes_written", "segments_written", "segments_reused", "final_live_bytes"].map(|field| number(&line, field))
    };
    assert_eq!(run("7"), run("7"));
    assert_ne!(run("7"), run("8"));
}

fn checkpoints(below: &Path, found: &mut Vec<PathBuf>) {
    // A run that is under way may just have removed it.
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            checkpoints(&path, found);
        } else if path.ends_with("_metadata") {
            found.push(below.to_path_buf());
        }
    }
}

#[test]
fn what_is_kept_is_sound_and_what_is_not_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().to_str().unwrap();
    let words = ["--segments=4", "--size=fixed:30000", "--mode=both", "--reuse=0.5", "--dir", below];
    stress(&words);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    stress(&[&words[..], &["--keep"]].concat());
    let mut kept = Vec::new();
    checkpoints(directory.path(), &mut kept);
    assert_eq!(kept.len(), 2 * 2, "{kept:?}");
    for checkpoint in kept {
        let verified = drystone(&["verify", checkpoint.to_str().unwrap()]);
        assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
    }
    // It doesn't write into what is there.
    let again = drystone(&["stress", "--dir", below]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("is not empty"), "{}", text(&again.stderr));
}

#[test]
fn people_get_a_table_of_both() {
    let output = drystone(&["stress", "--subtasks=4", "--segments=4", "--checkpoints=3", "--size=fixed:30000"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    let shown = text(&output.stdout);
    let row = |name: &str| {
        let line = shown.lines().find(|line| line.trim_start().starts_with(name)).expect(&shown);
        line.trim_start().trim_start_matches(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("new files a checkpoint")[..3], ["17", "2", "8.5"]);
    assert_eq!(row("PUTs a checkpoint")[..3], ["17", "3", "5.7"]);
    for name in ["files at the end", "$ a month", "NameNode heap", "time to write and commit", "time to restore"] {
        assert!(!row(name).is_empty());
    }
    let space = "packed: at most 1.001 bytes in files per live byte after a commit; limit 2.0 above a floor of 32 MB";
    assert!(shown.contains(space), "{shown}");
    assert!(shown.contains("packed: every byte of 3 retained checkpoints restored and compared: ok"), "{shown}");
}

#[test]
fn reuse_that_can_not_be_is_remarked() {
    let words = ["stress", "--subtasks=1", "--segments=2", "--checkpoints=2", "--size=fixed:30000", "--reuse=0.5"];
    let remark = "drystone: exclusive chunks can't be reused: ";
    for (more, is_remarked) in
        [(&["--scope=EXCLUSIVE"][..], true), (&["--scope=EXCLUSIVE", "--json"], false), (&["--scope=SHARED"], false)]
    {
        let output = drystone(&[&words[..], more].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!((said.starts_with(remark), said.lines().count()), (is_remarked, usize::from(is_remarked)), "{said}");
    }
}

/// With a floor that the files never reach, nothing is won back; without one, dead bytes are.
#[test]
fn below_the_floor_nothing_is_written_anew() {
    let words = ["--reuse=0.7", "--size=fixed:30000", "--segments=8", "--max-file-size=256kb", "--max-space-amp=1.05"];
    let written = |floor| number(&stress(&[&words[..], &[floor]].concat())[0], "reuse_refused");
    assert_eq!(written("--space-floor=1gb"), 0);
    assert!(written("--space-floor=0") > 0);
}

#[test]
fn bad_words_are_named_with_what_is_allowed() {
    for (word, expected) in [
        ("--size=huge", "lognormal:MEDIAN:SIGMA"),
        ("--reuse=2", "0 to 1"),
        ("--scope=PRIVATE", "SHARED"),
        ("--max-file-size=1kb", "64 kb"),
        ("--threads=0", "1..=256"),
    ] {
        let output = drystone(&["stress", word]);
        assert_eq!(output.status.code(), Some(2), "{word}");
        assert!(text(&output.stderr).contains(expected), "{word}: {}", text(&output.stderr));
    }
}

/// Starts a run that would take hours in `directory`, and ends it by a signal once it has written something there.
#[cfg(unix)]
fn ended(signal: &str, directory: &Path, words: &[&str]) -> Output {
    let long = ["stress", "--subtasks=2", "--segments=2", "--checkpoints=1000000", "--size=fixed:30000"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_drystone"));
    command.args([&long, words].concat()).env("TMPDIR", directory);
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let has_written = || {
        let mut found = Vec::new();
        checkpoints(directory, &mut found);
        !found.is_empty()
    };
    while !has_written() {
        assert!(run.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-s", signal, &run.id().to_string()]).status().unwrap().success());
    run.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_run_that_is_ended_by_a_signal_leaves_nothing() {
    for (signal, word, code) in [("INT", "interrupted", 130), ("TERM", "terminated", 143)] {
        let directory = tempfile::tempdir().unwrap();
        for mode in ["merge", "files"] {
            // In a directory that isn't there, in one that is, and in a temporary one.
            let (new, old) = (directory.path().join("a/b"), directory.path().join("old"));
            fs::create_dir_all(old.join("packed")).unwrap();
            fs::write(old.join("packed/mine"), "mine").unwrap();
            for place in [Some(&new), Some(&old), None] {
                let dir = place.map(|place| format!("--dir={}", place.display()));
                let mut words = vec!["--mode", mode];
                words.extend(dir.as_deref());
                let output = ended(signal, directory.path(), &words);
                assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
                let removed = place.map(|place| format!(": removed what was written below file:{}", place.display()));
                let expected = format!("drystone: {word}{}\n", removed.unwrap_or_default());
                assert_eq!(text(&output.stderr), expected);
                let left =
                    |below: &Path| fs::read_dir(below).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
                assert_eq!(left(directory.path()), ["old"]);
                assert_eq!(left(&old), ["packed"]);
                assert_eq!(left(&old.join("packed")), ["mine"]);
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_is_ended_tells_where_its_kept_files_are() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("kept");
    let dir = format!("--dir={}", place.display());
    let output = ended("INT", directory.path(), &["--keep", "--mode=merge", &dir]);
    assert_eq!(output.status.code(), Some(130));
    let message = text(&output.stderr);
    let named = message.trim_end().strip_prefix("drystone: interrupted: kept so far: file:").expect(&message);
    assert!(named.starts_with(&place.join("packed/").display().to_string()), "{named}");
    let mut found = Vec::new();
    checkpoints(Path::new(named), &mut found);
    assert!(!found.is_empty());
}
