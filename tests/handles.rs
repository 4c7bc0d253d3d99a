//! Handles and metadata of every awkward kind, repacked and copied.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/runs.rs"]
mod runs;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use drystone::format::encode;
use drystone::handle::{
    CheckpointMetadata, KeyGroupsForm, KeyGroupsHandle, KeyGroupsStream, KeyedHandle, MergingDirectories,
    OperatorStateHandle, OperatorSubtasks, StreamHandle, SubtaskState,
};
use drystone::id::KeyGroupRange;
use drystone::inspect::{inspect, inspect_job};
use drystone::read::ReadLimits;
use drystone::store::{FlinkPath, Stores};
use drystone::verify::verify;
use drystone::{Error, ErrorKind};
use synthetic::{
    Disk, checkpoint, chunk, contents, file, handles, inline, load, of_subtasks, operator_state, relative, segment,
    text,
};

/// Repacks and copies; both results are sound and hold the same bytes. Returns where they are.
async fn repack_and_copy(disk: &Disk) -> [FlinkPath; 2] {
    let stores = Stores::new();
    let before = disk.files(synthetic::JOB);
    let from = disk.checkpoint();
    let packed = runs::repack(&stores, &from, &disk.named("packed"), &runs::options(1, runs::all_packed())).await;
    let copied = runs::copy(&stores, &from, &disk.named("copied"), &runs::options(2, runs::all_packed())).await;
    let results = [packed.unwrap().destination, copied.unwrap().destination];
    for result in &results {
        let found = runs::check(&stores, result).await.unwrap();
        assert!(found.is_sound(), "{:?}", found.findings);
        assert!(contents(&stores, result).await == contents(&stores, &from).await);
    }
    assert_eq!(disk.files(synthetic::JOB), before);
    results
}

/// Neither repacks nor copies, and leaves nothing; gives the errors.
async fn refuse(disk: &Disk) -> [Error; 2] {
    let (stores, from, to) = (Stores::new(), disk.checkpoint(), disk.named("out"));
    let before = disk.files("");
    let packed = runs::repack(&stores, &from, &to, &runs::options(1, runs::all_packed())).await.unwrap_err();
    let copied = runs::copy(&stores, &from, &to, &runs::options(2, runs::all_packed())).await.unwrap_err();
    assert_eq!(disk.files(""), before);
    assert!(!disk.at("out").exists());
    [packed, copied]
}

/// Refused by all, with the operator, the subtask and `what` in the message.
async fn refuse_subtask(disk: &Disk, subtask: u32, what: &str) {
    let place = format!("operator {} subtask {subtask}", synthetic::OPERATOR);
    for error in refuse(disk).await {
        let line = error.one_line();
        assert!(line.contains(&place) && line.contains(what), "{line}");
    }
    let found = runs::check(&Stores::new(), &disk.checkpoint()).await.unwrap();
    assert!(found.findings.iter().any(|f| f.subtask == Some(subtask)), "{:?}", found.findings);
}

/// Whatever a runtime of many threads is to run has to be able to move between them.
#[test]
fn what_takes_long_can_be_spawned() {
    fn send<T: Send>(_: T) {}
    let (stores, path) = (Stores::new(), runs::path("/x"));
    send(inspect(&stores, &path, &ReadLimits::default()));
    send(inspect_job(&stores, &path));
    send(verify(&stores, &path, &ReadLimits::default(), &|_, _| {}));
    let options = runs::options(1, runs::all_packed());
    send(drystone::repack::repack(&stores, &path, &path, &options, &|_, _, _| {}));
    send(drystone::repack::copy(&stores, &path, &path, &options, &|_, _, _| {}));
}

