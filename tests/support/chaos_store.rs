//! One store in memory that several processes share, each through a client of its own that can fail in every way a store
//! can: requests that come to nothing, whose answer is lost, that land long after they have failed or were given up;
//! bursts of refusals; listings in pages; processes that stall or die. All from one seed, on the runtime's paused clock.

#[path = "chaos_world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

pub use world::{Deed, Effect, Random, Watch, Weather};
use world::{Process, World, failed, missing};

#[derive(Clone)]
pub struct Chaos {
    world: Arc<Mutex<World>>,
    crashed: Arc<Notify>,
}

impl Chaos {
    /// To be called on the runtime whose clock it goes by.
    pub fn new(seed: u64, weather: Weather, watch: Watch) -> Self {
        let world = World::new(seed, weather, watch);
        Self { world: Arc::new(Mutex::new(world)), crashed: Arc::default() }
    }

    /// A process's own way to the store.
    pub fn client(&self, name: &str) -> Client {
        let mut world = self.world();
        let process =
            Process { name: name.to_owned(), is_dead: false, is_healed: false, stalled_until: 0, dies_in: None };
        world.processes.push(process);
        Client { chaos: self.clone(), number: world.processes.len() - 1 }
    }

    /// Conditional puts replace what is there.
    pub fn ignore_conditions(&self) {
        self.world().ignores_conditions = true;
    }

    /// Nothing fails any more, for anybody, and nothing that is on its way lands later than now.
    pub fn calm(&self) {
        let mut world = self.world();
        world.weather = Weather { slow_ms_max: world.weather.slow_ms_max, ..Weather::default() };
        world.throttled_until = 0;
        for (_, (client, effect)) in std::mem::take(&mut world.landing) {
            world.land(client, effect);
        }
        world.note("store", "calm", "", "");
    }

    /// Most requests of the next time are refused.
    pub fn throttle(&self, ms: u64) {
        let mut world = self.world();
        world.throttled_until = world.now() + ms;
        world.note("store", "throttle", "", "");
    }

    /// Waits until one of these has died.
    pub async fn crash_of(&self, clients: &[usize]) {
        loop {
            let mut crashed = std::pin::pin!(self.crashed.notified());
            crashed.as_mut().enable();
            if clients.iter().any(|&client| self.is_dead(client)) {
                return;
            }
            crashed.await;
        }
    }

    pub fn is_dead(&self, client: usize) -> bool {
        self.world().processes[client].is_dead
    }

    /// What is stored, as it is at this moment.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        let mut world = self.world();
        world.land_due();
        world.objects.clone()
    }

    /// Uploads in parts that were neither completed nor aborted.
    pub fn unfinished_uploads(&self) -> usize {
        self.world().uploads.len()
    }

    /// A line of the driver's own in the trace.
    pub fn say(&self, what: &str, about: &str) {
        self.world().note("driver", what, about, "");
    }

    pub fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    pub fn add(&self, what: &'static str, count: u64) {
        *self.world().counts.entry(what).or_default() += count;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.world().counts.clone()
    }

    pub fn now_ms(&self) -> u64 {
        self.world().now()
    }

    /// Ends the run: the trace is complete.
    pub fn end(&self) -> String {
        let mut world = self.world();
        world.is_over = true;
        std::mem::take(&mut world.trace)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

/// One process's view of the store. Clones are the same process.
#[derive(Clone)]
pub struct Client {
    chaos: Chaos,
    number: usize,
}

/// A request on its way: dropped, it may land all the same.
struct Flight {
    chaos: Chaos,
    id: u64,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut world = self.chaos.world();
        if !world.is_over {
            world.give_up(self.id);
        }
    }
}

impl Client {
    pub fn number(&self) -> usize {
        self.number
    }

    /// Dies now. What it has on its way lands or vanishes.
    pub fn crash(&self) {
        self.chaos.world().die(self.number);
        self.chaos.crashed.notify_waiters();
    }

    /// Dies at one of its next requests.
    pub fn crash_in(&self, operations: u64) {
        self.chaos.world().processes[self.number].dies_in = Some(operations);
    }

