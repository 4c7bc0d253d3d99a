//! Writing a file in one piece.

use bytes::Bytes;
use object_store::{Error as StoreError, ObjectStoreExt, PutMode, PutPayload};

use super::{Location, Upload};
use crate::error::{Error, ErrorKind, Result};

impl Location {
    /// Creates the file with these bytes, one after another, without a copy. Durable on return, and nothing is visible
    /// before all is.
    ///
    /// Never replaces a file. Where the store has no such condition (plain HTTP), it is looked for first, and a writer
    /// in between is replaced. On a local disk the directories above are made as needed, and synced.
    ///
    /// # Errors
    ///
    /// `Conflict`: something is there, untouched. It may be what this very call wrote: stores are asked again after
    /// some failures, and the first attempt may have succeeded. Names are unguessable, so a caller that finds its own
    /// bytes there was successful. `Store`: the file may exist all the same.
    ///
    /// Cancel safety: the file is there, whole, or not; a local disk may keep a [partial](Self::list_partials).
    pub async fn create(&self, chunks: Vec<Bytes>) -> Result<()> {
        let key = self.object_key()?;
        self.create_parent().await?;
        let payload = PutPayload::from_iter(chunks);
        match self.objects().put_opts(key, payload.clone(), PutMode::Create.into()).await {
            Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
                self.refuse_existing().await?;
                self.objects().put(key, payload).await
            }
            done => done,
        }
        .map(drop)
        .map_err(|e| self.failed("creating", e))
    }

    /// As [`create`](Self::create), for a name that nobody else can have: what is there then is of this very call's first
    /// attempt. That is made sure of by its length and its last bytes.
    pub async fn create_own(&self, chunks: Vec<Bytes>) -> Result<()> {
        let own = Own::of(&chunks);
        match self.create(chunks).await {
            Err(error) if error.kind() == ErrorKind::Conflict && own.is_at(self).await => Ok(()),
            done => done,
        }
    }

    /// As [`create_own`](Self::create_own), in parts of `part_bytes` where there are two or more of them and the store
    /// takes uploads in parts; a local disk gets it in one piece, and so does every store for a `part_bytes` of 0.
    ///
    /// Cancelled, what was sent of an upload in parts may stay as an unfinished upload.
    pub async fn create_own_in_parts(&self, chunks: Vec<Bytes>, part_bytes: u64) -> Result<()> {
        let own = Own::of(&chunks);
        let part_bytes = usize::try_from(part_bytes).unwrap_or(usize::MAX);
        if self.disk().is_some() || part_bytes == 0 || own.length < (part_bytes as u64).saturating_mul(2) {
            return self.create_own(chunks).await;
        }
        match Upload::new(self.clone(), part_bytes).complete_with(chunks.clone()).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => self.create_own(chunks).await,
            // The end of an upload that is asked for again, since its answer was lost, is refused.
            Err(_) if own.is_at(self).await => Ok(()),
            done => done,
        }
    }

    /// Puts these bytes in the place of whatever the file holds, if it is there. Durable on return; a reader sees the one or
    /// the other, whole. For what no truth hangs on: of several writers the last one counts.
    ///
    /// # Errors
    ///
    /// `Store`: either may be there.
    ///
    /// Cancel safety: the same; a local disk may keep a [partial](Self::list_partials).
    pub async fn replace(&self, bytes: Bytes) -> Result<()> {
        let key = self.object_key()?;
        self.create_parent().await?;
        let put = self.objects().put(key, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|e| self.failed("replacing", e))
    }

    /// A look beforehand, for what the store can't promise.
    pub(super) async fn refuse_existing(&self) -> Result<()> {
        if self.exists().await? {
            let message = format!("creating {}: something is already there", self.shown());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(())
    }
}

/// What a file that nobody else can have written is known by.
struct Own {
    length: u64,
    last: Bytes,
}

impl Own {
    fn of(chunks: &[Bytes]) -> Self {
        const COMPARED_BYTES_MAX: usize = 64 << 10;
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let last = chunks.iter().rev().find(|chunk| !chunk.is_empty()).cloned().unwrap_or_default();
        Self { length, last: last.slice(last.len().saturating_sub(COMPARED_BYTES_MAX)..) }
    }

    async fn is_at(&self, location: &Location) -> bool {
        let found = location.read_sized(self.length - self.last.len() as u64..self.length).await;
        matches!(found, Ok((there, length)) if length == self.length && there == self.last)
    }
}
