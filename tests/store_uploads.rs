//! Uploads in parts that were begun and never completed: listed, swept, and given up, on each store there is.
//!
//! `DRYSTONE_TEST_STORE_URL` adds one, as for `store_conformance`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::store::{FlinkPath, Location, Stores};
use drystone::sweep::{Kind, Sweep, SweepSettings};

/// A directory of the store that the environment names.
fn given(test: &str) -> Option<Location> {
    let root = std::env::var("DRYSTONE_TEST_STORE_URL").ok()?;
    let path = FlinkPath::parse(&format!("{root}/{}/{test}", std::process::id())).unwrap();
    Some(Stores::new().locate(&path).unwrap())
}

fn is_s3(directory: &Location) -> bool {
    directory.name().scheme().starts_with("s3")
}

/// Begins an upload and forgets it, as a killed process does.
async fn begin(file: &Location) {
    let mut upload = file.create_multipart().await.unwrap();
    for _ in 0..2 {
        upload.write(Bytes::from(vec![7; 9 << 20])).await.unwrap();
    }
}

#[tokio::test]
async fn stores_without_unfinished_uploads_say_so_or_that_they_cannot_tell() {
    let local = tempfile::tempdir().unwrap();
    for root in ["memory:/uploads", local.path().to_str().unwrap()] {
        let directory = Stores::new().locate(&FlinkPath::parse(root).unwrap()).unwrap();
        begin(&directory.join("shared/file").unwrap()).await;
        assert_eq!(directory.list_uploads().await.unwrap(), Some(Vec::new()));
        let upload = drystone::store::UnfinishedUpload {
            path: directory.name().join("shared/file").unwrap(),
            id: "1".to_owned(),
            started: std::time::SystemTime::UNIX_EPOCH,
        };
        let error = directory.abort_upload(&upload).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    let Some(directory) = given("known").filter(|directory| !is_s3(directory)) else { return };
    assert_eq!(directory.list_uploads().await.unwrap(), None);
}

#[tokio::test]
async fn unfinished_uploads_are_listed_and_given_up() {
    let Some(directory) = given("a b+c&d").filter(is_s3) else { return };
    let (job, neighbour) = (directory.join("job").unwrap(), directory.join("job2").unwrap());
    assert_eq!(job.list_uploads().await.unwrap(), Some(Vec::new()));
    let file = job.join("shared/file=1 ü").unwrap();
    begin(&file).await;
    begin(&file).await;
    begin(&neighbour.join("shared/other").unwrap()).await;
    let uploads = job.list_uploads().await.unwrap().unwrap();
    assert_eq!(uploads.len(), 2, "{uploads:?}");
    assert!(uploads.iter().all(|upload| upload.path == *file.name()) && uploads[0].id != uploads[1].id);
    let error = neighbour.abort_upload(&uploads[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    for upload in &uploads {
        job.abort_upload(upload).await.unwrap();
        // As when another has been there before.
        job.abort_upload(upload).await.unwrap();
    }
    assert_eq!(job.list_uploads().await.unwrap(), Some(Vec::new()));
    for upload in neighbour.list_uploads().await.unwrap().unwrap() {
        neighbour.abort_upload(&upload).await.unwrap();
    }
}

#[tokio::test]
async fn a_sweep_gives_up_what_is_old_enough() {
    let Some(directory) = given("sweep").filter(is_s3) else { return };
    let stores = Stores::new();
    let name = "ds1-a3-ww-c41-n0-00000000000000ff";
    begin(&directory.join(&format!("chk-41/{name}")).unwrap()).await;
    begin(&directory.join("taskowned/file").unwrap()).await;
    let orphan = directory.join(&format!("shared/{name}")).unwrap();
    orphan.create(vec![Bytes::from_static(b"orphan")]).await.unwrap();
    let started = directory.list_uploads().await.unwrap().unwrap()[0].started;
    let settings = SweepSettings { abandoned: true, ..SweepSettings::default() };
    let look = |now| Sweep::look(&stores, directory.name(), &settings, now);
    let day = Duration::from_secs(86_400);
    assert_eq!(look(started + day / 2).await.unwrap().found().dead.len(), 0);
    // Servers for tests have one time for the begin of all uploads.
    let written = orphan.list_file().await.unwrap().unwrap().modified.max(started);
    let sweep = look(written + 2 * day).await.unwrap();
    let dead: Vec<_> = sweep.found().dead.iter().map(|file| (file.below.clone(), file.kind)).collect();
    assert_eq!(dead, [(format!("chk-41/{name}"), Kind::Upload), (format!("shared/{name}"), Kind::File)]);
    let deleted = sweep.delete(&|_, _| {}).await;
    assert!(deleted.is_complete() && deleted.files.len() == 2, "{deleted:?}");
    let left = directory.list_uploads().await.unwrap().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    directory.abort_upload(&left[0]).await.unwrap();
    assert!(!orphan.exists().await.unwrap());
}
