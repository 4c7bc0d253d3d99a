//! Data in flight: what subtasks write comes back channel by channel, chunk by chunk, in either form.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;
#[allow(dead_code, reason = "only a part is wanted here")]
#[path = "support/live.rs"]
mod live;
#[path = "support/seeded.rs"]
mod seeded;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cases::cases;
use drystone::ErrorKind;
use drystone::config::Config;
use drystone::handle::{ChannelHandle, ChannelInfo, StreamHandle, SubtaskState};
use drystone::id::{KeyGroupRange, Subtask};
use drystone::protocol::Acknowledgement;
use drystone::read::{ChannelRestore, ChannelSharing, ChannelSharings, InFlight, ReadLimits, Restore, TaskRead};
use drystone::storage::Storage;
use drystone::store::FlinkPath;
use drystone::worker::{ChannelForm, ChannelHandles, Worker, WorkerSettings};
use drystone::write::WriteSettings;
use object_store::memory::InMemory;
use proptest::prelude::*;

use live::{Live, OPERATOR};
use seeded::bytes_of;

const KEY_GROUPS: u32 = 128;

/// Of one subtask: chunks in the order in which they are written, each of an input or an output, cut into buffers.
type Plan = Vec<(bool, ChannelInfo, Vec<usize>)>;

fn plan() -> impl Strategy<Value = Plan> {
    let info = (0..3_i32, 0..4_i32).prop_map(|(outer, inner)| ChannelInfo { outer, inner });
    let buffers = prop::collection::vec(prop_oneof![Just(0_usize), 1..300_usize, 20_000..70_000_usize], 0..4);
    prop::collection::vec((any::<bool>(), info, buffers), 0..12)
}

fn worker(live: &Live, inline_bytes_max: u64) -> Worker {
    let write = WriteSettings { inline_bytes_max, buffer_bytes_max: 50_000, ..WriteSettings::default() };
    let settings =
        WorkerSettings { write, channels: None, buffered_bytes_total_max: 64 << 20, linger: Duration::from_secs(3600) };
    let worker = Worker::new(live.directory.clone(), "w", settings, live.tokens.clone());
    live.spec.subtasks().for_each(|subtask| worker.register(subtask));
    worker
}

/// What is expected back of a subtask's inputs and outputs.
type Expected = [BTreeMap<ChannelInfo, Vec<Bytes>>; 2];

/// A checkpoint of a subtask for each plan, and what each of them had in flight.
async fn written(plans: &[Plan], form: ChannelForm, inline_bytes_max: u64) -> (Restore, Vec<Expected>) {
    let parallelism = plans.len() as u32;
    let live = Live::new(Arc::new(InMemory::new()), parallelism, live::settings()).await;
    let worker = worker(&live, inline_bytes_max);
    let checkpoint = live.coordinator.next_checkpoint();
    let trigger = live.coordinator.trigger(checkpoint).unwrap();
    let (mut expected, mut tickets) = (Vec::new(), Vec::new());
    for (index, plan) in plans.iter().enumerate() {
        let snapshot = worker.begin(live.subtask(index as u32), &trigger).unwrap();
        let (mut channels, mut mine) = (snapshot.channels(), Expected::default());
        for (number, (is_output, info, lengths)) in plan.iter().enumerate() {
            let seed = (index * 1_000 + number) as u64;
            let whole = bytes_of(seed, lengths.iter().sum());
            let mut rest = whole.clone();
            let buffers: Vec<Bytes> = lengths.iter().map(|&length| rest.split_to(length)).collect();
            match is_output {
                false => channels.input(*info, &buffers).await.unwrap(),
                true => channels.output(*info, &buffers).await.unwrap(),
            }
            mine[usize::from(*is_output)].entry(*info).or_default().push(whole);
        }
        expected.push(mine);
        tickets.push((channels.finish().await.unwrap(), snapshot.finish()));
    }
    for (index, (written, ticket)) in tickets.into_iter().enumerate() {
        let durable = ticket.seal().await.unwrap();
        let ChannelHandles { inputs, outputs } = durable.channels(&written, form).unwrap();
        let count = |channels: &[ChannelHandle], expected: &BTreeMap<ChannelInfo, _>| match form {
            ChannelForm::Single => assert_eq!(channels.len(), expected.len()),
            ChannelForm::Merged => assert_eq!(channels.len(), usize::from(!expected.is_empty())),
        };
        count(&inputs, &expected[index][0]);
        count(&outputs, &expected[index][1]);
        let state = SubtaskState { input_channels: inputs, output_channels: outputs, ..SubtaskState::default() };
        let (subtask, sealed) = (live.subtask(index as u32), durable.sealed().to_vec());
        let state = Some(Box::new(state));
        let acknowledgement = Acknowledgement { epoch: trigger.epoch, checkpoint, subtask, state, sealed };
        live.coordinator.acknowledge(acknowledgement).unwrap();
    }
    let path = live.coordinator.complete(checkpoint).await.unwrap().path;
    live.check(checkpoint).await;

    (Restore::open(&live.stores, &path, ReadLimits::default()).await.unwrap(), expected)
}

