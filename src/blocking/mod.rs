//! The same for callers without a runtime: every name as in the asynchronous interface, every call waits.
//!
//! One runtime of a few threads is behind it, made by the first call that needs one. Not to be called from within a
//! runtime: such a call returns `Invalid` rather than block a thread that others wait for. The adapters for state backends
//! are in [`backend`].
//!
//! ```
//! use drystone::blocking::Storage;
//! use drystone::config::Config;
//! use drystone::id::{JobId, OperatorId, Scope};
//! use drystone::protocol::{Acknowledgement, OperatorSpec};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # let directory = directory.path().display();
//! let config = Config::from_map([("execution.checkpointing.dir", format!("file:{directory}"))]);
//! let storage = Storage::open(&config)?;
//! let operator = OperatorSpec::new(OperatorId([1; 16]), 1, 128);
//! let coordinator = storage.coordinator(JobId([2; 16]), vec![operator.clone()])?;
//! let worker = storage.worker(JobId([2; 16]), "worker-1")?;
//!
//! let checkpoint = coordinator.next_checkpoint();
//! let trigger = coordinator.trigger(checkpoint)?;
//! let snapshot = worker.begin(operator.subtask(0), &trigger)?;
//! let mut segment = snapshot.segment(Scope::Exclusive, None);
//! segment.write_slice(b"state")?;
//! let written = segment.finish()?;
//! let durable = snapshot.seal()?;
//! # let _handle = durable.handle(&written)?;
//! // A state made of the handles goes along.
//! let sealed = durable.sealed().to_vec();
//! coordinator.acknowledge(Acknowledgement { epoch: trigger.epoch, checkpoint, subtask: operator.subtask(0), state: None, sealed })?;
//! let completed = coordinator.complete(checkpoint)?;
//! worker.complete(trigger.epoch, checkpoint);
//! # assert_eq!(completed.checkpoint, checkpoint);
//! # Ok::<(), drystone::Error>(())
//! ```

pub mod backend;
mod coordinator;
mod driver;
mod restore;
mod worker;

use std::future::Future;
use std::sync::{Arc, PoisonError};

use tokio::runtime::{Builder, Handle, Runtime};

pub use coordinator::Coordinator;
pub use driver::{Driver, Handle as DriverHandle, Orders};
pub use restore::{Restore, TaskRead, TaskRestore};
pub use worker::{Backup, ChannelWriter, SegmentWriter, Snapshot, Ticket, Worker};

