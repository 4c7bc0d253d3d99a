//! Takes a checkpoint that Flink wrote, and has its state written again through workers and a coordinator.

use std::path::Path;

use bytes::Bytes;
use drystone::config::Config;
use drystone::coordinator::Acknowledged;
use drystone::handle::{ChannelHandle, InlineHandle, JavaString, OperatorSubtasks, Part, StreamHandle};
use drystone::id::JobId;
use drystone::protocol::{Acknowledgement, OperatorSpec, SavepointAction, SavepointFormat};
use drystone::read::{ChannelRestore, Checkpoint, InFlight, ReadLimits, State, open_handle};
use drystone::storage::Storage;
use drystone::store::{FlinkPath, Rebase, Stores};
use drystone::worker::{ChannelForm, ChannelHandles};
use futures::TryStreamExt;

const JOB: JobId = JobId([9; 16]);

/// The new checkpoint's path.
#[allow(dead_code, reason = "not every test that uses this writes checkpoints")]
pub async fn recommit(data: &Path, source: &Path, to: &Path, inline: &str) -> FlinkPath {
    write_again(data, source, to, inline, None).await
}

/// As a savepoint, below `to`: its path.
#[allow(dead_code, reason = "not every test that uses this writes savepoints")]
pub async fn savepoint(data: &Path, source: &Path, to: &Path, format: SavepointFormat, pack: bool) -> FlinkPath {
    write_again(data, source, to, "2kb", Some((format, pack))).await
}

