//! What a file is by its place below a job's directory and by its name. Pure; whether it is alive is not asked here.

use crate::id::CheckpointId;
use crate::store::names::{self, PhysicalFileName};

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// A checkpoint's or savepoint's metadata, also at a place where no job has one.
    Metadata,
    /// In a checkpoint's own directory.
    Exclusive(CheckpointId, Author),
    /// In the directory of shared files.
    Shared(Author),
    /// The tasks' own.
    TaskOwned,
    /// The job's log.
    Log,
    /// In a savepoint's directory: the user's.
    Savepoint,
    /// In the directory of another job, which lies in this one where jobs share a checkpoint directory.
    OtherJob,
    /// Neither Flink nor Drystone gives such a name at such a place.
    Unknown,
}

/// Who writes files of such a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// A worker, or a repack: the name says more.
    Worker(PhysicalFileName),
    /// Stock Flink, or a copy of its files.
    Flink,
    /// A run of `repack` or `copy`, which marks a directory that it writes to.
    Run,
    /// Whoever writes metadata: the name is of such a file in the making.
    Committer,
    /// Whoever disposes of a checkpoint: a copy of its metadata, while that lasts.
    Disposal,
}

impl Spot {
    /// Of a file by its path relative to the job's directory. A local file in the making is what it is to become.
    pub fn of(below: &str) -> Self {
        let mut directories: Vec<&str> = below.split('/').collect();
        // A store may hold such a key, but no path of Flink's leads to it.
        if below.contains('\\') || directories.iter().any(|component| matches!(*component, "" | "." | "..")) {
            return Self::Unknown;
        }
        let name = directories.pop().unwrap_or_default();
        let (name, is_partial) = match name.split_once('#') {
            Some((name, _)) => (name, true),
            None => (name, false),
        };
        if name == names::METADATA && !is_partial {
            return Self::Metadata;
        }
        match directories.as_slice() {
            [names::FENCE, ..] => Self::Log,
            [names::TASK_OWNED, ..] => Self::TaskOwned,
            [first, ..] if names::is_savepoint_directory(first) => Self::Savepoint,
            [first, ..] if names::parse_job_directory(first).is_some() => Self::OtherJob,
            [names::SHARED, deeper @ ..] => in_shared(deeper, name).map_or(Self::Unknown, Self::Shared),
            [first, deeper @ ..] => match names::parse_checkpoint_directory(first) {
                Some(id) => {
                    let author = in_checkpoint(deeper.is_empty(), name);
                    author.map_or(Self::Unknown, |author| Self::Exclusive(id, author))
                }
                None => Self::Unknown,
            },
            [] => Self::Unknown,
        }
    }

    /// May such a file be deleted when nothing names it?
    pub fn author(&self) -> Option<&Author> {
        match self {
            Self::Exclusive(_, author) | Self::Shared(author) => Some(author),
            _ => None,
        }
    }
}

fn in_shared(deeper: &[&str], name: &str) -> Option<Author> {
    match deeper {
        [] => state_file(name),
        [subtask] if names::is_flink_subtask_directory(subtask) => Some(Author::Flink).filter(|_| is_plain_uuid(name)),
        _ => None,
    }
}

fn in_checkpoint(is_top: bool, name: &str) -> Option<Author> {
    if is_top && names::parse_unfinished_marker(name).is_some() {
        return Some(Author::Run);
    }
    if is_top && name == names::DISPOSING {
        return Some(Author::Disposal);
    }
    if is_top && (name == names::METADATA || names::is_flink_metadata_in_the_making(name)) {
        return Some(Author::Committer);
    }
    // A copy keeps what lay in directories of its own apart by directories, and puts its token into every name.
    state_file(name).filter(|author| is_top || *author != Author::Flink || !is_plain_uuid(name))
}

fn state_file(name: &str) -> Option<Author> {
    match name.parse::<PhysicalFileName>() {
        Ok(written) => Some(Author::Worker(written)),
        Err(_) => names::is_flink_file(name).then_some(Author::Flink),
    }
}

fn is_plain_uuid(name: &str) -> bool {
    names::is_flink_file(name) && name.len() == "00000000-0000-0000-0000-000000000000".len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "5c027815-91c5-482a-a453-7f77fecacf2f";
    const OURS: &str = "ds1-a3-ww-c41-n0-00000000000000ff";
    const SUBTASK: &str = "job_00f1f1f1f1f1f1f13a72aec4d85cb176_op_96eed58e350a66c179f06330f5425345_2_3";

    #[test]
    fn places_and_names_that_are_written_are_known() {
        let ours = || Author::Worker(OURS.parse().unwrap());
        let exclusive = |author| Spot::Exclusive(CheckpointId(4), author);
        for (below, spot) in [
            (format!("chk-4/{UUID}"), exclusive(Author::Flink)),
            (format!("chk-4/{OURS}"), exclusive(ours())),
            (format!("chk-4/{OURS}#1"), exclusive(ours())),
            (format!("chk-4/shared/{UUID}-00000000000000ff"), exclusive(Author::Flink)),
            (format!("chk-4/_drystone-unfinished-{}", "00000000000000ff"), exclusive(Author::Run)),
            ("chk-4/_metadata#3".to_owned(), exclusive(Author::Committer)),
            ("chk-4/_drystone-disposing".to_owned(), exclusive(Author::Disposal)),
            (format!("chk-4/._metadata.inprogress.{UUID}"), exclusive(Author::Committer)),
            (format!("shared/{UUID}"), Spot::Shared(Author::Flink)),
            (format!("shared/{OURS}"), Spot::Shared(ours())),
            (format!("shared/{SUBTASK}/{UUID}"), Spot::Shared(Author::Flink)),
            (format!("taskowned/{UUID}"), Spot::TaskOwned),
            ("taskowned/deeper/anything".to_owned(), Spot::TaskOwned),
            ("_drystone/log-00000000000000000001".to_owned(), Spot::Log),
            ("chk-4/_metadata".to_owned(), Spot::Metadata),
            ("savepoint-1/_metadata".to_owned(), Spot::Metadata),
            ("my backup/_metadata".to_owned(), Spot::Metadata),
            (format!("savepoint-1-2/{UUID}"), Spot::Savepoint),
            (format!("00f1f1f1f1f1f1f13a72aec4d85cb176/shared/{UUID}"), Spot::OtherJob),
        ] {
            assert_eq!(Spot::of(&below), spot, "{below}");
        }
    }

    #[test]
    fn other_places_and_names_are_not() {
        for below in [
            UUID.to_owned(),
            format!("chk-04/{UUID}"),
            format!("chk-4/deeper/{UUID}"),
            format!("chk-4/{}", UUID.to_uppercase()),
            format!("chk-4/{UUID}-00000000000000f"),
            "chk-4/notes.txt".to_owned(),
            "chk-4/_metadata.bak".to_owned(),
            format!("shared/op_96eed58e350a66c179f06330f5425345_attempt_0/{UUID}"),
            format!("shared/{SUBTASK}_4/{UUID}"),
            format!("shared/{SUBTASK}/deeper/{UUID}"),
            "shared/_metadata#1".to_owned(),
            format!("dstl/{UUID}"),
            format!("chk-4/../{OURS}"),
            format!("chk-4/a\\b/{OURS}"),
            format!("shared//{UUID}"),
        ] {
            assert_eq!(Spot::of(&below), Spot::Unknown, "{below}");
        }
    }
}