    /// All its requests hang so long, then go on.
    pub fn stall(&self, ms: u64) {
        let mut world = self.chaos.world();
        let until = world.now() + ms;
        let process = &mut world.processes[self.number];
        process.stalled_until = process.stalled_until.max(until);
        world.note_of(self.number, "stalls", "", "stalled");
    }

    /// Nothing fails for it any more, and it doesn't die.
    pub fn heal(&self) {
        let process = &mut self.chaos.world().processes[self.number];
        (process.is_healed, process.dies_in) = (true, None);
    }

    /// Does what is asked for, or fails in one of the ways there are.
    async fn run<T>(
        &self,
        what: &'static str,
        key: &str,
        effect: Option<Effect>,
        act: impl FnOnce(&mut World, Option<Effect>) -> Result<T>,
    ) -> Result<T> {
        let is_read = effect.is_none();
        let (fate, flight, dies) = {
            let mut world = self.chaos.world();
            world.land_due();
            *world.counts.entry("operations").or_default() += 1;
            world.next += 1;
            let id = world.next;
            if let Some(effect) = effect {
                let watch = world.watch.clone();
                watch(Deed { objects: &world.objects, client: self.number, effect: &effect, done: None });
                world.in_flight.insert(id, (self.number, effect));
            }
            let dies_in = &mut world.processes[self.number].dies_in;
            let dies = *dies_in == Some(0);
            *dies_in = dies_in.and_then(|more| more.checked_sub(1));
            (world.fate(self.number), Flight { chaos: self.chaos.clone(), id }, dies)
        };
        if dies {
            self.crash();
        }
        self.pass(fate.there).await;
        let done = {
            let mut world = self.chaos.world();
            world.land_due();
            let effect = world.in_flight.remove(&flight.id).map(|(_, effect)| effect);
            match fate.kind {
                kind @ ("throttled" | "failed before") => {
                    world.note_of(self.number, what, key, kind);
                    Err(failed(kind))
                }
                "failed, late" if !is_read => {
                    world.note_of(self.number, what, key, "failed, late");
                    effect.into_iter().for_each(|effect| world.land_later(self.number, effect));
                    Err(failed("timeout"))
                }
                kind => {
                    let is_flipped = kind == "flipped" && what == "get" && key.contains("/ds1-");
                    world.flips_next = is_flipped;
                    let done = act(&mut world, effect);
                    let is_lost = kind == "failed after" || kind == "broken" && what == "get";
                    let outcome = match &done {
                        _ if is_lost => kind,
                        Ok(_) if is_flipped => kind,
                        Ok(_) => "ok",
                        Err(Error::AlreadyExists { .. }) => "exists",
                        Err(_) => "none",
                    };
                    world.note_of(self.number, what, key, outcome);
                    if is_lost { Err(failed("no answer")) } else { done }
                }
            }
        };
        self.pass(fate.back).await;
        done
    }

    /// A way to or from the store; without end for a dead process.
    async fn pass(&self, ms: u64) {
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        loop {
            let until = {
                let world = self.chaos.world();
                let process = &world.processes[self.number];
                (!process.is_dead).then(|| world.started + Duration::from_millis(process.stalled_until))
            };
            match until {
                None => pending().await,
                Some(until) if until > Instant::now() => sleep_until(until).await,
                Some(_) => return,
            }
        }
    }

    async fn write(&self, what: &'static str, effect: Effect) -> Result<()> {
        let (number, key) = (self.number, effect.key().to_owned());
        self.run(what, &key, Some(effect), |world, effect| match effect {
            Some(effect) => world.apply(number, effect),
            None => Err(failed("nothing was asked for")),
        })
        .await
    }

    /// The next keys after one.
    async fn page(&self, prefix: &str, after: Option<String>) -> Result<Vec<ObjectMeta>> {
        let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        self.run("list", prefix, None, |world, _| {
            let length = 2 + world.random.below(20) as usize;
            let from = after.unwrap_or_default();
            let keys = world.objects.range(from.clone()..).filter(|(key, _)| **key != from && key.starts_with(&below));
            Ok(keys.take(length).map(|(key, bytes)| meta(key, bytes)).collect())
        })
        .await
    }
}

