//! Data in flight that stock Flink wrote, at any parallelism: each channel's comes to one task, all of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/runs.rs"]
mod runs;

use std::collections::BTreeMap;

use bytes::Bytes;
use drystone::ErrorKind;
use drystone::handle::ChannelInfo;
use drystone::id::OperatorId;
use drystone::read::{ChannelSharing, ChannelSharings, ReadLimits, Restore};
use drystone::store::Stores;

/// Of single handles, and of merged ones.
const UNALIGNED: [&str; 2] = [
    "v2-unaligned-hashmap-plain/ckpt/00f1f1f1f1f1f1f18d29438f4bec8f64/chk-1",
    "v2-unaligned-rocksdb-merged/ckpt/00f1f1f1f1f1f1f17b1ef4d467952d9e/chk-2",
];

fn in_turn() -> ChannelSharings {
    let rule = ChannelSharing::RoundRobin;
    (0..4).fold(ChannelSharings::default(), |sharings, outer| sharings.input(outer, rule).output(outer, rule))
}

/// What channels had in flight, by writer; input or output; and channel.
type InFlightOf = BTreeMap<(u32, bool, ChannelInfo), Vec<Bytes>>;

async fn in_flight_of_all(restore: &Restore, operator: OperatorId, parallelism: u32) -> InFlightOf {
    let mut all = InFlightOf::new();
    for index in 0..parallelism {
        let task = restore.task_with_channels(operator, index, parallelism, &in_turn()).unwrap();
        let restored = task.read_all().await.unwrap();
        for (is_output, channels) in [(false, &task.input_channels), (true, &task.output_channels)] {
            for channel in channels {
                for found in channel.in_flight(&restored.bytes(channel.stream.unwrap())).unwrap() {
                    let known = all.insert((channel.writer, is_output, found.channel), found.chunks);
                    assert_eq!(known, None, "{:?} of subtask {} twice", found.channel, channel.writer);
                }
            }
        }
    }
    all
}

#[tokio::test]
async fn what_flink_had_in_flight_is_shared_out() {
    let stores = Stores::new().with_rebase(runs::moved_to(runs::data().to_str().unwrap()));
    let mut seen = [0; 2];
    for (fixture, seen) in UNALIGNED.into_iter().zip(&mut seen) {
        let path = runs::path(runs::data().join(fixture).to_str().unwrap());
        let restore = Restore::open(&stores, &path, ReadLimits::default()).await.unwrap();
        for operator in restore.operators() {
            let before = in_flight_of_all(&restore, operator.id, operator.parallelism).await;
            *seen += before.len();
            for parallelism in [1, 2, 3, 5, 16].into_iter().filter(|&p| p <= operator.max_parallelism) {
                let now = in_flight_of_all(&restore, operator.id, parallelism).await;
                assert!(before == now, "{fixture} at {parallelism}");
                let is_refused = !before.is_empty() && parallelism != operator.parallelism;
                let error = restore.task(operator.id, 0, parallelism).err().map(|error| error.kind());
                assert_eq!(error, is_refused.then_some(ErrorKind::Unsupported));
            }
        }
    }
    assert!(seen.iter().all(|&channels| channels > 3), "{seen:?}");
}
