//! What goes inline: into the metadata rather than into a file.

use std::sync::PoisonError;

use bytes::Bytes;

use super::WriteSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{InlineHandle, JavaString, StreamHandle};
use crate::id::{FileToken, SegmentId};
use crate::sync::{Mutex, MutexGuard};

/// How much goes inline; shared by the pools of one checkpoint.
pub struct InlineBudget {
    /// In the names of the handles, where a file's token is in those of segments.
    token: FileToken,
    handle_bytes_max: u64,
    total_bytes_max: u64,
    /// Never held across an await, nor while another lock is taken.
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    handles: u32,
    bytes: u64,
}

impl InlineBudget {
    /// Nothing is spent yet.
    pub fn new(token: FileToken, settings: &WriteSettings) -> Self {
        let (handle_bytes_max, total_bytes_max) = (settings.inline_bytes_max, settings.inline_bytes_total_max);
        Self { token, handle_bytes_max, total_bytes_max, spent: Mutex::default() }
    }

    /// Spends so many bytes if they are few enough for a handle, and there are as many left.
    pub fn spend(&self, bytes: u64) -> bool {
        if bytes > self.handle_bytes_max {
            return false;
        }
        let mut spent = self.spent();
        let is_left = spent.bytes + bytes <= self.total_bytes_max;
        if is_left {
            spent.bytes += bytes;
        }
        is_left
    }

    /// A handle of these bytes; spends nothing.
    pub fn handle(&self, bytes: Bytes, crc32c: u32) -> Result<StreamHandle> {
        let ordinal = {
            let mut spent = self.spent();
            spent.handles += 1;
            spent.handles - 1
        };
        let id = SegmentId { file: self.token, ordinal, crc32c };
        let name = JavaString::new(&id.to_string())
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("handle name {id}: {e}")))?;
        Ok(StreamHandle::Inline(InlineHandle { name, bytes }))
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
