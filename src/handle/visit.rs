//! One way through a checkpoint's streams, for all who list, check or replace them.

use std::fmt;

use super::{
    ChannelHandle, CheckpointMetadata, JavaString, KeyedHandle, LocalPathHandle, Operator, OperatorSubtasks,
    StreamHandle, SubtaskState,
};
use crate::id::{OperatorId, Scope, Subtask};

/// Where in a checkpoint a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The operator.
    pub operator: OperatorId,
    /// The operator's parallelism.
    pub parallelism: u32,
    /// The subtask's index; `None` for the operator's coordinator.
    pub subtask: Option<u32>,
    /// Which of the subtask's states.
    pub part: Part,
    /// The local file's name, for files of an incremental snapshot.
    pub local_path: Option<JavaString>,
}

/// Which of a subtask's states a stream belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The operator's coordinator; it can only be inline.
    Coordinator,
    /// Operator state under Flink's management.
    ManagedOperator,
    /// Operator state in the user's own encoding.
    RawOperator,
    /// Keyed state under Flink's management.
    ManagedKeyed,
    /// Keyed state in the user's own encoding.
    RawKeyed,
    /// The metadata of an incremental snapshot.
    IncrementalMeta,
    /// A reusable file of an incremental snapshot.
    IncrementalShared,
    /// A private file of an incremental snapshot.
    IncrementalPrivate,
    /// A file of a changelog.
    Changelog,
    /// In-flight data of an input.
    InputChannel,
    /// In-flight data of an output.
    OutputChannel,
}

impl Part {
    /// The name that `inspect` and errors use.
    pub fn name(self) -> &'static str {
        match self {
            Part::Coordinator => "coordinator",
            Part::ManagedOperator => "managedOperator",
            Part::RawOperator => "rawOperator",
            Part::ManagedKeyed => "managedKeyed",
            Part::RawKeyed => "rawKeyed",
            Part::IncrementalMeta => "incremental.meta",
            Part::IncrementalShared => "incremental.shared",
            Part::IncrementalPrivate => "incremental.private",
            Part::Changelog => "changelog",
            Part::InputChannel => "inputChannel",
            Part::OutputChannel => "outputChannel",
        }
    }

    /// May a later checkpoint name such a stream, too?
    pub fn scope(self) -> Scope {
        match self {
            Part::IncrementalShared | Part::Changelog => Scope::Shared,
            _ => Scope::Exclusive,
        }
    }
}

impl Place {
    /// The subtask whose state it is; `None` for the operator's coordinator.
    pub fn owner(&self) -> Option<Subtask> {
        self.subtask.map(|index| Subtask { operator: self.operator, index, parallelism: self.parallelism })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operator {}", self.operator)?;
        if let Some(subtask) = self.subtask {
            write!(f, " subtask {subtask}")?;
        }
        write!(f, " {}", self.part.name())?;
        match &self.local_path {
            Some(path) => write!(f, "[{path}]"),
            None => Ok(()),
        }
    }
}

