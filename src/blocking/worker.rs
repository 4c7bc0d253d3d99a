//! Writing.

use bytes::Bytes;

use super::{Held, Waiter};
use crate::backup::{self, BackupUsage};
use crate::error::Result;
use crate::handle::{ChannelInfo, StreamHandle};
use crate::id::{CheckpointId, Scope, Subtask};
use crate::protocol::{Reuse, SavepointFormat, Trigger};
use crate::worker::{self, Durable, WorkerUsage, WrittenChannels};
use crate::write::{self, Written};

/// As [`worker::Worker`].
#[derive(Clone)]
pub struct Worker {
    pub(super) inner: worker::Worker,
    pub(super) waiter: Waiter,
}

impl Worker {
    /// As [`worker::Worker::register`].
    pub fn register(&self, subtask: Subtask) {
        self.inner.register(subtask);
    }

    /// As [`worker::Worker::forget`].
    pub fn forget(&self, subtask: Subtask) {
        self.waiter.enter(|| self.inner.forget(subtask));
    }

    /// As [`worker::Worker::begin`].
    ///
    /// # Errors
    /// The same.
    pub fn begin(&self, subtask: Subtask, trigger: &Trigger) -> Result<Snapshot> {
        let snapshot = self.waiter.enter(|| self.inner.begin(subtask, trigger))?;
        Ok(Snapshot { inner: Held::new(snapshot, self.waiter.clone()) })
    }

    /// As [`worker::Worker::complete`].
    pub fn complete(&self, epoch: u64, checkpoint: CheckpointId) {
        self.waiter.enter(|| self.inner.complete(epoch, checkpoint));
    }

    /// As [`worker::Worker::abort`].
    pub fn abort(&self, epoch: u64, checkpoint: CheckpointId) {
        self.waiter.enter(|| self.inner.abort(epoch, checkpoint));
    }

    /// As [`worker::Worker::subsume`].
    pub fn subsume(&self, epoch: u64, checkpoint: CheckpointId) {
        self.waiter.enter(|| self.inner.subsume(epoch, checkpoint));
    }

    /// As [`worker::Worker::seal`].
    ///
    /// # Errors
    /// The same.
    pub fn seal(&self, checkpoint: CheckpointId) -> Result<()> {
        self.waiter.wait(self.inner.seal(checkpoint))?
    }

    /// As [`worker::Worker::close`].
    ///
    /// # Errors
    /// The same.
    pub fn close(&self) -> Result<()> {
        self.waiter.wait(self.inner.close())?
    }

    /// As [`worker::Worker::backup`].
    pub fn backup(&self) -> Option<Backup> {
        self.inner.backup().map(|backup| Backup { inner: backup.clone(), waiter: self.waiter.clone() })
    }

    /// As [`worker::Worker::usage`].
    pub fn usage(&self) -> WorkerUsage {
        self.inner.usage()
    }
}

/// As [`backup::Backup`].
#[derive(Clone)]
pub struct Backup {
    inner: backup::Backup,
    waiter: Waiter,
}

impl Backup {
    /// As [`backup::Backup::discard`].
    pub fn discard(&self) {
        self.waiter.enter(|| self.inner.discard());
    }

    /// As [`backup::Backup::settled`].
    ///
    /// # Errors
    /// None; the same as elsewhere in this interface.
    pub fn settled(&self) -> Result<()> {
        self.waiter.wait(self.inner.settled())
    }

    /// As [`backup::Backup::usage`].
    pub fn usage(&self) -> BackupUsage {
        self.inner.usage()
    }
}

/// As [`worker::Snapshot`].
pub struct Snapshot {
    inner: Held<worker::Snapshot>,
}

impl Snapshot {
    /// As [`worker::Snapshot::checkpoint`].
    ///
    /// # Errors
    /// None; the same as elsewhere in this interface.
    pub fn checkpoint(&self) -> Result<CheckpointId> {
        Ok(self.inner.get()?.checkpoint())
    }

    /// As [`worker::Snapshot::savepoint`].
    ///
    /// # Errors
    /// None; the same as elsewhere in this interface.
    pub fn savepoint(&self) -> Result<Option<SavepointFormat>> {
        Ok(self.inner.get()?.savepoint())
    }

    /// As [`worker::Snapshot::segment`].
    pub fn segment(&self, scope: Scope, size_hint: Option<u64>) -> SegmentWriter {
        let writer = self.inner.get().map(|snapshot| snapshot.segment(scope, size_hint)).ok();
        SegmentWriter { inner: Held { value: writer, waiter: self.inner.waiter.clone() } }
    }