#[tokio::test]
async fn a_file_named_by_many_handles_is_packed_once_and_the_handles_stay_equal() {
    let disk = Disk::new();
    let (one, two) = (disk.file("one", &chunk(50_000, 1)), disk.file("two", &chunk(60_000, 2)));
    disk.commit(&checkpoint(vec![one.clone(), two.clone(), one.clone(), one, inline("x", b"12"), inline("x", b"12")]));
    let [packed, copied] = repack_and_copy(&disk).await;
    for (result, files) in [(packed, 1), (copied, 2)] {
        let (loaded, state) = load(&Stores::new(), &result).await;
        let handles = handles(&loaded.decoded.metadata);
        assert_eq!((&handles[0], &handles[0], &handles[4]), (&handles[2], &handles[3], &handles[5]));
        assert_ne!(handles[0], handles[1]);
        assert_eq!(state.files.len(), files);
        assert_eq!(state.live_bytes().iter().sum::<u64>(), 110_000 + if files == 1 { 2 } else { 0 });
    }
}

#[tokio::test]
async fn handles_that_overlap_keep_their_bytes() {
    let disk = Disk::new();
    let StreamHandle::File(whole) = disk.file("f", &chunk(100_000, 1)) else { unreachable!() };
    let path = whole.path.to_text().into_owned();
    let ranges = [(0, 60_000), (40_000, 60_000), (10, 20), (0, 100_000), (99_999, 1), (50_000, 0), (40_000, 1)];
    disk.commit(&checkpoint(ranges.iter().map(|&(offset, size)| segment(&path, offset, size)).collect()));
    let [packed, copied] = repack_and_copy(&disk).await;
    let bytes = chunk(100_000, 1);
    for result in [packed, copied] {
        let contents = contents(&Stores::new(), &result).await;
        for (content, (offset, size)) in contents.iter().zip(ranges) {
            assert_eq!(content[..], bytes[offset as usize..(offset + size) as usize]);
        }
    }
}

#[tokio::test]
async fn a_whole_file_may_also_be_named_in_parts() {
    let disk = Disk::new();
    let whole = disk.file("f", &chunk(100_000, 1));
    let path = disk.named(&format!("{}/chk-7/f", synthetic::JOB));
    disk.commit(&checkpoint(vec![segment(&path, 0, 40_000), whole.clone(), segment(&path, 30_000, 70_000)]));
    repack_and_copy(&disk).await;
    disk.commit(&checkpoint(vec![segment(&path, 0, 40_000), file(&path, 99_999), whole]));
    refuse_subtask(&disk, 1, &path).await;
}

#[tokio::test]
async fn a_range_past_its_files_end_is_refused() {
    let disk = Disk::new();
    let good = disk.file("good", &chunk(100, 1));
    disk.file("f", &chunk(1000, 1));
    let name = disk.named(&format!("{}/chk-7/f", synthetic::JOB));
    for (offset, size) in [(0, 1001), (1000, 1), (5000, 1), (i64::MAX as u64 - 1, 1), (0, i64::MAX as u64 - 100)] {
        disk.commit(&checkpoint(vec![good.clone(), segment(&name, offset, size)]));
        refuse_subtask(&disk, 1, &name).await;
    }
}

#[tokio::test]
async fn a_file_of_another_length_than_its_handle_says_is_refused() {
    let disk = Disk::new();
    let good = disk.file("good", &chunk(100, 1));
    disk.file("f", &chunk(1000, 1));
    let name = disk.named(&format!("{}/chk-7/f", synthetic::JOB));
    for size in [0, 1, 999, 1001, i64::MAX - 100] {
        disk.commit(&checkpoint(vec![good.clone(), file(&name, size)]));
        refuse_subtask(&disk, 1, &name).await;
        disk.commit(&checkpoint(vec![good.clone(), relative("f", size)]));
        refuse_subtask(&disk, 1, &name).await;
    }
}

