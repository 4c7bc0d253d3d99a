//! What is asked of a store, and what becomes of its failures.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use drystone::ErrorKind;
use drystone::store::{FlinkPath, Location, Stores};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// What a store was asked, and how it is to answer.
#[derive(Debug, Default)]
struct Script {
    requests: Mutex<Vec<&'static str>>,
    /// As plain HTTP.
    has_no_conditions: AtomicBool,
    parts_fail: AtomicBool,
    part_bytes: Mutex<Vec<usize>>,
    in_flight: AtomicUsize,
    in_flight_max: AtomicUsize,
}

impl Script {
    fn note(&self, request: &'static str) {
        self.requests.lock().unwrap().push(request);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

#[derive(Debug)]
struct Scripted(InMemory, Arc<Script>);

impl fmt::Display for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Scripted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.1.note(if opts.mode == PutMode::Create { "create" } else { "put" });
        if opts.mode == PutMode::Create && self.1.has_no_conditions.load(SeqCst) {
            return Err(Error::NotImplemented { operation: "create".into(), implementer: self.to_string() });
        }
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, at: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.1.note("multipart");
        if self.1.has_no_conditions.load(SeqCst) {
            return Err(Error::NotImplemented { operation: "multipart".into(), implementer: self.to_string() });
        }
        let upload = self.0.put_multipart_opts(at, opts).await?;
        Ok(Box::new(ScriptedUpload(upload, Arc::clone(&self.1))))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.1.note(if options.head { "head" } else { "get" });
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.1.note("ranges");
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.1.note("delete");
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.1.note("list");
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.1.note("list");
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.1.note("list");
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.1.note("copy");
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.1.note("rename");
        self.0.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct ScriptedUpload(Box<dyn MultipartUpload>, Arc<Script>);

#[async_trait]
impl MultipartUpload for ScriptedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let script = Arc::clone(&self.1);
        script.part_bytes.lock().unwrap().push(data.content_length());
        let part = self.0.put_part(data);
        Box::pin(async move {
            let in_flight = script.in_flight.fetch_add(1, SeqCst) + 1;
            script.in_flight_max.fetch_max(in_flight, SeqCst);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            script.in_flight.fetch_sub(1, SeqCst);
            if script.parts_fail.load(SeqCst) {
                let source = std::io::Error::from(std::io::ErrorKind::StorageFull).into();
                return Err(Error::Generic { store: "Scripted", source });
            }
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.1.note("complete");
        self.0.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.1.note("abort");
        self.0.abort().await
    }
}

fn scripted() -> (Location, Arc<Script>) {
    let script = Arc::new(Script::default());
    let root = FlinkPath::parse("s3://bucket/").unwrap();
    let stores = Stores::new().with_store(&root, Arc::new(Scripted(InMemory::new(), Arc::clone(&script))));
    (stores.locate(&root.join("dir/file").unwrap()).unwrap(), script)
}

#[tokio::test]
async fn an_operation_is_one_request() {
    let (file, script) = scripted();
    file.create(vec![Bytes::from_static(b"0123456789")]).await.unwrap();
    assert_eq!(script.take(), ["create"]);
    file.read(2..4).await.unwrap();
    assert_eq!(script.take(), ["get"]);
    assert_eq!(file.read_sized(2..4).await.unwrap().1, 10);
    assert_eq!(script.take(), ["get"]);
    file.read(3..3).await.unwrap();
    assert_eq!(script.take(), [""; 0]);
    file.read_sized(3..3).await.unwrap();
    assert_eq!(script.take(), ["head"]);
    file.read_all(10).await.unwrap();
    assert_eq!(script.take(), ["get"]);
    // A start past the end is told from other failures by a second one.
    assert_eq!(file.read(10..11).await.unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(script.take(), ["get", "head"]);
    file.list_dir().await.unwrap();
    assert_eq!(script.take(), ["list"]);
    file.delete().await.unwrap();
    assert_eq!(script.take(), ["delete"]);
}

#[tokio::test]
async fn without_conditions_a_file_is_looked_for() {
    let (file, script) = scripted();
    script.has_no_conditions.store(true, SeqCst);
    file.create(vec![Bytes::from_static(b"first")]).await.unwrap();
    assert_eq!(script.take(), ["create", "head", "put"]);
    let error = file.create(vec![Bytes::from_static(b"second")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(script.take(), ["create", "head"]);
    assert_eq!(file.read_all(100).await.unwrap(), "first");
}

#[tokio::test]
async fn a_short_upload_is_one_put() {
    let (file, script) = scripted();
    let mut upload = file.create_multipart().await.unwrap();
    upload.write(Bytes::from_static(b"first ")).await.unwrap();
    upload.write(Bytes::from_static(b"content")).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(script.take(), ["head", "create"]);
    assert_eq!(file.read_all(100).await.unwrap(), "first content");
}

#[tokio::test]
async fn parts_are_equal_and_few_at_a_time() {
    let (file, script) = scripted();
    let mut upload = file.create_multipart().await.unwrap();
    upload.write(Bytes::from(vec![1; 3 << 20])).await.unwrap();
    upload.write(Bytes::from(vec![2; 90 << 20])).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(script.take(), ["head", "multipart", "complete"]);
    let part_bytes = script.part_bytes.lock().unwrap().clone();
    assert_eq!(part_bytes[..11], [8 << 20; 11]);
    assert_eq!(part_bytes[11..], [5 << 20]);
    assert_eq!(script.in_flight_max.load(SeqCst), 4);
    let bytes = file.read_all(93 << 20).await.unwrap();
    assert!(bytes.len() == 93 << 20 && bytes[(3 << 20) - 1] == 1 && bytes[3 << 20] == 2);
}

#[tokio::test]
async fn a_failed_upload_stays_failed() {
    let (file, script) = scripted();
    script.parts_fail.store(true, SeqCst);
    let mut upload = file.create_multipart().await.unwrap();
    let error = upload.write(Bytes::from(vec![1; 60 << 20])).await.unwrap_err();
    let cause = std::io::Error::from(std::io::ErrorKind::StorageFull).to_string();
    assert!(error.kind() == ErrorKind::Store && error.to_string().contains(&cause), "{error}");
    assert!(error.to_string().contains("s3://bucket/dir/file"), "{error}");
    script.parts_fail.store(false, SeqCst);
    assert!(upload.write(Bytes::new()).await.unwrap_err().to_string().contains("failed before"));
    upload.abort().await.unwrap();
    assert!(!file.exists().await.unwrap());
    assert_eq!(script.take(), ["head", "multipart", "abort", "head"]);
}

#[tokio::test]
async fn an_upload_that_can_not_complete_is_aborted() {
    let (file, script) = scripted();
    let mut upload = file.create_multipart().await.unwrap();
    script.parts_fail.store(true, SeqCst);
    upload.write(Bytes::from(vec![1; 9 << 20])).await.unwrap();
    assert_eq!(upload.complete().await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(script.take(), ["head", "multipart", "abort"]);
    let mut upload = file.create_multipart().await.unwrap();
    upload.write(Bytes::from(vec![1; 60 << 20])).await.unwrap_err();
    upload.complete().await.unwrap_err();
    assert_eq!(script.take(), ["head", "multipart", "abort"]);
    assert!(!file.exists().await.unwrap());
}

#[tokio::test]
async fn a_file_of_two_parts_goes_in_parts_and_a_shorter_one_in_one_piece() {
    let (file, script) = scripted();
    let bytes = |length: usize| (0..length).map(|n| (n % 251) as u8).collect::<Bytes>();
    for (length, part_bytes, requests, parts) in [
        (1999, 1000, &["create"][..], &[][..]),
        (2000, 1000, &["multipart", "complete"], &[1000, 1000]),
        (3500, 1000, &["multipart", "complete"], &[1000, 1000, 1000, 500]),
        (3500, 0, &["create"], &[]),
        (3500, u64::MAX, &["create"], &[]),
    ] {
        let whole = bytes(length);
        let chunks = vec![whole.slice(..700), Bytes::new(), whole.slice(700..)];
        file.create_own_in_parts(chunks, part_bytes).await.unwrap();
        assert_eq!(script.take(), requests, "{length} in parts of {part_bytes}");
        assert_eq!(std::mem::take(&mut *script.part_bytes.lock().unwrap()), parts);
        assert_eq!(file.read_all(10_000).await.unwrap(), whole);
        file.delete().await.unwrap();
        script.take();
    }
    // Plain HTTP knows no parts.
    script.has_no_conditions.store(true, SeqCst);
    file.create_own_in_parts(vec![bytes(3500)], 1000).await.unwrap();
    assert_eq!(script.take(), ["multipart", "create", "head", "put"]);
    assert_eq!(file.read_all(10_000).await.unwrap(), bytes(3500));
}
