//! The names of directories and files below a checkpoint directory: the one place that formats and parses them.
//!
//! ```text
//! <checkpoint directory>/<job id>/chk-<n>/_metadata
//! <checkpoint directory>/<job id>/{chk-<n>,shared,taskowned}/ds1-a<attempt>-w<worker>-c<checkpoint>-n<sequence>-<token>
//! <savepoint directory>/savepoint-<...>/_metadata
//! ```

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};
use crate::id::{CheckpointId, FileToken, JobId, OperatorId};
use crate::store::FlinkPath;
use crate::store::local::is_partial_name;

/// The file that makes a directory a checkpoint.
pub const METADATA: &str = "_metadata";
/// The directory of files that several checkpoints may name.
pub const SHARED: &str = "shared";
/// The directory of files that belong to tasks.
pub const TASK_OWNED: &str = "taskowned";
/// The directory of the files that keep a job's coordinators apart.
pub const FENCE: &str = "_drystone";

/// The file that says which checkpoint is the latest, beside those.
pub const LATEST: &str = "latest";

/// The file that says whose the directory is, where no directory above has the job's name.
pub const OWNER: &str = "owner";

const LOG_PREFIX: &str = "log-";

/// The file of the fence log's entry at a position. In the order of names they are in the order of positions.
pub fn log_entry(position: u64) -> String {
    format!("{LOG_PREFIX}{position:020}")
}

/// The position of an entry of the fence log; none if the name is of something else.
pub fn parse_log_entry(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(LOG_PREFIX).filter(|digits| digits.len() == 20)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// A file by which it is tried out what the store does.
pub fn probe(token: FileToken) -> String {
    format!("probe-{token}")
}

/// The file that says that a run is writing a checkpoint's directory, or was interrupted: the run with this token, which
/// all names of its files hold.
pub fn unfinished_marker(run: FileToken) -> String {
    format!("{UNFINISHED}{run}")
}

/// The run of an [`unfinished_marker`].
pub fn parse_unfinished_marker(name: &str) -> Option<FileToken> {
    name.strip_prefix(UNFINISHED)?.parse().ok()
}

/// The file that holds the metadata of a checkpoint while it is disposed of: what is to be deleted, whenever that is cut
/// off.
pub const DISPOSING: &str = "_drystone-disposing";

const UNFINISHED: &str = "_drystone-unfinished-";

const CHECKPOINT_PREFIX: &str = "chk-";
const SAVEPOINT_PREFIX: &str = "savepoint-";

/// The directory of one checkpoint, `chk-<n>`.
pub fn checkpoint_directory(checkpoint: CheckpointId) -> String {
    format!("{CHECKPOINT_PREFIX}{checkpoint}")
}

/// The checkpoint whose directory has this name; none if it is no checkpoint's.
pub fn parse_checkpoint_directory(name: &str) -> Option<CheckpointId> {
    decimal(name.strip_prefix(CHECKPOINT_PREFIX)?).map(CheckpointId)
}

/// The directory of one savepoint, as Flink calls it: `savepoint-<6 hex of the job>-<12 hex>`. Where no job is known, its
/// place has zeros.
pub fn savepoint_directory(job: Option<JobId>, token: u64) -> String {
    let job = job.unwrap_or(JobId([0; 16])).to_string();
    let (job, token) = (job.get(..6).unwrap_or_default(), token & 0xffff_ffff_ffff);
    format!("{SAVEPOINT_PREFIX}{job}-{token:012x}")
}

/// Is this the name of a savepoint's directory, `savepoint-<...>`?
pub fn is_savepoint_directory(name: &str) -> bool {
    name.strip_prefix(SAVEPOINT_PREFIX).is_some_and(|rest| !rest.is_empty())
}

/// The file that says that the savepoint in the directory of this name was begun and isn't whole; none if no savepoint of ours
/// is called so.
pub fn savepoint_marker(directory: &str) -> Option<String> {
    let is_hex =
        |text: &str, length| text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (job, token) = directory.strip_prefix(SAVEPOINT_PREFIX)?.split_once('-')?;
    let token = u64::from_str_radix(token, 16).ok().filter(|_| is_hex(job, 6) && is_hex(token, 12))?;
    Some(unfinished_marker(FileToken(token)))
}

/// What a local file in the making, `<name>#<n>`, is to be called; none if it is whole.
pub fn final_name(path: &FlinkPath) -> Option<&str> {
    let name = path.file_name().filter(|name| is_partial_name(name))?;
    name.rsplit_once('#').map(|(name, _)| name)
}

/// The job whose directory has this name; none if it is no job's.
pub fn parse_job_directory(name: &str) -> Option<JobId> {
    name.parse().ok()
}

/// A worker's name as file names hold it: 1 to 64 of `A-Z a-z 0-9 _ .`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerName(String);

impl WorkerName {
    /// The most characters.
    pub const LENGTH_MAX: usize = 64;

    /// Makes any text a worker's name: other characters become `_`, what is too long is cut, nothing at all is `_`.
    pub fn sanitise(text: &str) -> Self {
        let legal = |c: char| if Self::is_legal(c) { c } else { '_' };
        let name: String = text.chars().take(Self::LENGTH_MAX).map(legal).collect();
        Self(if name.is_empty() { "_".to_owned() } else { name })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_legal(c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a physical file: who wrote it, for which checkpoint, and something unguessable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysicalFileName {
    /// The job's attempt, which is also the epoch of its coordinator.
    pub attempt: u64,
    /// The worker that wrote it.
    pub worker: WorkerName,
    /// The checkpoint it was opened for.
    pub checkpoint: CheckpointId,
    /// Counts the worker's files.
    pub sequence: u64,
    /// Keeps two writers apart that claim the same rest.
    pub token: FileToken,
}

impl PhysicalFileName {
    /// What a file's own name says, also while it is in the making on a local disk; none if it isn't one of ours.
    pub fn of(path: &FlinkPath) -> Option<Self> {
        parse_physical(final_name(path).or(path.file_name())?)
    }
}

impl fmt::Display for PhysicalFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempt, worker, checkpoint, sequence, token } = self;
        write!(f, "ds1-a{attempt}-w{worker}-c{checkpoint}-n{sequence}-{token}")
    }
}

impl FromStr for PhysicalFileName {
    type Err = Error;

    /// Takes only what `Display` writes, so that a file has one name.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse_physical(text).ok_or_else(|| {
            let form = "ds1-a<attempt>-w<worker>-c<checkpoint>-n<sequence>-<16 hex>";
            Error::new(ErrorKind::Invalid, format!("'{text}' isn't a physical file's name of the form {form}"))
        })
    }
}

