//! Stock Flink as the judge of the live path: what Flink wrote is written again by workers, committed by a coordinator,
//! and Flink restores it.
//!
//! Needs what `tests/flink.rs` needs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/adapted.rs"]
mod adapted;
#[path = "support/finished_job.rs"]
#[allow(dead_code)]
mod finished_job;
#[path = "support/recommit.rs"]
mod recommit;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use drystone::handle::{JavaString, StreamHandle};
use drystone::protocol::SavepointFormat;
use drystone::store::FlinkPath;
use serde_json::Value;

fn flink() -> Command {
    Command::new(std::env::var("DRYSTONE_FLINK").expect("DRYSTONE_FLINK names the command that runs stock Flink"))
}

fn properties(fixture: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(fixture.join("fixture.properties")).unwrap();
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

/// The checkpoint with the highest number.
fn newest(fixture: &Path) -> Option<PathBuf> {
    let jobs = fs::read_dir(fixture.join("ckpt")).ok()?.map(|entry| entry.unwrap().path());
    let checkpoints = jobs.flat_map(|job| fs::read_dir(job).unwrap().map(|entry| entry.unwrap().path()));
    let numbered = checkpoints.filter(|path| path.join("_metadata").is_file()).filter_map(|path| {
        let number: u64 = path.file_name()?.to_str()?.strip_prefix("chk-")?.parse().ok()?;
        Some((number, path))
    });
    numbered.max().map(|(_, path)| path)
}

#[test]
fn stock_flink_restores_what_workers_wrote_and_a_coordinator_committed() {
    let all = std::env::var("DRYSTONE_FLINK_ALL").is_ok_and(|v| v == "1");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flink");
    let (mut count, mut with_checksums) = (0, 0);
    for fixture in fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()) {
        let (true, Some(checkpoint)) = (fixture.join("fixture.properties").is_file(), newest(&fixture)) else {
            continue;
        };
        let properties = properties(&fixture);
        for inline in if all { &["0", "20kb"][..] } else { &["2kb"] } {
            let to = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let path = runtime.block_on(recommit::recommit(&data, &checkpoint, to.path(), inline));
            with_checksums += usize::from(has_checksums(&path));
            let in_flight = properties["unaligned"] == "true";
            let output = flink()
                .arg("restore")
                .arg(format!("--path={}", path.to_string().replace("file:/", "file:///")))
                .args([format!("--n={}", properties["n"]), format!("--backend={}", properties["arg.backend"])])
                .arg(format!("--unaligned-source={in_flight}"))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let passed = text.lines().any(|line| line.starts_with("PASS "));
            assert!(passed, "{}\n{text}\n{}", fixture.display(), String::from_utf8_lossy(&output.stderr));
            count += 1;
        }
    }
    assert!(count >= 5, "{count} fixtures");
    assert!(with_checksums >= 3, "{with_checksums} with checksums of key groups");
}

/// Of key groups, behind what Flink reads.
fn has_checksums(path: &FlinkPath) -> bool {
    let metadata = fs::read(Path::new(path.to_string().trim_start_matches("file:")).join("_metadata")).unwrap();
    let mut has_some = false;
    let metadata = drystone::format::decode(metadata.into()).unwrap().metadata;
    metadata.visit_key_groups(|_, handle| has_some |= !handle.checksums.is_empty());
    has_some
}

/// As a savepoint, moved by `mv`, and restored from there.
#[test]
fn stock_flink_restores_a_savepoint_that_was_moved() {
    let all = std::env::var("DRYSTONE_FLINK_ALL").is_ok_and(|v| v == "1");
    let few = ["v2-rocksdb-plain", "v2-savepoint-canonical-hashmap", "v2-savepoint-native-rocksdb"];
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flink");
    let mut count = 0;
    for fixture in fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()) {
        let (true, Some(source)) = (fixture.join("fixture.properties").is_file(), state_of(&fixture)) else { continue };
        let properties = properties(&fixture);
        if properties["unaligned"] == "true" {
            continue; // A savepoint has no records in flight.
        }
        let name = fixture.file_name().unwrap().to_str().unwrap();
        if !all && !few.contains(&name) {
            continue;
        }
        let canonical = name.contains("canonical");
        let format = if canonical { SavepointFormat::Canonical } else { SavepointFormat::Native };
        for pack in if all || name == few[0] { &[false, true][..] } else { &[false] } {
            let pack = *pack;
            let to = tempfile::tempdir().unwrap();
            let (first, second) = (to.path().join("first"), to.path().join("second"));
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let path = runtime.block_on(recommit::savepoint(&data, &source, &first, format, pack));
            let here = PathBuf::from(path.to_string().trim_start_matches("file:"));
            let there = second.join("renamed");
            fs::create_dir_all(&second).unwrap();
            if pack {
                // It names its files by absolute paths: a plain move loses them, a copy that knows of the move doesn't.
                let moved = second.join(here.file_name().unwrap());
                fs::rename(&here, &moved).unwrap();
                assert!(!restores(&properties, &moved), "{}: a packed savepoint was moved by hand", fixture.display());
                // Parts of a file named by its name alone: a path that Flink looks for from where it runs.
                let metadata = fs::read(moved.join("_metadata")).unwrap();
                fs::write(moved.join("_metadata"), by_name_alone(&metadata)).unwrap();
                assert!(!restores(&properties, &moved), "{}: parts of files by their names", fixture.display());
                fs::write(moved.join("_metadata"), metadata).unwrap();
                let rule = format!("--rebase={path}=file:{}", moved.display());
                let copied = drystone(&["copy", "--json", &rule, moved.to_str().unwrap(), there.to_str().unwrap()]);
                let copied: Value = serde_json::from_slice(&copied).unwrap();
                let copied = PathBuf::from(copied["destination"].as_str().unwrap().trim_start_matches("file:"));
                assert!(restores(&properties, &copied), "{}: packed, copied", fixture.display());
            } else {
                fs::rename(&here, &there).unwrap();
                assert!(restores(&properties, &there), "{}: moved", fixture.display());
            }
            count += 1;
        }
    }
    assert!(count >= 4, "{count} savepoints");
}

