//! A checkpoint as JSON, in the shape in which Flink's own classes list one: type names are those of Flink.

use drystone::format::merged_channels;
use drystone::handle::{
    ChannelHandle, ChannelInfo, CheckpointMetadata, DistributionMode, FileHandle, IncrementalHandle, JavaString,
    KeyGroupsForm, KeyGroupsHandle, KeyGroupsStream, KeyedHandle, LocalPathHandle, MasterState, Operator,
    OperatorStateHandle, OperatorSubtasks, Part, StreamHandle, SubtaskEntry, SubtaskState,
};
use drystone::id::KeyGroupRange;
use drystone::store::{FlinkPath, names};
use md5::{Digest, Md5};
use serde_json::{Map, Value, json};

/// The SHA-256 and the length of one stream's bytes.
pub struct ContentHash {
    pub sha256: String,
    pub length: u64,
}

/// Lists a checkpoint's tree.
pub struct Listing<'a> {
    /// Its directory, as the metadata would name it.
    directory: &'a FlinkPath,
    /// What paths are also given relative to: the directory that holds the configured checkpoint directory.
    root: Option<FlinkPath>,
    /// In the order of the metadata; empty when streams are not to be hashed.
    hashes: std::slice::Iter<'a, Option<ContentHash>>,
    hash: bool,
}

impl<'a> Listing<'a> {
    /// `hashes` has one entry for each stream, in the order of the metadata.
    pub fn new(directory: &'a FlinkPath, hashes: Option<&'a [Option<ContentHash>]>) -> Self {
        let root = root_of(directory);
        Self { directory, root, hashes: hashes.unwrap_or_default().iter(), hash: hashes.is_some() }
    }

    pub fn checkpoint(&mut self, metadata: &CheckpointMetadata) -> drystone::Result<Map<String, Value>> {
        let mut listing = Map::new();
        listing.insert("version".into(), metadata.version.into());
        listing.insert("checkpointId".into(), metadata.checkpoint_id.0.into());
        let masters: Vec<Value> = metadata.master_states.iter().map(master).collect();
        listing.insert("masterStates".into(), masters.into());
        let operators = metadata.operators.iter().map(|o| self.operator(o)).collect::<drystone::Result<Vec<_>>>()?;
        listing.insert("operators".into(), operators.into());
        Ok(listing)
    }

    fn operator(&mut self, operator: &Operator) -> drystone::Result<Value> {
        let coordinator = self.optional_stream(operator.coordinator.as_ref());
        let subtasks = match &operator.subtasks {
            OperatorSubtasks::FullyFinished => Vec::new(),
            OperatorSubtasks::Reported(entries) => {
                entries.iter().map(|e| self.subtask(e)).collect::<drystone::Result<Vec<_>>>()?
            }
        };
        Ok(json!({
            "operatorId": operator.id.to_string(),
            "name": operator.name.as_ref().map(text),
            "uid": operator.uid.as_ref().map(text),
            "parallelism": operator.parallelism,
            "maxParallelism": operator.max_parallelism,
            "fullyFinished": operator.subtasks == OperatorSubtasks::FullyFinished,
            "coordinatorState": coordinator,
            "subtasks": subtasks,
        }))
    }

    fn subtask(&mut self, entry: &SubtaskEntry) -> drystone::Result<Value> {
        let finished = SubtaskState::default();
        let state = entry.state.as_deref().unwrap_or(&finished);
        Ok(json!({
            "subtask": entry.index,
            "finished": entry.state.is_none(),
            "managedOperatorState": list(state.managed_operator.as_ref().map(|o| self.operator_state(o))),
            "rawOperatorState": list(state.raw_operator.as_ref().map(|o| self.operator_state(o))),
            "managedKeyedState": list(state.managed_keyed.as_ref().map(|k| self.keyed(k))),
            "rawKeyedState": list(state.raw_keyed.as_ref().map(|k| self.keyed(k))),
            "inputChannelState": self.channels(&state.input_channels, Part::InputChannel)?,
            "resultSubpartitionState": self.channels(&state.output_channels, Part::OutputChannel)?,
        }))
    }

    fn operator_state(&mut self, handle: &OperatorStateHandle) -> Value {
        let mut states: Vec<_> = handle.states.iter().collect();
        states.sort_by_key(|s| s.name.to_text().encode_utf16().collect::<Vec<_>>());
        let states: Vec<_> = states
            .into_iter()
            .map(|s| json!({"name": text(&s.name), "mode": mode(s.mode), "offsets": s.offsets}))
            .collect();
        match &handle.directories {
            None => json!({
                "type": "OperatorStreamStateHandle",
                "states": states,
                "delegate": self.stream(&handle.delegate),
            }),
            Some(directories) => json!({
                "type": if directories.empty {
                    "EmptyFileMergingOperatorStreamStateHandle"
                } else {
                    "FileMergingOperatorStreamStateHandle"
                },
                "states": states,
                "taskOwnedDir": text(&directories.task_owned),
                "sharedDir": text(&directories.shared),
                "delegate": self.stream(&handle.delegate),
            }),
        }
    }

