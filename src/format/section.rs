//! The parts of a metadata file and whose they are, so that damage can be laid to an operator and a subtask.

use std::fmt;
use std::ops::Range;

use crate::id::OperatorId;

/// A run of bytes of a metadata file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it describes.
    pub owner: SectionOwner,
    /// Its bytes, as offsets in the file.
    pub range: Range<u64>,
}

/// What a section describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionOwner {
    /// The file's header, the master states, the number of operators.
    Header,
    /// An operator's own fields, up to its first subtask.
    Operator(OperatorId),
    /// One subtask of an operator.
    Subtask(OperatorId, u32),
    /// The serialised properties.
    Properties,
}

impl fmt::Display for SectionOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SectionOwner::Header => f.write_str("header"),
            SectionOwner::Operator(operator) => write!(f, "operator {operator}"),
            SectionOwner::Subtask(operator, subtask) => write!(f, "operator {operator} subtask {subtask}"),
            SectionOwner::Properties => f.write_str("properties"),
        }
    }
}

/// Sections in the making: each starts where the one before ended, and an empty one is left out.
#[derive(Default)]
pub(super) struct Sections {
    list: Vec<Section>,
    end: u64,
}

impl Sections {
    /// All up to `end` that no earlier section holds is `owner`'s.
    pub fn close(&mut self, owner: SectionOwner, end: u64) {
        if end > self.end {
            self.list.push(Section { owner, range: self.end..end });
            self.end = end;
        }
    }

    pub fn into_list(self) -> Vec<Section> {
        self.list
    }
}