/// The metadata with segments named by the names of their files.
fn by_name_alone(metadata: &[u8]) -> Vec<u8> {
    let mut tree = drystone::format::decode(metadata.to_vec().into()).unwrap().metadata;
    let mut count = 0;
    tree.visit_streams_mut(|_, handle| {
        if let StreamHandle::Segment(segment) = handle {
            let path = FlinkPath::parse(&segment.path.to_text()).unwrap();
            segment.path = JavaString::new(path.file_name().unwrap()).unwrap();
            count += 1;
        }
    });
    assert!(count > 0, "nothing is packed");
    drystone::format::encode(&tree).unwrap().bytes.to_vec()
}

/// The newest checkpoint, or a savepoint.
fn state_of(fixture: &Path) -> Option<PathBuf> {
    let below = |name: &str| fs::read_dir(fixture.join(name)).ok()?.next().map(|entry| entry.unwrap().path());
    below("savepoint-canonical").or_else(|| below("savepoint-native")).or_else(|| newest(fixture))
}

fn drystone(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_drystone")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn restores(properties: &BTreeMap<String, String>, checkpoint: &Path) -> bool {
    let output = flink()
        .arg("restore")
        .arg(format!("--path=file://{}", checkpoint.display()))
        .args([format!("--n={}", properties["n"]), format!("--backend={}", properties["arg.backend"])])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = text.lines().any(|line| line.starts_with("PASS "));
    println!("{text}{}", if passed { "" } else { "^ not restored" });
    passed
}

#[test]
fn stock_flink_restores_what_the_adapters_for_state_backends_wrote() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flink");
    let mut counts = [0, 0];
    for name in ["v2-rocksdb-plain", "v2-hashmap-plain"] {
        let fixture = data.join(name);
        let (properties, to) = (properties(&fixture), tempfile::tempdir().unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (path, found) = runtime.block_on(async {
            let packed = recommit::recommit(&data, &newest(&fixture).unwrap(), &to.path().join("packed"), "2kb").await;
            adapted::adapt(&packed, &to.path().join("adapted")).await
        });
        let output = flink()
            .arg("restore")
            .arg(format!("--path={}", path.to_string().replace("file:/", "file:///")))
            .args([format!("--n={}", properties["n"]), format!("--backend={}", properties["arg.backend"])])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let passed = text.lines().any(|line| line.starts_with("PASS "));
        assert!(passed, "{name}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
        counts = [counts[0] + found[0], counts[1] + found[1]];
    }
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

#[test]
fn flinks_own_classes_read_what_stress_leaves_behind() {
    for more in [&["--scope=EXCLUSIVE"][..], &["--scope=SHARED", "--reuse=0.9", "--across=true"]] {
        let to = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_drystone"))
            .args(["stress", "--mode=merge", "--subtasks=8", "--segments=8", "--checkpoints=5", "--size=fixed:4096"])
            .args(["--inline-threshold=0", "--keep", "--json", "--dir"])
            .arg(to.path().join("kept"))
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listing = to.path().join("listing.json");
        let output = flink().arg("dump").args([&to.path().join("kept"), &listing]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listing: Value = serde_json::from_str(&fs::read_to_string(&listing).unwrap()).unwrap();
        let checkpoints = listing["checkpoints"].as_array().unwrap();
        assert_eq!(checkpoints.len(), 3, "{more:?}");
        for checkpoint in checkpoints {
            let streams = checkpoint["streams"].as_array().unwrap();
            assert_eq!(streams.len(), 64);
            assert!(streams.iter().all(|stream| stream["contentLength"] == 4096), "{more:?}");
        }
    }
}

#[test]
fn flinks_own_classes_read_who_had_finished() {
    let to = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { finished_job::Job::new(to.path()).await.complete().await });
    let listing = to.path().join("listing.json");
    let output = flink().arg("dump").args([to.path(), &listing]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listing: Value = serde_json::from_str(&fs::read_to_string(&listing).unwrap()).unwrap();
    let operators = listing["checkpoints"][0]["operators"].as_array().unwrap();
    let said: Vec<_> = operators
        .iter()
        .map(|operator| {
            let subtasks = operator["subtasks"].as_array().unwrap().iter();
            let finished = subtasks.map(|s| (s["subtask"].as_u64().unwrap(), s["finished"].as_bool().unwrap()));
            (
                operator["name"].as_str().unwrap(),
                operator["parallelism"].as_u64().unwrap(),
                operator["fullyFinished"].as_bool().unwrap(),
                operator["coordinatorState"].is_null(),
                finished.collect::<Vec<_>>(),
            )
        })
        .collect();
    let expected = [
        ("source", 2, true, true, vec![]),
        ("middle", 3, false, true, vec![(0, false), (1, false), (2, true)]),
        ("sink", 1, false, false, vec![(0, false)]),
    ];
    assert_eq!(said, expected);
}
