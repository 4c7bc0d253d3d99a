//! The file that says that what is in a directory isn't whole yet: there before the first of what it is said of.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::error::Result;
use crate::store::Location;

const TEXT: &[u8] = b"A savepoint was begun here. This file goes before its _metadata comes; where there is neither, it came to nothing.\n";

/// Where that file goes. Several processes may put it, each once.
#[derive(Clone)]
pub(crate) struct Mark {
    location: Location,
    put: Arc<OnceCell<()>>,
}

impl Mark {
    pub(crate) fn new(location: Location) -> Self {
        Self { location, put: Arc::default() }
    }

    /// On return it has been put. Cancel safe; after an error the next call tries again.
    pub(super) async fn put(&self) -> Result<()> {
        let put = || self.location.replace(Bytes::from_static(TEXT));
        self.put.get_or_try_init(put).await.copied()
    }
}
