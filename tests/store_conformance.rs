//! What every store has to do, on each store there is.
//!
//! `DRYSTONE_TEST_STORE_URL` adds one: a directory in it, such as `s3://bucket/conformance` (with the cargo feature
//! and the credentials it needs). Each test works in a directory of its own below and removes what it wrote.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::store::{FlinkPath, Location, Stores, Upload};
use futures::StreamExt;

/// A directory of a store, and what has to stay alive meanwhile.
struct Place {
    directory: Location,
    _guard: Option<tempfile::TempDir>,
}

/// Nothing here may depend on what an earlier run left.
fn places(test: &str) -> Vec<Place> {
    let at = |root: &str| {
        let path = FlinkPath::parse(root).unwrap().join(test).unwrap();
        Stores::new().locate(&path).unwrap()
    };
    let local = tempfile::tempdir().unwrap();
    let mut places = vec![
        Place { directory: at("memory:/conformance"), _guard: None },
        Place { directory: at(local.path().to_str().unwrap()), _guard: Some(local) },
    ];
    if let Ok(root) = std::env::var("DRYSTONE_TEST_STORE_URL") {
        let unique = format!("{root}/{}", std::process::id());
        places.push(Place { directory: at(&unique), _guard: None });
    }
    places
}

fn is_local(directory: &Location) -> bool {
    directory.name().scheme() == "file"
}

async fn clear(directory: &Location) {
    for file in directory.list().await.unwrap() {
        let below = file.path.relative_to(directory.name()).unwrap();
        directory.join(below).unwrap().delete().await.unwrap();
    }
    assert_eq!(directory.list().await.unwrap(), []);
}

async fn create(location: &Location, bytes: &'static [u8]) {
    location.create(vec![Bytes::from_static(bytes)]).await.unwrap();
}

