//! One way through a checkpoint's handles of key groups, however deep in changelogs.

use super::{CheckpointMetadata, KeyGroupsHandle, KeyedHandle, OperatorSubtasks, Part, Place, SubtaskState};
use crate::id::Subtask;

/// Writes the walk twice, over `&` and over `&mut`, so that both always meet the handles in the same order.
macro_rules! walk {
    ($visit:ident, $keyed:ident, $iter:ident, $($mutability:tt)?) => {
        impl CheckpointMetadata {
            /// Calls `visit` for every handle of key groups, in the order in which the file has them.
            pub fn $visit<'a>(
                &'a $($mutability)? self,
                mut visit: impl FnMut(&Place, &'a $($mutability)? KeyGroupsHandle),
            ) {
                for operator in &$($mutability)? self.operators {
                    let (id, parallelism) = (operator.id, operator.parallelism);
                    let OperatorSubtasks::Reported(subtasks) = &$($mutability)? operator.subtasks else { continue };
                    for entry in subtasks {
                        let subtask = Subtask { operator: id, index: entry.index, parallelism };
                        entry.state.$iter().for_each(|state| state.$visit(subtask, &mut visit));
                    }
                }
            }
        }

        impl SubtaskState {
            /// Calls `visit` for every handle of key groups in `subtask`'s state, as that of the whole checkpoint would.
            pub fn $visit<'a>(
                &'a $($mutability)? self,
                subtask: Subtask,
                mut visit: impl FnMut(&Place, &'a $($mutability)? KeyGroupsHandle),
            ) {
                let mut place = place(subtask);
                self.managed_keyed.$iter().for_each(|keyed| $keyed(&place, keyed, &mut visit));
                place.part = Part::RawKeyed;
                self.raw_keyed.$iter().for_each(|keyed| $keyed(&place, keyed, &mut visit));
            }
        }

        fn $keyed<'a>(
            place: &Place,
            keyed: &'a $($mutability)? KeyedHandle,
            visit: &mut impl FnMut(&Place, &'a $($mutability)? KeyGroupsHandle),
        ) {
            match keyed {
                KeyedHandle::KeyGroups(groups) => visit(place, groups),
                KeyedHandle::Changelog(changelog) => {
                    for inner in changelog.materialized.$iter().chain(changelog.changes.$iter()) {
                        $keyed(place, inner, visit);
                    }
                }
                _ => {}
            }
        }
    };
}

walk!(visit_key_groups, keyed, iter,);
walk!(visit_key_groups_mut, keyed_mut, iter_mut, mut);

fn place(subtask: Subtask) -> Place {
    Place {
        operator: subtask.operator,
        parallelism: subtask.parallelism,
        subtask: Some(subtask.index),
        part: Part::ManagedKeyed,
        local_path: None,
    }
}