fn meta(key: &str, bytes: &Bytes) -> ObjectMeta {
    ObjectMeta {
        location: Path::from(key),
        last_modified: SystemTime::UNIX_EPOCH.into(),
        size: bytes.len() as u64,
        e_tag: None,
        version: None,
    }
}

fn joined(payload: PutPayload) -> Bytes {
    payload.into()
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("chaos")
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("chaos")
    }
}

#[async_trait]
impl ObjectStore for Client {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (key, bytes, create) = (at.to_string(), joined(payload), options.mode == PutMode::Create);
        self.write("put", Effect::Put { key, bytes, create }).await?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(&self, at: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = {
            let mut world = self.chaos.world();
            world.next += 1;
            world.next
        };
        self.write("start", Effect::Start { upload, key: at.to_string() }).await?;
        Ok(Box::new(Upload { client: self.clone(), upload, parts: 0 }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let what = if options.head { "head" } else { "get" };
        self.run(what, at.as_ref(), None, |world, _| {
            let bytes = world.objects.get(at.as_ref()).ok_or_else(|| missing(at.as_ref()))?;
            let length = bytes.len() as u64;
            let Range { start, end } = match options.range {
                None => 0..length,
                Some(GetRange::Bounded(range)) => range.start..range.end.min(length),
                Some(GetRange::Offset(from)) => from..length,
                Some(GetRange::Suffix(last)) => length.saturating_sub(last)..length,
            };
            if start > end {
                return Err(failed("a range beyond the end"));
            }
            let mut body = bytes.slice(start as usize..end as usize);
            if std::mem::take(&mut world.flips_next) && !body.is_empty() {
                let mut other = body.to_vec();
                let at = world.random.below(other.len() as u64) as usize;
                other[at] ^= 1;
                body = other.into();
            }
            let bytes = world.objects.get(at.as_ref()).ok_or_else(|| missing(at.as_ref()))?;
            let payload = GetResultPayload::Stream(stream::once(async move { Ok(body) }).boxed());
            Ok(GetResult {
                payload,
                meta: meta(at.as_ref(), bytes),
                range: start..end,
                attributes: Attributes::new(),
                extensions: Default::default(),
            })
        })
        .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let client = self.clone();
        let delete = move |at: Result<Path>| {
            let client = client.clone();
            async move {
                let at = at?;
                client.write("delete", Effect::Delete { key: at.to_string() }).await.map(|()| at)
            }
        };
        locations.then(delete).boxed()
    }

    /// Page by page, so that what changes meanwhile is seen in part.
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (client, prefix) = (self.clone(), prefix.map(Path::to_string).unwrap_or_default());
        let pages = stream::unfold(Some(None), move |after: Option<Option<String>>| {
            let (client, prefix) = (client.clone(), prefix.clone());
            async move {
                let page = client.page(&prefix, after?).await;
                let next = page.as_ref().ok().and_then(|page| page.last()).map(|last| Some(last.location.to_string()));
                Some((page, next))
            }
        });
        let items = |page: Result<Vec<ObjectMeta>>| match page {
            Ok(page) => stream::iter(page.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        };
        pages.flat_map(items).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.list(prefix);
        let below = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let mut level = ListResult { common_prefixes: Vec::new(), objects: Vec::new(), extensions: Default::default() };
        while let Some(meta) = listed.next().await.transpose()? {
            match meta.location.as_ref()[below.len()..].split_once('/') {
                None => level.objects.push(meta),
                Some((directory, _)) => {
                    let directory = Path::from(format!("{below}{directory}"));
                    if level.common_prefixes.last() != Some(&directory) {
                        level.common_prefixes.push(directory);
                    }
                }
            }
        }
        Ok(level)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "chaos".into() })
    }
}

#[derive(Debug)]
struct Upload {
    client: Client,
    upload: u64,
    parts: usize,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let (client, upload, part) = (self.client.clone(), self.upload, self.parts);
        self.parts += 1;
        Box::pin(async move { client.write("part", Effect::Part { upload, part, bytes: joined(payload) }).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.client.write("complete", Effect::Complete { upload: self.upload }).await?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn abort(&mut self) -> Result<()> {
        self.client.write("abort", Effect::Abort { upload: self.upload }).await
    }
}
