//! One way through a checkpoint's handles of key groups, however deep in changelogs.

use super::{CheckpointMetadata, KeyGroupsHandle, KeyedHandle, Operator, OperatorSubtasks, Part, Place};

/// Writes the walk twice, over `&` and over `&mut`, so that both always meet the handles in the same order.
macro_rules! walk {
    ($visit:ident, $keyed:ident, $as_ref:ident, $iter:ident, $($mutability:tt)?) => {
        impl CheckpointMetadata {
            /// Calls `visit` for every handle of key groups, in the order in which the file has them.
            pub fn $visit<'a>(
                &'a $($mutability)? self,
                mut visit: impl FnMut(&Place, &'a $($mutability)? KeyGroupsHandle),
            ) {
                for operator in &$($mutability)? self.operators {
                    let mut place = place(operator);
                    let OperatorSubtasks::Reported(subtasks) = &$($mutability)? operator.subtasks else { continue };
                    for entry in subtasks {
                        let Some(state) = entry.state.$as_ref() else { continue };
                        place.subtask = Some(entry.index);
                        place.part = Part::ManagedKeyed;
                        state.managed_keyed.$iter().for_each(|keyed| $keyed(&place, keyed, &mut visit));
                        place.part = Part::RawKeyed;
                        state.raw_keyed.$iter().for_each(|keyed| $keyed(&place, keyed, &mut visit));
                    }
                }
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

walk!(visit_key_groups, keyed, as_ref, iter,);
walk!(visit_key_groups_mut, keyed_mut, as_mut, iter_mut, mut);

fn place(operator: &Operator) -> Place {
    Place {
        operator: operator.id,
        parallelism: operator.parallelism,
        subtask: None,
        part: Part::ManagedKeyed,
        local_path: None,
    }
}
