//! Picks the handles that a task needs of an operator's state. Makes no request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::channel;
use super::part::{KeyGroupOffsets, Take, ends};
use super::sharing::ChannelSharings;
use super::state::{Content, Resolver};
use super::task::{
    ChannelRestore, Finished, KeyedRestore, KeyedState, OperatorRestore, Partition, Source, StateRestore, StreamNumber,
    TaskRestore, TaskStream,
};
use super::{Checkpoint, ReadLimits, ReadMemory};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{
    ChangelogFilesHandle, ChannelHandle, DistributionMode, IncrementalHandle, JavaString, KeyGroupsHandle, KeyedHandle,
    LocalPathHandle, Operator, OperatorStateHandle, OperatorSubtasks, Part, Place, StatePartitions, StreamHandle,
    SubtaskEntry, SubtaskState,
};
use crate::id::{KeyGroupRange, Subtask};
use crate::store::Stores;

/// What was picked so far.
pub(super) struct Selection<'a> {
    operator: &'a Operator,
    /// Those that have state, by index.
    writers: Vec<(u32, &'a SubtaskState)>,
    wanted: KeyGroupRange,
    resolver: Resolver<'a>,
    checkpoint: &'a Checkpoint,
    streams: Vec<TaskStream>,
    /// Streams of channels, by where they are: many channels share one.
    channel_streams: BTreeMap<(usize, u64, u64), StreamNumber>,
    managed_keyed: Vec<KeyedRestore>,
    raw_keyed: Vec<KeyedRestore>,
    managed_operator: Vec<OperatorRestore>,
    raw_operator: Vec<OperatorRestore>,
    input_channels: Vec<ChannelRestore>,
    output_channels: Vec<ChannelRestore>,
}

/// Where in the operator a handle is: its writer, and which of its states.
#[derive(Clone, Copy)]
struct At {
    writer: u32,
    part: Part,
}

type OperatorStateOf = fn(&SubtaskState) -> Option<&OperatorStateHandle>;

impl<'a> Selection<'a> {
    pub(super) fn new(
        stores: &'a Stores,
        checkpoint: &'a Checkpoint,
        operator: &'a Operator,
        wanted: KeyGroupRange,
    ) -> Self {
        let mut writers: Vec<_> =
            entries(operator).iter().filter_map(|entry| Some((entry.index, entry.state.as_deref()?))).collect();
        writers.sort_by_key(|&(index, _)| index);
        Self {
            operator,
            writers,
            wanted,
            resolver: Resolver::new(stores, checkpoint),
            checkpoint,
            streams: Vec::new(),
            channel_streams: BTreeMap::new(),
            managed_keyed: Vec::new(),
            raw_keyed: Vec::new(),
            managed_operator: Vec::new(),
            raw_operator: Vec::new(),
            input_channels: Vec::new(),
            output_channels: Vec::new(),
        }
    }

    pub(super) fn task(
        self,
        subtask: Option<Subtask>,
        checkpoint: Arc<Checkpoint>,
        limits: ReadLimits,
        memory: ReadMemory,
    ) -> TaskRestore {
        let finished = match &self.operator.subtasks {
            OperatorSubtasks::FullyFinished => Finished::Operator,
            OperatorSubtasks::Reported(entries) => {
                let finished: BTreeSet<u32> = entries.iter().filter(|e| e.state.is_none()).map(|e| e.index).collect();
                Finished::Subtasks(finished.into_iter().collect())
            }
        };
        TaskRestore {
            operator: self.operator.id,
            subtask,
            parallelism_before: self.operator.parallelism,
            key_groups: self.wanted,
            finished,
            managed_keyed: self.managed_keyed,
            raw_keyed: self.raw_keyed,
            managed_operator: self.managed_operator,
            raw_operator: self.raw_operator,
            input_channels: self.input_channels,
            output_channels: self.output_channels,
            local: None,
            source: Source { checkpoint, files: Arc::new(self.resolver.files), streams: Arc::new(self.streams) },
            limits,
            memory,
        }
    }

