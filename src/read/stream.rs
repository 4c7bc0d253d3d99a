//! A single handle as a stream of bytes, verified.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};

use super::fetch::{Fetched, Fetches, fetches};
use super::plan::{ReadLimits, Wanted};
use super::state::{Content, Expected, StateFile, StateStream};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::{Crc32c, crc32c};

/// The bytes of one stream, in order.
///
/// Where the handle or the metadata's trailer has its checksum, the last bytes come only after it has been checked; where it doesn't match,
/// the stream ends with [`ErrorKind::Damaged`].
pub type HandleStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Opens one of a checkpoint's streams; reads start when it is polled.
pub fn open_handle(files: &[StateFile], stream: &StateStream, limits: &ReadLimits) -> HandleStream {
    let wanted = match &stream.content {
        Content::Placeholder => return stream::empty().boxed(),
        Content::Inline(inline) => {
            let checked = check_crc(stream.expected(), crc32c(&inline.bytes)).map(|()| inline.bytes.clone());
            return stream::once(std::future::ready(checked)).boxed();
        }
        Content::File(wanted) => *wanted,
    };
    let Some(file) = files.get(wanted.file) else {
        let error =
            Error::new(ErrorKind::Invalid, format!("a stream in file number {} of {}", wanted.file, files.len()));
        return stream::once(std::future::ready(Err(error))).boxed();
    };
    let context = format!("{} in {} at offset {}", stream.place, file.location.real(), wanted.offset);
    let (file, expected, whole, limits) = (file.clone(), stream.expected(), stream.whole, *limits);
    stream::once(async move {
        match check_length(&file, &wanted, whole, expected, &limits).await {
            Ok(()) => Ok(read(&file, wanted, whole, expected, &limits, context)),
            Err(error) => Err(error.context(context)),
        }
    })
    .try_flatten()
    .boxed()
}

/// Looks at the file beforehand where reading would be too late: a length that is only claimed may be too much to plan
/// for, and of no bytes none would be read.
async fn check_length(
    file: &StateFile,
    wanted: &Wanted,
    whole: bool,
    expected: Option<Expected>,
    limits: &ReadLimits,
) -> Result<()> {
    let is_short = (1..=limits.range_bytes_max).contains(&wanted.length);
    // A range past the last offset there is would be cut to one that is there.
    if is_short && wanted.offset.checked_add(wanted.length).is_some() {
        return Ok(());
    }
    let (size, Wanted { offset, length, .. }) = (file.location.size().await?, *wanted);
    if offset.checked_add(length).is_none_or(|end| end > size) {
        let message = format!("{length} bytes are named from offset {offset}, but the file has {size}");
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    if whole && length != size {
        return Err(wrong_length(length, size));
    }
    if length == 0 { check_crc(expected, crc32c(&[])) } else { Ok(()) }
}

fn read(
    file: &StateFile,
    wanted: Wanted,
    whole: bool,
    expected: Option<Expected>,
    limits: &ReadLimits,
    context: String,
) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
    let whole = whole.then_some(wanted.length);
    let fetches = fetches(Arc::new(vec![file.location.clone()]), &[Wanted { file: 0, ..wanted }], limits);
    let reading = Reading { fetches, crc: Crc32c::new(), expected, whole, context };
    stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        let fetched = reading.fetches.next().await?;
        match reading.take(fetched) {
            Ok(bytes) => Some((Ok(bytes), Some(reading))),
            Err(error) => Some((Err(error.context(&reading.context)), None)),
        }
    })
}

struct Reading {
    fetches: Fetches,
    crc: Crc32c,
    expected: Option<Expected>,
    whole: Option<u64>,
    context: String,
}

impl Reading {
    fn take(&mut self, fetched: Fetched) -> Result<Bytes> {
        let last = fetched.fetch.pieces.iter().any(|p| p.last);
        let (bytes, file_bytes) = fetched.result?;
        if let Some(size) = self.whole
            && file_bytes != size
        {
            return Err(wrong_length(size, file_bytes));
        }
        self.crc.update(&bytes);
        if last {
            check_crc(self.expected, self.crc.value())?;
        }
        Ok(bytes)
    }
}

/// The error for a file that a handle names whole, and whose length is another.
pub(crate) fn wrong_length(named: u64, actual: u64) -> Error {
    Error::new(ErrorKind::Damaged, format!("the file has {actual} bytes, its handle says {named}"))
}

/// Compares a checksum with the one that there must be, if anything says it.
pub(crate) fn check_crc(expected: Option<Expected>, crc32c: u32) -> Result<()> {
    match expected {
        Some(expected) if expected.crc32c != crc32c => Err(Error::new(ErrorKind::Damaged, expected.mismatch(crc32c))),
        _ => Ok(()),
    }
}

impl Expected {
    /// What to say of bytes that have another.
    pub(crate) fn mismatch(&self, crc32c: u32) -> String {
        format!("damaged bytes: CRC-32C is {crc32c:08x}, the {} says {:08x}", self.says, self.crc32c)
    }
}
