//! Reading: exactly the bytes that were asked for, or an error.

use std::ops::Range;

use bytes::Bytes;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectStoreExt};

use super::Location;
use crate::error::{Error, ErrorKind, Result};

impl Location {
    /// Exactly the bytes of `range`. One request, and none for an empty range, of which nothing is checked.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Damaged` if the file ends before the range does, with the file's length; `Invalid` if the range
    /// ends before it starts; `Store`.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.start == range.end {
            return Ok(Bytes::new());
        }
        Ok(self.read_sized(range).await?.0)
    }

    /// The bytes of `range` and the length of the file, from the same one request.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read); an empty range, too, has to lie in the file.
    pub async fn read_sized(&self, range: Range<u64>) -> Result<(Bytes, u64)> {
        if range.start > range.end {
            let message = format!("reading {}: bytes {}..{} run backwards", self.shown(), range.start, range.end);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if range.start == range.end {
            // Stores can't be asked for no bytes at all.
            let size = self.size().await?;
            return if range.end > size { Err(self.too_short(&range, size)) } else { Ok((Bytes::new(), size)) };
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let result = match self.objects().get_opts(self.object_key()?, options).await {
            Ok(result) => result,
            Err(e) => return Err(self.range_refused(&range, e).await),
        };
        let size = result.meta.size;
        // A range that runs past the end is answered with what there is.
        if size < range.end {
            return Err(self.too_short(&range, size));
        }
        let bytes = result.bytes().await.map_err(|e| self.failed("reading", e))?;
        self.check_length(&bytes, range.end - range.start)?;
        Ok((bytes, size))
    }

    /// The whole file, if it is at most `limit` bytes long. One request.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Damaged` if the file is longer, and then it isn't read; `Store`.
    pub async fn read_all(&self, limit: u64) -> Result<Bytes> {
        let result = self.objects().get(self.object_key()?).await.map_err(|e| self.failed("reading", e))?;
        let size = result.meta.size;
        if size > limit {
            let message =
                format!("reading {}: it is {size} bytes long, of which at most {limit} make sense", self.shown());
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        let bytes = result.bytes().await.map_err(|e| self.failed("reading", e))?;
        self.check_length(&bytes, size)?;
        Ok(bytes)
    }

    /// A range that starts past the end is an error, of another text in every store.
    async fn range_refused(&self, range: &Range<u64>, error: StoreError) -> Error {
        let refused = self.failed("reading", error);
        match (refused.kind(), self.size()) {
            (ErrorKind::Store, size) => match size.await {
                Ok(size) if size < range.end => self.too_short(range, size),
                _ => refused,
            },
            _ => refused,
        }
    }

    fn too_short(&self, range: &Range<u64>, size: u64) -> Error {
        let message =
            format!("reading {}: bytes {}..{} of a file of {size} bytes", self.shown(), range.start, range.end);
        Error::new(ErrorKind::Damaged, message)
    }

    fn check_length(&self, bytes: &Bytes, expected: u64) -> Result<()> {
        if bytes.len() as u64 == expected {
            return Ok(());
        }
        let message = format!("reading {}: the store gave {} bytes instead of {expected}", self.shown(), bytes.len());
        Err(Error::new(ErrorKind::Store, message))
    }
}
