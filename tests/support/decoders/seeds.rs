//! What the decoders take: the files of the tests, and short texts of each kind.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use drystone::config::CATALOGUE;
use drystone::format::footer::TAIL_BYTES;
use drystone::format::{
    FooterBuilder, LogEntry, NamedFile, Properties, PropertiesKind, PropertiesRead, Step, Trailer, barred, decode,
    encode,
};
use drystone::handle::{JavaString, OperatorSubtasks};
use drystone::id::{CheckpointId, FileToken, OperatorId, Scope, Subtask};
use drystone::jobs::Hint;
use drystone::protocol::{Acknowledgement, SealedSize};
use drystone::store::FlinkPath;

/// Checksum, magic and version, which the checks put behind the fields.
const SEAL_BYTES: usize = 12;

/// The fuzz targets are a package of their own, below the tests.
fn data() -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|directory| directory.join("tests/data"));
    above.find(|data| data.is_dir()).expect("tests/data")
}

/// Every file of metadata, the shortest first: as Flink wrote it, and the short ones sealed, too.
pub fn metadata() -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut waiting = vec![data().join("flink")];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.ends_with("_metadata") || path.extension().is_some_and(|e| e == "bin") {
            found.push(fs::read(path).unwrap());
        }
    }
    let short = found.iter().filter(|bytes| bytes.len() < 4096);
    found.extend(short.flat_map(|bytes| [None, Some(77)].map(|crc32c| seal(bytes, crc32c))).collect::<Vec<_>>());
    found.sort_by_key(|bytes| (bytes.len(), bytes.clone()));
    found.dedup();
    found
}

/// By the first version of the trailer, or by the second.
fn seal(metadata: &[u8], crc32c: Option<u32>) -> Vec<u8> {
    let mut metadata = decode(Bytes::copy_from_slice(metadata)).unwrap().metadata;
    if crc32c.is_some() {
        metadata.visit_key_groups_mut(|_, handle| handle.checksums = (0..handle.offsets.len() as u32 + 1).collect());
    }
    let encoded = encode(&metadata).unwrap();
    let path = JavaString::new("s3://b/job/shared/ds1-a1-wtm-c7-n0-0123456789abcdef").unwrap();
    Trailer::seal(&encoded, vec![NamedFile { path, size: 150, crc32c }], 3, JavaString::new("drystone 0.1.0").unwrap())
        .to_vec()
}

/// Two bytes for the length of what comes before, then the fields.
pub fn trailers() -> Vec<Vec<u8>> {
    let trailer = |file: Vec<u8>| {
        let file = Bytes::from(file);
        let (offset, _) = Trailer::find(&file)?.ok()?;
        let before = u16::try_from(offset).ok()?;
        Some([&before.to_be_bytes(), &file[usize::from(before)..file.len() - SEAL_BYTES - 8]].concat())
    };
    metadata().into_iter().filter_map(trailer).collect()
}

/// Two bytes for the length of the segments, then the fields.
pub fn footers() -> Vec<Vec<u8>> {
    let footer = |segments: u32| {
        let mut builder = FooterBuilder::new(FileToken(77));
        for n in 0..segments {
            let subtask = Subtask { operator: OperatorId([n as u8; 16]), index: n % 3, parallelism: 4 };
            let scope = if n % 2 == 0 { Scope::Shared } else { Scope::Exclusive };
            builder.push(u64::from(n * 7 % 40), n, scope, CheckpointId(4), (n % 5 != 4).then_some(subtask));
        }
        let (data_len, footer) = (builder.data_len() as u16, builder.encode());
        [&data_len.to_be_bytes(), &footer[..footer.len() - TAIL_BYTES]].concat()
    };
    [0, 1, 2, 5, 30].map(footer).into()
}

/// One of each operator of each fixture, without the seal.
pub fn acknowledgements() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for metadata in metadata() {
        let metadata = decode(metadata.into()).unwrap().metadata;
        for operator in metadata.operators {
            let OperatorSubtasks::Reported(entries) = operator.subtasks else { continue };
            let Some(entry) = entries.into_iter().next() else { continue };
            let subtask = Subtask { operator: operator.id, index: entry.index, parallelism: operator.parallelism };
            let sealed = vec![SealedSize { path: "s3://bücket/ä".into(), bytes: 1 << 20 }];
            let checkpoint = metadata.checkpoint_id;
            let bytes =
                Acknowledgement { epoch: 3, checkpoint, subtask, state: entry.state, sealed }.to_bytes().unwrap();
            found.push(bytes[..bytes.len() - SEAL_BYTES].to_vec());
        }
    }
    found.sort_by_key(|bytes| (bytes.len(), bytes.clone()));
    found.dedup();
    found
}

