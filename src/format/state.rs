//! Operators and their subtasks.

use std::collections::HashSet;
use std::hash::Hash;

use super::Result;
use super::channel::{self, Side};
use super::input::{Input, Within};
use super::output::Output;
use super::section::{SectionOwner, Sections};
use super::{keyed, operator, stream};
use crate::error::FormatError;
use crate::handle::{
    JavaString, Operator, OperatorStateHandle, OperatorSubtasks, StreamHandle, SubtaskEntry, SubtaskState,
};
use crate::id::OperatorId;

/// Names and user-given ids are written from this version on.
const NAMED_SINCE: u32 = 5;

/// The version that can only be read: no coordinators, no channels, no finished operators.
const READ_ONLY: u32 = 2;

/// Stands for the number of subtasks when all had finished.
const FULLY_FINISHED: i32 = -1;

/// A subtask that had finished: its index alone.
const SUBTASK_BYTES_MIN: usize = 4;
const OPERATOR_BYTES_MIN: usize = 16 + 4 + 4 + 1 + 4;

const COORDINATOR: &str = "a coordinator's state is inline or nothing";
const FINISHED_COORDINATOR: &str = "a fully finished operator has no coordinator state";

pub(super) fn read_operators(input: &mut Input, version: u32, sections: &mut Sections) -> Result<Vec<Operator>> {
    let at = input.offset();
    let count = input.count("operators", OPERATOR_BYTES_MIN)?;
    sections.close(SectionOwner::Header, input.offset());
    let mut operators = Vec::with_capacity(count);
    for index in 0..count {
        operators.push(read_operator(input, version, index, sections)?);
    }
    refuse_repeated("operators", operators.iter().map(|o| o.id), |problem| input.error_at(at, "operators", problem))?;
    Ok(operators)
}

fn read_operator(input: &mut Input, version: u32, index: usize, sections: &mut Sections) -> Result<Operator> {
    let label = format_args!("operator {index}");
    let (name, uid) = if version >= NAMED_SINCE {
        (absent_if_empty(input.utf("name").within(label)?), absent_if_empty(input.utf("uid").within(label)?))
    } else {
        (None, None)
    };
    let id = OperatorId(input.id("id").within(label)?);
    let label = format_args!("operator {index} ({id})");
    let mut operator = Operator {
        name,
        uid,
        id,
        parallelism: 0,
        max_parallelism: 0,
        coordinator: None,
        subtasks: OperatorSubtasks::FullyFinished,
    };
    read_operator_body(input, version, &mut operator, sections).within(label)?;
    Ok(operator)
}

fn read_operator_body(input: &mut Input, version: u32, operator: &mut Operator, sections: &mut Sections) -> Result<()> {
    let at = input.offset();
    operator.parallelism = input.u31("parallelism")?;
    operator.max_parallelism = input.u31("max parallelism")?;
    if operator.parallelism > operator.max_parallelism {
        let problem = format!("{}, where {} is the most", operator.parallelism, operator.max_parallelism);
        return Err(input.error_at(at, "parallelism", problem));
    }
    let at = input.offset();
    if version == READ_ONLY {
        input.i32("chain length")?;
    } else {
        operator.coordinator = stream::read_nullable(input).within("coordinator")?;
    }
    check_coordinator(operator).map_err(|problem| input.error_at(at, "coordinator", problem))?;

    let at = input.offset();
    let count = input.i32("subtasks")?;
    if count == FULLY_FINISHED && version != READ_ONLY {
        sections.close(SectionOwner::Operator(operator.id), input.offset());
        return match operator.coordinator {
            None => Ok(()),
            Some(_) => Err(input.error_at(at, "coordinator", FINISHED_COORDINATOR)),
        };
    }
    let Some(count) = usize::try_from(count).ok().filter(|&n| n <= operator.parallelism as usize) else {
        let problem = format!("{count}, where the parallelism is {}", operator.parallelism);
        return Err(input.error_at(at, "subtasks", problem));
    };
    input.check_count(at, "subtasks", count, SUBTASK_BYTES_MIN)?;
    sections.close(SectionOwner::Operator(operator.id), input.offset());
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = read_subtask(input, version, operator.parallelism)?;
        sections.close(SectionOwner::Subtask(operator.id, entry.index), input.offset());
        entries.push(entry);
    }
    refuse_repeated("subtasks", entries.iter().map(|e| e.index), |problem| input.error_at(at, "subtasks", problem))?;
    operator.subtasks = OperatorSubtasks::Reported(entries);
    Ok(())
}

fn read_subtask(input: &mut Input, version: u32, parallelism: u32) -> Result<SubtaskEntry> {
    let at = input.offset();
    let value = input.i32("subtask index")?;
    let finished = value < 0;
    // A finished subtask is written as −index − 1, which is the index with every bit flipped.
    let index = if finished { !value } else { value }.unsigned_abs();
    if index >= parallelism || (finished && version == READ_ONLY) {
        let problem = format!("{value}, where the parallelism is {parallelism}");
        return Err(input.error_at(at, "subtask index", problem));
    }
    let state = if finished {
        None
    } else {
        Some(Box::new(read_state(input, version).within(format_args!("subtask {index}"))?))
    };
    Ok(SubtaskEntry { index, state })
}

