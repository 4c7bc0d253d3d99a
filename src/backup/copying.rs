//! One file's copy in the making: bytes are queued as they come, and written in a thread that may block.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::disk::ask;
use super::keeper::{Backup, Task};
use super::layout::{self, BlockSums, copy_bytes};
use super::shelf::{Doomed, Growth};
use crate::metrics::{self, Copied};
use crate::store::names::PhysicalFileName;
use crate::sync::atomic::Ordering::SeqCst;
use crate::sync::{Mutex, MutexGuard};

/// The copy of a file that is being written to the store. Dropped before it is [finished](Self::finish), it is given up.
pub(crate) struct Copying {
    copy: Arc<CopyJob>,
}

struct CopyJob {
    backup: Backup,
    name: PhysicalFileName,
    /// The directory that it goes to if all can be written to.
    first_directory: usize,
    /// Never held while a disk is asked, nor while another lock is taken.
    queue: Mutex<Queue>,
    /// Held by the one thread that writes, and by nobody else.
    part: Mutex<Option<Part>>,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    /// Bytes of the chunks, and of the one being written.
    unwritten: u64,
    /// Nobody else holds these bytes: they count as lag.
    lags: bool,
    end: End,
    is_running: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// More is to come.
    #[default]
    Open,
    /// All has come.
    Whole,
    GivenUp(Copied),
    /// It has its name, or all traces of it are gone.
    Over,
}

/// What there is on the disk.
struct Part {
    directory: usize,
    path: PathBuf,
    file: Box<dyn Write + Send>,
    sums: BlockSums,
    data_bytes: u64,
}

/// What writes a copy. Where its task is cut nobody writes the rest, so that the copy is given up.
struct Running {
    copy: Arc<CopyJob>,
    is_done: bool,
}

enum Step {
    Write(Bytes),
    Finish,
    GiveUp(Copied),
}

impl Copying {
    pub(super) fn new(backup: Backup, name: PhysicalFileName, first_directory: usize) -> Self {
        let (queue, part) = (Mutex::default(), Mutex::default());
        Self { copy: Arc::new(CopyJob { backup, name, first_directory, queue, part }) }
    }

    /// Adds bytes. Doesn't wait.
    pub(crate) fn push(&self, chunks: &[Bytes]) {
        let bytes: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        {
            let mut queue = self.copy.queue();
            if queue.end != End::Open || bytes == 0 {
                return;
            }
            queue.chunks.extend(chunks.iter().filter(|chunk| !chunk.is_empty()).cloned());
            queue.unwritten += bytes;
            if queue.lags {
                self.copy.backup.inner.lag_bytes.fetch_add(bytes, SeqCst);
            }
        }
        self.copy.run();
    }

    /// What isn't written yet is held for the copy alone from now on. Where that is too much in all, the copy is given up.
    pub(crate) fn lag(&self) {
        let is_late = {
            let mut queue = self.copy.queue();
            let inner = &self.copy.backup.inner;
            if !std::mem::replace(&mut queue.lags, true) {
                inner.lag_bytes.fetch_add(queue.unwritten, SeqCst);
            }
            queue.unwritten > 0 && inner.lag_bytes.load(SeqCst) > inner.limits.lag_bytes_max
        };
        if is_late {
            self.copy.end(End::GivenUp(Copied::TooSlow));
        }
    }

    /// All bytes have come. Doesn't wait.
    pub(crate) fn finish(self) {
        self.copy.end(End::Whole);
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.copy.end(End::GivenUp(Copied::Unwanted));
    }
}

impl Running {
    /// Blocks.
    fn drain(mut self) {
        self.copy.drain();
        self.is_done = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_done {
            self.copy.queue().is_running = false;
            self.copy.abandon();
        }
    }
}

impl CopyJob {
    /// The first end counts.
    fn end(self: &Arc<Self>, end: End) {
        {
            let mut queue = self.queue();
            if queue.end != End::Open {
                return;
            }
            queue.end = end;
            if end != End::Whole {
                self.drop_chunks(&mut queue);
            }
        }
        self.run();
    }

