//! The library's own sources, with a schedule explorer's locks, atomics, tasks and time in place of the real ones: see
//! `design/schedules.md`.

#[allow(dead_code, reason = "what only settings and tests make, which aren't explored")]
#[path = "../../src/backup/mod.rs"]
pub mod backup;
#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/coordinator/mod.rs"]
pub mod coordinator;
#[allow(dead_code, reason = "what only the dispose command uses, which is not explored")]
#[path = "../../src/dispose/mod.rs"]
pub mod dispose;
#[path = "../../src/driver/mod.rs"]
pub mod driver;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/format/mod.rs"]
pub mod format;
#[path = "../../src/handle/mod.rs"]
pub mod handle;
#[path = "../../src/id.rs"]
pub mod id;
#[allow(dead_code, reason = "what only looks at a job from outside use, which isn't explored")]
#[path = "../../src/jobs/mod.rs"]
pub mod jobs;
#[path = "../../src/ledger/mod.rs"]
pub mod ledger;
#[path = "../../src/metrics/mod.rs"]
pub mod metrics;
#[path = "../../src/path.rs"]
mod path;
#[path = "../../src/protocol.rs"]
pub mod protocol;
#[path = "../../src/read/mod.rs"]
pub mod read;
#[path = "../../src/schedule/mod.rs"]
pub mod schedule;
#[path = "../../src/store/mod.rs"]
pub mod store;
#[allow(dead_code, reason = "what only the sweep's command uses, which is not explored")]
#[path = "../../src/sweep/mod.rs"]
pub mod sweep;
mod sync;
#[allow(dead_code, reason = "what only repack uses, which is not explored")]
#[path = "../../src/verify/mod.rs"]
pub mod verify;
#[path = "../../src/worker/mod.rs"]
pub mod worker;
#[path = "../../src/write/mod.rs"]
pub mod write;

pub use error::{Error, ErrorKind, FormatError, Result};
