//! Says which uploads a store has that were begun and not completed.

use std::sync::Mutex;
use std::time::SystemTime;

use drystone::store::UploadLog;
use futures::future::BoxFuture;

/// Uploads that a store says it has.
#[derive(Default)]
pub struct Log(pub Mutex<Vec<(String, String, SystemTime)>>);

impl UploadLog for Log {
    fn list(&self, prefix: &str) -> BoxFuture<'_, drystone::Result<Vec<(String, String, SystemTime)>>> {
        let all = self.0.lock().unwrap().clone();
        let found = all.into_iter().filter(|(key, ..)| key.starts_with(prefix)).collect();
        Box::pin(async { Ok(found) })
    }

    fn abort(&self, key: &str, id: &str) -> BoxFuture<'_, drystone::Result<()>> {
        self.0.lock().unwrap().retain(|(k, i, _)| (k.as_str(), i.as_str()) != (key, id));
        Box::pin(async { Ok(()) })
    }
}
