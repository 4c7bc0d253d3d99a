//! Requests are counted by kind, in stores that are opened and in stores that are given.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use drystone::metrics::RequestKind;
use drystone::store::{FlinkPath, Location, Requests, Stores};
use object_store::memory::InMemory;

async fn counted<T>(stores: &Stores, asked: impl Future<Output = drystone::Result<T>>) -> Requests {
    let before = stores.requests();
    asked.await.unwrap();
    stores.requests() - before
}

/// The same in every store.
async fn counts_each_kind(stores: &Stores, directory: Location) {
    let file = directory.join("a").unwrap();
    let only = |kinds: &[(RequestKind, u64)]| {
        let counts =
            |requests: Requests| requests.by_kind().into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
        let expected = kinds.to_vec();
        move |requests: Requests| assert_eq!(counts(requests), expected)
    };
    only(&[(RequestKind::Put, 1)])(counted(stores, file.create(vec![Bytes::from_static(b"abc")])).await);
    only(&[(RequestKind::Get, 1)])(counted(stores, file.read(1..3)).await);
    only(&[(RequestKind::Get, 1)])(counted(stores, file.read_all(3)).await);
    only(&[(RequestKind::Head, 1)])(counted(stores, file.size()).await);
    only(&[(RequestKind::List, 1)])(counted(stores, directory.list()).await);
    only(&[(RequestKind::List, 1)])(counted(stores, directory.list_dir()).await);
    let in_parts = async {
        let mut upload = directory.join("b")?.create_multipart().await?;
        upload.write(Bytes::from(vec![7; (16 << 20) + 1])).await?;
        upload.complete().await
    };
    only(&[
        (RequestKind::MultipartCreate, 1),
        (RequestKind::MultipartPart, 3),
        (RequestKind::MultipartComplete, 1),
        (RequestKind::Head, 1),
    ])(counted(stores, in_parts).await);
    let given_up = async {
        let mut upload = directory.join("c")?.create_multipart().await?;
        upload.write(Bytes::from(vec![7; 8 << 20])).await?;
        upload.abort().await
    };
    let requests = counted(stores, given_up).await;
    assert_eq!((requests.multipart_create, requests.multipart_abort, requests.multipart_complete), (1, 1, 0));
    only(&[(RequestKind::Delete, 1)])(counted(stores, file.delete()).await);
    // What fails was asked for all the same.
    let before = stores.requests();
    file.read(0..1).await.unwrap_err();
    assert_eq!((stores.requests() - before).get, 1);
}

#[tokio::test]
async fn of_a_store_that_is_opened() {
    let stores = Stores::new();
    let directory = stores.clone().locate(&FlinkPath::parse("memory:/x").unwrap()).unwrap();
    counts_each_kind(&stores, directory).await;
}

#[tokio::test]
async fn of_a_local_disk() {
    let directory = tempfile::tempdir().unwrap();
    let stores = Stores::new();
    let path = FlinkPath::parse(directory.path().to_str().unwrap()).unwrap();
    counts_each_kind(&stores, stores.locate(&path).unwrap()).await;
}

#[tokio::test]
async fn of_a_store_that_is_given() {
    let path = FlinkPath::parse("s3://bucket/x").unwrap();
    let stores = Stores::new().with_store(&path, Arc::new(InMemory::new()));
    counts_each_kind(&stores, stores.locate(&path).unwrap()).await;
}

#[test]
fn sums_and_differences_take_every_kind() {
    let one = Requests {
        put: 1,
        multipart_create: 2,
        multipart_part: 3,
        multipart_complete: 4,
        multipart_abort: 5,
        get: 6,
        head: 7,
        list: 8,
        delete: 9,
        copy: 10,
    };
    assert_eq!(one.total(), 55);
    assert_eq!((one + one).by_kind().map(|(_, count)| count), [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
    assert_eq!(one + one - one, one);
    assert_eq!(one - (one + one), Requests::default());
}
