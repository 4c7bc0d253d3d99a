//! How often a store is asked, by kind of request.

use std::fmt;
use std::ops::{Add, AddAssign, Range, Sub, SubAssign};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tracing::{Instrument, Level};

use crate::metrics::{self, RequestKind};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Requests by kind: all that were begun, also those that failed.
///
/// What a store does over again on its own, and the pages of a listing, can't be seen. What a local disk does beside the
/// store's own operations (making and removing directories, looking for partial files) is no request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Objects written in one piece.
    pub put: u64,
    /// Uploads in parts that were started.
    pub multipart_create: u64,
    /// Parts.
    pub multipart_part: u64,
    /// Uploads in parts that were completed.
    pub multipart_complete: u64,
    /// Uploads in parts that were given up.
    pub multipart_abort: u64,
    /// Reads, each of one range or a whole object.
    pub get: u64,
    /// Questions for an object's length.
    pub head: u64,
    /// Listings.
    pub list: u64,
    /// Objects deleted.
    pub delete: u64,
    /// Objects copied or renamed within the store.
    pub copy: u64,
}

impl Requests {
    /// All kinds, in the order of [`RequestKind::ALL`].
    pub fn by_kind(&self) -> [(RequestKind, u64); RequestKind::ALL.len()] {
        RequestKind::ALL.map(|kind| (kind, self.of(kind)))
    }

    /// Those of one kind.
    pub fn of(&self, kind: RequestKind) -> u64 {
        let mut all = *self;
        *all.of_mut(kind)
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.by_kind().iter().map(|(_, count)| count).sum()
    }

    fn of_mut(&mut self, kind: RequestKind) -> &mut u64 {
        match kind {
            RequestKind::Put => &mut self.put,
            RequestKind::MultipartCreate => &mut self.multipart_create,
            RequestKind::MultipartPart => &mut self.multipart_part,
            RequestKind::MultipartComplete => &mut self.multipart_complete,
            RequestKind::MultipartAbort => &mut self.multipart_abort,
            RequestKind::Get => &mut self.get,
            RequestKind::Head => &mut self.head,
            RequestKind::List => &mut self.list,
            RequestKind::Delete => &mut self.delete,
            RequestKind::Copy => &mut self.copy,
        }
    }
}

impl AddAssign for Requests {
    fn add_assign(&mut self, other: Self) {
        for (kind, count) in other.by_kind() {
            *self.of_mut(kind) += count;
        }
    }
}

impl SubAssign for Requests {
    /// What is less than nothing is nothing.
    fn sub_assign(&mut self, other: Self) {
        for (kind, count) in other.by_kind() {
            let own = self.of_mut(kind);
            *own = own.saturating_sub(count);
        }
    }
}

impl Add for Requests {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Sub for Requests {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self -= other;
        self
    }
}

/// Counts as they grow. By kind, in the order of [`RequestKind::ALL`].
#[derive(Debug, Default)]
pub(super) struct Counters([AtomicU64; RequestKind::ALL.len()]);

impl Counters {
    pub(super) fn requests(&self) -> Requests {
        let mut now = Requests::default();
        for (kind, count) in RequestKind::ALL.into_iter().zip(&self.0) {
            *now.of_mut(kind) = count.load(Relaxed);
        }
        now
    }

    fn count(&self, kind: RequestKind) {
        self.count_many(kind, 1);
    }

    fn count_many(&self, kind: RequestKind, requests: u64) {
        self.0[kind as usize].fetch_add(requests, Relaxed);
        metrics::requests(kind, requests);
    }
}

/// A store whose requests are counted, and put into spans where somebody listens at the level `DEBUG`.
pub(super) struct Counted {
    objects: Arc<dyn ObjectStore>,
    counters: Arc<Counters>,
}

impl Counted {
    pub(super) fn around(objects: Arc<dyn ObjectStore>, counters: &Arc<Counters>) -> Arc<dyn ObjectStore> {
        Arc::new(Self { objects, counters: counters.clone() })
    }
}

/// The store's own future, unless somebody listens: then it is in a span, for one more allocation.
fn traced<'a, T: 'a>(kind: RequestKind, key: &Path, request: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
    if !tracing::enabled!(Level::DEBUG) {
        return request;
    }
    let span = tracing::debug_span!("store request", kind = kind.name(), key = key.as_ref());
    Box::pin(request.instrument(span))
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.objects, f)
    }
}