    fn keyed(&mut self, handle: &KeyedHandle) -> Value {
        match handle {
            KeyedHandle::KeyGroups(groups) => self.key_groups(groups),
            KeyedHandle::Incremental(files) => self.incremental(files),
            KeyedHandle::Changelog(changelog) => json!({
                "type": "ChangelogStateBackendHandleImpl",
                "keyGroupRange": range(changelog.range),
                "persistedSize": changelog.persisted_size,
                "materialized": changelog.materialized.iter().map(|k| self.keyed(k)).collect::<Vec<_>>(),
                "nonMaterialized": changelog.changes.iter().map(|k| self.keyed(k)).collect::<Vec<_>>(),
                "materializationId": changelog.materialization_id,
                "checkpointId": changelog.checkpoint_id,
                "stateHandleId": text(&changelog.id),
            }),
            KeyedHandle::ChangelogMemory(changes) => json!({
                "type": "InMemoryChangelogStateHandle",
                "keyGroupRange": range(changes.range),
                "from": changes.from,
                "to": changes.to,
                "changes": changes.changes.len(),
                "stateHandleId": text(&changes.id),
            }),
            KeyedHandle::ChangelogFiles(files) => json!({
                "type": "ChangelogStateHandleStreamImpl",
                "keyGroupRange": range(files.range),
                "streams": files.streams.iter().map(|(offset, handle)| {
                    json!({"offset": offset, "handle": self.optional_stream(handle.as_ref())})
                }).collect::<Vec<_>>(),
                "size": files.size,
                "incrementalSize": files.incremental_size,
                "stateHandleId": text(&files.id),
                "storageIdentifier": files.storage.as_ref().map(text),
            }),
        }
    }

    fn key_groups(&mut self, groups: &KeyGroupsHandle) -> Value {
        let (name, id) = match &groups.form {
            KeyGroupsForm::WithId(id) => ("KeyGroupsStateHandle", Some(text(id))),
            KeyGroupsForm::WithoutId => ("KeyGroupsStateHandle", None),
            KeyGroupsForm::Savepoint => ("KeyGroupsSavepointStateHandle", None),
        };
        json!({
            "type": name,
            "keyGroupRange": range(groups.range),
            "offsets": groups.offsets,
            "stateHandleId": id,
            "delegate": self.stream(&groups.delegate),
        })
    }

    fn incremental(&mut self, files: &IncrementalHandle) -> Value {
        json!({
            "type": "IncrementalRemoteKeyedStateHandle",
            "backendIdentifier": text(&files.backend_id),
            "checkpointId": files.checkpoint_id,
            "keyGroupRange": range(files.range),
            "checkpointedSize": files.persisted.as_ref().map(|(size, _)| size),
            "stateHandleId": files.persisted.as_ref().map(|(_, id)| text(id)),
            "meta": self.optional_stream(files.meta.as_ref()),
            "shared": self.local_paths(&files.shared),
            "private": self.local_paths(&files.private),
        })
    }

    fn local_paths(&mut self, files: &[LocalPathHandle]) -> Vec<Value> {
        let one = |file: &LocalPathHandle| json!({"localPath": text(&file.local_path), "handle": self.optional_stream(file.handle.as_ref())});
        files.iter().map(one).collect()
    }

    fn channels(&mut self, channels: &[ChannelHandle], part: Part) -> drystone::Result<Vec<Value>> {
        channels.iter().map(|channel| self.channel(channel, part)).collect()
    }

    fn channel(&mut self, channel: &ChannelHandle, part: Part) -> drystone::Result<Value> {
        let name = match part {
            Part::InputChannel => "InputChannelStateHandle",
            _ => "ResultSubpartitionStateHandle",
        };
        Ok(match channel {
            ChannelHandle::Single(single) => json!({
                "type": name,
                "subtaskIndex": single.subtask,
                "info": info(single.info, part),
                "offsets": single.offsets,
                "stateSize": single.state_size,
                "delegate": self.stream(&single.delegate),
            }),
            ChannelHandle::Merged(merged) => {
                let channels = merged_channels(merged).map_err(|e| e.in_file("merged channel state"))?;
                let channels: Vec<_> = channels
                    .into_iter()
                    .map(|c| {
                        json!({
                            "subtaskIndex": merged.subtask,
                            "info": info(c.info, part),
                            "offsets": c.offsets,
                            "stateSize": c.state_size,
                        })
                    })
                    .collect();
                json!({
                    "type": format!("Merged{name}"),
                    "subtaskIndex": merged.subtask,
                    "stateSize": merged.state_size,
                    "serializedChannelOffsetsHex": hex(&merged.channels),
                    "channels": channels,
                    "delegate": self.stream(&merged.delegate),
                })
            }
        })
    }

