//! A store in memory that keeps a record, and treats requests as a test's rules say.

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

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It waits until the rules are gone.
    Hang,
    /// It fails, and nothing has happened.
    Fail,
    /// It happens, and the answer is an error.
    LoseAnswer,
}

/// Requests whose text begins so and holds that are treated so, so often.
#[derive(Debug)]
struct Rule {
    operation: &'static str,
    part: String,
    act: Act,
    times: usize,
}

/// Clones are one store. A request's text is what it does and its key, as in `put a/b`.
#[derive(Clone, Debug, Default)]
pub struct RuleStore {
    inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
    released: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    requests: Vec<String>,
    uploads_open: i64,
}

impl RuleStore {
    /// The next `times` requests like this.
    pub fn rule(&self, operation: &'static str, part: &str, act: Act, times: usize) {
        self.state.lock().unwrap().rules.push(Rule { operation, part: part.to_owned(), act, times });
    }

    /// All requests go through again, those that hang as well.
    pub fn obey(&self) {
        self.state.lock().unwrap().rules.clear();
        self.released.notify_waiters();
    }

    /// How many requests there were like this.
    pub fn count(&self, operation: &str, part: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|r| r.starts_with(operation) && r.contains(part)).count()
    }

    pub fn forget_requests(&self) {
        self.state.lock().unwrap().requests.clear();
    }

    /// Uploads in parts that were neither completed nor aborted.
    pub fn uploads_open(&self) -> i64 {
        self.state.lock().unwrap().uploads_open
    }

    async fn run<T>(&self, request: String, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let act = self.act(&request);
        self.state.lock().unwrap().requests.push(request);
        match act {
            Some(Act::Fail) => return Err(failed("told to fail")),
            Some(Act::Hang) => self.until_released().await,
            Some(Act::LoseAnswer) | None => {}
        }
        let done = effect.await;
        if act == Some(Act::LoseAnswer) { done.and(Err(failed("told to lose the answer"))) } else { done }
    }

    fn act(&self, request: &str) -> Option<Act> {
        let mut state = self.state.lock().unwrap();
        let is_meant =
            |rule: &&mut Rule| rule.times > 0 && request.starts_with(rule.operation) && request.contains(&rule.part);
        let rule = state.rules.iter_mut().find(is_meant)?;
        rule.times -= 1;
        Some(rule.act)
    }

    async fn until_released(&self) {
        self.released.notified().await;
    }

    fn upload_ended(&self, is_open: &mut bool) {
        self.state.lock().unwrap().uploads_open -= i64::from(std::mem::take(is_open));
    }
}

fn failed(text: &'static str) -> Error {
    Error::Generic { store: "Rules", source: text.into() }
}

impl std::fmt::Display for RuleStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rules")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for RuleStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.run(format!("put {at}"), self.inner.put_opts(at, payload, options)).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let started = async {
            let inner = self.inner.put_multipart_opts(at, options).await?;
            self.state.lock().unwrap().uploads_open += 1;
            Ok(inner)
        };
        let inner = self.run(format!("start {at}"), started).await?;
        Ok(Box::new(RuleUpload { store: self.clone(), at: at.clone(), inner, is_open: true }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { "head" } else { "get" };
        self.run(format!("{operation} {at}"), self.inner.get_opts(at, options)).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.run(format!("get {at}"), self.inner.get_ranges(at, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |at: Result<Path>| {
            let store = store.clone();
            async move {
                let at = at?;
                store.run(format!("delete {at}"), store.inner.delete(&at)).await.map(|()| at)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, listed) = (self.clone(), self.inner.list(prefix));
        let listing = async move { store.run("list".to_owned(), async { Ok(listed) }).await };
        stream::once(listing).flat_map(|done| done.unwrap_or_else(|e| stream::once(async { Err(e) }).boxed())).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, _: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.run("list".to_owned(), self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.run(format!("copy {to}"), self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.run(format!("rename {to}"), self.inner.rename_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct RuleUpload {
    store: RuleStore,
    at: Path,
    inner: Box<dyn MultipartUpload>,
    is_open: bool,
}

#[async_trait]
impl MultipartUpload for RuleUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let (store, at, part) = (self.store.clone(), self.at.clone(), self.inner.put_part(payload));
        Box::pin(async move { store.run(format!("part {at}"), part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (store, inner, is_open) = (self.store.clone(), &mut self.inner, &mut self.is_open);
        let complete = async { inner.complete().await.inspect(|_| store.upload_ended(is_open)) };
        store.run(format!("complete {}", self.at), complete).await
    }

    async fn abort(&mut self) -> Result<()> {
        let (store, inner, is_open) = (self.store.clone(), &mut self.inner, &mut self.is_open);
        let abort = async { inner.abort().await.inspect(|()| store.upload_ended(is_open)) };
        store.run(format!("abort {}", self.at), abort).await
    }
}
