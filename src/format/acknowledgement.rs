//! An acknowledgement as bytes, for workers that are another process than the coordinator: the state in Flink's own
//! encoding of metadata, with the subtask and the sealed files around it. `design/format.md` has the byte map.

use bytes::Bytes;

use super::checksum::{SEAL_BYTES, Seal};
use super::input::{Input, Within};
use super::key_groups::GroupChecksums;
use super::metadata::{decode, encode};
use super::output::Output;
use super::{Result, properties};
use crate::error::FormatError;
use crate::handle::{CheckpointMetadata, JavaString, Operator, OperatorSubtasks, SubtaskEntry};
use crate::id::Subtask;
use crate::protocol::{Acknowledgement, SealedSize};

const SEAL: Seal = Seal { name: "acknowledgement", magic: u32::from_be_bytes(*b"DSak"), version: 3 };
/// Without checksums of key groups. Still what is written where there are none.
const VERSION_MIN: u32 = 2;
/// The newest, which can hold every kind of handle.
const METADATA_VERSION: u32 = 6;
const SEALED_BYTES_MIN: usize = 2 + 8;

impl Acknowledgement {
    /// As bytes, to be shipped to the coordinator.
    ///
    /// # Errors
    /// What can't be encoded, and why: as for [`encode`], and paths longer than 65,535 bytes.
    ///
    /// ```
    /// use drystone::id::{CheckpointId, OperatorId, Subtask};
    /// use drystone::protocol::Acknowledgement;
    /// let subtask = Subtask { operator: OperatorId([1; 16]), index: 2, parallelism: 4 };
    /// let done = Acknowledgement { epoch: 1, checkpoint: CheckpointId(7), subtask, state: None, sealed: vec![] };
    /// assert_eq!(Acknowledgement::from_bytes(done.to_bytes()?)?, done);
    /// # Ok::<(), drystone::FormatError>(())
    /// ```
    pub fn to_bytes(&self) -> Result<Bytes> {
        let Subtask { operator, index, parallelism } = self.subtask;
        let entry = self.state.clone().map(|state| SubtaskEntry { index, state: Some(state) });
        let operator = Operator {
            name: None,
            uid: None,
            id: operator,
            parallelism,
            max_parallelism: parallelism,
            coordinator: None,
            subtasks: OperatorSubtasks::Reported(entry.into_iter().collect()),
        };
        let metadata = CheckpointMetadata {
            version: METADATA_VERSION,
            checkpoint_id: self.checkpoint,
            master_states: Vec::new(),
            operators: vec![operator],
            properties: Bytes::from_static(properties::NULL),
        };
        let encoded = encode(&metadata)?;
        let mut output = Output::with_capacity(
            encoded.bytes.len() + self.sealed.len() * 200 + GroupChecksums::bytes(&encoded.groups) + 64,
        );
        output.u64(self.epoch);
        output.u31("subtask", index)?;
        output.block("state", &encoded.bytes)?;
        output.count("sealed files", self.sealed.len())?;
        for SealedSize { path, bytes } in &self.sealed {
            let path = JavaString::new(path).map_err(|e| output.error("path", e.to_string()))?;
            output.utf(&path);
            output.u64(*bytes);
        }
        let version = if encoded.groups.is_empty() { VERSION_MIN } else { SEAL.version };
        if version > VERSION_MIN {
            GroupChecksums::write(&encoded.groups, &mut output);
        }
        Seal { version, ..SEAL }.close(&mut output, 0);
        Ok(output.into_bytes())
    }

    /// From what [`to_bytes`](Self::to_bytes) gave. Texts and inline state share `bytes`.
    ///
    /// # Errors
    /// The first byte and field that are wrong; also where the checksum doesn't match.
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        let end = bytes.len().saturating_sub(SEAL_BYTES);
        let seal = SEAL.in_version_of(&bytes, VERSION_MIN);
        let checksum = seal.read(&mut Input::at_offset(bytes.slice(end..), end as u64))?;
        let mut input = Input::new(bytes.slice(..end));
        let expected = seal.expected(&bytes);
        if checksum != expected {
            let (at, problem) = seal.mismatch(0, bytes.len(), checksum, expected);
            return Err(input.error_at(at, "checksum", problem));
        }
        let epoch = input.u64("epoch")?;
        let index_at = input.offset();
        let index = input.u31("subtask")?;
        let state_at = input.offset() + 4;
        let in_state = |e: FormatError| FormatError { offset: state_at + e.offset, ..e };
        let mut metadata = decode(input.block("state")?).map_err(in_state).within("state")?.metadata;
        let sealed = input.list("sealed files", SEALED_BYTES_MIN, |input| {
            Ok(SealedSize { path: input.utf("path")?.to_text().into_owned(), bytes: input.u64("length")? })
        })?;
        if seal.version > VERSION_MIN {
            GroupChecksums::enter(&GroupChecksums::read(&mut input)?, &mut metadata);
        }
        if !input.rest().is_empty() {
            let more = input.rest().len();
            return Err(input.error_at(input.offset(), "end", format!("{more} bytes more than its fields take")));
        }
        let [operator] = metadata.operators.as_slice() else {
            let problem = format!("{} operators, where 1 must be", metadata.operators.len());
            return Err(input.error_at(state_at, "state", problem));
        };
        if index >= operator.parallelism {
            let problem = format!("{index}, where the parallelism is {}", operator.parallelism);
            return Err(input.error_at(index_at, "subtask", problem));
        }
        let subtask = Subtask { operator: operator.id, index, parallelism: operator.parallelism };
        let entries = match &operator.subtasks {
            OperatorSubtasks::Reported(entries) => entries.as_slice(),
            OperatorSubtasks::FullyFinished => &[],
        };
        if let Some(other) = entries.iter().find(|entry| entry.index != index) {
            let problem = format!("the state of subtask {}, where that of {index} must be", other.index);
            return Err(input.error_at(state_at, "state", problem));
        }
        let state = entries.first().and_then(|entry| entry.state.clone());
        Ok(Self { epoch, checkpoint: metadata.checkpoint_id, subtask, state, sealed })
    }
}