/// Writes the walk twice, over `&` and over `&mut`, so that both always meet the streams in the same order.
macro_rules! walk {
    ($walk:ident, $visit:ident, $delegate:ident, $innermost:ident, $as_ref:ident, $iter:ident, $($mutability:tt)?) => {
        struct $walk<'v, F> {
            place: Place,
            visit: &'v mut F,
        }

        impl<'a, F: FnMut(&Place, &'a $($mutability)? StreamHandle)> $walk<'_, F> {
            fn operator(&mut self, operator: &'a $($mutability)? Operator) {
                self.stream(Part::Coordinator, operator.coordinator.$as_ref());
                let OperatorSubtasks::Reported(subtasks) = &$($mutability)? operator.subtasks else { return };
                for entry in subtasks {
                    let Some(state) = &$($mutability)? entry.state else { continue };
                    self.place.subtask = Some(entry.index);
                    self.state(state);
                }
            }

            fn state(&mut self, state: &'a $($mutability)? SubtaskState) {
                self.stream(Part::ManagedOperator, state.managed_operator.$as_ref().map(|o| &$($mutability)? o.delegate));
                self.stream(Part::RawOperator, state.raw_operator.$as_ref().map(|o| &$($mutability)? o.delegate));
                self.keyed(Part::ManagedKeyed, state.managed_keyed.$as_ref());
                self.keyed(Part::RawKeyed, state.raw_keyed.$as_ref());
                self.channels(Part::InputChannel, &$($mutability)? state.input_channels);
                self.channels(Part::OutputChannel, &$($mutability)? state.output_channels);
            }

            fn keyed(&mut self, part: Part, keyed: Option<&'a $($mutability)? KeyedHandle>) {
                match keyed {
                    None | Some(KeyedHandle::ChangelogMemory(_)) => {}
                    Some(KeyedHandle::KeyGroups(groups)) => self.stream(part, Some(&$($mutability)? groups.delegate)),
                    Some(KeyedHandle::Incremental(files)) => {
                        self.stream(Part::IncrementalMeta, files.meta.$as_ref());
                        self.files(Part::IncrementalShared, &$($mutability)? files.shared);
                        self.files(Part::IncrementalPrivate, &$($mutability)? files.private);
                    }
                    Some(KeyedHandle::Changelog(changelog)) => {
                        for handle in changelog.materialized.$iter().chain(changelog.changes.$iter()) {
                            self.keyed(part, Some(handle));
                        }
                    }
                    Some(KeyedHandle::ChangelogFiles(files)) => {
                        for (_, handle) in files.streams.$iter() {
                            self.stream(Part::Changelog, handle.$as_ref());
                        }
                    }
                }
            }

            fn files(&mut self, part: Part, files: &'a $($mutability)? [LocalPathHandle]) {
                for file in files {
                    self.place.local_path = Some(file.local_path.clone());
                    self.stream(part, file.handle.$as_ref());
                }
                self.place.local_path = None;
            }

            fn channels(&mut self, part: Part, channels: &'a $($mutability)? [ChannelHandle]) {
                for channel in channels {
                    self.stream(part, Some(channel.$delegate()));
                }
            }

            fn stream(&mut self, part: Part, handle: Option<&'a $($mutability)? StreamHandle>) {
                if let Some(handle) = handle {
                    self.place.part = part;
                    (self.visit)(&self.place, handle.$innermost());
                }
            }
        }

        impl SubtaskState {
            /// Calls `visit` for every stream handle of `subtask`'s state, as that of the whole checkpoint would.
            pub fn $visit<'a>(
                &'a $($mutability)? self,
                subtask: Subtask,
                mut visit: impl FnMut(&Place, &'a $($mutability)? StreamHandle),
            ) {
                let place = Place {
                    operator: subtask.operator,
                    parallelism: subtask.parallelism,
                    subtask: Some(subtask.index),
                    part: Part::Coordinator,
                    local_path: None,
                };
                $walk { place, visit: &mut visit }.state(self);
            }
        }

        impl CheckpointMetadata {
            /// Calls `visit` for every stream handle (the innermost, where key groups delegate), in the file's order.
            pub fn $visit<'a>(&'a $($mutability)? self, mut visit: impl FnMut(&Place, &'a $($mutability)? StreamHandle)) {
                for operator in &$($mutability)? self.operators {
                    let place = Place {
                        operator: operator.id,
                        parallelism: operator.parallelism,
                        subtask: None,
                        part: Part::Coordinator,
                        local_path: None,
                    };
                    $walk { place, visit: &mut visit }.operator(operator);
                }
            }
        }
    };
}

walk!(Walk, visit_streams, delegate, innermost, as_ref, iter,);
walk!(WalkMut, visit_streams_mut, delegate_mut, innermost_mut, as_mut, iter_mut, mut);
