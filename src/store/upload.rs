//! Writing a file whose length isn't known beforehand.

use std::collections::VecDeque;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

use super::Location;
use crate::error::{Error, ErrorKind, Result};

/// All parts but the last are of one size, here of this: S3 asks for at least 5 MiB, others for parts of one size. 10,000 parts,
/// the most that S3 takes, make 78 GiB.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at a time.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// A file in the making: visible when it is [complete](Self::complete), and not before.
///
/// Holds at most a part (of 8 MiB) in the making, four on their way, and what the caller's one `write` gave it. A file
/// shorter than a part is written in one piece, as by [`Location::create`].
///
/// A dropped upload never becomes visible. What it sent stays in some stores (S3, Google) until their lifecycle rules
/// remove it, so [`abort`](Self::abort) it if you can.
#[derive(Debug)]
pub struct Upload {
    location: Location,
    part_bytes: usize,
    /// In the making, shorter than a part between calls.
    chunks: VecDeque<Bytes>,
    buffered_bytes: usize,
    started: Option<Started>,
    has_failed: bool,
}

/// The store knows of the upload.
struct Started {
    parts: JoinSet<object_store::Result<()>>,
    multipart: Box<dyn MultipartUpload>,
}

impl std::fmt::Debug for Started {
    /// Without the store's own text, which may hold credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl Location {
    /// Starts a file whose length isn't known.
    ///
    /// Never replaces a file that is there at the start; one that appears meanwhile is replaced if this one is longer
    /// than 8 MiB, for which stores have no condition.
    ///
    /// # Errors
    ///
    /// `Conflict`: something is already there. `Store`.
    pub async fn create_multipart(&self) -> Result<Upload> {
        self.refuse_existing().await?;
        Ok(Upload::new(self.clone(), PART_BYTES))
    }
}

impl Upload {
    /// Starts nothing yet, and doesn't look whether something is there.
    pub(super) fn new(location: Location, part_bytes: usize) -> Self {
        Self { location, part_bytes, chunks: VecDeque::new(), buffered_bytes: 0, started: None, has_failed: false }
    }

    /// Adds bytes. Waits while too many parts are on their way.
    ///
    /// Not cancel safe: after a call that was dropped, or has failed, the upload can only be aborted.
    ///
    /// # Errors
    ///
    /// `Unsupported`: the store has no uploads in parts (plain HTTP), and the file is longer than one. `Store`: a part
    /// failed, maybe of an earlier call.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.check_usable()?;
        // Until the call is through.
        self.has_failed = true;
        self.buffered_bytes += bytes.len();
        self.chunks.push_back(bytes);
        while self.buffered_bytes >= self.part_bytes {
            let part = self.take_part();
            self.send(part).await?;
        }
        while let Some(part) = self.started.as_mut().and_then(|started| started.parts.try_join_next()) {
            settle(&self.location, part)?;
        }
        self.has_failed = false;
        Ok(())
    }

    /// Bytes in memory at most: of the part in the making, and of those on their way when last looked at.
    pub fn held_bytes(&self) -> u64 {
        let on_their_way = self.started.as_ref().map_or(0, |started| started.parts.len() * self.part_bytes);
        (self.buffered_bytes + on_their_way) as u64
    }

    /// Makes the file visible and durable. A failed upload is aborted as far as the store allows.
    ///
    /// # Errors
    ///
    /// `Conflict`: something came to be there. `Store`: as for [`Location::create`], the file may exist all the same.
    pub async fn complete(mut self) -> Result<()> {
        if self.started.is_none() {
            self.check_usable()?;
            return self.location.create(self.chunks.into()).await;
        }
        let done = self.finish().await;
        if done.is_err() {
            // The first error says more than one of the clean-up.
            let _ = self.abort().await;
        }
        done
    }

    /// Adds the last bytes and [completes](Self::complete); aborted where that fails, too.
    pub async fn complete_with(mut self, chunks: Vec<Bytes>) -> Result<()> {
        for chunk in chunks {
            if let Err(error) = self.write(chunk).await {
                // The first error says more than one of the clean-up.
                let _ = self.abort().await;
                return Err(error);
            }
        }
        self.complete().await
    }

    /// Gives up, and removes what was sent.
    pub async fn abort(self) -> Result<()> {
        let Some(mut started) = self.started else { return Ok(()) };
        // A part that arrives after the abort would stay.
        started.parts.shutdown().await;
        started.multipart.abort().await.map_err(|e| self.location.failed("aborting the upload of", e))
    }

    async fn finish(&mut self) -> Result<()> {
        self.check_usable()?;
        if self.buffered_bytes > 0 {
            let part = self.take_part();
            self.send(part).await?;
        }
        let Some(started) = self.started.as_mut() else { return Ok(()) };
        while let Some(part) = started.parts.join_next().await {
            settle(&self.location, part)?;
        }
        started.multipart.complete().await.map(drop).map_err(|e| self.location.failed("completing the upload of", e))
    }

    async fn send(&mut self, part: PutPayload) -> Result<()> {
        let started = match &mut self.started {
            Some(started) => started,
            none => {
                self.location.create_parent().await?;
                let key = self.location.object_key()?;
                let multipart = self.location.objects().put_multipart(key).await;
                let multipart = multipart.map_err(|e| self.location.failed("starting the upload of", e))?;
                none.insert(Started { parts: JoinSet::new(), multipart })
            }
        };
        while started.parts.len() >= PARTS_IN_FLIGHT_MAX {
            if let Some(part) = started.parts.join_next().await {
                settle(&self.location, part)?;
            }
        }
        started.parts.spawn(started.multipart.put_part(part));
        Ok(())
    }

    /// At most one part from what is buffered, without a copy.
    fn take_part(&mut self) -> PutPayload {
        let mut chunks = Vec::new();
        let mut wanted = self.part_bytes;
        while wanted > 0
            && let Some(mut chunk) = self.chunks.pop_front()
        {
            if chunk.len() > wanted {
                let rest = chunk.split_off(wanted);
                self.chunks.push_front(rest);
            }
            wanted -= chunk.len();
            self.buffered_bytes -= chunk.len();
            chunks.push(chunk);
        }
        PutPayload::from_iter(chunks)
    }

    fn check_usable(&self) -> Result<()> {
        if self.has_failed {
            let message = format!("the upload of {} has failed before", self.location.shown());
            return Err(Error::new(ErrorKind::Store, message));
        }
        Ok(())
    }
}

/// What became of a part.
fn settle(location: &Location, part: Result<object_store::Result<()>, tokio::task::JoinError>) -> Result<()> {
    match part {
        Ok(sent) => sent.map_err(|e| location.failed("uploading a part of", e)),
        Err(e) => {
            let cut = object_store::Error::Generic { store: "upload", source: e.into() };
            Err(location.failed("uploading a part of", cut))
        }
    }
}