/// Without the seal.
pub fn log_entries() -> Vec<Vec<u8>> {
    let ids = |numbers: &[u64]| numbers.iter().map(|&number| CheckpointId(number)).collect();
    let entry = |epoch, step, open: &[u64], kept: Option<&[u64]>, retained| {
        let (coordinator, next) = (FileToken(0x0123_4567_89ab_cdef), CheckpointId(10));
        let entry = LogEntry { epoch, coordinator, step, open: ids(open), kept: kept.map(ids), retained, next };
        let bytes = entry.to_bytes().unwrap();
        bytes[..bytes.len() - SEAL_BYTES].to_vec()
    };
    vec![
        entry(1, Step::Claim, &[], None, u32::MAX),
        entry(2, Step::Claim, &[8], Some(&[6, 7]), 2),
        entry(u64::MAX, Step::Intent, &[8, 9, u64::MAX], Some(&[]), 0),
    ]
}

pub fn bars() -> Vec<Vec<u8>> {
    [(1, 1), (42, 7), (u64::MAX, u64::MAX)].map(|(id, epoch)| barred(CheckpointId(id), epoch).to_vec()).into()
}

pub fn hints() -> Vec<Vec<u8>> {
    let hint = |path: &str, epoch, id| {
        let path = FlinkPath::parse(path).expect("a path");
        Hint { path, epoch, checkpoint: CheckpointId(id) }.to_bytes().to_vec()
    };
    vec![hint("/tmp/a b/chk-1", 1, 1), hint("s3://bucket/j/chk-42", 7, 42), hint("file:/x", u64::MAX, u64::MAX)]
}

/// No chunk, one, and several of which one is empty.
pub fn in_flight() -> Vec<Vec<u8>> {
    let stream = |chunks: &[&[u8]]| {
        let mut bytes = drystone::format::IN_FLIGHT_HEADER.to_vec();
        for chunk in chunks {
            bytes.extend(drystone::format::chunk_header(chunk.len() as u64).expect("short"));
            bytes.extend_from_slice(chunk);
        }
        bytes
    };
    vec![stream(&[]), stream(&[b"a record"]), stream(&[b"one", b"", &[7; 300]])]
}

/// Those of the fixtures, and each kind.
pub fn properties() -> Vec<Vec<u8>> {
    use drystone::format::properties::{NULL, SavepointAction, SavepointFormat};
    let mut found = vec![NULL.to_vec()];
    for metadata in metadata() {
        let bytes = decode(metadata.into()).unwrap().metadata.properties;
        let PropertiesRead::Known(known) = Properties::read(&bytes) else { continue };
        found.push(bytes.to_vec());
        for format in [SavepointFormat::Canonical, SavepointFormat::Native] {
            for action in [SavepointAction::None, SavepointAction::Terminate, SavepointAction::Suspend] {
                found.push(Properties { kind: PropertiesKind::Savepoint(format, action), ..known }.encode().to_vec());
            }
        }
        found.push(Properties { kind: PropertiesKind::FullCheckpoint, ..known }.encode().to_vec());
    }
    found.sort();
    found.dedup();
    found
}

pub fn yaml() -> Vec<Vec<u8>> {
    let mut found = vec![fs::read(data().join("config.yaml")).unwrap()];
    let texts = [
        "execution:\n  checkpointing:\n    dir: s3://b/x # here\n    file-merging: {enabled: true, pool-blocking: false}\n",
        "execution.checkpointing:\n  dir: 's3://b/x'\n  file-merging.max-file-size: \"32mb\"\n",
        "a: &x {c: 5}\nb: *x\nlist:\n - 1\n - b: c\n",
        "execution.checkpointing.local-backup.dirs: [/a, /b]\ndrystone.write.memroy: 0x10\n",
        "? execution.checkpointing.interval\n: !!str 5 min\nstate.checkpoints.dir: |\n  file:///x\n",
    ];
    found.extend(texts.map(Vec::from));
    found.extend(every_option(": "));
    found
}

