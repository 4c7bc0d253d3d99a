//! A layer around a store that counts its operations and stops the world at one of them, as a crash does: that operation
//! and all later ones are never answered.
//!
//! What had been asked for and not answered may have happened or not: [`CrashStore::decide`] says so afterwards.

#![deny(clippy::missing_trait_methods, reason = "an operation that isn't counted can't be cut")]

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::sync::Notify;

/// What becomes of an operation that was never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Vanishes,
    Lands,
    /// A local disk keeps half of what was to be put, as a file in the making.
    Tears,
}

/// Where the crash is, by the operation's number from 0.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub at: usize,
    /// Of this operation.
    pub own: Fate,
    /// Of the others that are under way.
    pub others: Fate,
}

/// An operation, as a run without a crash saw it.
#[derive(Clone, Debug)]
pub struct Operation {
    pub name: String,
    /// Does it change anything?
    pub changes: bool,
    /// Of those under way beside it, how many do.
    pub beside: usize,
}

/// Clones are one store, and so are all that one plan is laid around.
#[derive(Clone, Debug)]
pub struct CrashStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Plan>,
    /// Operations of a local disk are done at once, on a thread of their own, so that their order can be repeated.
    on_disk: bool,
}

#[derive(Debug, Default)]
pub struct Plan {
    cut: Option<Cut>,
    seen: Mutex<Seen>,
    crash: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    operations: Vec<Operation>,
    unanswered: BTreeMap<usize, Change>,
    has_crashed: bool,
}

type Shared = Arc<Mutex<Option<Box<dyn MultipartUpload>>>>;

#[derive(Debug)]
enum Change {
    Put(Path, PutPayload, PutOptions),
    Delete(Path),
    Complete(Shared),
}

impl Plan {
    pub fn of(cut: Option<Cut>) -> Arc<Self> {
        Arc::new(Self { cut, ..Self::default() })
    }

    pub fn operations(&self) -> Vec<Operation> {
        self.seen.lock().unwrap().operations.clone()
    }

    pub fn has_crashed(&self) -> bool {
        self.seen.lock().unwrap().has_crashed
    }

    /// Until the crash.
    pub async fn crash(&self) {
        while !self.has_crashed() {
            self.crash.notified().await;
        }
    }

    /// Counts an operation; `None` if it is never answered.
    fn begin(&self, name: String, change: Option<Change>) -> Option<usize> {
        let mut seen = self.seen.lock().unwrap();
        if seen.has_crashed {
            return None;
        }
        let number = seen.operations.len();
        let (changes, beside) = (change.is_some(), seen.unanswered.len());
        seen.operations.push(Operation { name, changes, beside });
        if let Some(change) = change {
            seen.unanswered.insert(number, change);
        }
        if self.cut.is_some_and(|cut| cut.at == number) {
            seen.has_crashed = true;
            self.crash.notify_waiters();
            self.crash.notify_one();
            return None;
        }
        Some(number)
    }

    fn end(&self, number: usize) {
        self.seen.lock().unwrap().unanswered.remove(&number);
    }
}

impl CrashStore {
    pub fn new(inner: Arc<dyn ObjectStore>, plan: Arc<Plan>, on_disk: bool) -> Self {
        Self { inner, plan, on_disk }
    }