    fn optional_stream(&mut self, handle: Option<&StreamHandle>) -> Value {
        handle.map_or(Value::Null, |handle| self.stream(handle))
    }

    fn stream(&mut self, handle: &StreamHandle) -> Value {
        let (mut fields, id) = match handle {
            StreamHandle::KeyGroups(groups) => return self.key_groups_stream(groups),
            StreamHandle::EmptySegment => {
                self.hashes.next();
                return json!({"type": "EmptySegmentFileStateHandle"});
            }
            StreamHandle::Inline(inline) => {
                let data = (inline.bytes.len() <= 64).then(|| hex(&inline.bytes));
                let fields = json!({
                    "type": "ByteStreamStateHandle",
                    "handleName": text(&inline.name),
                    "stateSize": inline.bytes.len(),
                    "dataHex": data,
                });
                (fields, text(&inline.name))
            }
            StreamHandle::Segment(segment) => {
                let path = text(&segment.path);
                let fields = json!({
                    "type": "SegmentFileStateHandle",
                    "path": path,
                    "relativeToFixture": self.relative(&path),
                    "startPos": segment.offset,
                    "stateSize": segment.size,
                    "scope": segment.scope.to_string(),
                    "logicalFileId": text(&segment.id),
                });
                (fields, text(&segment.id))
            }
            StreamHandle::File(file) => {
                let path = text(&file.path);
                let fields = json!({
                    "type": "FileStateHandle",
                    "path": path,
                    "relativeToFixture": self.relative(&path),
                    "stateSize": file.size,
                });
                (fields, path)
            }
            StreamHandle::Relative(file) => self.relative_file(file),
        };
        if let Some(fields) = fields.as_object_mut() {
            self.add_hash(fields);
            fields.insert("streamStateHandleId".into(), id.as_str().into());
            fields.insert("sharedStateRegistryKey".into(), name_uuid(&id).into());
        }
        fields
    }

    fn relative_file(&self, file: &FileHandle) -> (Value, String) {
        let name = text(&file.path);
        let path = self.directory.join(&name).map_or_else(|_| name.clone(), |path| path.to_string());
        let fields = json!({
            "type": "RelativeFileStateHandle",
            "relativePath": name,
            "path": path,
            "relativeToFixture": self.relative(&path),
            "stateSize": file.size,
        });
        (fields, path)
    }

    fn key_groups_stream(&mut self, groups: &KeyGroupsStream) -> Value {
        json!({
            "type": "KeyGroupsStateHandle",
            "keyGroupRange": range(groups.range),
            "offsets": groups.offsets,
            "stateHandleId": null,
            "delegate": self.stream(&groups.delegate),
        })
    }

    fn add_hash(&mut self, fields: &mut Map<String, Value>) {
        let hash = self.hashes.next().and_then(Option::as_ref);
        if self.hash {
            fields.insert("contentSha256".into(), hash.map(|h| h.sha256.clone()).into());
            fields.insert("contentLength".into(), hash.map(|h| h.length).into());
        }
    }

    fn relative(&self, path: &str) -> Option<String> {
        let path = FlinkPath::parse(path).ok()?;
        path.relative_to(self.root.as_ref()?).map(str::to_string)
    }
}

/// The directory that holds the configured directory of checkpoints (or savepoints), whatever lies in between.
fn root_of(directory: &FlinkPath) -> Option<FlinkPath> {
    let mut above = directory.parent()?;
    if above.file_name().and_then(names::parse_job_directory).is_some() {
        above = above.parent()?;
    }
    above.parent()
}

fn master(state: &MasterState) -> Value {
    json!({"name": text(&state.name), "version": state.version, "bytesHex": hex(&state.bytes)})
}

fn list(value: Option<Value>) -> Vec<Value> {
    value.into_iter().collect()
}

fn text(text: &JavaString) -> String {
    text.to_text().into_owned()
}

fn mode(mode: DistributionMode) -> &'static str {
    match mode {
        DistributionMode::SplitDistribute => "SPLIT_DISTRIBUTE",
        DistributionMode::Union => "UNION",
        DistributionMode::Broadcast => "BROADCAST",
    }
}

fn range(range: KeyGroupRange) -> Value {
    // The end is inclusive; an empty range ends before it starts.
    let end = i64::from(range.start) + i64::from(range.count) - 1;
    json!({"start": range.start, "end": end, "count": range.count})
}

fn info(info: ChannelInfo, part: Part) -> String {
    let ChannelInfo { outer, inner } = info;
    match part {
        Part::InputChannel => format!("InputChannelInfo{{gateIdx={outer}, inputChannelIdx={inner}}}"),
        _ => format!("ResultSubpartitionInfo{{partitionIdx={outer}, subPartitionIdx={inner}}}"),
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The UUID of version 3 that Java makes of a name: Flink's key for shared state.
fn name_uuid(name: &str) -> String {
    let mut bytes: [u8; 16] = Md5::digest(name.as_bytes()).into();
    bytes[6] = bytes[6] & 0x0f | 0x30;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}
