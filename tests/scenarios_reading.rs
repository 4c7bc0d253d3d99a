//! What Flink's tests of reading from a segment check, under our rules. `design/flink-differences.md` has the rules that
//! differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test uses all of the support")]

#[path = "support/scenario.rs"]
mod scenario;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::handle::{Part, Place, StreamHandle};
use drystone::id::Scope;
use drystone::read::{Content, ReadLimits, StateFile, StateStream, Wanted, open_handle};
use futures::StreamExt;
use scenario::{OPERATOR, memory, path};

/// The bytes of a range, in the pieces in which they came, or the error.
async fn pieces(file: &StateFile, offset: u64, length: u64, range_bytes_max: u64) -> drystone::Result<Vec<Bytes>> {
    let place =
        Place { operator: OPERATOR, parallelism: 1, subtask: Some(0), part: Part::ManagedKeyed, local_path: None };
    let content = Content::File(Wanted { file: 0, offset, length });
    let stream = StateStream { place, content, whole: false, id: None, listed_crc32c: None, scope: Scope::Shared };
    let limits = ReadLimits { range_bytes_max, ..ReadLimits::default() };
    let (mut pieces, mut read) = (Vec::new(), open_handle(std::slice::from_ref(file), &stream, &limits));
    while let Some(piece) = read.next().await {
        pieces.push(piece?);
    }
    assert!(read.next().await.is_none(), "the end stays the end");
    Ok(pieces)
}

/// Scenario 33 (testReadFromFileSegments): a segment is read from its first to its last byte, in pieces of any size, and
/// not one byte further; what lies outside the file is an error.
#[tokio::test]
async fn a_segment_ends_where_its_handle_says() {
    let stores = memory();
    let name = path("memory:/file");
    let content: Bytes = (0..512_u32).map(|i| (i * 7 + i / 256) as u8).collect();
    let location = stores.locate(&name).unwrap();
    location.create(vec![content.clone()]).await.unwrap();
    let file = StateFile { location, name };
    for (offset, length) in [(0, 512), (26, 483), (56, 123), (511, 1)] {
        for range_bytes_max in [1, 32, 100, 4096] {
            let found = pieces(&file, offset, length, range_bytes_max).await.unwrap();
            assert!(found.iter().all(|piece| !piece.is_empty() && piece.len() as u64 <= range_bytes_max));
            assert_eq!(found.concat(), content.slice(offset as usize..(offset + length) as usize));
        }
    }
    assert_eq!(pieces(&file, 56, 0, 32).await.unwrap(), Vec::<Bytes>::new());
    for (offset, length) in [(26, 487), (512, 1), (600, 10), (u64::MAX, 2)] {
        let error = pieces(&file, offset, length, 32).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    }
}

/// Scenario 33 (testReadFromFileSegments), the checksum: a segment of ours comes whole or not at all.
#[tokio::test]
async fn a_handle_of_a_shorter_segment_is_not_taken_for_the_whole() {
    let job = scenario::Job::new(&[]).await;
    let mut round = job.begin();
    round.write(0, Scope::Shared, "state", vec![5; 123]).await;
    let (_, mut handles) = round.commit().await;
    let StreamHandle::Segment(handle) = handles.get_mut("state").unwrap() else { panic!() };
    handle.size = 122;
    let error = scenario::read(&job.stores, &handles["state"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}