async fn round_trip(plans: &[Plan], form: ChannelForm, inline_bytes_max: u64) {
    let parallelism = plans.len() as u32;
    let (restore, expected) = written(plans, form, inline_bytes_max).await;
    let tasks: Vec<_> = (0..parallelism).map(|index| restore.task(OPERATOR, index, parallelism).unwrap()).collect();
    for (task, expected) in tasks.iter().zip(&expected) {
        let restored = task.read_all().await.unwrap();
        let found = |channels: &[ChannelRestore]| {
            let all = channels
                .iter()
                .flat_map(|channel| channel.in_flight(&restored.bytes(channel.stream.unwrap())).unwrap());
            all.map(|InFlight { channel, chunks }| (channel, chunks)).collect::<BTreeMap<_, _>>()
        };
        assert!(found(&task.input_channels) == expected[0], "inputs of {:?}", task.subtask);
        assert!(found(&task.output_channels) == expected[1], "outputs of {:?}", task.subtask);
    }
    // Nothing is read twice for all its names.
    let mut together = TaskRead::together(&tasks).await.unwrap();
    while together.next().await.transpose().unwrap().is_some() {}
    let bytes: usize = plans.iter().flatten().map(|(_, _, lengths)| 4 + lengths.iter().sum::<usize>()).sum();
    let headers = plans.iter().filter(|plan| !plan.is_empty()).count() * 4;
    let inline = tasks.iter().flat_map(|task| task.input_channels.iter().chain(&task.output_channels));
    if inline.clone().all(|channel| !matches!(channel.handle.delegate(), StreamHandle::Inline(_))) {
        assert_eq!(together.counts().state_bytes, (bytes + headers) as u64);
    }
}

/// What a task gets at another parallelism: writer, is it an output, channel, bytes.
type Given = Vec<(u32, bool, ChannelInfo, Bytes)>;

async fn shared_out(restore: &Restore, parallelism: u32, sharings: &ChannelSharings) -> Vec<Given> {
    let mut all = Vec::new();
    for index in 0..parallelism {
        let task = restore.task_with_channels(OPERATOR, index, parallelism, sharings).unwrap();
        let restored = task.read_all().await.unwrap();
        let mut given = Given::new();
        for (is_output, channels) in [(false, &task.input_channels), (true, &task.output_channels)] {
            for channel in channels {
                let in_flight = channel.in_flight(&restored.bytes(channel.stream.unwrap())).unwrap();
                given.extend(in_flight.into_iter().map(|InFlight { channel: info, chunks }| {
                    (channel.writer, is_output, info, Bytes::from(chunks.concat()))
                }));
            }
        }
        given.sort();
        all.push(given);
    }
    all
}