use crate::backup::Disk;
use crate::config::{Config, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::jobs::Latest;
use crate::protocol::OperatorSpec;
use crate::store::{FlinkPath, ObjectStore, Stores};
use crate::sync::Mutex;
use crate::write::Tokens;
use crate::{storage, store};

/// Threads that carry uploads and deletes on while nobody waits for them. Disk calls have threads of their own.
const THREADS: usize = 2;

/// As [`storage::Storage`].
#[derive(Clone)]
pub struct Storage {
    inner: storage::Storage,
    waiter: Waiter,
}

impl Storage {
    /// As [`storage::Storage::open`].
    ///
    /// # Errors
    /// The same.
    pub fn open(config: &Config) -> Result<Self> {
        storage::Storage::open(config).map(Self::over)
    }

    /// As [`storage::Storage::open_on`].
    ///
    /// # Errors
    /// The same.
    pub fn open_on(store: Arc<dyn ObjectStore>, path: &FlinkPath, config: &Config) -> Result<Self> {
        storage::Storage::open_on(store, path, config).map(Self::over)
    }

    /// As [`storage::Storage::of`].
    ///
    /// # Errors
    /// The same.
    pub fn of(stores: Stores, directory: FlinkPath, settings: Settings) -> Result<Self> {
        storage::Storage::of(stores, directory, settings).map(Self::over)
    }

    fn over(inner: storage::Storage) -> Self {
        Self { inner, waiter: Waiter::default() }
    }

    /// As [`storage::Storage::with_tokens`].
    pub fn with_tokens(mut self, tokens: Tokens) -> Self {
        self.inner = self.inner.with_tokens(tokens);
        self
    }

    /// As [`storage::Storage::with_disk`].
    pub fn with_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.inner = self.inner.with_disk(disk);
        self
    }

    /// As [`storage::Storage::worker`].
    ///
    /// # Errors
    /// The same.
    pub fn worker(&self, job: JobId, name: &str) -> Result<Worker> {
        Ok(Worker { inner: self.inner.worker(job, name)?, waiter: self.waiter.clone() })
    }

    /// As [`storage::Storage::coordinator`].
    ///
    /// # Errors
    /// The same.
    pub fn coordinator(&self, job: JobId, operators: Vec<OperatorSpec>) -> Result<Coordinator> {
        let inner = self.waiter.wait(self.inner.coordinator(job, operators))??;
        Ok(Coordinator { inner, waiter: self.waiter.clone() })
    }

    /// As [`storage::Storage::latest`].
    ///
    /// # Errors
    /// The same.
    pub fn latest(&self, job: JobId) -> Result<Latest> {
        self.waiter.wait(self.inner.latest(job))?
    }

    /// As [`storage::Storage::restore_latest`].
    ///
    /// # Errors
    /// The same.
    pub fn restore_latest(&self, job: JobId) -> Result<Restore> {
        Ok(Restore { inner: self.waiter.wait(self.inner.restore_latest(job))??, waiter: self.waiter.clone() })
    }

    /// As [`storage::Storage::restore`].
    ///
    /// # Errors
    /// The same.
    pub fn restore(&self, path: &FlinkPath) -> Result<Restore> {
        Ok(Restore { inner: self.waiter.wait(self.inner.restore(path))??, waiter: self.waiter.clone() })
    }

    /// As [`storage::Storage::restore_for`].
    ///
    /// # Errors
    /// The same.
    pub fn restore_for(&self, path: &FlinkPath, operators: &[OperatorSpec]) -> Result<Restore> {
        let inner = self.waiter.wait(self.inner.restore_for(path, operators))??;
        Ok(Restore { inner, waiter: self.waiter.clone() })
    }

    /// As [`storage::Storage::stores`].
    pub fn stores(&self) -> &Stores {
        self.inner.stores()
    }

    /// As [`storage::Storage::settings`].
    pub fn settings(&self) -> &Settings {
        self.inner.settings()
    }

    /// As [`storage::Storage::job_directory`].
    ///
    /// # Errors
    /// The same.
    pub fn job_directory(&self, job: JobId) -> Result<store::JobDirectory> {
        self.inner.job_directory(job)
    }
}

/// Waits for futures, on a runtime that the first of them makes. Cheap to clone.
#[derive(Clone, Default)]
struct Waiter {
    runtime: Arc<Lazy>,
}

#[derive(Default)]
struct Lazy {
    runtime: Mutex<Option<Runtime>>,
}

impl Waiter {
    /// # Errors
    /// `Invalid`: called from within a runtime, or there can be none.
    fn wait<F: Future>(&self, future: F) -> Result<F::Output> {
        if Handle::try_current().is_ok() {
            let message = "a blocking call from within a runtime: use the asynchronous interface there";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(self.handle()?.block_on(future))
    }

    /// For calls that don't wait and may start something; where there can be no runtime, they start nothing.
    fn enter<T>(&self, call: impl FnOnce() -> T) -> T {
        let handle = self.handle();
        let _entered = handle.as_ref().map(Handle::enter);
        call()
    }

    fn handle(&self) -> Result<Handle> {
        let mut runtime = self.runtime.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let made = Builder::new_multi_thread().worker_threads(THREADS).thread_name("drystone").enable_all().build();
        let made = made.map_err(|e| Error::new(ErrorKind::Invalid, "no threads can be started").with_source(e))?;
        Ok(runtime.insert(made).handle().clone())
    }
}

/// Something whose end may start something: it is dropped within the runtime.
struct Held<T> {
    value: Option<T>,
    waiter: Waiter,
}

impl<T> Held<T> {
    fn new(value: T, waiter: Waiter) -> Self {
        Self { value: Some(value), waiter }
    }

    /// There is always one, until it is taken.
    fn get(&self) -> Result<&T> {
        self.value.as_ref().ok_or_else(used)
    }

    fn get_mut(&mut self) -> Result<&mut T> {
        self.value.as_mut().ok_or_else(used)
    }

    fn take(&mut self) -> Result<T> {
        self.value.take().ok_or_else(used)
    }
}

fn used() -> Error {
    Error::new(ErrorKind::Invalid, "used after its end")
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take()
            && let Ok(handle) = self.waiter.handle()
        {
            let _entered = handle.enter();
            drop(value);
        }
    }
}

impl Drop for Lazy {
    /// Without waiting, since that could be within a runtime: whoever wants uploads to end closes the worker, and
    /// settles the coordinator.
    fn drop(&mut self) {
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}