/// Written out, not by `async_trait`, so that the store's own futures are passed on: no allocation is added to a request,
/// but for the start of an upload in parts.
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Counted {
    fn put_opts<'s, 'l, 'f>(
        &'s self,
        location: &'l Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> BoxFuture<'f, Result<PutResult>>
    where
        's: 'f,
        'l: 'f,
        Self: 'f,
    {
        self.counters.count(RequestKind::Put);
        metrics::uploaded(payload.content_length() as u64);
        traced(RequestKind::Put, location, self.objects.put_opts(location, payload, opts))
    }

    fn put_multipart_opts<'s, 'l, 'f>(
        &'s self,
        location: &'l Path,
        opts: PutMultipartOptions,
    ) -> BoxFuture<'f, Result<Box<dyn MultipartUpload>>>
    where
        's: 'f,
        'l: 'f,
        Self: 'f,
    {
        self.counters.count(RequestKind::MultipartCreate);
        let started = traced(RequestKind::MultipartCreate, location, self.objects.put_multipart_opts(location, opts));
        Box::pin(async move {
            let (upload, counters, key) = (started.await?, self.counters.clone(), location.clone());
            Ok(Box::new(CountedUpload { upload, counters, key }) as Box<dyn MultipartUpload>)
        })
    }

    fn get_opts<'s, 'l, 'f>(&'s self, location: &'l Path, options: GetOptions) -> BoxFuture<'f, Result<GetResult>>
    where
        's: 'f,
        'l: 'f,
        Self: 'f,
    {
        let kind = if options.head { RequestKind::Head } else { RequestKind::Get };
        self.counters.count(kind);
        traced(kind, location, self.objects.get_opts(location, options))
    }

    /// Each range counts as one, though some stores join those that are close.
    fn get_ranges<'s, 'l, 'r, 'f>(
        &'s self,
        location: &'l Path,
        ranges: &'r [Range<u64>],
    ) -> BoxFuture<'f, Result<Vec<Bytes>>>
    where
        's: 'f,
        'l: 'f,
        'r: 'f,
        Self: 'f,
    {
        self.counters.count_many(RequestKind::Get, ranges.len() as u64);
        traced(RequestKind::Get, location, self.objects.get_ranges(location, ranges))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // A single one needs no stream around it.
        if locations.size_hint() == (1, Some(1)) {
            self.counters.count(RequestKind::Delete);
            return self.objects.delete_stream(locations);
        }
        let counters = self.counters.clone();
        let counted = locations.inspect(move |location| {
            if location.is_ok() {
                counters.count(RequestKind::Delete);
            }
        });
        self.objects.delete_stream(counted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counters.count(RequestKind::List);
        self.objects.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counters.count(RequestKind::List);
        self.objects.list_with_offset(prefix, offset)
    }

    fn list_with_delimiter<'s, 'p, 'f>(&'s self, prefix: Option<&'p Path>) -> BoxFuture<'f, Result<ListResult>>
    where
        's: 'f,
        'p: 'f,
        Self: 'f,
    {
        self.counters.count(RequestKind::List);
        traced(RequestKind::List, prefix.unwrap_or(&Path::ROOT), self.objects.list_with_delimiter(prefix))
    }

    fn copy_opts<'s, 'a, 'b, 'f>(
        &'s self,
        from: &'a Path,
        to: &'b Path,
        options: CopyOptions,
    ) -> BoxFuture<'f, Result<()>>
    where
        's: 'f,
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        self.counters.count(RequestKind::Copy);
        traced(RequestKind::Copy, to, self.objects.copy_opts(from, to, options))
    }

    fn rename_opts<'s, 'a, 'b, 'f>(
        &'s self,
        from: &'a Path,
        to: &'b Path,
        options: RenameOptions,
    ) -> BoxFuture<'f, Result<()>>
    where
        's: 'f,
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        self.counters.count(RequestKind::Copy);
        traced(RequestKind::Copy, to, self.objects.rename_opts(from, to, options))
    }
}

#[derive(Debug)]
struct CountedUpload {
    upload: Box<dyn MultipartUpload>,
    counters: Arc<Counters>,
    key: Path,
}

#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for CountedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.counters.count(RequestKind::MultipartPart);
        metrics::uploaded(data.content_length() as u64);
        traced(RequestKind::MultipartPart, &self.key, self.upload.put_part(data))
    }

    fn complete<'s, 'f>(&'s mut self) -> BoxFuture<'f, Result<PutResult>>
    where
        's: 'f,
        Self: 'f,
    {
        self.counters.count(RequestKind::MultipartComplete);
        traced(RequestKind::MultipartComplete, &self.key, self.upload.complete())
    }

    fn abort<'s, 'f>(&'s mut self) -> BoxFuture<'f, Result<()>>
    where
        's: 'f,
        Self: 'f,
    {
        self.counters.count(RequestKind::MultipartAbort);
        traced(RequestKind::MultipartAbort, &self.key, self.upload.abort())
    }
}