pub fn flink_conf() -> Vec<Vec<u8>> {
    let texts = [
        "state.checkpoints.dir: s3://b/x # here\n\nno colon\n: none\nstate.backend.incremental: true\n",
        "execution.checkpointing.interval: 5 min\r\nexecution.checkpointing.interval: 6 min\r\n",
    ];
    let mut found: Vec<_> = texts.map(Vec::from).into();
    found.extend(every_option(": "));
    found
}

/// Every option by every key of its, with its default or something for want of it, a few in each file.
fn every_option(between: &str) -> Vec<Vec<u8>> {
    let lines = CATALOGUE
        .iter()
        .flat_map(|option| option.keys().map(move |key| format!("{key}{between}{}\n", option.default.unwrap_or("5"))));
    let lines: Vec<_> = lines.collect();
    lines.chunks(8).map(|lines| lines.concat().into_bytes()).collect()
}

/// The number of an option, then a value.
pub fn values() -> Vec<Vec<u8>> {
    let texts = [
        "true",
        "FALSE",
        "1",
        "-1",
        "2147483647",
        "2.5f",
        "1e1",
        "-Infinity",
        "NaN",
        "32mb",
        "20 kb",
        "1024",
        "9223372036854775807 b",
        "8388607tb",
        "10 min",
        "1500 ms",
        "PT1H30M",
        "-PT-1.5S",
        "P1DT1M",
        "7 µs",
        "EXACTLY_ONCE",
        "no_claim",
        "filesystem",
        "DELETE_ON_CANCELLATION",
        "s3://bucket/x",
        "/a,/b:/c",
        "[/a, /b]",
    ];
    let numbers = 0..CATALOGUE.len() as u8;
    let given = numbers.clone().filter_map(|n| Some((n, CATALOGUE[usize::from(n)].default?)));
    let all = numbers.cycle().step_by(3).zip(texts).chain(given);
    all.map(|(number, text)| [&[number], text.as_bytes()].concat()).collect()
}

pub fn names() -> Vec<Vec<u8>> {
    [
        "ds1-a0-wrepack-c7-n0-0000000000000001",
        "ds1-a18446744073709551615-wtask.manager_1-c42-n12-0123456789abcdef",
        "chk-0",
        "chk-18446744073709551615",
        "savepoint-00f1f1-50ca3bc9111c",
        "_drystone-unfinished-0000000000000001",
        "00f1f1f1f1f1f1f1104bf7768f44313a",
        "_metadata",
        "ds1-a0-wrepack-c7-n0-0000000000000001#1",
        "1af1c5df-8f31-441e-baf3-35ec87b28632",
        "1af1c5df-8f31-441e-baf3-35ec87b28632-0000000000000001",
        "._metadata.inprogress.1af1c5df-8f31-441e-baf3-35ec87b28632",
        "job_00f1f1f1f1f1f1f1104bf7768f44313a_op_20ba6b65f97481d5570070de90e4e791_1_2",
        "log-00000000000000000007",
        "log-18446744073709551615",
    ]
    .map(Vec::from)
    .into()
}

pub fn ids() -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = [
        "ds1-0000000000000007-00000002-e3069283",
        "ds1-ffffffffffffffff-ffffffff-00000000",
        "0123456789abcdef",
        "00f1f1f1f1f1f1f1104bf7768f44313a",
        "ä€ 😀",
    ]
    .map(Vec::from)
    .into();
    found.push(b"\xc0\x80a\xed\xa0\xbd\xed\xb8\x80".to_vec());
    found
}

pub fn paths() -> Vec<Vec<u8>> {
    [
        "/tmp/x\ny/z",
        "file:///tmp//checkpoints/\n./a//b/",
        "s3://bucket/job/shared\nds1-a0-wrepack-c7-n0-0000000000000001",
        "s3a://bucket\nx",
        "abfss://container@account.dfs.core.windows.net/x\n..",
        "hdfs://user@host:8020/x\n/y",
        "..\\here\n.",
        "memory:/a?b=c#1\nä 😀%20",
        "s3://b/x?X-Amz-Signature=1\n",
    ]
    .map(Vec::from)
    .into()
}

pub fn rebases() -> Vec<Vec<u8>> {
    [
        "file:/data/flink=/srv/data\ns3://b=memory:/b\nfile:/data/flink/job/chk-3/f",
        "/a=/b\n/a/b=/c\n/a/b/d",
        "/day=1=/x\n/x=/\n/day=1/f",
        "/a=/b\n/b=/a\n/a/f",
    ]
    .map(Vec::from)
    .into()
}