    /// Picks the keyed state that holds any of the key groups.
    pub(super) fn keyed(&mut self) -> Result<()> {
        for (writer, state) in self.writers.clone() {
            if let Some(handle) = &state.managed_keyed {
                let found = self.keyed_handle(At { writer, part: Part::ManagedKeyed }, handle, self.wanted)?;
                self.managed_keyed.extend(found);
            }
            if let Some(handle) = &state.raw_keyed {
                let found = self.keyed_handle(At { writer, part: Part::RawKeyed }, handle, self.wanted)?;
                self.raw_keyed.extend(found);
            }
        }
        self.check_disjoint(&self.managed_keyed, Part::ManagedKeyed)?;
        self.check_disjoint(&self.raw_keyed, Part::RawKeyed)
    }

    /// A key group has one owner: two would have a task restore it twice.
    fn check_disjoint(&self, keyed: &[KeyedRestore], part: Part) -> Result<()> {
        let mut ranges: Vec<_> = keyed.iter().map(|k| (k.key_groups.start, k.key_groups.end(), k.writer)).collect();
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            let ((_, end, one), (start, _, other)) = (pair[0], pair[1]);
            if end > u64::from(start) {
                let error = format!("key group {start} is in the state of subtask {one}, too");
                return Err(self.error_at(At { writer: other, part }, Error::new(ErrorKind::Damaged, error)));
            }
        }
        Ok(())
    }

    fn keyed_handle(&mut self, at: At, handle: &KeyedHandle, wanted: KeyGroupRange) -> Result<Option<KeyedRestore>> {
        let key_groups = handle.range().intersection(wanted);
        if key_groups.is_empty() {
            return Ok(None);
        }
        let state = match handle {
            KeyedHandle::KeyGroups(handle) => self.key_groups(at, handle, key_groups)?,
            KeyedHandle::Incremental(handle) => self.incremental(at, handle)?,
            KeyedHandle::Changelog(handle) => {
                let mut all = |handles: &[KeyedHandle]| -> Result<Vec<KeyedRestore>> {
                    let found = handles.iter().map(|handle| self.keyed_handle(at, handle, key_groups));
                    found.filter_map(Result::transpose).collect()
                };
                let (materialized, changes) = (all(&handle.materialized)?, all(&handle.changes)?);
                KeyedState::Changelog { materialized, changes, materialization_id: handle.materialization_id }
            }
            KeyedHandle::ChangelogMemory(handle) => {
                let mut handle = handle.clone();
                handle.changes.retain(|c| u32::try_from(c.key_group).map_or(true, |group| key_groups.contains(group)));
                KeyedState::ChangelogMemory(handle)
            }
            KeyedHandle::ChangelogFiles(handle) => self.changelog_files(at, handle)?,
        };
        Ok(Some(KeyedRestore { writer: at.writer, key_groups, state }))
    }

    fn key_groups(&mut self, at: At, handle: &KeyGroupsHandle, wanted: KeyGroupRange) -> Result<KeyedState> {
        let take = Take::KeyGroups(KeyGroupOffsets::of(handle, at.part, wanted));
        let stream = self.stream(at, None, Some(&handle.delegate), take)?;
        Ok(KeyedState::KeyGroups { handle: handle.clone(), stream })
    }

    fn incremental(&mut self, At { writer, .. }: At, handle: &IncrementalHandle) -> Result<KeyedState> {
        let mut files = |part, files: &[LocalPathHandle]| -> Result<Vec<Option<StreamNumber>>> {
            let at = At { writer, part };
            let all = |file: &LocalPathHandle| self.stream(at, Some(&file.local_path), file.handle.as_ref(), Take::All);
            files.iter().map(all).collect()
        };
        let shared = files(Part::IncrementalShared, &handle.shared)?;
        let private = files(Part::IncrementalPrivate, &handle.private)?;
        let meta = self.stream(At { writer, part: Part::IncrementalMeta }, None, handle.meta.as_ref(), Take::All)?;
        Ok(KeyedState::Incremental { handle: handle.clone(), meta, shared, private })
    }

    fn changelog_files(&mut self, At { writer, .. }: At, handle: &ChangelogFilesHandle) -> Result<KeyedState> {
        let at = At { writer, part: Part::Changelog };
        let mut streams = Vec::with_capacity(handle.streams.len());
        for (from, file) in &handle.streams {
            let from = self.offset(at, *from)?;
            streams.push(self.stream(at, None, file.as_ref(), Take::From(from))?);
        }
        // The encoding without it knows only that one.
        let storage = handle.storage.clone().map_or_else(|| JavaString::new("filesystem"), Ok);
        let storage = storage.map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()))?;
        Ok(KeyedState::ChangelogFiles { streams, storage })
    }

    /// Picks the operator state.
    pub(super) fn operator_state(&mut self, subtask: Subtask) -> Result<()> {
        self.managed_operator =
            self.operator_handles(subtask, Part::ManagedOperator, |state| state.managed_operator.as_ref())?;
        self.raw_operator = self.operator_handles(subtask, Part::RawOperator, |state| state.raw_operator.as_ref())?;
        Ok(())
    }

    fn operator_handles(&mut self, subtask: Subtask, part: Part, of: OperatorStateOf) -> Result<Vec<OperatorRestore>> {
        let handles: Vec<_> = self.writers.iter().filter_map(|&(writer, state)| Some((writer, of(state)?))).collect();
        let is_rescaled = subtask.parallelism != self.operator.parallelism;
        let own = |writer| is_rescaled || writer == subtask.index;
        let named = |handle: &'a OperatorStateHandle| handle.states.iter().map(|state| &state.name);
        // Broadcast states that the task has already.
        let mut broadcast: BTreeSet<&JavaString> =
            handles.iter().filter(|(writer, _)| own(*writer)).flat_map(|(_, handle)| named(handle)).collect();
        let mut found = Vec::new();
        for (writer, handle) in handles {
            let states: Vec<&StatePartitions> = match own(writer) {
                true => handle.states.iter().collect(),
                false => {
                    let is_needed = |state: &&'a StatePartitions| match state.mode {
                        DistributionMode::SplitDistribute => false,
                        DistributionMode::Union => true,
                        DistributionMode::Broadcast => broadcast.insert(&state.name),
                    };
                    handle.states.iter().filter(is_needed).collect()
                }
            };
            // Raw state may have no names at all.
            if own(writer) || !states.is_empty() {
                found.push(self.operator_restore(At { writer, part }, handle, &states)?);
            }
        }
        Ok(found)
    }

    fn operator_restore(
        &mut self,
        at: At,
        handle: &OperatorStateHandle,
        needed: &[&StatePartitions],
    ) -> Result<OperatorRestore> {
        let starts: Vec<u64> = handle
            .states
            .iter()
            .flat_map(|state| &state.offsets)
            .map(|&offset| self.offset(at, offset))
            .collect::<Result<_>>()?;
        let mut partitions = starts.iter().zip(ends(&starts)).map(|(&start, end)| Partition { start, end });
        let mut states = Vec::with_capacity(needed.len());
        for state in &handle.states {
            let partitions: Vec<Partition> = partitions.by_ref().take(state.offsets.len()).collect();
            if needed.iter().any(|needed| std::ptr::eq(*needed, state)) {
                states.push(StateRestore { name: state.name.clone(), mode: state.mode, partitions });
            }
        }
        let stream = self.stream(at, None, Some(&handle.delegate), Take::All)?;
        Ok(OperatorRestore { writer: at.writer, states, stream })
    }

    /// Picks the in-flight data: the subtask's own, or at another parallelism what the sharings give it.
    ///
    /// # Errors
    /// `Unsupported`: the parallelism is another, and there is some that nothing is said of.
    pub(super) fn channels(&mut self, subtask: Subtask, sharings: &ChannelSharings) -> Result<()> {
        let (before, key_groups) = (self.operator.parallelism, self.operator.max_parallelism);
        for (writer, state) in self.writers.clone() {
            let inputs = state.input_channels.iter().map(|channel| (Part::InputChannel, channel));
            let outputs = state.output_channels.iter().map(|channel| (Part::OutputChannel, channel));
            for (part, handle) in inputs.chain(outputs) {
                let at = At { writer, part };
                if subtask.parallelism == before {
                    if writer == subtask.index {
                        self.channel(at, handle, None)?;
                    }
                    continue;
                }
                let sharings = if part == Part::InputChannel { &sharings.inputs } else { &sharings.outputs };
                let mut only = Vec::new();
                for outer in channel::outers(handle).map_err(|error| self.error_at(at, error))? {
                    let Some(sharing) = sharings.get(&outer) else {
                        return Err(self.error_at(at, self.not_shared(part, outer, subtask.parallelism)));
                    };
                    if sharing.takes(subtask, writer, before, key_groups) {
                        only.push(outer);
                    }
                }
                if !only.is_empty() {
                    self.channel(at, handle, Some(only))?;
                }
            }
        }
        Ok(())
    }

    fn channel(&mut self, at: At, handle: &ChannelHandle, only: Option<Vec<i32>>) -> Result<()> {
        let stream = self.stream(at, None, Some(handle.delegate()), Take::All)?;
        let restore = ChannelRestore { writer: at.writer, handle: handle.clone(), only, stream };
        match at.part {
            Part::InputChannel => self.input_channels.push(restore),
            _ => self.output_channels.push(restore),
        }
        Ok(())
    }

    /// The number of a stream; none for one that is null or a placeholder.
    fn stream(
        &mut self,
        at: At,
        local_path: Option<&JavaString>,
        handle: Option<&StreamHandle>,
        take: Take,
    ) -> Result<Option<StreamNumber>> {
        let Some(handle) = handle.map(StreamHandle::innermost) else { return Ok(None) };
        let mut place = self.place(at);
        place.local_path = local_path.cloned();
        let state = self.resolver.stream(place, handle).map_err(|error| self.error_at(at, error))?;
        let place = match &state.content {
            Content::Placeholder => return Ok(None),
            Content::File(wanted) if matches!(at.part, Part::InputChannel | Part::OutputChannel) => {
                Some((wanted.file, wanted.offset, wanted.length))
            }
            _ => None,
        };
        if let Some(&known) = place.and_then(|place| self.channel_streams.get(&place)) {
            return Ok(Some(known));
        }
        let number = self.streams.len();
        self.channel_streams.extend(place.map(|place| (place, number)));
        self.streams.push(TaskStream { state, handle: handle.clone(), take });
        Ok(Some(number))
    }

    fn offset(&self, at: At, offset: i64) -> Result<u64> {
        u64::try_from(offset).map_err(|_| {
            self.error_at(at, Error::new(ErrorKind::Damaged, format!("an offset of {offset}; none is below 0")))
        })
    }

    fn place(&self, at: At) -> Place {
        Place {
            operator: self.operator.id,
            parallelism: self.operator.parallelism,
            subtask: Some(at.writer),
            part: at.part,
            local_path: None,
        }
    }

    fn error_at(&self, at: At, error: Error) -> Error {
        error.context(format!("{}: {}", self.checkpoint.named(), self.place(at)))
    }

    fn not_shared(&self, part: Part, outer: i32, now: u32) -> Error {
        let what = if part == Part::InputChannel { "gate" } else { "partition" };
        let (before, checkpoint) = (self.operator.parallelism, self.checkpoint.decoded.metadata.checkpoint_id);
        let message = format!(
            "{what} {outer} has data in flight, which can be restored at parallelism={before} only, not at {now}, where \
             nothing says how it is shared out; say so, or take a checkpoint that is aligned, or a savepoint, or lose it: \
             execution.state-recovery.without-channel-state.checkpoint-id={checkpoint}"
        );
        Error::new(ErrorKind::Unsupported, message)
    }
}

fn entries(operator: &Operator) -> &[SubtaskEntry] {
    match &operator.subtasks {
        OperatorSubtasks::FullyFinished => &[],
        OperatorSubtasks::Reported(entries) => entries,
    }
}
