//! A store in memory that counts what is on its way, and waits or fails when told to.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::sync::Semaphore;

/// One kind of request: how many there were, and what becomes of them.
#[derive(Debug)]
pub struct Requests {
    /// Each request uses one permit up before it goes on.
    pub gate: Semaphore,
    /// The text that requests fail with.
    pub failure: Mutex<Option<&'static str>>,
    pub count: AtomicU64,
    pub in_flight: AtomicU64,
    pub in_flight_max: AtomicU64,
}

/// What a store was asked.
#[derive(Debug, Default)]
pub struct Watch {
    pub puts: Requests,
    pub gets: Requests,
    pub deletes: Requests,
    pub parts: Requests,
    /// What was put, in the order of the requests.
    pub payloads: Mutex<Vec<PutPayload>>,
    /// Uploads in parts that were started and neither completed nor aborted.
    pub uploads_left: AtomicU64,
    /// Bytes of reads that were started; whoever uses them up takes them off.
    pub bytes_read: AtomicU64,
    pub bytes_read_max: AtomicU64,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            failure: Mutex::default(),
            count: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            in_flight_max: AtomicU64::default(),
        }
    }
}

impl Requests {
    async fn pass(&self) -> Result<InFlight<'_>> {
        self.count.fetch_add(1, SeqCst);
        let in_flight = self.in_flight.fetch_add(1, SeqCst) + 1;
        self.in_flight_max.fetch_max(in_flight, SeqCst);
        let passing = InFlight(self);
        self.gate.acquire().await.unwrap().forget();
        match *self.failure.lock().unwrap() {
            Some(text) => Err(Error::Generic { store: "Watched", source: text.into() }),
            None => Ok(passing),
        }
    }
}

struct InFlight<'a>(&'a Requests);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}

#[derive(Debug, Default)]
pub struct WatchedStore {
    objects: InMemory,
    watch: Arc<Watch>,
}

impl WatchedStore {
    pub fn new(watch: Arc<Watch>) -> Self {
        Self { objects: InMemory::new(), watch }
    }
}

impl fmt::Display for WatchedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for WatchedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let _passing = self.watch.puts.pass().await?;
        self.watch.payloads.lock().unwrap().push(payload.clone());
        self.objects.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, at: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.objects.put_multipart_opts(at, opts).await?;
        self.watch.uploads_left.fetch_add(1, SeqCst);
        Ok(Box::new(WatchedUpload { upload, watch: self.watch.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let _passing = self.watch.gets.pass().await?;
        let is_head = options.head;
        let found = self.objects.get_opts(location, options).await?;
        if !is_head {
            let length = found.range.end - found.range.start;
            let started = self.watch.bytes_read.fetch_add(length, SeqCst) + length;
            self.watch.bytes_read_max.fetch_max(started, SeqCst);
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.objects.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.watch.deletes.count.fetch_add(1, SeqCst);
        // A failure is of one delete only.
        match self.watch.deletes.failure.lock().unwrap().take() {
            Some(text) => {
                let error = Error::Generic { store: "Watched", source: text.into() };
                Box::pin(futures::stream::once(std::future::ready(Err(error))))
            }
            None => self.objects.delete_stream(locations),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.objects.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct WatchedUpload {
    upload: Box<dyn MultipartUpload>,
    watch: Arc<Watch>,
}

#[async_trait]
impl MultipartUpload for WatchedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, watch) = (self.upload.put_part(data), self.watch.clone());
        Box::pin(async move {
            let _passing = watch.parts.pass().await?;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.upload.complete().await?;
        self.watch.uploads_left.fetch_sub(1, SeqCst);
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.watch.uploads_left.fetch_sub(1, SeqCst);
        self.upload.abort().await
    }
}