    /// As [`worker::Snapshot::channels`].
    pub fn channels(&self) -> ChannelWriter {
        let writer = self.inner.get().map(worker::Snapshot::channels).ok();
        ChannelWriter { inner: Held { value: writer, waiter: self.inner.waiter.clone() } }
    }

    /// As [`worker::Snapshot::reuse`].
    ///
    /// # Errors
    /// None; the same as elsewhere in this interface.
    pub fn reuse(&self, handle: &StreamHandle) -> Result<Reuse> {
        Ok(self.inner.get()?.reuse(handle))
    }

    /// As [`worker::Snapshot::provisional`].
    ///
    /// # Errors
    /// The same.
    pub fn provisional(&self, written: &Written) -> Result<Option<StreamHandle>> {
        self.inner.get()?.provisional(written)
    }

    /// As [`worker::Snapshot::finish`].
    ///
    /// # Errors
    /// None; the same as elsewhere in this interface.
    pub fn finish(mut self) -> Result<Ticket> {
        let (snapshot, waiter) = (self.inner.take()?, self.inner.waiter.clone());
        let inner = waiter.enter(|| snapshot.finish());
        Ok(Ticket { inner, waiter })
    }

    /// The snapshot, and what waits for its writers.
    pub(super) fn parts(&self) -> Result<(&worker::Snapshot, &Waiter)> {
        Ok((self.inner.get()?, &self.inner.waiter))
    }

    /// As [`worker::Snapshot::seal`].
    ///
    /// # Errors
    /// The same.
    pub fn seal(self) -> Result<Durable> {
        self.finish()?.seal()
    }
}

/// As [`worker::Ticket`].
#[derive(Clone)]
pub struct Ticket {
    inner: worker::Ticket,
    waiter: Waiter,
}

impl Ticket {
    /// As [`worker::Ticket::seal`].
    ///
    /// # Errors
    /// The same.
    pub fn seal(&self) -> Result<Durable> {
        self.waiter.wait(self.inner.seal())?
    }
}

/// As [`write::SegmentWriter`].
pub struct SegmentWriter {
    inner: Held<write::SegmentWriter>,
}

impl SegmentWriter {
    /// As [`write::SegmentWriter::position`].
    ///
    /// # Errors
    /// None; the same as elsewhere in this interface.
    pub fn position(&self) -> Result<u64> {
        Ok(self.inner.get()?.position())
    }

    /// As [`write::SegmentWriter::write`].
    ///
    /// # Errors
    /// The same.
    pub fn write(&mut self, bytes: Bytes) -> Result<()> {
        let waiter = self.inner.waiter.clone();
        waiter.wait(self.inner.get_mut()?.write(bytes))?
    }

    /// As [`write::SegmentWriter::write_slice`].
    ///
    /// # Errors
    /// The same.
    pub fn write_slice(&mut self, bytes: &[u8]) -> Result<()> {
        let waiter = self.inner.waiter.clone();
        waiter.wait(self.inner.get_mut()?.write_slice(bytes))?
    }

    /// As [`write::SegmentWriter::finish`].
    ///
    /// # Errors
    /// The same.
    pub fn finish(mut self) -> Result<Written> {
        let writer = self.inner.take()?;
        self.inner.waiter.wait(writer.finish())?
    }
}

/// As [`worker::ChannelWriter`].
pub struct ChannelWriter {
    inner: Held<worker::ChannelWriter>,
}

impl ChannelWriter {
    /// As [`worker::ChannelWriter::input`].
    ///
    /// # Errors
    /// The same.
    pub fn input(&mut self, channel: ChannelInfo, buffers: &[Bytes]) -> Result<()> {
        let waiter = self.inner.waiter.clone();
        waiter.wait(self.inner.get_mut()?.input(channel, buffers))?
    }

    /// As [`worker::ChannelWriter::output`].
    ///
    /// # Errors
    /// The same.
    pub fn output(&mut self, channel: ChannelInfo, buffers: &[Bytes]) -> Result<()> {
        let waiter = self.inner.waiter.clone();
        waiter.wait(self.inner.get_mut()?.output(channel, buffers))?
    }

    /// As [`worker::ChannelWriter::finish`].
    ///
    /// # Errors
    /// The same.
    pub fn finish(mut self) -> Result<WrittenChannels> {
        let writer = self.inner.take()?;
        self.inner.waiter.wait(writer.finish())?
    }
}