#[tokio::test]
async fn sizes_beyond_all_bounds_are_refused_by_all_who_add_them_up() {
    let disk = Disk::new();
    disk.file("f", &chunk(1000, 1));
    let name = disk.named(&format!("{}/chk-7/f", synthetic::JOB));
    let huge = i64::MAX as u64;
    disk.commit(&checkpoint(vec![segment(&name, 0, huge), segment(&name, 1, huge - 1), segment(&name, 2, huge - 2)]));
    refuse_subtask(&disk, 1, "more than a checkpoint can hold").await;
    let inspected = inspect(&Stores::new(), &disk.checkpoint(), &ReadLimits::default()).await;
    assert_eq!(inspected.map(drop).unwrap_err().kind(), ErrorKind::Damaged);
    let names = ["a", "b", "c"].map(|name| file(&disk.named(&format!("{}/chk-7/{name}", synthetic::JOB)), i64::MAX));
    disk.commit(&checkpoint(names.to_vec()));
    refuse_subtask(&disk, 1, "more than a checkpoint can hold").await;
    disk.commit(&checkpoint(vec![names[0].clone()]));
    refuse_subtask(&disk, 0, "missing").await;
    assert!(inspect(&Stores::new(), &disk.checkpoint(), &ReadLimits::default()).await.is_ok());
}

#[tokio::test]
async fn paths_that_lead_out_are_refused() {
    let disk = Disk::new();
    std::fs::write(disk.at("secret"), b"1234").unwrap();
    std::fs::write(disk.at(&format!("{}/secret", synthetic::JOB)), b"1234").unwrap();
    let good = disk.file("good", &chunk(100, 1));
    let climbing = format!("{}/../secret", disk.named(synthetic::JOB));
    let absolute = disk.at("secret").to_str().unwrap().to_owned();
    for bad in [
        file(&climbing, 4),
        segment(&climbing, 0, 4),
        relative("../secret", 4),
        relative("a/../../secret", 4),
        relative(&absolute, 4),
        relative("..\\secret", 4),
    ] {
        disk.commit(&checkpoint(vec![good.clone(), bad]));
        refuse_subtask(&disk, 1, "secret").await;
    }
}

#[tokio::test]
async fn relative_names_stay_relative_in_a_copy_and_become_segments_when_packed() {
    let disk = Disk::new();
    disk.file("f", &chunk(1000, 1));
    disk.commit(&checkpoint(vec![relative("f", 1000), relative("f", 1000), relative("./f", 1000)]));
    let [packed, copied] = repack_and_copy(&disk).await;
    let (packed, _) = load(&Stores::new(), &packed).await;
    assert!(handles(&packed.decoded.metadata).iter().all(|h| matches!(h, StreamHandle::Segment(_))));
    let (copied, state) = load(&Stores::new(), &copied).await;
    let name = state.files[0].name.file_name().unwrap();
    assert!(name.starts_with("f-"), "{name}");
    assert!(handles(&copied.decoded.metadata).iter().all(|h| *h == relative(name, 1000)));
    assert_eq!(state.files.len(), 1);
}

#[tokio::test]
async fn properties_of_an_unknown_kind_are_kept() {
    for properties in [&b"\xac\xed\x00\x05t\x00\x03abc"[..], b"\xac\xed\x00\x05sr\x00\x01X", b"\xac\xed\x00\x05p"] {
        let disk = Disk::new();
        let mut metadata = checkpoint(vec![disk.file("f", &chunk(1000, 1))]);
        metadata.properties = Bytes::copy_from_slice(properties);
        disk.commit(&metadata);
        for result in repack_and_copy(&disk).await {
            let (loaded, _) = load(&Stores::new(), &result).await;
            assert_eq!(loaded.decoded.metadata.properties, properties);
            assert!(loaded.decoded.trailer.is_some() && loaded.decoded.rest.is_empty());
        }
    }
}

fn key_groups(delegate: StreamHandle) -> StreamHandle {
    let range = KeyGroupRange { start: 0, count: 2 };
    StreamHandle::KeyGroups(Box::new(KeyGroupsStream { range, offsets: vec![0, 10], delegate }))
}

