//! No scenario of Flink's tests is without one of ours, and what is said of the differences names real ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Flink's tests, in the order of the scenarios.
const FLINKS: [&str; 39] = [
    "testCreateFileMergingSnapshotManager",
    "testSpecialCharactersInPath",
    "testRefCountBetweenLogicalAndPhysicalFiles",
    "testSizeStatsInPhysicalFile",
    "testSpaceStat",
    "testReusedFileWriting",
    "testConcurrentWriting",
    "testConcurrentFileReusingWithBlockingPool",
    "testReuseCallbackAndAdvanceWatermark",
    "testRestore",
    "testManagedDirCleanup",
    "testCreateAndReuseFiles",
    "testCheckpointNotification",
    "testSpaceControl",
    "testCreateAndReuseFiles",
    "testCheckpointNotification",
    "testSpaceControl",
    "testMetricsRegistration",
    "testMetricsAreUpdated",
    "testGetHandleFromStream",
    "testGetHandleFromClosedStream",
    "testWhetherFileIsCreatedWhenWritingStream",
    "testCloseStream",
    "testStateAboveBufferSize",
    "testStateUnderBufferSize",
    "testGetPos",
    "testCannotReuseClosedFile",
    "testWriteFailsFastWhenClosed",
    "testWriteMultipleStateFilesWithinCheckpoint",
    "testCheckpointStreamClosedExceptionally",
    "testWritingToClosedStream",
    "testWriteAndReadPositionInformation",
    "testReadFromFileSegments",
    "testCheckpointScope",
    "testFileMergingSnapshotEmpty",
    "testFireMergingOperatorStateRegister",
    "testSwitchFromDisablingToEnablingFileMerging",
    "testSwitchFromEnablingToDisablingFileMerging",
    "FileMergingChannelStateITCase",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `<number> (<name>)` at the start of a text.
fn number_and_name(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.split_once(" (")?;
    Some((number.parse().ok()?, rest.split_once(')')?.0))
}

fn assert_known(number: usize, name: &str, place: &str) {
    assert_eq!(FLINKS.get(number.wrapping_sub(1)), Some(&name), "{place}: scenario {number}");
}

/// The scenarios that the tests name, each with the tests' names.
fn tested() -> BTreeMap<usize, Vec<String>> {
    let mut tested: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if !file.starts_with("scenarios_") || file == "scenarios_index.rs" {
            continue;
        }
        let (mut scenario, mut is_test) = (None, false);
        for line in fs::read_to_string(&path).unwrap().lines() {
            if let Some(text) = line.strip_prefix("/// Scenario ") {
                let (number, name) = number_and_name(text).unwrap_or_else(|| panic!("{file}: {line}"));
                assert_known(number, name, &file);
                scenario = Some(number);
            }
            is_test |= line.starts_with("#[tokio::test") || line == "#[test]";
            if line.starts_with("fn ") || line.starts_with("async fn ") {
                assert_eq!(scenario.is_some(), is_test, "{file}: each test names its scenario: {line}");
                if let Some(number) = scenario.take() {
                    tested.entry(number).or_default().push(line.to_owned());
                }
                is_test = false;
            }
        }
    }
    tested
}

#[test]
fn every_scenario_has_a_test() {
    let tested = tested();
    let missing: Vec<usize> = (1..=FLINKS.len()).filter(|number| !tested.contains_key(number)).collect();
    assert!(missing.is_empty(), "without a test: {missing:?}");
}

#[test]
fn every_scenario_has_a_row_or_no_difference() {
    let page = fs::read_to_string(root().join("design/flink-differences.md")).unwrap();
    let mut said = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Scenario")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, name, flink, ours, why] = cells[..] else { panic!("five cells: {row}") };
        let number = number.parse().unwrap();
        assert_known(number, name, "a row");
        assert!(said.insert(number), "{number} has two rows");
        assert!(!flink.is_empty() && !ours.is_empty() && !why.is_empty(), "{number} says what, what and why");
    }
    let (_, same) = page.split_once("No difference: ").unwrap();
    for one in same.trim().trim_end_matches('.').split(',') {
        let one = one.replace('\n', " ");
        let (number, name) = number_and_name(one.trim()).unwrap();
        assert_known(number, name, "no difference");
        assert!(said.insert(number), "{number} has a row, too");
    }
    assert_eq!(said, (1..=FLINKS.len()).collect());
}