    /// After the crash, when nothing runs any more: what was unanswered happens, or doesn't. `disk` is the root of a
    /// local store.
    pub fn decide(inner: &dyn ObjectStore, plan: &Plan, disk: bool) {
        let Some(cut) = plan.cut else { return };
        let unanswered = std::mem::take(&mut plan.seen.lock().unwrap().unanswered);
        for (number, change) in unanswered {
            let fate = if number == cut.at { cut.own } else { cut.others };
            match (fate, change) {
                (Fate::Lands, Change::Put(at, payload, options)) => {
                    // What is there already keeps a create-only put out, then as later.
                    let _ = at_once(inner.put_opts(&at, payload, options));
                }
                (Fate::Lands, Change::Delete(at)) => {
                    let _ = at_once(inner.delete(&at));
                }
                (Fate::Lands, Change::Complete(upload)) => {
                    let upload = upload.lock().unwrap().take();
                    let _ = upload.map(|mut upload| at_once(upload.complete()));
                }
                (Fate::Tears, Change::Put(at, payload, _)) if disk => {
                    let half: Vec<u8> = payload.iter().flatten().copied().take(payload.content_length() / 2).collect();
                    let path = PathBuf::from(format!("/{at}#1"));
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, half).unwrap();
                }
                (_, Change::Complete(upload)) => leave(&upload),
                _ => {}
            }
        }
    }

    async fn run<T: Send>(
        &self,
        name: String,
        change: Option<Change>,
        effect: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let Some(number) = self.plan.begin(name, change) else { return std::future::pending().await };
        // Others begin.
        tokio::task::yield_now().await;
        if self.plan.has_crashed() {
            return std::future::pending().await;
        }
        let done = if self.on_disk {
            std::thread::scope(|scope| scope.spawn(|| at_once(effect)).join().unwrap())
        } else {
            effect.await
        };
        self.plan.end(number);
        done
    }
}

/// On this thread, which no runtime has.
fn at_once<T>(operation: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(operation)
}

/// A dead process removes nothing: a local upload that is dropped would remove its file in the making.
fn leave(upload: &Shared) {
    if let Some(upload) = upload.lock().unwrap().take() {
        std::mem::forget(upload);
    }
}

impl std::fmt::Display for CrashStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("crashing")
    }
}

#[async_trait]
impl ObjectStore for CrashStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let change = Change::Put(at.clone(), payload.clone(), options.clone());
        self.run(format!("put {at}"), Some(change), self.inner.put_opts(at, payload, options)).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.run(format!("start {at}"), None, self.inner.put_multipart_opts(at, options)).await?;
        let inner = Arc::new(Mutex::new(Some(inner)));
        Ok(Box::new(CrashUpload { store: self.clone(), at: at.clone(), inner }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.run(format!("get {at}"), None, self.inner.get_opts(at, options)).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.run(format!("get ranges of {at}"), None, self.inner.get_ranges(at, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |at: Result<Path>| {
            let store = store.clone();
            async move {
                let at = at?;
                let change = Some(Change::Delete(at.clone()));
                store.run(format!("delete {at}"), change, store.inner.delete(&at)).await.map(|()| at)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, listed) = (self.clone(), self.inner.list(prefix));
        let all = async move {
            let all = async { Ok(listed.collect::<Vec<_>>().await) };
            match store.run("list".to_owned(), None, all).await {
                Ok(all) => all,
                Err(error) => vec![Err(error)],
            }
        };
        stream::once(all).flat_map(stream::iter).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, _: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.run("list a level".to_owned(), None, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        panic!("the library doesn't copy within a store")
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        panic!("the library doesn't rename within a store")
    }
}

#[derive(Debug)]
struct CrashUpload {
    store: CrashStore,
    at: Path,
    inner: Shared,
}

#[async_trait]
impl MultipartUpload for CrashUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let store = self.store.clone();
        let part = self.inner.lock().unwrap().as_mut().map(|inner| inner.put_part(payload));
        let name = format!("part of {}", self.at);
        Box::pin(async move {
            match part {
                Some(part) => store.run(name, None, part).await,
                None => std::future::pending().await,
            }
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let taken = self.inner.clone();
        let complete = async move {
            let mut upload = taken.lock().unwrap().take().unwrap();
            upload.complete().await
        };
        let change = Some(Change::Complete(self.inner.clone()));
        self.store.run(format!("complete {}", self.at), change, complete).await
    }

    async fn abort(&mut self) -> Result<()> {
        let taken = self.inner.clone();
        let abort = async move {
            let mut upload = taken.lock().unwrap().take().unwrap();
            upload.abort().await
        };
        self.store.run(format!("abort {}", self.at), None, abort).await
    }
}

impl Drop for CrashUpload {
    fn drop(&mut self) {
        // One that was being completed is decided on later.
        if self.store.plan.has_crashed() && Arc::strong_count(&self.inner) == 1 {
            leave(&self.inner);
        }
    }
}
