//! How the processes of a job are made, each with its own way to the store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use drystone::ErrorKind;
use drystone::backup::LocalDirectories;
use drystone::config::{Fencing, Retention};
use drystone::coordinator::{Coordinator, CoordinatorSettings, FencingSettings};
use drystone::ledger::{LedgerSettings, SpacePolicy};
use drystone::protocol::OperatorSpec;
use drystone::read::ReadLimits;
use drystone::store::{FlinkPath, JobDirectory, Stores};
use drystone::worker::{Worker, WorkerSettings};
use drystone::write::{PoolMode, Tokens, WriteSettings};
use tokio::time::{sleep, timeout};

use crate::chaos_store::{Chaos, Client};
use crate::history::Setup;
use crate::job::{JOB, STUCK};
use crate::oracle::{FLOOR_BYTES, Seen};

/// Another coordinator, by whatever number of attempts.
pub async fn coordinator(
    chaos: &Chaos,
    seen: &Mutex<Seen>,
    setup: &Setup,
    spec: &OperatorSpec,
    tokens: &Tokens,
    processes: &mut u32,
) -> Result<(Client, Coordinator), String> {
    *processes += 1;
    let client = chaos.client(&format!("c{processes}"));
    seen.lock().unwrap().coordinators.insert(client.number());
    let (stores, directory) = stores(&client)?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        if attempts == 20 {
            client.heal();
        }
        let (stores, operators) = (stores.clone(), vec![spec.clone()]);
        let recover = Coordinator::recover(stores, directory.clone(), operators, settings(setup), tokens.clone());
        match timeout(STUCK, recover).await {
            Ok(Ok(coordinator)) => return Ok((client, coordinator)),
            Ok(Err(error)) if error.kind() == ErrorKind::Store && attempts < 40 => sleep(Duration::from_secs(1)).await,
            Ok(Err(error)) => return Err(format!("the job can't be recovered: {}", error.one_line())),
            Err(_) => return Err("recover never ends".to_owned()),
        }
    }
}

pub fn stores(client: &Client) -> Result<(Stores, JobDirectory), String> {
    let located = || {
        let root = FlinkPath::parse("memory:/checkpoints")?;
        let stores = Stores::new().with_store(&root, Arc::new(client.clone()));
        let directory = JobDirectory::of_job(&stores.locate(&root)?, JOB)?;
        Ok((stores, directory))
    };
    located().map_err(|error: drystone::Error| error.one_line())
}

fn write_settings(setup: &Setup) -> WriteSettings {
    WriteSettings {
        file_bytes_max: setup.file_bytes_max,
        inline_bytes_max: setup.inline_bytes_max,
        inline_bytes_total_max: 2_000,
        buffer_bytes_max: 1_500,
        uploads_max: setup.uploads_max,
        part_bytes: setup.part_bytes,
        mode: if setup.blocking { PoolMode::BLOCKING } else { PoolMode::NonBlocking },
        subtasks_per_file_max: setup.subtasks_per_file_max,
        ..WriteSettings::default()
    }
}

fn settings(setup: &Setup) -> CoordinatorSettings {
    let space = SpacePolicy {
        amplification_max: setup.amplification_max,
        floor_bytes: FLOOR_BYTES,
        across: setup.across,
        fold_ratio_max: setup.fold_ratio_max,
        file_bytes_max: setup.file_bytes_max,
    };
    CoordinatorSettings {
        ledger: LedgerSettings { retained: setup.retained, space, retention: Retention::RetainOnCancellation },
        metadata_version: setup.metadata_version,
        file_timeout: Duration::from_secs(5),
        fencing: FencingSettings { mode: Fencing::Required, proof_rounds: setup.proof_rounds },
        deletes_max: setup.deletes_max,
        delete_retries: setup.delete_retries,
        write: WriteSettings { inline_bytes_max: 0, ..write_settings(setup) },
        read: ReadLimits::default(),
        latest_file: setup.latest_file,
        memory: None,
    }
}

pub fn worker(
    stores: &Stores,
    directory: JobDirectory,
    name: &str,
    setup: &Setup,
    copies: Option<(LocalDirectories, u64)>,
    tokens: &Tokens,
) -> Worker {
    let settings = WorkerSettings {
        write: write_settings(setup),
        channels: None,
        buffered_bytes_total_max: setup.memory_bytes_max,
        linger: Duration::from_millis(setup.linger_ms),
    };
    let (stores, tokens) = (stores.clone(), tokens.clone());
    match copies {
        Some(copies) => Worker::with_backup(stores, directory, name, settings, tokens, copies),
        None => Worker::with_stores(stores, directory, name, settings, tokens),
    }
}
