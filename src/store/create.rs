//! Writing a file in one piece.

use bytes::Bytes;
use object_store::{Error as StoreError, ObjectStoreExt, PutMode, PutPayload};

use super::Location;
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
        const COMPARED_BYTES_MAX: usize = 64 << 10;
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let last = chunks.iter().rev().find(|chunk| !chunk.is_empty()).cloned().unwrap_or_default();
        let last = last.slice(last.len().saturating_sub(COMPARED_BYTES_MAX)..);
        match self.create(chunks).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                match self.read_sized(length - last.len() as u64..length).await {
                    Ok((there, found)) if found == length && there == last => Ok(()),
                    _ => Err(error),
                }
            }
            done => done,
        }
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