async fn write_again(
    data: &Path,
    source: &Path,
    to: &Path,
    inline: &str,
    savepoint: Option<(SavepointFormat, bool)>,
) -> FlinkPath {
    let path = |text: &str| FlinkPath::parse(text).unwrap();
    let rule = Rebase { from: path("file:/data/flink"), to: path(data.to_str().unwrap()) };
    let stores = Stores::new().with_rebase(vec![rule]);
    let source = path(source.to_str().unwrap());
    let checkpoint = Checkpoint::load(&stores, &source).await.unwrap();
    let state = State::of(&stores, &checkpoint).await.unwrap();
    let limits = ReadLimits::default();
    let mut contents = Vec::new();
    for stream in &state.streams {
        let chunks: Vec<Bytes> = open_handle(&state.files, stream, &limits).try_collect().await.unwrap();
        contents.push(Bytes::from(chunks.concat()));
    }
    let mut contents = contents.into_iter();

    let metadata = &checkpoint.decoded.metadata;
    let config = Config::from_map([
        ("execution.checkpointing.dir", format!("file:{}", to.display())),
        ("execution.checkpointing.data-inline-threshold", inline.to_owned()),
        ("drystone.metadata-version", metadata.version.max(4).to_string()),
        ("execution.checkpointing.savepoint-dir", format!("file:{}", to.display())),
        ("drystone.savepoint.pack", savepoint.is_some_and(|(_, pack)| pack).to_string()),
    ]);
    let storage = Storage::open(&config).unwrap();
    let specs = metadata.operators.iter().map(|operator| OperatorSpec {
        id: operator.id,
        name: operator.name.clone(),
        uid: operator.uid.clone(),
        parallelism: operator.parallelism,
        max_parallelism: operator.max_parallelism,
    });
    let specs: Vec<_> = specs.collect();
    let coordinator = storage.coordinator(JOB, specs.clone()).await.unwrap();
    let worker = storage.worker(JOB, "worker").unwrap();
    let id = metadata.checkpoint_id;
    let trigger = match savepoint {
        None => coordinator.trigger(id).unwrap(),
        Some((format, _)) => {
            let request = storage.savepoint(None, format, SavepointAction::None).unwrap();
            coordinator.trigger_savepoint(id, &request).unwrap()
        }
    };
    for master in &metadata.master_states {
        coordinator.acknowledge_master(trigger.epoch, id, master.clone()).unwrap();
    }
    let mut under_way = Vec::new();
    for (spec, operator) in specs.iter().zip(&metadata.operators) {
        if let Some(StreamHandle::Inline(inline)) = &operator.coordinator {
            contents.next();
            coordinator.acknowledge_operator(trigger.epoch, id, spec.id, inline.clone()).unwrap();
        }
        let entries = match &operator.subtasks {
            OperatorSubtasks::FullyFinished => {
                for subtask in spec.subtasks() {
                    coordinator.finished(trigger.epoch, id, subtask).unwrap();
                }
                continue;
            }
            OperatorSubtasks::Reported(entries) => entries,
        };
        for subtask in spec.subtasks() {
            let entry = entries.iter().find(|entry| entry.index == subtask.index);
            let Some(mut state) = entry.and_then(|entry| entry.state.clone()) else {
                match entry {
                    Some(_) => {
                        coordinator.finished(trigger.epoch, id, subtask).unwrap();
                    }
                    None => {
                        let none = Acknowledgement {
                            epoch: trigger.epoch,
                            checkpoint: id,
                            subtask,
                            state: None,
                            sealed: Vec::new(),
                        };
                        coordinator.acknowledge(none).unwrap();
                    }
                }
                continue;
            };
            let mut streams: Vec<(StreamHandle, Part)> = Vec::new();
            state.visit_streams(subtask, |place, handle| streams.push((handle.clone(), place.part)));
            let snapshot = worker.begin(subtask, &trigger).unwrap();
            let mut written: Vec<(StreamHandle, Option<drystone::write::Written>)> = Vec::new();
            let mut starts: Vec<(StreamHandle, Vec<i64>)> = Vec::new();
            state.visit_key_groups(subtask, |_, handle| {
                starts.push((handle.delegate.innermost().clone(), handle.offsets.clone()));
            });
            let mut checksums = Vec::new();
            let (inputs, outputs) =
                (std::mem::take(&mut state.input_channels), std::mem::take(&mut state.output_channels));
            let form = match inputs.iter().chain(&outputs).any(|channel| matches!(channel, ChannelHandle::Merged(_))) {
                true => ChannelForm::Merged,
                false => ChannelForm::Single,
            };
            let (mut channels, mut inputs, mut outputs) =
                (snapshot.channels(), inputs.into_iter(), outputs.into_iter());
            for (handle, part) in streams {
                let bytes = contents.next().unwrap();
                let in_flight =
                    |handle| ChannelRestore { writer: 0, handle, only: None, stream: None }.in_flight(&bytes).unwrap();
                match part {
                    Part::InputChannel => {
                        for InFlight { channel, chunks } in in_flight(inputs.next().unwrap()) {
                            for chunk in chunks {
                                channels.input(channel, &[chunk]).await.unwrap();
                            }
                        }
                        continue;
                    }
                    Part::OutputChannel => {
                        for InFlight { channel, chunks } in in_flight(outputs.next().unwrap()) {
                            for chunk in chunks {
                                channels.output(channel, &[chunk]).await.unwrap();
                            }
                        }
                        continue;
                    }
                    _ => {}
                }
                // Handles that Flink holds to be equal stay equal.
                if written.iter().any(|(known, _)| *known == handle) {
                    continue;
                }
                let mut segment = snapshot.segment(part.scope(), None);
                let mut at = 0;
                for &start in starts.iter().filter(|(known, _)| *known == handle).flat_map(|(_, starts)| starts) {
                    segment.write(bytes.slice(at..at.max(start as usize))).await.unwrap();
                    at = segment.mark() as usize;
                }
                segment.write(bytes.slice(at..)).await.unwrap();
                checksums.push((handle.clone(), segment.part_checksums()));
                let result = segment.finish().await.unwrap();
                written.push((handle, Some(result)));
            }
            for slot in [&mut state.managed_operator, &mut state.raw_operator] {
                // Nobody but Flink's own merging has directories to manage, nor a placeholder to name them.
                slot.take_if(|operator| operator.directories.take().is_some_and(|directories| directories.empty));
            }
            state.visit_key_groups_mut(subtask, |_, handle| {
                let of = |(known, _): &&(StreamHandle, Vec<u32>)| known == handle.delegate.innermost();
                handle.checksums = checksums.iter().find(of).unwrap().1.clone();
            });
            let channels = (channels.finish().await.unwrap(), form);
            under_way.push((subtask, state, written, channels, snapshot.finish()));
        }
    }
    let mut last = None;
    for (subtask, mut state, written, (channels, form), ticket) in under_way {
        let durable = ticket.seal().await.unwrap();
        state.visit_streams_mut(subtask, |_, handle| {
            let (_, result) = written.iter().find(|(known, _)| known == handle).unwrap();
            let new = durable.handle(result.as_ref().unwrap()).unwrap();
            let empty = || InlineHandle { name: JavaString::new("empty").unwrap(), bytes: Bytes::new() };
            *handle = new.unwrap_or_else(|| StreamHandle::Inline(empty()));
        });
        let ChannelHandles { inputs, outputs } = durable.channels(&channels, form).unwrap();
        (state.input_channels, state.output_channels) = (inputs, outputs);
        let sealed = durable.sealed().to_vec();
        let acknowledgement =
            Acknowledgement { epoch: trigger.epoch, checkpoint: id, subtask, state: Some(state), sealed };
        last = Some(coordinator.acknowledge(acknowledgement).unwrap());
    }
    assert_eq!(last, Some(Acknowledged::Ready));
    let completed = coordinator.complete(id).await.unwrap();
    worker.complete(trigger.epoch, id);
    completed.path
}
