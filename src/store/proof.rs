//! Tries out whether a store does what it says: some take the condition of a put and ignore it, others honour it except
//! under a race.

use bytes::Bytes;
use futures::future::join_all;
use object_store::{Error as StoreError, PutMode, PutPayload};

use super::{Location, names};
use crate::error::{Error, ErrorKind, Result};
use crate::id::FileToken;

/// So many create a file at once.
const WRITERS: usize = 16;

/// What a store makes of several who create one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateOnly {
    /// One of them has created it, and the others were told so, as far as was tried.
    Honoured,
    /// The store knows no such condition.
    Missing,
    /// The second was told that it has created it, too.
    Ignored,
    /// Of those who came at once several were told that they have created it.
    Racy,
}

enum Try {
    Won,
    Lost,
    Missing,
}

impl Location {
    /// Tries in this directory what the store makes of creating a file that is there, and in each of `rounds` rounds of 16
    /// creating one at once. Its files have names made from `token`, and are deleted. On a local disk the operating
    /// system sees to it, and nothing is tried but the former.
    ///
    /// # Errors
    /// `Store`: the store fails; nothing is known then.
    ///
    /// Cancel safe; a cancelled call may leave files `probe-<16 hex>`.
    pub async fn try_create_only(&self, rounds: u32, token: &(dyn Fn() -> u64 + Send + Sync)) -> Result<CreateOnly> {
        let probe = self.join(&names::probe(FileToken(token())))?;
        let found = probe.create_twice().await;
        probe.forget().await;
        if self.disk().is_some() {
            return found;
        }
        let mut found = found?;
        for _ in 0..rounds {
            if found != CreateOnly::Honoured {
                break;
            }
            let probe = self.join(&names::probe(FileToken(token())))?;
            let raced = probe.race().await;
            probe.forget().await;
            found = raced?;
        }
        Ok(found)
    }

    async fn create_twice(&self) -> Result<CreateOnly> {
        self.create_parent().await?;
        match self.try_create(0).await? {
            Try::Missing => return Ok(CreateOnly::Missing),
            // The store asks again after some failures: then this is what the first attempt wrote.
            Try::Won | Try::Lost => {}
        }
        match self.try_create(1).await? {
            Try::Missing => Ok(CreateOnly::Missing),
            Try::Lost if self.winner().await? == 0 => Ok(CreateOnly::Honoured),
            Try::Lost | Try::Won => Ok(CreateOnly::Ignored),
        }
    }

    async fn race(&self) -> Result<CreateOnly> {
        let tries = join_all((0..WRITERS).map(|writer| self.try_create(writer))).await;
        let mut won = Vec::new();
        for (writer, result) in tries.into_iter().enumerate() {
            match result {
                Ok(Try::Won) => won.push(writer),
                Ok(Try::Lost) => {}
                Ok(Try::Missing) => return Ok(CreateOnly::Missing),
                // It may have won all the same; then nobody else has.
                Err(error) if error.kind() == ErrorKind::Store => {}
                Err(error) => return Err(error),
            }
        }
        let there = self.winner().await?;
        Ok(if won.is_empty() || won == [there] { CreateOnly::Honoured } else { CreateOnly::Racy })
    }

    /// Without the look beforehand that [`create`](Self::create) makes do with.
    async fn try_create(&self, writer: usize) -> Result<Try> {
        let payload = PutPayload::from(Bytes::from(writer.to_string()));
        match self.objects().put_opts(self.object_key()?, payload, PutMode::Create.into()).await {
            Ok(_) => Ok(Try::Won),
            Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => Ok(Try::Missing),
            Err(error) => match self.failed("trying to create", error) {
                error if error.kind() == ErrorKind::Conflict => Ok(Try::Lost),
                error => Err(error),
            },
        }
    }

    async fn winner(&self) -> Result<usize> {
        let bytes = self.read_all(16).await?;
        let writer = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        writer.ok_or_else(|| Error::new(ErrorKind::Store, format!("{} holds what nobody wrote there", self.shown())))
    }

    /// Only litter if it fails.
    async fn forget(&self) {
        if let Err(error) = self.delete().await {
            tracing::debug!(error = error.one_line(), "a probe stays");
        }
    }
}