#[tokio::test]
async fn key_groups_within_key_groups_keep_their_offsets() {
    let disk = Disk::new();
    let keyed = |start, delegate| {
        let (form, range) = (KeyGroupsForm::WithId(text("id")), KeyGroupRange { start, count: 1 });
        let keyed = KeyGroupsHandle { form, range, offsets: vec![3], delegate, checksums: Vec::new() };
        SubtaskState { managed_keyed: Some(KeyedHandle::KeyGroups(keyed)), ..SubtaskState::default() }
    };
    let nested = key_groups(key_groups(disk.file("f", &chunk(1000, 1))));
    disk.commit(&of_subtasks(vec![keyed(0, nested), keyed(1, key_groups(inline("x", b"0123456789abc")))]));
    for result in repack_and_copy(&disk).await {
        let (loaded, _) = load(&Stores::new(), &result).await;
        let OperatorSubtasks::Reported(entries) = &loaded.decoded.metadata.operators[0].subtasks else { panic!() };
        for (entry, depth) in entries.iter().zip([2, 1]) {
            let Some(KeyedHandle::KeyGroups(keyed)) = &entry.state.as_ref().unwrap().managed_keyed else { panic!() };
            assert_eq!(keyed.offsets, [3]);
            let mut delegate = &keyed.delegate;
            for _ in 0..depth {
                let StreamHandle::KeyGroups(stream) = delegate else { panic!("{delegate:?}") };
                assert_eq!(stream.offsets, [0, 10]);
                delegate = &stream.delegate;
            }
            assert!(!matches!(delegate, StreamHandle::KeyGroups(_)));
        }
    }
}

/// The directories of file merging that any operator state names.
fn directories(metadata: &CheckpointMetadata) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for operator in &metadata.operators {
        let OperatorSubtasks::Reported(entries) = &operator.subtasks else { continue };
        for state in entries.iter().filter_map(|e| e.state.as_ref()) {
            let merging = [&state.managed_operator, &state.raw_operator].into_iter().flatten();
            for directories in merging.filter_map(|o| o.directories.as_ref()) {
                found.extend([&directories.task_owned, &directories.shared].map(|d| d.to_text().into_owned()));
            }
        }
    }
    found
}

#[tokio::test]
async fn directories_of_file_merging_never_name_the_sources() {
    let disk = Disk::new();
    disk.file("f", &chunk(1000, 1));
    let job = disk.named(synthetic::JOB);
    let merging = |empty, delegate| {
        let directories = MergingDirectories {
            task_owned: text(&format!("{job}/taskowned/d")),
            shared: text(&format!("{job}/shared/d")),
            empty,
        };
        let states = if empty { vec![] } else { operator_state(StreamHandle::EmptySegment).states };
        let handle = OperatorStateHandle { states, directories: Some(directories), delegate };
        SubtaskState { managed_operator: Some(handle), ..SubtaskState::default() }
    };
    let named = format!("{job}/chk-7/f");
    disk.commit(&of_subtasks(vec![
        merging(false, segment(&named, 10, 20)),
        merging(true, StreamHandle::EmptySegment),
        merging(false, segment(&named, 500, 500)),
    ]));
    let [packed, copied] = repack_and_copy(&disk).await;
    let (packed, _) = load(&Stores::new(), &packed).await;
    assert_eq!(directories(&packed.decoded.metadata), BTreeSet::new());
    assert_eq!(handles(&packed.decoded.metadata).len(), 2);
    let (loaded, _) = load(&Stores::new(), &copied).await;
    let expected = [format!("{copied}/shared/d"), format!("{copied}/taskowned/d")];
    assert_eq!(directories(&loaded.decoded.metadata), BTreeSet::from(expected));
}

#[tokio::test]
async fn metadata_of_every_version_is_written_again() {
    for version in 3..=6 {
        let disk = Disk::new();
        let mut metadata = checkpoint(vec![disk.file("f", &chunk(1000, 1)), inline("x", b"12")]);
        metadata.version = version;
        if version < 4 {
            metadata.properties = Bytes::new();
        }
        disk.commit(&metadata);
        for result in repack_and_copy(&disk).await {
            let (loaded, _) = load(&Stores::new(), &result).await;
            assert_eq!(loaded.decoded.metadata.version, version);
        }
    }
}