/// Gates and partitions have the numbers 0 to 2.
async fn rescaled(plans: &[Plan], form: ChannelForm, now: u32, rules: [ChannelSharing; 3]) {
    let before = plans.len() as u32;
    let (restore, expected) = written(plans, form, 0).await;
    let mut sharings = ChannelSharings::default();
    for (outer, rule) in (0..).zip(rules) {
        sharings = sharings.input(outer, rule).output(outer, rule);
    }
    let given = shared_out(&restore, now, &sharings).await;
    let is_asked = |rule: ChannelSharing, task: u32, writer: u32| match rule {
        _ if now == before => task == writer,
        ChannelSharing::RoundRobin => writer % now == task,
        ChannelSharing::First => task == 0,
        ChannelSharing::Full => true,
        ChannelSharing::KeyGroups => {
            let groups = |index, parallelism| KeyGroupRange::of_subtask(index, parallelism, KEY_GROUPS).unwrap();
            (0..KEY_GROUPS).any(|group| groups(task, now).contains(group) && groups(writer, before).contains(group))
        }
    };
    for (task, given) in (0..).zip(&given) {
        let mut wanted = Given::new();
        for (writer, mine) in (0..).zip(&expected) {
            for (is_output, channels) in [(false, &mine[0]), (true, &mine[1])] {
                let channels = channels.iter().filter(|(info, _)| is_asked(rules[info.outer as usize], task, writer));
                wanted.extend(channels.map(|(info, chunks)| (writer, is_output, *info, Bytes::from(chunks.concat()))));
            }
        }
        wanted.sort();
        assert!(*given == wanted, "task {task} of {now}, before {before}, {rules:?}");
    }
    if now != before && expected.iter().flatten().any(|channels| !channels.is_empty()) {
        let error = restore.task(OPERATOR, 0, now).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let wanted = format!("has data in flight, which can be restored at parallelism={before} only, not at {now}");
        assert!(error.to_string().contains(&wanted), "{error}");
        let lost = "lose it: execution.state-recovery.without-channel-state.checkpoint-id=";
        assert!(error.to_string().contains(&format!("{lost}{}", restore.checkpoint().decoded.metadata.checkpoint_id)));
    }
}

fn sharing() -> impl Strategy<Value = ChannelSharing> {
    use ChannelSharing::{First, Full, KeyGroups, RoundRobin};
    prop_oneof![Just(RoundRobin), Just(First), Just(KeyGroups), Just(Full)]
}

/// The examples of Flink's own documentation of its mappers.
#[test]
fn subtasks_are_shared_out_as_flink_does() {
    let of = |sharing: ChannelSharing, before: u32, now: u32| -> Vec<Vec<u32>> {
        let task = |index| Subtask { operator: OPERATOR, index, parallelism: now };
        (0..now)
            .map(|index| (0..before).filter(|&old| sharing.takes(task(index), old, before, 128)).collect())
            .collect()
    };
    assert_eq!(of(ChannelSharing::KeyGroups, 3, 2), [vec![0, 1], vec![1, 2]]);
    assert_eq!(of(ChannelSharing::RoundRobin, 10, 4), [vec![0, 4, 8], vec![1, 5, 9], vec![2, 6], vec![3, 7]]);
    let mut spread: Vec<Vec<u32>> = (0..6).map(|index| vec![index]).collect();
    spread.resize(10, Vec::new());
    assert_eq!(of(ChannelSharing::RoundRobin, 6, 10), spread);
    assert_eq!(of(ChannelSharing::First, 3, 2), [vec![0, 1, 2], vec![]]);
    assert_eq!(of(ChannelSharing::Full, 3, 2), [vec![0, 1, 2], vec![0, 1, 2]]);
}

proptest! {
    #![proptest_config(cases(64))]
    #[test]
    fn at_another_parallelism_it_goes_where_the_sharing_says(
        plans in prop::collection::vec(plan(), 1..4),
        merged in any::<bool>(),
        now in 1..6_u32,
        rules in [sharing(), sharing(), sharing()],
    ) {
        let form = if merged { ChannelForm::Merged } else { ChannelForm::Single };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(rescaled(&plans, form, now, rules));
    }

    #[test]
    fn what_was_in_flight_comes_back(
        plans in prop::collection::vec(plan(), 1..4),
        merged in any::<bool>(),
        inline in prop_oneof![Just(0_u64), Just(20_480)],
    ) {
        let form = if merged { ChannelForm::Merged } else { ChannelForm::Single };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(round_trip(&plans, form, inline));
    }
}

