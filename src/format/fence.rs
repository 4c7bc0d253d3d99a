//! What coordinators write to keep each other apart: the entries of a job's fence log, and the mark that bars a
//! checkpoint. `design/format.md` has the byte maps, `design/0006-fencing.md` what they are for.

use bytes::Bytes;

use super::Result;
use super::checksum::{SEAL_BYTES, Seal};
use super::input::Input;
use super::output::Output;
use crate::id::{CheckpointId, FileToken};

const SEAL: Seal = Seal { name: "fence log entry", magic: u32::from_be_bytes(*b"DSfl"), version: 1 };

const CLAIM: u8 = 0;
const INTENT: u8 = 1;

/// One entry of a job's fence log: what its writer may do from here on. It replaces what it wrote before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The writer's epoch.
    pub epoch: u64,
    /// The writer; of two of one epoch, at most one has it.
    pub coordinator: FileToken,
    /// Does the writer's epoch begin with this entry?
    pub step: Step,
    /// Checkpoints whose metadata may come to exist.
    pub open: Vec<CheckpointId>,
    /// Checkpoints that are completed and not given up; `None`: all that are there.
    pub kept: Option<Vec<CheckpointId>>,
    /// How many of the newest that are completed or come to be the writer deletes nothing of.
    pub retained: u32,
    /// The first number that no checkpoint had.
    pub next: CheckpointId,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An epoch begins; all else is taken over from the entry before.
    Claim,
    /// A commit is about to be made, or the job ends.
    Intent,
}

impl LogEntry {
    /// As the bytes of a file.
    ///
    /// # Errors
    /// More checkpoints than there can be.
    pub fn to_bytes(&self) -> Result<Bytes> {
        let mut output = Output::with_capacity(72 + 8 * (self.open.len() + self.kept.as_ref().map_or(0, Vec::len)));
        output.u64(self.epoch);
        output.u64(self.coordinator.0);
        output.u8(match self.step {
            Step::Claim => CLAIM,
            Step::Intent => INTENT,
        });
        output.u32(self.retained);
        output.u64(self.next.0);
        checkpoints(&mut output, "open", &self.open)?;
        output.u8(u8::from(self.kept.is_some()));
        if let Some(kept) = &self.kept {
            checkpoints(&mut output, "kept", kept)?;
        }
        SEAL.close(&mut output, 0);
        Ok(output.into_bytes())
    }

    /// From the whole of a file.
    ///
    /// # Errors
    /// The first byte and field that are wrong; also where the checksum doesn't match.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self> {
        let end = bytes.len().saturating_sub(SEAL_BYTES);
        let checksum = SEAL.read(&mut Input::at_offset(bytes.slice(end..), end as u64))?;
        let mut input = Input::new(bytes.slice(..end));
        let expected = SEAL.expected(bytes);
        if checksum != expected {
            let (at, problem) = SEAL.mismatch(0, bytes.len(), checksum, expected);
            return Err(input.error_at(at, "checksum", problem));
        }
        let (epoch, coordinator) = (input.u64("epoch")?, FileToken(input.u64("coordinator")?));
        let at = input.offset();
        let step = match input.u8("step")? {
            CLAIM => Step::Claim,
            INTENT => Step::Intent,
            other => return Err(input.error_at(at, "step", format!("{other}, where 0 and 1 are allowed"))),
        };
        let (retained, next) = (input.u32("retained")?, CheckpointId(input.u64("next")?));
        let list = |input: &mut Input, field| input.list(field, 8, |input| input.u64("checkpoint").map(CheckpointId));
        let open = list(&mut input, "open")?;
        let kept = if input.flag("kept")? { Some(list(&mut input, "kept")?) } else { None };
        if !input.rest().is_empty() {
            let more = input.rest().len();
            return Err(input.error_at(input.offset(), "end", format!("{more} bytes more than its fields take")));
        }
        Ok(Self { epoch, coordinator, step, open, kept, retained, next })
    }
}

fn checkpoints(output: &mut Output, field: &str, checkpoints: &[CheckpointId]) -> Result<()> {
    output.count(field, checkpoints.len())?;
    checkpoints.iter().for_each(|checkpoint| output.u64(checkpoint.0));
    Ok(())
}

const BARRED: &str = "drystone-barred 1 epoch=";

/// What takes the place of a checkpoint's metadata that is never to come: one line for programs, one for people.
pub fn barred(checkpoint: CheckpointId, epoch: u64) -> Bytes {
    Bytes::from(format!(
        "{BARRED}{epoch}\nCheckpoint {checkpoint} was never completed, and never will be: the coordinator of epoch {epoch} \
         has seen to that.\n"
    ))
}

/// The epoch that has barred the checkpoint; `None` where these bytes say nothing of the kind.
///
/// ```
/// use drystone::format::{barred, barred_by};
/// use drystone::id::CheckpointId;
/// assert_eq!(barred_by(&barred(CheckpointId(42), 7)), Some(7));
/// assert_eq!(barred_by(b"anything else"), None);
/// ```
pub fn barred_by(metadata: &[u8]) -> Option<u64> {
    let digits = metadata.strip_prefix(BARRED.as_bytes())?;
    let line = &digits[..digits.iter().position(|&byte| byte == b'\n')?];
    let epoch: u64 = std::str::from_utf8(line).ok()?.parse().ok()?;
    // Only what `barred` writes: no sign, no leading zero, no line that was cut.
    (epoch.to_string().as_bytes() == line).then_some(epoch)
}