#[tokio::test]
async fn a_file_is_created_once() {
    for Place { directory, _guard } in places("create") {
        let file = directory.join("a/b/file").unwrap();
        assert!(!file.exists().await.unwrap());
        assert_eq!(file.size().await.unwrap_err().kind(), ErrorKind::NotFound);
        file.create(vec![Bytes::from_static(b"first "), Bytes::new(), Bytes::from_static(b"content")]).await.unwrap();
        let error = file.create(vec![Bytes::from_static(b"second")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains(&file.name().to_string()), "{error}");
        assert_eq!(file.read_all(100).await.unwrap(), "first content");
        assert_eq!(file.size().await.unwrap(), 13);
        assert!(file.exists().await.unwrap());
        assert!(!directory.join("a/b").unwrap().exists().await.unwrap());
        let empty = directory.join("empty").unwrap();
        empty.create(vec![]).await.unwrap();
        assert_eq!(empty.size().await.unwrap(), 0);
        assert_eq!(empty.read_all(0).await.unwrap(), "");
        clear(&directory).await;
    }
}

#[tokio::test]
async fn of_many_writers_one_wins() {
    for Place { directory, _guard } in places("race") {
        let file = directory.join("deep/er/file").unwrap();
        let writers: Vec<_> = (0..16_u8)
            .map(|n| {
                let file = file.clone();
                tokio::spawn(async move { file.create(vec![Bytes::from(vec![n; 1000])]).await.map(|()| n) })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                Ok(n) => winners.push(n),
                Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict, "{e}"),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(file.read_all(1000).await.unwrap(), vec![winners[0]; 1000]);
        assert_eq!(directory.list_partials().await.unwrap(), []);
        clear(&directory).await;
    }
}

#[tokio::test]
async fn a_read_gives_all_it_was_asked_for_or_an_error() {
    for Place { directory, _guard } in places("read") {
        let file = directory.join("file").unwrap();
        create(&file, b"0123456789").await;
        assert_eq!(file.read(2..5).await.unwrap(), "234");
        assert_eq!(file.read(0..10).await.unwrap(), "0123456789");
        assert_eq!(file.read(7..7).await.unwrap(), "");
        assert_eq!(file.read_sized(9..10).await.unwrap(), (Bytes::from_static(b"9"), 10));
        assert_eq!(file.read_sized(10..10).await.unwrap(), (Bytes::new(), 10));
        for range in [5..11, 10..11, 20..30, 11..11, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
            let error = file.read_sized(range.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{range:?}: {error}");
            assert!(error.to_string().contains("10 bytes"), "{error}");
        }
        #[allow(clippy::reversed_empty_ranges, reason = "that it is refused is what is tested")]
        let backwards = file.read(5..4).await.unwrap_err();
        assert_eq!(backwards.kind(), ErrorKind::Invalid);
        assert_eq!(file.read_all(10).await.unwrap(), "0123456789");
        let error = file.read_all(9).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        let missing = directory.join("missing").unwrap();
        for error in [missing.read(0..1).await.unwrap_err(), missing.read_all(1).await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        assert_eq!(missing.read_sized(0..0).await.unwrap_err().kind(), ErrorKind::NotFound);
        let below = file.join("below").unwrap();
        assert_eq!(below.read(0..1).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!below.exists().await.unwrap());
        below.delete().await.unwrap();
        assert_eq!(below.list().await.unwrap(), []);
        clear(&directory).await;
    }
}

#[tokio::test]
async fn names_are_taken_literally() {
    let names = [
        "a b",
        "a%20b",
        "%2e%2e",
        "a#b",
        "#",
        "a#",
        "a+b",
        "a&b=c",
        "ünïcödé",
        "日本",
        "a:b",
        "a~b",
        "[x]{y}",
        "a'b",
        "a\"b",
        "<a>|b^`",
        "a*",
        "chk-1",
        "a;b,c",
        "a@b",
        "a!$()b",
        ".hidden",
        "...",
        "😀",
    ];
    for Place { directory, _guard } in places("names") {
        for name in names {
            let file = directory.join("dir %41").unwrap().join(name).unwrap();
            file.create(vec![Bytes::copy_from_slice(name.as_bytes())]).await.unwrap();
            assert_eq!(file.read_all(100).await.unwrap(), name);
            assert_eq!(file.name().file_name(), Some(name));
        }
        let listed = directory.list().await.unwrap();
        let mut found: Vec<_> = listed.iter().map(|f| f.path.file_name().unwrap()).collect();
        let mut expected = names.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        if is_local(&directory) {
            for name in names {
                let path = format!("{}/dir %41/{name}", directory.name().path());
                assert_eq!(std::fs::read(path).unwrap(), name.as_bytes());
            }
        }
        clear(&directory).await;
    }
}

#[tokio::test]
async fn control_characters_are_refused() {
    for Place { directory, _guard } in places("control") {
        for name in ["a\0b", "a\nb", "\u{7f}"] {
            assert_eq!(directory.join(name).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}

#[tokio::test]
async fn directories_are_listed_in_order() {
    for Place { directory, _guard } in places("list") {
        assert_eq!(directory.list().await.unwrap(), []);
        assert_eq!(directory.list_dir().await.unwrap(), drystone::store::Directory::default());
        for name in ["b", "a/z", "a/y/x", "ab/c", "a-b/d"] {
            create(&directory.join(name).unwrap(), b"12345").await;
        }
        let here = directory.name().clone();
        let below = |path: &FlinkPath| path.relative_to(&here).unwrap().to_owned();
        let listed = directory.list().await.unwrap();
        assert_eq!(listed.iter().map(|f| below(&f.path)).collect::<Vec<_>>(), ["a-b/d", "a/y/x", "a/z", "ab/c", "b"]);
        assert!(listed.iter().all(|f| f.size == 5 && f.modified > std::time::SystemTime::UNIX_EPOCH));
        // Whole components only: not `ab` nor `a-b`.
        let inner = directory.join("a").unwrap().list().await.unwrap();
        assert_eq!(inner.iter().map(|f| below(&f.path)).collect::<Vec<_>>(), ["a/y/x", "a/z"]);
        let mut streamed: Vec<_> = directory.list_stream().map(|f| f.unwrap()).collect().await;
        streamed.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(streamed, listed);
        let level = directory.list_dir().await.unwrap();
        assert_eq!(level.directories.iter().map(below).collect::<Vec<_>>(), ["a", "a-b", "ab"]);
        assert_eq!(level.files.iter().map(|f| below(&f.path)).collect::<Vec<_>>(), ["b"]);
        clear(&directory).await;
    }
}

#[tokio::test]
async fn deleting_twice_is_fine() {
    for Place { directory, _guard } in places("delete") {
        let file = directory.join("file").unwrap();
        create(&file, b"x").await;
        file.delete().await.unwrap();
        assert!(!file.exists().await.unwrap());
        file.delete().await.unwrap();
        create(&file, b"y").await;
        assert_eq!(file.read_all(1).await.unwrap(), "y");
        clear(&directory).await;
    }
}

/// In pieces that fit no part.
async fn write_bytes(upload: &mut Upload, count: usize) -> Vec<u8> {
    let bytes: Vec<u8> = (0..count).map(|n| (n % 251) as u8).collect();
    for piece in bytes.chunks(3_000_001) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    bytes
}

#[tokio::test]
async fn an_upload_is_visible_when_complete() {
    for Place { directory, _guard } in places("upload") {
        for count in [0, 1000, 8 << 20, 50 << 20] {
            let file = directory.join(&format!("made/{count}")).unwrap();
            let mut upload = file.create_multipart().await.unwrap();
            let bytes = write_bytes(&mut upload, count).await;
            assert!(!file.exists().await.unwrap());
            upload.complete().await.unwrap();
            assert!(file.read_all(count as u64).await.unwrap() == bytes, "{count}");
            assert_eq!(file.create_multipart().await.unwrap_err().kind(), ErrorKind::Conflict);
        }
        assert_eq!(directory.list_partials().await.unwrap(), []);
        clear(&directory).await;
    }
}

#[tokio::test]
async fn a_file_in_parts_is_there_as_a_whole() {
    for Place { directory, _guard } in places("parts") {
        let file = directory.join("made/file").unwrap();
        let bytes: Bytes = (0..17_000_000_u32).map(|n| (n % 251) as u8).collect();
        let chunks = (0..17).map(|n| bytes.slice(n * 1_000_000..(n + 1) * 1_000_000)).collect();
        file.create_own_in_parts(chunks, 5 << 20).await.unwrap();
        assert!(file.read_all(17_000_000).await.unwrap() == bytes);
        assert_eq!(directory.list_partials().await.unwrap(), []);
        clear(&directory).await;
    }
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    for Place { directory, _guard } in places("abort") {
        for count in [1000, 30 << 20] {
            let file = directory.join("made/file").unwrap();
            let mut upload = file.create_multipart().await.unwrap();
            write_bytes(&mut upload, count).await;
            upload.abort().await.unwrap();
            assert!(!file.exists().await.unwrap());
        }
        assert_eq!(directory.list().await.unwrap(), []);
        assert_eq!(directory.list_partials().await.unwrap(), []);
    }
}

#[tokio::test]
async fn what_an_interrupted_write_left_can_be_removed() {
    for Place { directory, _guard } in places("partials") {
        create(&directory.join("chk-1/x").unwrap(), b"x").await;
        if !is_local(&directory) {
            create(&directory.join("chk-1/x#1").unwrap(), b"x").await;
            assert_eq!(directory.list().await.unwrap().len(), 2);
            assert_eq!(directory.list_partials().await.unwrap(), []);
            clear(&directory).await;
            continue;
        }
        let root = std::path::Path::new(directory.name().path()).to_path_buf();
        for name in ["chk-1/x#1", "chk-1/a#b#22", "y#3", "#4"] {
            std::fs::write(root.join(name), "part").unwrap();
        }
        // Hidden from every listing, and no name for a file.
        assert_eq!(directory.list().await.unwrap().len(), 1);
        assert_eq!(directory.list_dir().await.unwrap().files, []);
        let error = directory.join("y#3").unwrap().create(vec![]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("# and digits"), "{error}");
        let partials = directory.list_partials().await.unwrap();
        let below: Vec<_> = partials.iter().map(|p| p.relative_to(directory.name()).unwrap()).collect();
        assert_eq!(below, ["chk-1/a#b#22", "chk-1/x#1", "y#3"]);
        for partial in &partials {
            directory.delete_partial(partial).await.unwrap();
            directory.delete_partial(partial).await.unwrap();
        }
        assert_eq!(directory.list_partials().await.unwrap(), []);
        let file = directory.join("chk-1/x").unwrap();
        assert_eq!(directory.delete_partial(file.name()).await.unwrap_err().kind(), ErrorKind::Invalid);
        let elsewhere = FlinkPath::parse("/elsewhere/x#1").unwrap();
        assert_eq!(directory.delete_partial(&elsewhere).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(file.read_all(1).await.unwrap(), "x");
    }
}

#[tokio::test]
async fn empty_directories_are_removed() {
    for Place { directory, _guard } in places("empty") {
        let inner = directory.join("chk-2").unwrap();
        let file = inner.join("a/b/file").unwrap();
        create(&file, b"x").await;
        assert!(!inner.remove_empty_dirs().await.unwrap());
        assert!(file.exists().await.unwrap());
        file.delete().await.unwrap();
        assert_eq!(inner.remove_empty_dirs().await.unwrap(), is_local(&directory));
        assert!(!inner.remove_empty_dirs().await.unwrap());
        assert_eq!(directory.list_dir().await.unwrap().directories, []);
    }
}

#[tokio::test]
async fn a_root_is_no_file() {
    for root in ["memory:/", "file:/"] {
        let root = Stores::new().locate(&FlinkPath::parse(root).unwrap()).unwrap();
        assert_eq!(root.exists().await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(root.create(vec![]).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(root.delete().await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}