/// Many names of one short segment would each carry all of its bytes: together they are too long for that.
#[tokio::test]
async fn a_short_segment_with_many_names_is_not_inline() {
    let live = Live::new(Arc::new(InMemory::new()), 1, live::settings()).await;
    let worker = worker(&live, 1_000);
    for (channels, is_inline) in [(2_i32, true), (40, false)] {
        let trigger = live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap();
        let snapshot = worker.begin(live.subtask(0), &trigger).unwrap();
        let mut writer = snapshot.channels();
        for inner in 0..channels {
            writer.input(ChannelInfo { outer: 0, inner }, &[Bytes::from_static(b"0123456789")]).await.unwrap();
        }
        let written = writer.finish().await.unwrap();
        let durable = snapshot.seal().await.unwrap();
        let handles = durable.channels(&written, ChannelForm::Single).unwrap();
        assert_eq!(handles.inputs.len(), channels as usize);
        let inline = |channel: &ChannelHandle| matches!(channel.delegate(), StreamHandle::Inline(_));
        assert!(handles.inputs.iter().all(|channel| inline(channel) == is_inline), "{channels}");
        assert!(live.coordinator.abort(trigger.checkpoint));
        worker.abort(trigger.epoch, trigger.checkpoint);
    }
}

#[tokio::test]
async fn what_can_not_be_told_apart_again_is_refused() {
    let live = Live::new(Arc::new(InMemory::new()), 1, live::settings()).await;
    let worker = worker(&live, 0);
    let trigger = live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap();
    let snapshot = worker.begin(live.subtask(0), &trigger).unwrap();
    let mut writer = snapshot.channels();
    let error = writer.input(ChannelInfo { outer: 0, inner: -1 }, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("-1"), "{error}");
    let big = vec![Bytes::from(vec![0; 1 << 20]); 2 << 10];
    let error = writer.output(ChannelInfo { outer: 0, inner: 1 }, &big).await.unwrap_err();
    assert!(error.to_string().contains("2147483648 bytes"), "{error}");
    // Nothing has been in flight after all.
    let written = writer.finish().await.unwrap();
    let durable = snapshot.seal().await.unwrap();
    assert_eq!(durable.channels(&written, ChannelForm::Merged).unwrap(), ChannelHandles::default());
}

/// Where nothing is merged, channel state still is, that of so many subtasks; merged, it lies with all else.
#[tokio::test]
async fn without_merging_a_file_has_the_channel_state_of_as_many_subtasks_as_are_allowed() {
    let directory = "memory:/checkpoints";
    for (merging, limit, files) in [("false", "3", 3), ("false", "1", 7), ("true", "3", 1)] {
        let config = Config::from_map([
            ("execution.checkpointing.dir", directory),
            ("execution.checkpointing.file-merging.enabled", merging),
            ("execution.checkpointing.unaligned.max-subtasks-per-channel-state-file", limit),
            ("execution.checkpointing.data-inline-threshold", "0"),
        ]);
        let store = Arc::new(InMemory::new());
        let live = Live::new(store.clone(), 7, live::settings()).await;
        let storage = Storage::open_on(store, &FlinkPath::parse(directory).unwrap(), &config).unwrap();
        let worker = storage.worker(live::JOB, "w").unwrap();
        live.spec.subtasks().for_each(|subtask| worker.register(subtask));
        let trigger = live.coordinator.trigger(live.coordinator.next_checkpoint()).unwrap();
        let mut tickets = Vec::new();
        for subtask in live.spec.subtasks() {
            let snapshot = worker.begin(subtask, &trigger).unwrap();
            let mut channels = snapshot.channels();
            channels.output(ChannelInfo { outer: 0, inner: 0 }, &[bytes_of(1, 5_000)]).await.unwrap();
            channels.finish().await.unwrap();
            tickets.push(snapshot.finish());
        }
        for ticket in tickets {
            assert_eq!(ticket.seal().await.unwrap().sealed().len(), 1);
        }
        let written = live.directory.checkpoint(trigger.checkpoint).unwrap().list().await.unwrap();
        assert_eq!(written.len(), files, "merging={merging} limit={limit}");
    }
}
