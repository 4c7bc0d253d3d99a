//! What handles can't say, however whole their bytes are: of key groups that aren't there to be had, or are another's, and of
//! places beyond a stream's end. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::channel::channels_of;
use super::part::within;
use crate::error::{self, Error, ErrorKind};
use crate::handle::{
    ChannelHandle, ChannelInfo, KeyGroupsHandle, KeyedHandle, Part, Place, StreamHandle, SubtaskState,
};
use crate::id::{KeyGroupRange, OperatorId, Subtask};

/// A handle that can't be right.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(crate) place: Place,
    pub(crate) problem: String,
}

/// Which subtask of an operator has which key groups, of its managed and of its raw state. A key group has one owner: two
/// would have a task restore it twice.
#[derive(Debug, Default)]
pub(crate) struct KeyGroupOwners {
    /// By the first key group: the one after the last, and whose they are.
    ranges: BTreeMap<(OperatorId, Part, u32), (u64, u32)>,
}

impl KeyGroupOwners {
    /// Fails where some of the key groups have an owner.
    pub(crate) fn check(&self, subtask: Subtask, state: &SubtaskState) -> Result<(), Misfit> {
        for (part, range) in ranges(state) {
            let up_to = (subtask.operator, part, u32::try_from(range.end()).unwrap_or(u32::MAX));
            let before = self.ranges.range((subtask.operator, part, 0)..up_to).next_back();
            if let Some((&(.., start), &(end, other))) = before.filter(|(_, (end, _))| *end > u64::from(range.start)) {
                let both = range.intersection(KeyGroupRange { start, count: (end - u64::from(start)) as u32 });
                let message = format!("the key groups {both} are in the state of subtask {other}, too");
                return Err(misfit(subtask, part, message));
            }
        }
        Ok(())
    }

    /// Enters what [`check`](Self::check) has passed.
    pub(crate) fn enter(&mut self, subtask: Subtask, state: &SubtaskState) {
        let of = |(part, range): (Part, KeyGroupRange)| {
            ((subtask.operator, part, range.start), (range.end(), subtask.index))
        };
        self.ranges.extend(ranges(state).map(of));
    }
}

/// Checks one subtask's state, of an operator with so many key groups. Fails with the first thing that can't be.
pub(crate) fn check_shape(subtask: Subtask, key_groups: u32, state: &SubtaskState) -> Result<(), Misfit> {
    for (part, range) in ranges(state) {
        if range.is_empty() || range.end() > u64::from(key_groups) {
            let message = format!("has the key groups {range}; the operator has 0..{key_groups}");
            return Err(misfit(subtask, part, message));
        }
    }
    let mut wrong = Ok(());
    state.visit_key_groups(subtask, |place, handle| {
        if wrong.is_ok() {
            wrong = check_groups(place.part, handle).map_err(|error| misfit(subtask, place.part, error.to_string()));
        }
    });
    wrong?;
    for (part, handle) in [(Part::ManagedOperator, &state.managed_operator), (Part::RawOperator, &state.raw_operator)] {
        let Some(handle) = handle else { continue };
        for named in &handle.states {
            check_offsets(&handle.delegate, &named.offsets, format_args!("a partition of state {}", named.name))
                .map_err(|error| misfit(subtask, part, error.to_string()))?;
        }
    }
    for (part, channels) in [(Part::InputChannel, &state.input_channels), (Part::OutputChannel, &state.output_channels)]
    {
        for channel in channels {
            check_channel(channel).map_err(|error| misfit(subtask, part, error.to_string()))?;
        }
    }
    Ok(())
}

fn check_groups(part: Part, handle: &KeyGroupsHandle) -> error::Result<()> {
    let KeyGroupsHandle { range, offsets, delegate, .. } = handle;
    if offsets.len() != range.count as usize {
        let message = format!("{} offsets for the key groups {range}", offsets.len());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let Some(length) = delegate.size() else { return Ok(()) };
    for (group, &offset) in (range.start..).zip(offsets).filter(|&(_, &offset)| part != Part::RawKeyed || offset != -1)
    {
        within(offset, length, format_args!("key group {group}"))?;
    }
    Ok(())
}

fn check_channel(channel: &ChannelHandle) -> error::Result<()> {
    let check = |ChannelInfo { outer, inner }, offsets: &[i64]| {
        check_offsets(channel.delegate(), offsets, format_args!("data in flight of channel {outer}/{inner}"))
    };
    match channel {
        ChannelHandle::Single(single) => check(single.info, &single.offsets),
        ChannelHandle::Merged(merged) => {
            channels_of(merged)?.iter().try_for_each(|channel| check(channel.info, &channel.offsets))
        }
    }
}

fn check_offsets(stream: &StreamHandle, offsets: &[i64], what: fmt::Arguments<'_>) -> error::Result<()> {
    let Some(length) = stream.size() else { return Ok(()) };
    offsets.iter().try_for_each(|&offset| within(offset, length, what).map(drop))
}

/// The key groups that the state is of. What is deeper within may be of more: files that several tasks have a part of.
fn ranges(state: &SubtaskState) -> impl Iterator<Item = (Part, KeyGroupRange)> {
    let keyed = [(Part::ManagedKeyed, &state.managed_keyed), (Part::RawKeyed, &state.raw_keyed)];
    keyed.into_iter().filter_map(|(part, keyed)| Some((part, keyed.as_ref().map(KeyedHandle::range)?)))
}

fn misfit(Subtask { operator, index, parallelism }: Subtask, part: Part, problem: String) -> Misfit {
    Misfit { place: Place { operator, parallelism, subtask: Some(index), part, local_path: None }, problem }
}