    /// Has what is queued written, in a task of its own.
    fn run(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return self.abandon() };
        if std::mem::replace(&mut self.queue().is_running, true) {
            return;
        }
        let task = Task::begin(&self.backup.inner);
        let running = Running { copy: self.clone(), is_done: false };
        runtime.spawn(async move {
            let inner = &running.copy.backup.inner;
            let (permits, disk) = (inner.permits[running.copy.first_directory].clone(), inner.local.disk().clone());
            // Never closed, so there is always one.
            let permit = permits.acquire_owned().await;
            // A thread that panics has nothing to tell.
            let _ = ask(&*disk, move || {
                running.drain();
                drop((permit, task));
            })
            .await;
        });
    }

    /// Blocks.
    fn drain(&self) {
        while let Some(step) = self.next() {
            match step {
                Step::Write(chunk) => {
                    if let Err(outcome) = self.write(&chunk) {
                        let mut queue = self.queue();
                        queue.end = End::GivenUp(outcome);
                        self.drop_chunks(&mut queue);
                    }
                }
                Step::Finish => self.over(self.finish()),
                Step::GiveUp(outcome) => {
                    self.clean();
                    self.over(Err(outcome));
                }
            }
        }
    }

    /// `Ok` has the length of the file.
    fn over(&self, ended: Result<u64, Copied>) {
        {
            let mut queue = self.queue();
            queue.end = End::Over;
            self.drop_chunks(&mut queue);
        }
        match ended {
            Ok(bytes) => metrics::copied(Copied::Whole, bytes),
            Err(outcome) => metrics::copied(outcome, 0),
        }
    }

    /// What is to be done next; none while nothing is, and then nobody is at it.
    fn next(&self) -> Option<Step> {
        let mut queue = self.queue();
        match queue.end {
            End::GivenUp(outcome) => return Some(Step::GiveUp(outcome)),
            End::Over => {}
            End::Open | End::Whole => {
                if let Some(chunk) = queue.chunks.pop_front() {
                    return Some(Step::Write(chunk));
                }
                if queue.end == End::Whole {
                    return Some(Step::Finish);
                }
            }
        }
        queue.is_running = false;
        None
    }

    fn write(&self, chunk: &Bytes) -> Result<(), Copied> {
        let mut part = self.part();
        let part = match &mut *part {
            Some(part) => part,
            none => none.insert(self.start()?),
        };
        part.data_bytes += chunk.len() as u64;
        self.make_room(copy_bytes(part.data_bytes))?;
        let written = part.file.write_all(chunk);
        written.map_err(|error| self.failed(part.directory, "writing", &error))?;
        part.sums.update(chunk);
        self.written(chunk.len() as u64);
        Ok(())
    }

    fn start(&self) -> Result<Part, Copied> {
        let inner = &self.backup.inner;
        inner.open();
        let (directory, path) = inner.directory_for(self.name.token).ok_or(Copied::Failed)?;
        if !inner.shelf().place(self.name.token, directory) {
            return Err(Copied::Unwanted);
        }
        let file = inner.local.disk.create(&path.join(layout::part_name(&self.name)));
        let file = file.map_err(|error| self.failed(directory, "making", &error))?;
        Ok(Part { directory, path, file, sums: BlockSums::default(), data_bytes: 0 })
    }

    fn make_room(&self, bytes: u64) -> Result<(), Copied> {
        let inner = &self.backup.inner;
        let mut is_first = true;
        loop {
            let growth = inner.shelf().grow(self.name.token, bytes);
            match growth {
                Growth::Fits => return Ok(()),
                Growth::Unwanted => return Err(Copied::Unwanted),
                Growth::After(victims) if is_first => inner.delete(&victims),
                Growth::After(_) | Growth::Full => return Err(Copied::NoRoom),
            }
            is_first = false;
        }
    }

    /// The end of the file, then its name.
    fn finish(&self) -> Result<u64, Copied> {
        let (inner, name) = (&self.backup.inner, &self.name);
        let Some(part) = self.part().take() else {
            inner.shelf().removed(name.token);
            return Err(Copied::Unwanted);
        };
        let Part { directory, path, mut file, sums, data_bytes } = part;
        let end = layout::end(data_bytes, name.token);
        let written = file.write_all(&sums.finish()).and_then(|()| file.write_all(&end)).and_then(|()| file.flush());
        drop(file);
        let (from, to) = (path.join(layout::part_name(name)), path.join(name.to_string()));
        if let Err(error) = written.and_then(|()| inner.local.disk.rename(&from, &to)) {
            let outcome = self.failed(directory, "ending", &error);
            self.remove(directory);
            return Err(outcome);
        }
        if !inner.shelf().finish(name.token) {
            self.remove(directory);
            return Err(Copied::Unwanted);
        }
        Ok(data_bytes)
    }

    /// Removes what there is.
    fn clean(&self) {
        let part = self.part().take();
        match part {
            Some(Part { directory, .. }) => self.remove(directory),
            None => self.backup.inner.shelf().removed(self.name.token),
        }
    }

    /// Where no task can be started, what is there goes with the next sweep.
    fn abandon(&self) {
        let mut queue = self.queue();
        if queue.is_running || queue.end == End::Over {
            return;
        }
        queue.end = End::Over;
        self.drop_chunks(&mut queue);
        drop(queue);
        let (part, mut shelf) = (self.part().take(), self.backup.inner.shelf());
        match part {
            Some(_) => shelf.give_up(self.name.token),
            None => shelf.removed(self.name.token),
        }
    }

    fn remove(&self, directory: usize) {
        let inner = &self.backup.inner;
        inner.shelf().give_up(self.name.token);
        inner.delete(&[Doomed { name: self.name.clone(), directory }]);
    }

    fn failed(&self, directory: usize, doing: &str, error: &io::Error) -> Copied {
        let inner = &self.backup.inner;
        let whose = inner.local.directories.get(directory).map(|path| path.display().to_string());
        inner.say(format_args!("{doing} a copy in {}", whose.unwrap_or_default()), error);
        inner.stop(directory);
        Copied::Failed
    }

    fn written(&self, bytes: u64) {
        let mut queue = self.queue();
        let bytes = bytes.min(queue.unwritten);
        queue.unwritten -= bytes;
        if queue.lags {
            self.backup.inner.lag_bytes.fetch_sub(bytes, SeqCst);
        }
    }

    fn drop_chunks(&self, queue: &mut Queue) {
        queue.chunks.clear();
        let bytes = std::mem::take(&mut queue.unwritten);
        if queue.lags {
            self.backup.inner.lag_bytes.fetch_sub(bytes, SeqCst);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self) -> MutexGuard<'_, Option<Part>> {
        self.part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