fn parse_physical(text: &str) -> Option<PhysicalFileName> {
    let mut parts = text.strip_prefix("ds1-")?.split('-');
    let attempt = decimal(parts.next()?.strip_prefix('a')?)?;
    let worker = parts.next()?.strip_prefix('w')?;
    let checkpoint = CheckpointId(decimal(parts.next()?.strip_prefix('c')?)?);
    let sequence = decimal(parts.next()?.strip_prefix('n')?)?;
    let token = parts.next()?.parse().ok()?;
    let sanitised = WorkerName::sanitise(worker);
    let is_canonical = sanitised.as_str() == worker && parts.next().is_none();
    is_canonical.then_some(PhysicalFileName { attempt, worker: sanitised, checkpoint, sequence, token })
}

/// Is this a name that stock Flink gives to a file of state: a UUID in lower case? Or that of a copy of one, which has the
/// run's token behind it?
pub fn is_flink_file(name: &str) -> bool {
    let (name, token) = name.split_at_checked(UUID_LENGTH).unwrap_or((name, ""));
    let is_token = |token: &str| token.strip_prefix('-').is_some_and(|token| token.parse::<FileToken>().is_ok());
    is_uuid(name) && (token.is_empty() || is_token(token))
}

/// Is this the name that stock Flink writes a checkpoint's metadata under on a local disk, before it has its own?
pub fn is_flink_metadata_in_the_making(name: &str) -> bool {
    let rest = name.strip_prefix('.').and_then(|name| name.strip_prefix(METADATA)?.strip_prefix(".inprogress."));
    rest.is_some_and(is_uuid)
}

/// Is this a directory of stock Flink's file merging below `shared`, `job_<job>_op_<operator>_<index>_<parallelism>`?
pub fn is_flink_subtask_directory(name: &str) -> bool {
    let Some((job, subtask)) = name.strip_prefix("job_").and_then(|rest| rest.split_once("_op_")) else { return false };
    let mut parts = subtask.split('_');
    let operator = parts.next().is_some_and(|operator| operator.parse::<OperatorId>().is_ok());
    let mut is_number = || parts.next().is_some_and(|part| decimal(part).is_some());
    parse_job_directory(job).is_some() && operator && is_number() && is_number() && parts.next().is_none()
}

const UUID_LENGTH: usize = 36;

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

/// Only what `Display` writes: no sign and no leading zero.
fn decimal(text: &str) -> Option<u64> {
    let is_canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    if is_canonical { text.parse().ok() } else { None }
}
