//! The rules: does a file that a checkpoint names go with it; is a file left of a savepoint that never had metadata. Pure.

use std::collections::BTreeSet;
use std::fmt;

use crate::id::FileToken;
use crate::store::names::PhysicalFileName;
use crate::store::{FlinkPath, names};

/// Why a file stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Other metadata names it, too.
    NamedBy(FlinkPath),
    /// It is the tasks' to delete.
    TaskOwned,
    /// It isn't in the checkpoint's own directory, nor, for a job's checkpoint, in another of that job: it belongs to somebody
    /// else.
    Elsewhere,
    /// It is in the checkpoint's own directory, and no metadata names it: nobody knows whose it is.
    Unnamed,
}

/// Whose a checkpoint is, by where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The job in whose directory it lies, `chk-N`.
    Job,
    /// The user, who may have put it anywhere. All of it is in its own directory, of this name.
    User(String),
}

impl Owner {
    /// Of the checkpoint in the directory of this name.
    pub(super) fn of(directory: &str, is_savepoint: bool) -> Self {
        match names::parse_checkpoint_directory(directory) {
            Some(_) if !is_savepoint => Self::Job,
            _ => Self::User(directory.to_owned()),
        }
    }

    /// Of a file: may it go, as far as its place tells? `below` is its path from the directory that holds the checkpoint's; none
    /// where it lies elsewhere.
    pub(super) fn judge(&self, below: Option<&str>, task_owned: bool) -> Result<(), Why> {
        let Some((first, _)) = below.and_then(|below| below.split_once('/')) else { return Err(Why::Elsewhere) };
        match self {
            Self::User(own) if first == own => Ok(()),
            Self::Job if first == names::SHARED || names::parse_checkpoint_directory(first).is_some() => Ok(()),
            Self::Job if first == names::TASK_OWNED => {
                if task_owned {
                    Ok(())
                } else {
                    Err(Why::TaskOwned)
                }
            }
            Self::User(_) | Self::Job => Err(Why::Elsewhere),
        }
    }
}

/// Is a file in the directory of a savepoint without metadata ours, by its path in there? So is what worker processes write
/// and who commits; and what runs of `copy` and `repack` do whose marks are there, since the names of their files hold their
/// tokens. A local file in the making is what it is to become.
pub(super) fn is_ours(below: &str, runs: &BTreeSet<FileToken>) -> bool {
    let (directories, name) = below.rsplit_once('/').unwrap_or(("", below));
    let name = name.split_once('#').map_or(name, |(name, _)| name);
    if directories.split('/').any(|directory| matches!(directory, "." | "..")) || below.contains('\\') {
        return false;
    }
    let is_common = || name == names::METADATA || names::parse_unfinished_marker(name).is_some();
    let is_of_worker = || name.parse::<PhysicalFileName>().is_ok();
    let is_of_run = || runs.iter().any(|run| name.contains(&run.to_string()));
    (directories.is_empty() && (is_common() || is_of_worker())) || is_of_run()
}

impl Why {
    /// One word for machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NamedBy(_) => "namedByOthers",
            Self::TaskOwned => "taskOwned",
            Self::Elsewhere => "elsewhere",
            Self::Unnamed => "unnamed",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamedBy(metadata) => write!(f, "{metadata} names it, too"),
            Self::TaskOwned => f.write_str("it is the tasks' own"),
            Self::Elsewhere => f.write_str("it lies elsewhere, and belongs to somebody else"),
            Self::Unnamed => f.write_str("no metadata names it: look what it is, and remove it by hand"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_left_of_an_unfinished_savepoint() {
        const RUN: &str = "00000000000000ff";
        let runs = BTreeSet::from([FileToken(0xff)]);
        for (below, is_left) in [
            ("ds1-a3-ww-c41-n0-0000000000000001", true),
            ("ds1-a3-ww-c41-n0-0000000000000001#2", true),
            ("_metadata#1", true),
            ("_drystone-unfinished-00000000000000ff", true),
            ("_drystone-unfinished-00000000000000ff#1", true),
            ("5c027815-91c5-482a-a453-7f77fecacf2f-00000000000000ff", true),
            ("shared/5c027815-91c5-482a-a453-7f77fecacf2f-00000000000000ff", true),
            ("5c027815-91c5-482a-a453-7f77fecacf2f", false),
            ("5c027815-91c5-482a-a453-7f77fecacf2f-00000000000000fe", false),
            ("shared/ds1-a3-ww-c41-n0-0000000000000001", false),
            ("deeper/_metadata#1", false),
            ("._metadata.inprogress.5c027815-91c5-482a-a453-7f77fecacf2f", false),
            ("../5c027815-91c5-482a-a453-7f77fecacf2f-00000000000000ff", false),
            ("notes.txt", false),
            ("", false),
        ] {
            assert_eq!(is_ours(below, &runs), is_left, "{below}");
        }
        assert!(!is_ours(&format!("x-{RUN}"), &BTreeSet::new()), "nothing says that there was such a run");
    }

    #[test]
    fn places_say_whose_a_file_is() {
        let job = Owner::of("chk-4", false);
        for (below, expected) in [
            (Some("chk-4/x"), Ok(())),
            (Some("chk-3/x"), Ok(())),
            (Some("chk-4/shared/x"), Ok(())),
            (Some("shared/x"), Ok(())),
            (Some("shared/job_1_op_2_3_4/x"), Ok(())),
            (Some("taskowned/x"), Err(Why::TaskOwned)),
            (Some("_drystone/log-1"), Err(Why::Elsewhere)),
            (Some("savepoint-1-2/x"), Err(Why::Elsewhere)),
            (Some("x"), Err(Why::Elsewhere)),
            (None, Err(Why::Elsewhere)),
        ] {
            assert_eq!(job.judge(below, false), expected, "{below:?}");
        }
        assert_eq!(job.judge(Some("taskowned/x"), true), Ok(()));
        for (directory, is_savepoint) in [("savepoint-1-2", false), ("my backup", false), ("chk-4", true)] {
            let user = Owner::of(directory, is_savepoint);
            assert_eq!(user.judge(Some(&format!("{directory}/x")), false), Ok(()));
            for below in ["shared/x", "chk-5/x", "taskowned/x", "savepoint-1-3/x"] {
                assert_eq!(user.judge(Some(below), true), Err(Why::Elsewhere), "{directory}: {below}");
            }
        }
    }
}