#[tokio::test]
async fn metadata_of_version_2_becomes_version_3() {
    let disk = Disk::new();
    let StreamHandle::File(state) = disk.file("f", &chunk(1000, 1)) else { unreachable!() };
    let mut bytes = Vec::new();
    let ints = |bytes: &mut Vec<u8>, values: &[i32]| values.iter().for_each(|v| bytes.extend(v.to_be_bytes()));
    ints(&mut bytes, &[0x4960_672d, 2]);
    bytes.extend(7_u64.to_be_bytes());
    // No master state, one operator.
    ints(&mut bytes, &[0, 1]);
    bytes.extend(synthetic::OPERATOR.0);
    // Parallelism, max parallelism, chain length, one subtask, of index 1.
    ints(&mut bytes, &[2, 128, 1, 1, 1]);
    bytes.extend((-1_i64).to_be_bytes());
    // No legacy state; operator state of no name, in a file; nothing else.
    ints(&mut bytes, &[0, 1]);
    bytes.push(4);
    ints(&mut bytes, &[0]);
    bytes.push(2);
    bytes.extend(state.size.to_be_bytes());
    bytes.extend((state.path.encoded().len() as u16).to_be_bytes());
    bytes.extend(&state.path.encoded()[..]);
    ints(&mut bytes, &[0]);
    bytes.extend([0, 0]);
    disk.commit_bytes(&bytes);
    for result in repack_and_copy(&disk).await {
        let (loaded, state) = load(&Stores::new(), &result).await;
        assert_eq!(loaded.decoded.metadata.version, 3);
        assert_eq!((state.streams.len(), state.streams[0].place.subtask), (1, Some(1)));
    }
}

#[tokio::test]
async fn what_was_packed_is_packed_again_and_copied_from_copy_to_copy() {
    let moved = Stores::new().with_rebase(runs::moved_to(runs::data().to_str().unwrap()));
    for fixture in [runs::HASHMAP, runs::ACROSS, runs::UNALIGNED, runs::SAVEPOINT] {
        let disk = Disk::new();
        let mut from = runs::path(runs::data().join(fixture).to_str().unwrap());
        let original = contents(&moved, &from).await;
        let mut totals = BTreeMap::new();
        for (number, step) in ["copy", "copy", "repack", "repack", "copy", "repack"].into_iter().enumerate() {
            let options = runs::options(number as u64, Default::default());
            let to = disk.named(&format!("step-{number}"));
            let report = match step {
                "copy" => runs::copy(&moved, &from, &to, &options).await.unwrap(),
                _ => runs::repack(&moved, &from, &to, &options).await.unwrap(),
            };
            from = report.destination;
            assert!(contents(&moved, &from).await == original);
            let found = runs::check(&moved, &from).await.unwrap();
            assert!(found.is_sound(), "{step} {number}: {:?}", found.findings);
            // The earlier ones aren't needed.
            if number > 0 {
                std::fs::remove_dir_all(disk.at(&format!("step-{}", number - 1))).unwrap();
                assert!(runs::check(&moved, &from).await.unwrap().is_sound());
            }
            totals.entry(step == "repack").or_insert_with(Vec::new).push(report.after.files);
        }
        assert!(totals[&true].iter().all(|files| *files == totals[&true][0]), "{totals:?}");
    }
}

#[tokio::test]
async fn encoding_is_stable() {
    let disk = Disk::new();
    disk.commit(&checkpoint(vec![disk.file("f", &chunk(1000, 1))]));
    for result in repack_and_copy(&disk).await {
        let (loaded, _) = load(&Stores::new(), &result).await;
        let encoded = encode(&loaded.decoded.metadata).unwrap().bytes;
        assert!(loaded.bytes.starts_with(&encoded));
    }
}
