//! A store that takes as long as S3 does, by the tokio clock: on a paused one, a run's time is that of its requests alone
//! and the same every time.
//!
//! Each request takes a time to its first byte and its bytes' time on a connection of its own, of which there may be any
//! number; what changes something and what reads has a limit of requests a second each, past which they wait in turn.
//! What it leaves out: slow requests among quick ones, the client's processor and network, refusals (503) and their
//! retries, and that a prefix gets its limit only after a while.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::time::{Instant, sleep_until};

/// What the store can do.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub first_byte: Duration,
    /// Of one connection.
    pub bytes_per_second: f64,
    pub writes_per_second: f64,
    pub reads_per_second: f64,
}

/// In the same region, one prefix.
pub const S3: Terms = Terms {
    first_byte: Duration::from_millis(30),
    bytes_per_second: 90e6,
    writes_per_second: 3_500.0,
    reads_per_second: 5_500.0,
};

/// Requests of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Puts, and starts, parts and ends of uploads: what S3 bills as a put.
    pub writes: u64,
    pub reads: u64,
    pub deletes: u64,
    pub lists: u64,
}

#[derive(Clone, Debug)]
pub struct S3Model {
    objects: Arc<InMemory>,
    terms: Terms,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    asked: Asked,
    /// When the next request of the kind may start.
    next_write: Option<Instant>,
    next_read: Option<Instant>,
}

/// S3 deletes so many with one request.
const DELETED_AT_ONCE: usize = 1000;

impl S3Model {
    pub fn new(terms: Terms) -> Self {
        Self { objects: Arc::default(), terms, state: Arc::default() }
    }

    /// Since the last call.
    pub fn take_asked(&self) -> Asked {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    async fn write(&self, bytes: usize, count: impl FnOnce(&mut Asked)) {
        let start = {
            let mut state = self.state.lock().unwrap();
            count(&mut state.asked);
            turn(&mut state.next_write, self.terms.writes_per_second)
        };
        self.take(start, bytes as u64).await;
    }

    async fn read(&self, bytes: u64, count: impl FnOnce(&mut Asked)) {
        let start = {
            let mut state = self.state.lock().unwrap();
            count(&mut state.asked);
            turn(&mut state.next_read, self.terms.reads_per_second)
        };
        self.take(start, bytes).await;
    }

    async fn take(&self, start: Instant, bytes: u64) {
        sleep_until(
            start + self.terms.first_byte + Duration::from_secs_f64(bytes as f64 / self.terms.bytes_per_second),
        )
        .await;
    }
}

/// When this one may start: at once, or when those before it have had their turn.
fn turn(next: &mut Option<Instant>, per_second: f64) -> Instant {
    let now = Instant::now();
    let start = next.map_or(now, |next| next.max(now));
    *next = Some(start + Duration::from_secs_f64(1.0 / per_second));
    start
}

impl fmt::Display for S3Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a model of S3")
    }
}

#[async_trait]
impl ObjectStore for S3Model {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.write(payload.content_length(), |asked| asked.writes += 1).await;
        self.objects.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(&self, at: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.write(0, |asked| asked.writes += 1).await;
        Ok(Box::new(Upload { store: self.clone(), at: at.clone(), parts: Arc::default(), started: 0 }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let found = self.objects.get_opts(at, options).await;
        let bytes = match &found {
            Ok(found) if !is_head => found.range.end - found.range.start,
            _ => 0,
        };
        self.read(bytes, |asked| asked.reads += 1).await;
        found
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let batches = locations.ready_chunks(DELETED_AT_ONCE).then(move |batch| {
            let store = store.clone();
            async move {
                store.write(0, |asked| asked.deletes += 1).await;
                let mut done = Vec::new();
                for at in batch {
                    done.push(match at {
                        // S3 doesn't tell whether it was there.
                        Ok(at) => store.objects.delete(&at).await.map(|()| at),
                        Err(error) => Err(error),
                    });
                }
                futures::stream::iter(done)
            }
        });
        batches.flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, listed) = (self.clone(), self.objects.list(prefix));
        async move { store.read(0, |asked| asked.lists += 1).await }.map(|()| listed).flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read(0, |asked| asked.lists += 1).await;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.write(0, |asked| asked.writes += 1).await;
        self.objects.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Upload {
    store: S3Model,
    at: Path,
    parts: Arc<Mutex<Vec<(usize, Bytes)>>>,
    started: usize,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let (store, parts, number) = (self.store.clone(), self.parts.clone(), self.started);
        self.started += 1;
        async move {
            store.write(payload.content_length(), |asked| asked.writes += 1).await;
            parts.lock().unwrap().push((number, payload.into()));
            Ok(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.store.write(0, |asked| asked.writes += 1).await;
        let mut parts = std::mem::take(&mut *self.parts.lock().unwrap());
        parts.sort_by_key(|(number, _)| *number);
        let whole = parts.into_iter().map(|(_, bytes)| bytes).collect::<PutPayload>();
        self.store.objects.put(&self.at, whole).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.write(0, |asked| asked.deletes += 1).await;
        Ok(())
    }
}
