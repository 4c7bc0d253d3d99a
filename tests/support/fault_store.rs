//! A store that counts its operations and fails at those that a test names.

#![deny(clippy::missing_trait_methods, reason = "an operation that isn't counted can't fail")]

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::sync::Notify;

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing has happened.
    Before,
    /// It has happened, and the answer is lost.
    After,
    /// Nothing has happened, nor does anything later.
    Crash,
    /// It happens when the store is released, and so does all that is asked later.
    StallBefore,
    /// It has happened; the answer comes when the store is released, and nothing that is asked later happens before.
    StallAfter,
}

/// Wraps a store in memory. Clones are one store.
#[derive(Clone, Debug)]
pub struct FaultStore {
    inner: Arc<InMemory>,
    plan: Arc<Mutex<Plan>>,
    released: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Plan {
    /// By the operation's number, from 0.
    faults: BTreeMap<usize, Fault>,
    /// Put bytes until the store is full.
    bytes_left: Option<u64>,
    has_crashed: bool,
    stalls: bool,
    operations: Vec<String>,
    uploads_open: i64,
}

impl FaultStore {
    pub fn new(inner: Arc<InMemory>, faults: impl IntoIterator<Item = (usize, Fault)>) -> Self {
        let plan = Plan { faults: faults.into_iter().collect(), ..Plan::default() };
        Self { inner, plan: Arc::new(Mutex::new(plan)), released: Arc::default() }
    }

    #[allow(dead_code, reason = "not every test that uses this store fills it")]
    pub fn with_room(self, bytes: u64) -> Self {
        self.plan.lock().unwrap().bytes_left = Some(bytes);
        self
    }

    /// The next operations fail, and nothing has happened.
    #[allow(dead_code, reason = "not every test that uses this store says it so")]
    pub fn fail_next(&self, count: usize) {
        let mut plan = self.plan.lock().unwrap();
        let next = plan.operations.len();
        plan.faults.extend((next..next + count).map(|number| (number, Fault::Before)));
    }

    /// Counts from here on, and fails as it is told now.
    #[allow(dead_code, reason = "not every test that uses this store begins with what may not fail")]
    pub fn begin(&self, faults: impl IntoIterator<Item = (usize, Fault)>) {
        let mut plan = self.plan.lock().unwrap();
        plan.operations.clear();
        plan.faults = faults.into_iter().collect();
    }

    /// Nothing fails from here on.
    #[allow(dead_code, reason = "not every test that uses this store lets it recover")]
    pub fn heal(&self) {
        self.plan.lock().unwrap().faults.clear();
    }

    /// Is somebody kept waiting?
    #[allow(dead_code, reason = "not every test that uses this store has it stall")]
    pub fn stalls(&self) -> bool {
        self.plan.lock().unwrap().stalls
    }

    /// Nobody is kept waiting any more.
    #[allow(dead_code, reason = "not every test that uses this store has it stall")]
    pub fn release(&self) {
        self.plan.lock().unwrap().stalls = false;
        self.released.notify_waiters();
    }

    async fn until_released(&self) {
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            if !self.stalls() {
                return;
            }
            released.await;
        }
    }

    /// What was asked for, in order.
    pub fn operations(&self) -> Vec<String> {
        self.plan.lock().unwrap().operations.clone()
    }

    /// Uploads in parts that were neither completed nor aborted.
    pub fn uploads_open(&self) -> i64 {
        self.plan.lock().unwrap().uploads_open
    }

    /// Counts an operation, and fails it if it is its turn.
    async fn run<T>(&self, operation: String, puts: u64, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = {
            let mut plan = self.plan.lock().unwrap();
            let number = plan.operations.len();
            plan.operations.push(operation);
            let fault = plan.faults.get(&number).copied();
            plan.has_crashed |= fault == Some(Fault::Crash);
            plan.stalls |= fault == Some(Fault::StallBefore);
            if plan.has_crashed || fault == Some(Fault::Before) {
                return Err(failed(io::Error::other("injected failure")));
            }
            if let Some(left) = &mut plan.bytes_left {
                *left = left.checked_sub(puts).ok_or_else(|| failed(io::ErrorKind::StorageFull.into()))?;
            }
            fault
        };
        self.until_released().await;
        let done = effect.await;
        if fault == Some(Fault::StallAfter) {
            self.plan.lock().unwrap().stalls = true;
            self.until_released().await;
        }
        if fault == Some(Fault::After) {
            done.and(Err(failed(io::Error::other("injected loss of the answer"))))
        } else {
            done
        }
    }

    fn upload_ended(&self, is_open: &mut bool) {
        self.plan.lock().unwrap().uploads_open -= i64::from(std::mem::take(is_open));
    }
}

fn failed(error: io::Error) -> Error {
    Error::Generic { store: "faulty", source: Box::new(error) }
}

impl std::fmt::Display for FaultStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        self.run(format!("put {at}"), bytes, self.inner.put_opts(at, payload, options)).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let started = async {
            let inner = self.inner.put_multipart_opts(at, options).await?;
            self.plan.lock().unwrap().uploads_open += 1;
            Ok(inner)
        };
        let inner = self.run(format!("start {at}"), 0, started).await?;
        Ok(Box::new(FaultUpload { store: self.clone(), at: at.clone(), inner, is_open: true }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.run(format!("get {at}"), 0, self.inner.get_opts(at, options)).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.run(format!("get ranges of {at}"), 0, self.inner.get_ranges(at, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |at: Result<Path>| {
            let store = store.clone();
            async move {
                let at = at?;
                store.run(format!("delete {at}"), 0, store.inner.delete(&at)).await.map(|()| at)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, listed) = (self.clone(), self.inner.list(prefix));
        let listing = async move { store.run("list".to_owned(), 0, async { Ok(listed) }).await };
        stream::once(listing).flat_map(|done| done.unwrap_or_else(|e| stream::once(async { Err(e) }).boxed())).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, _: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.run("list a level".to_owned(), 0, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.run(format!("copy {to}"), 0, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.run(format!("rename {to}"), 0, self.inner.rename_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultUpload {
    store: FaultStore,
    at: Path,
    inner: Box<dyn MultipartUpload>,
    is_open: bool,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let (store, at, bytes) = (self.store.clone(), self.at.clone(), payload.content_length() as u64);
        let part = self.inner.put_part(payload);
        Box::pin(async move { store.run(format!("part of {at}"), bytes, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (store, inner, is_open) = (self.store.clone(), &mut self.inner, &mut self.is_open);
        let complete = async { inner.complete().await.inspect(|_| store.upload_ended(is_open)) };
        store.run(format!("complete {}", self.at), 0, complete).await
    }

    async fn abort(&mut self) -> Result<()> {
        let (store, inner, is_open) = (self.store.clone(), &mut self.inner, &mut self.is_open);
        let abort = async { inner.abort().await.inspect(|()| store.upload_ended(is_open)) };
        store.run(format!("abort {}", self.at), 0, abort).await
    }
}
