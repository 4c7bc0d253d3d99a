//! The small file that says which checkpoint of a job is the latest, for tools that know nothing else.
//!
//! A hint: what is true is in the job's directory. It may be older than that, and a coordinator that has been taken over may
//! still write one.

use bytes::Bytes;

use crate::id::CheckpointId;
use crate::store::FlinkPath;

/// A path, and two numbers.
pub(super) const HINT_BYTES_MAX: u64 = 64 << 10;

/// What such a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The checkpoint's directory, as metadata would name it.
    pub path: FlinkPath,
    /// The epoch of the coordinator that completed it.
    pub epoch: u64,
    /// Its number.
    pub checkpoint: CheckpointId,
}

impl Hint {
    /// As the bytes of a file: the path on a line of its own, then a line `epoch=<n> checkpoint=<n>`.
    ///
    /// ```
    /// use drystone::id::CheckpointId;
    /// use drystone::jobs::Hint;
    /// let path = drystone::store::FlinkPath::parse("s3://bucket/checkpoints/chk-42")?;
    /// let hint = Hint { path, epoch: 3, checkpoint: CheckpointId(42) };
    /// assert_eq!(hint.to_bytes(), "s3://bucket/checkpoints/chk-42\nepoch=3 checkpoint=42\n");
    /// assert_eq!(Hint::from_bytes(&hint.to_bytes()), Some(hint));
    /// # Ok::<(), drystone::Error>(())
    /// ```
    pub fn to_bytes(&self) -> Bytes {
        let Self { path, epoch, checkpoint } = self;
        Bytes::from(format!("{path}\nepoch={epoch} checkpoint={checkpoint}\n"))
    }

    /// From the whole of a file; none where these bytes are no hint. A path with a control character is none: tools differ in
    /// where its line ends.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (path, numbers) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once('\n')?;
        let (epoch, checkpoint) = numbers.split_once(' ')?;
        let epoch = epoch.strip_prefix("epoch=")?.parse().ok()?;
        let checkpoint = checkpoint.strip_prefix("checkpoint=")?.parse().ok().map(CheckpointId)?;
        let path = Some(path).filter(|path| !path.contains(char::is_control))?;
        Some(Self { path: FlinkPath::parse(path).ok()?, epoch, checkpoint })
    }
}
