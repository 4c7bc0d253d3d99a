//! Operator state handles.

use super::Result;
use super::input::{Input, Within};
use super::output::Output;
use super::stream;
use crate::handle::{DistributionMode, MergingDirectories, OperatorStateHandle, StatePartitions, StreamHandle};

const PLAIN: u8 = 4;
const FILE_MERGING: u8 = 17;

/// Empty name, mode, no offsets.
const STATE_BYTES_MIN: usize = 2 + 1 + 4;

pub(super) fn read(input: &mut Input) -> Result<OperatorStateHandle> {
    let at = input.offset();
    let merging = match input.u8("tag")? {
        PLAIN => false,
        FILE_MERGING => true,
        tag => return Err(input.error_at(at, "tag", format!("{tag} is no operator state handle"))),
    };
    let states = input.list("states", STATE_BYTES_MIN, read_state)?;
    let directories = if merging {
        let (task_owned, shared) = (input.utf("task-owned directory")?, input.utf("shared directory")?);
        Some(MergingDirectories { task_owned, shared, empty: input.flag("is empty")? })
    } else {
        None
    };
    let at = input.offset();
    let delegate = stream::read(input).within("delegate")?;
    if merging && !is_segment(&delegate) {
        return Err(input.error_at(at, "delegate", NOT_A_SEGMENT));
    }
    Ok(OperatorStateHandle { states, directories, delegate })
}

fn read_state(input: &mut Input) -> Result<StatePartitions> {
    let name = input.utf("name")?;
    let at = input.offset();
    let mode = match input.u8("mode")? {
        0 => DistributionMode::SplitDistribute,
        1 => DistributionMode::Union,
        2 => DistributionMode::Broadcast,
        other => return Err(input.error_at(at, "mode", format!("{other}, where 0, 1 and 2 are allowed"))),
    };
    let count = input.count("offsets", 8)?;
    Ok(StatePartitions { name, mode, offsets: input.offsets(count, 0)? })
}

pub(super) fn write(output: &mut Output, handle: &OperatorStateHandle) -> Result<()> {
    output.u8(if handle.directories.is_some() { FILE_MERGING } else { PLAIN });
    output.count("states", handle.states.len())?;
    for (index, state) in handle.states.iter().enumerate() {
        write_state(output, state).within(format_args!("states[{index}]"))?;
    }
    if let Some(directories) = &handle.directories {
        if !is_segment(&handle.delegate) {
            return Err(output.error("delegate", NOT_A_SEGMENT));
        }
        output.utf(&directories.task_owned);
        output.utf(&directories.shared);
        output.u8(directories.empty.into());
    }
    stream::write(output, &handle.delegate).within("delegate")
}

fn write_state(output: &mut Output, state: &StatePartitions) -> Result<()> {
    output.utf(&state.name);
    output.u8(match state.mode {
        DistributionMode::SplitDistribute => 0,
        DistributionMode::Union => 1,
        DistributionMode::Broadcast => 2,
    });
    output.count("offsets", state.offsets.len())?;
    output.offsets(&state.offsets, 0)
}

/// Flink's reader casts without looking.
const NOT_A_SEGMENT: &str = "file-merging operator state needs a segment";

fn is_segment(handle: &StreamHandle) -> bool {
    matches!(handle, StreamHandle::Segment(_) | StreamHandle::EmptySegment)
}
