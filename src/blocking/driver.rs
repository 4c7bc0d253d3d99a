//! Scheduling.

use tokio::sync::mpsc;

use super::{Coordinator, Held, Waiter};
use crate::coordinator::SavepointRequest;
use crate::driver::{self, Order, Outcome};
use crate::error::Result;
use crate::id::{CheckpointId, OperatorId, Subtask};
use crate::schedule::{Failure, Kind, RequestId, ScheduleSettings};

/// As [`driver::Driver`]. It has a thread of its own, which [`run`](Self::run) keeps; its orders are received by another.
///
/// ```
/// use drystone::blocking::{Driver, Storage};
/// use drystone::config::Config;
/// use drystone::coordinator::Acknowledged;
/// use drystone::driver::Order;
/// use drystone::id::{JobId, OperatorId};
/// use drystone::protocol::{Acknowledgement, OperatorSpec};
/// use drystone::schedule::ScheduleSettings;
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let directory = directory.path().display();
/// let config = Config::from_yaml(&format!("execution.checkpointing: {{ dir: 'file:{directory}', interval: 10 ms }}"))?;
/// let storage = Storage::open(&config)?;
/// let coordinator = storage.coordinator(JobId([1; 16]), vec![OperatorSpec::new(OperatorId([2; 16]), 2, 128)])?;
/// let settings = ScheduleSettings::from(storage.settings());
/// let (driver, handle, mut orders) = Driver::new(&coordinator, settings, 0)?;
/// let running = std::thread::spawn(move || driver.run());
/// handle.start()?;
/// while let Some(order) = orders.recv()? {
///     match order {
///         Order::Take(take) => {
///             let (epoch, checkpoint) = (take.trigger.epoch, take.trigger.checkpoint);
///             for subtask in take.subtasks {
///                 let nothing = Acknowledgement { epoch, checkpoint, subtask, state: None, sealed: vec![] };
///                 if coordinator.acknowledge(nothing)? == Acknowledged::Ready {
///                     handle.ready(checkpoint)?;
///                 }
///             }
///         }
///         Order::Completed(completed) => {
///             assert_eq!(completed.checkpoint.0, 1);
///             break;
///         }
///         other => unreachable!("{other:?}"),
///     }
/// }
/// drop((handle, orders));
/// running.join().unwrap()?;
/// # Ok::<(), drystone::Error>(())
/// ```
pub struct Driver {
    inner: Held<driver::Driver>,
}

impl Driver {
    /// As [`driver::Driver::new`].
    ///
    /// # Errors
    /// The same.
    pub fn new(coordinator: &Coordinator, settings: ScheduleSettings, spread: u64) -> Result<(Self, Handle, Orders)> {
        let waiter = coordinator.waiter.clone();
        let (driver, handle, orders) = driver::Driver::new(coordinator.inner.clone(), settings, spread)?;
        let orders = Orders { inner: orders, waiter: waiter.clone() };
        let handle = Handle { inner: handle, waiter: waiter.clone() };
        Ok((Self { inner: Held::new(driver, waiter) }, handle, orders))
    }

    /// As [`driver::Driver::run`]: returns when all handles are dropped, or the orders are.
    ///
    /// # Errors
    /// The same.
    pub fn run(mut self) -> Result<()> {
        let driver = self.inner.take()?;
        self.inner.waiter.wait(driver.run())?
    }
}

/// What the driver orders.
pub struct Orders {
    inner: mpsc::Receiver<Order>,
    waiter: Waiter,
}

impl Orders {
    /// Waits for the next one; `None`: the driver has ended, and all were received.
    ///
    /// # Errors
    /// None; the same as elsewhere in this interface.
    pub fn recv(&mut self) -> Result<Option<Order>> {
        self.waiter.wait(self.inner.recv())
    }

    /// The next one, if it is there.
    pub fn try_recv(&mut self) -> Option<Order> {
        self.inner.try_recv().ok()
    }
}

/// As [`driver::Handle`].
#[derive(Clone)]
pub struct Handle {
    inner: driver::Handle,
    waiter: Waiter,
}

impl Handle {
    /// As [`driver::Handle::start`].
    ///
    /// # Errors
    /// The same.
    pub fn start(&self) -> Result<()> {
        self.waiter.wait(self.inner.start())?
    }

    /// As [`driver::Handle::stop`].
    ///
    /// # Errors
    /// The same.
    pub fn stop(&self) -> Result<()> {
        self.waiter.wait(self.inner.stop())?
    }

    /// As [`driver::Handle::request`]. Not from the thread that receives the orders, which it waits for.
    ///
    /// # Errors
    /// The same.
    pub fn request(&self, request: RequestId, kind: Kind) -> Result<Outcome> {
        self.waiter.wait(self.inner.request(request, kind))?
    }

    /// As [`driver::Handle::savepoint`]. Not from the thread that receives the orders, which it waits for.
    ///
    /// # Errors
    /// The same.
    pub fn savepoint(&self, request: RequestId, savepoint: SavepointRequest) -> Result<Outcome> {
        self.waiter.wait(self.inner.savepoint(request, savepoint))?
    }

    /// As [`driver::Handle::ready`].
    ///
    /// # Errors
    /// The same.
    pub fn ready(&self, checkpoint: CheckpointId) -> Result<()> {
        self.waiter.wait(self.inner.ready(checkpoint))?
    }

    /// As [`driver::Handle::declined`].
    ///
    /// # Errors
    /// The same.
    pub fn declined(
        &self,
        epoch: u64,
        checkpoint: CheckpointId,
        subtask: Subtask,
        failure: Failure,
        reason: impl Into<String>,
    ) -> Result<()> {
        self.waiter.wait(self.inner.declined(epoch, checkpoint, subtask, failure, reason))?
    }

    /// As [`driver::Handle::abort`].
    ///
    /// # Errors
    /// The same.
    pub fn abort(&self, checkpoint: CheckpointId, failure: Failure, reason: impl Into<String>) -> Result<()> {
        self.waiter.wait(self.inner.abort(checkpoint, failure, reason))?
    }

    /// As [`driver::Handle::backlog`].
    ///
    /// # Errors
    /// The same.
    pub fn backlog(&self, source: OperatorId, is_behind: bool) -> Result<()> {
        self.waiter.wait(self.inner.backlog(source, is_behind))?
    }

    /// As [`driver::Handle::end_of_data`].
    ///
    /// # Errors
    /// The same.
    pub fn end_of_data(&self, subtask: Subtask) -> Result<()> {
        self.waiter.wait(self.inner.end_of_data(subtask))?
    }

    /// As [`driver::Handle::finished`].
    ///
    /// # Errors
    /// The same.
    pub fn finished(&self, subtask: Subtask) -> Result<()> {
        self.waiter.wait(self.inner.finished(subtask))?
    }
}