fn read_state(input: &mut Input, version: u32) -> Result<SubtaskState> {
    if version == READ_ONLY {
        input.i64("duration")?;
        let at = input.offset();
        let legacy = input.i32("legacy states")?;
        if legacy != 0 {
            return Err(input.error_at(at, "legacy states", format!("{legacy}, where only 0 can be read")));
        }
    }
    let mut state = SubtaskState {
        managed_operator: read_operator_state(input, "managed operator state")?,
        raw_operator: read_operator_state(input, "raw operator state")?,
        managed_keyed: keyed::read(input).within("managed keyed state")?,
        raw_keyed: keyed::read(input).within("raw keyed state")?,
        ..SubtaskState::default()
    };
    if version != READ_ONLY {
        state.input_channels = channel::read_list(input, version, Side::Input)?;
        state.output_channels = channel::read_list(input, version, Side::Output)?;
    }
    Ok(state)
}

fn read_operator_state(input: &mut Input, field: &str) -> Result<Option<OperatorStateHandle>> {
    if input.present(field)? { operator::read(input).within(field).map(Some) } else { Ok(None) }
}

pub(super) fn write_operators(
    output: &mut Output,
    version: u32,
    operators: &[Operator],
    sections: &mut Sections,
) -> Result<()> {
    refuse_repeated("operators", operators.iter().map(|o| o.id), |problem| output.error("operators", problem))?;
    output.count("operators", operators.len())?;
    sections.close(SectionOwner::Header, output.len() as u64);
    for (index, operator) in operators.iter().enumerate() {
        write_operator(output, version, operator, sections)
            .within(format_args!("operator {index} ({})", operator.id))?;
    }
    Ok(())
}

fn write_operator(output: &mut Output, version: u32, operator: &Operator, sections: &mut Sections) -> Result<()> {
    write_name(output, version, "name", operator.name.as_ref())?;
    write_name(output, version, "uid", operator.uid.as_ref())?;
    output.raw(&operator.id.0);
    if operator.parallelism > operator.max_parallelism {
        let problem = format!("{}, where {} is the most", operator.parallelism, operator.max_parallelism);
        return Err(output.error("parallelism", problem));
    }
    output.u31("parallelism", operator.parallelism)?;
    output.u31("max parallelism", operator.max_parallelism)?;
    check_coordinator(operator).map_err(|problem| output.error("coordinator", problem))?;
    stream::write_nullable(output, operator.coordinator.as_ref()).within("coordinator")?;
    let entries = match &operator.subtasks {
        OperatorSubtasks::FullyFinished if operator.coordinator.is_some() => {
            return Err(output.error("coordinator", FINISHED_COORDINATOR));
        }
        OperatorSubtasks::FullyFinished => {
            output.i32(FULLY_FINISHED);
            sections.close(SectionOwner::Operator(operator.id), output.len() as u64);
            return Ok(());
        }
        OperatorSubtasks::Reported(entries) => entries,
    };
    refuse_repeated("subtasks", entries.iter().map(|e| e.index), |problem| output.error("subtasks", problem))?;
    output.count("subtasks", entries.len())?;
    sections.close(SectionOwner::Operator(operator.id), output.len() as u64);
    for entry in entries {
        write_subtask(output, version, operator.parallelism, entry)?;
        sections.close(SectionOwner::Subtask(operator.id, entry.index), output.len() as u64);
    }
    Ok(())
}

fn write_name(output: &mut Output, version: u32, field: &str, name: Option<&JavaString>) -> Result<()> {
    match name {
        Some(_) if version < NAMED_SINCE => {
            Err(output.error(field, format!("needs version {NAMED_SINCE}, not {version}")))
        }
        Some(name) if name.is_empty() => Err(output.error(field, "empty, which would be read as absent")),
        Some(name) => {
            output.utf(name);
            Ok(())
        }
        None if version < NAMED_SINCE => Ok(()),
        None => {
            output.utf(&JavaString::default());
            Ok(())
        }
    }
}

fn write_subtask(output: &mut Output, version: u32, parallelism: u32, entry: &SubtaskEntry) -> Result<()> {
    if entry.index >= parallelism {
        let problem = format!("{}, where the parallelism is {parallelism}", entry.index);
        return Err(output.error("subtask index", problem));
    }
    let Some(state) = &entry.state else {
        output.u32(!entry.index);
        return Ok(());
    };
    output.u32(entry.index);
    write_state(output, version, state).within(format_args!("subtask {}", entry.index))
}

fn write_state(output: &mut Output, version: u32, state: &SubtaskState) -> Result<()> {
    write_operator_state(output, "managed operator state", state.managed_operator.as_ref())?;
    write_operator_state(output, "raw operator state", state.raw_operator.as_ref())?;
    keyed::write(output, state.managed_keyed.as_ref()).within("managed keyed state")?;
    keyed::write(output, state.raw_keyed.as_ref()).within("raw keyed state")?;
    channel::write_list(output, version, Side::Input, &state.input_channels)?;
    channel::write_list(output, version, Side::Output, &state.output_channels)
}

fn write_operator_state(output: &mut Output, field: &str, handle: Option<&OperatorStateHandle>) -> Result<()> {
    output.u32(handle.is_some().into());
    match handle {
        Some(handle) => operator::write(output, handle).within(field),
        None => Ok(()),
    }
}

fn check_coordinator(operator: &Operator) -> Result<(), &'static str> {
    match operator.coordinator {
        None | Some(StreamHandle::Inline(_)) => Ok(()),
        Some(_) => Err(COORDINATOR),
    }
}

fn absent_if_empty(text: JavaString) -> Option<JavaString> {
    if text.is_empty() { None } else { Some(text) }
}

/// Flink keeps operators and subtasks in maps, so a second one with the same id is damage.
fn refuse_repeated<T: Copy + Eq + Hash + std::fmt::Debug>(
    what: &str,
    ids: impl Iterator<Item = T>,
    error: impl Fn(String) -> FormatError,
) -> Result<()> {
    let mut seen = HashSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(error(format!("two {what} with the id {id:?}")));
        }
    }
    Ok(())
}
