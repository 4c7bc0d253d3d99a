//! The way in: from settings to workers, coordinators and restores.

use std::path::PathBuf;
use std::sync::Arc;

use crate::backup::{Disk, LocalDirectories};
use crate::config::{Config, Settings, StorageKind};
use crate::coordinator::{
    Coordinator, CoordinatorSettings, FencingSettings, MemoryLimits, SavepointDefaults, SavepointRequest,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::jobs::{self, Latest};
use crate::ledger::{LedgerSettings, SpacePolicy};
use crate::protocol::{OperatorSpec, SavepointAction, SavepointFormat};
use crate::read::{ReadLimits, Restore};
use crate::store::{FlinkPath, JobDirectory, ObjectStore, Stores};
use crate::worker::{Worker, WorkerSettings};
use crate::write::{FileLayout, PoolMode, Tokens, WriteSettings};

/// Where checkpoints are that no directory is given for: in a store of the storage's own.
const IN_MEMORY: &str = "memory://jobmanager/checkpoints";

/// A checkpoint directory, and how it is used. Cheap to clone.
///
/// Opening makes no request and starts no task; neither does anything made from it before it is asked to.
///
/// ```
/// use drystone::config::Config;
/// use drystone::storage::Storage;
/// let config = Config::from_map([("execution.checkpointing.dir", "file:///tmp/checkpoints")]);
/// let storage = Storage::open(&config)?;
/// # let _ = storage;
/// # Ok::<(), drystone::Error>(())
/// ```
#[derive(Clone)]
pub struct Storage {
    /// Is all state in the metadata?
    is_in_memory: bool,

    stores: Stores,
    directory: FlinkPath,
    settings: Settings,
    tokens: Tokens,
    /// For copies of files; none where neither is asked for, nor any directory given.
    local: Option<LocalDirectories>,
}

impl Storage {
    /// Opens the directory that `execution.checkpointing.dir` names. Credentials come from the environment.
    ///
    /// Without a directory the storage is `jobmanager`: state goes to the coordinator's memory, and metadata with it. There it
    /// can be restored from through this storage or a clone of it, by the paths that coordinators return, and is gone
    /// with the last of these. With that storage and a directory the metadata is written there, and the state is in it. Either way
    /// workers hand all state to the coordinator, so it has to be little: see `drystone.memory.state-max`.
    ///
    /// # Errors
    /// `Invalid`: a setting is wrong. `Unsupported`: this build has no such store.
    pub fn open(config: &Config) -> Result<Self> {
        let settings = settings(config)?;
        let Some(directory) = settings.checkpoint_dir.clone() else {
            let directory = FlinkPath::parse(IN_MEMORY)?;
            return Ok(Self { is_in_memory: true, ..Self::of(Stores::new(), directory, settings)? });
        };
        Self::of(Stores::new(), directory, settings)
    }

    /// Opens a directory of a store that the caller has made. `path` says what the directory is called in handles; the
    /// store's keys are the whole path after the authority.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_on(store: Arc<dyn ObjectStore>, path: &FlinkPath, config: &Config) -> Result<Self> {
        let settings = settings(config)?;
        Self::of(Stores::new().with_store(path, store), path.clone(), settings)
    }

    /// Opens a directory with stores and settings that the caller has made.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn of(stores: Stores, directory: FlinkPath, settings: Settings) -> Result<Self> {
        settings.validate()?;
        stores.locate(&directory)?;
        let directories = || settings.local_backup_dirs.iter().map(PathBuf::from).collect();
        let is_used = settings.keeps_local() || settings.restores_from_local();
        let local = is_used.then(|| LocalDirectories::new(directories()));
        // There is a directory, whoever has named it.
        let directory_settings = Settings { checkpoint_dir: Some(directory.clone()), ..settings.clone() };
        let is_in_memory = directory_settings.storage_kind() == StorageKind::JobManager;
        Ok(Self { is_in_memory, stores, directory, settings, tokens: Arc::new(rand::random::<u64>), local })
    }

    /// Takes what stands for the local disks from elsewhere, where local backup is configured.
    pub fn with_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.local = self.local.map(|local| local.on_disk(disk));
        self
    }

    /// Takes what makes names unguessable from elsewhere, so that a run can be repeated.
    pub fn with_tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// What one process writes for a job. `name` tells its files from those of the job's other processes, and on local
    /// disks, where a backup is kept, its copies from theirs: a process that starts anew takes over those of its name.
    ///
    /// # Errors
    /// `Invalid`: the directory can't hold the job's.
    pub fn worker(&self, job: JobId, name: &str) -> Result<Worker> {
        let (directory, settings, tokens) = (self.job_directory(job)?, self.worker_settings(), self.tokens.clone());
        let stores = self.stores.clone();
        Ok(match self.local.clone().filter(|_| self.settings.keeps_local()) {
            Some(local) => {
                let backup = (local, self.settings.local_backup_max_size.0);
                Worker::with_backup(stores, directory, name, settings, tokens, backup)
            }
            None => Worker::with_stores(stores, directory, name, settings, tokens),
        })
    }

    /// The one that commits a job's checkpoints, with those that it finds in the job's directory. Lists the directory and
    /// reads their metadata.
    ///
    /// # Errors
    /// As for [`Coordinator::recover`]; among them `Conflict`: with `execution.checkpointing.create-subdir=false` the directory is
    /// another job's, or holds what nobody knows of; without, a job has the checkpoint directory alone. `Invalid`: an operator has
    /// no subtask, or more of them than key groups, or more of those than there can be, or is given twice.
    pub async fn coordinator(&self, job: JobId, operators: Vec<OperatorSpec>) -> Result<Coordinator> {
        check(&operators)?;
        let directory = self.job_directory(job)?;
        let settings = self.coordinator_settings();
        let savepoints = self.savepoint_defaults();
        let tokens = self.tokens.clone();
        let coordinator = Coordinator::recover(self.stores.clone(), directory, operators, settings, tokens).await?;
        Ok(coordinator.with_savepoint_defaults(savepoints))
    }

    /// Finds the newest complete checkpoint in a job's directory, and says which ones it has passed over. Where there is none,
    /// and none was passed over, the job never completed one.
    ///
    /// # Errors
    /// As for [`jobs::latest`]; `NotFound`: the job has no directory. `Conflict`: it is another job's, or in one
    /// that a job has alone.
    pub async fn latest(&self, job: JobId) -> Result<Latest> {
        let directory = self.job_directory(job)?;
        jobs::refuse_taken(&directory).await?;
        jobs::latest(&self.stores, directory.root().real(), &self.read_limits()).await
    }

    /// Loads the newest complete checkpoint of a job. Those that would be newer and are broken are passed over with a
    /// warning; [`latest`](Self::latest) returns them.
    ///
    /// # Errors
    /// As for [`latest`](Self::latest) and [`restore`](Self::restore); `NotFound`: there is none.
    pub async fn restore_latest(&self, job: JobId) -> Result<Restore> {
        let latest = self.latest(job).await?;
        match latest.found {
            Some(found) => self.restore(&found.path).await,
            None => Err(latest.none_found(self.job_directory(job)?.root().real())),
        }
    }

    /// A request for a savepoint in `directory`, or, where none is named, in the one that `execution.checkpointing.savepoint-dir`
    /// names; for [`Coordinator::trigger_savepoint`]. `drystone.savepoint.pack` says whether it is packed. The
    /// [driver](crate::driver::Handle::request) asks so by itself.
    ///
    /// # Errors
    /// `Invalid`: there is no directory.
    pub fn savepoint(
        &self,
        directory: Option<&FlinkPath>,
        format: SavepointFormat,
        action: SavepointAction,
    ) -> Result<SavepointRequest> {
        let pack = self.settings.savepoint_pack;
        let defaults = match directory {
            Some(_) => SavepointDefaults { directory: None, pack },
            None => self.savepoint_defaults(),
        };
        defaults.request(directory, format, action)
    }

    fn savepoint_defaults(&self) -> SavepointDefaults {
        SavepointDefaults { directory: self.settings.savepoint_dir.clone(), pack: self.settings.savepoint_pack }
    }

    /// Loads a checkpoint, by its directory or its `_metadata`, to read state from it; where local backup is configured, from
    /// copies on local disks first. Of the one that `execution.state-recovery.without-channel-state.checkpoint-id` names, the
    /// records in flight are left out.
    ///
    /// # Errors
    /// As for [`Restore::open`].
    pub async fn restore(&self, path: &FlinkPath) -> Result<Restore> {
        let restore = Restore::open(&self.stores, path, self.read_limits()).await?;
        let restore = match &self.local {
            Some(local) if self.settings.restores_from_local() => restore.with_local(local.clone()),
            _ => restore,
        };
        let checkpoint = restore.checkpoint().decoded.metadata.checkpoint_id;
        let without = self.settings.recovery.without_channel_state_checkpoint_id;
        let is_without = without.and_then(|id| u64::try_from(id).ok()) == Some(checkpoint.0);
        Ok(if is_without { restore.without_channel_state() } else { restore })
    }

    /// As [`restore`](Self::restore), for a job of these operators: all state has to have one of them, unless
    /// `execution.state-recovery.ignore-unclaimed-state` says that it may be dropped.
    ///
    /// # Errors
    /// The same; `Invalid`: there is state of an operator that the job doesn't have, or of one with another number of key
    /// groups.
    pub async fn restore_for(&self, path: &FlinkPath, operators: &[OperatorSpec]) -> Result<Restore> {
        let restore = self.restore(path).await?;
        for spec in operators {
            restore.checkpoint().check_key_groups(spec.id, spec.max_parallelism)?;
        }
        let unclaimed = restore.unclaimed(|operator| operators.iter().any(|spec| spec.id == operator));
        match unclaimed.first() {
            Some(first) if !self.settings.recovery.ignore_unclaimed_state => {
                let message = format!(
                    "{}: there is state of operator {first}{}, which the job doesn't have; to drop it, set \
                     execution.state-recovery.ignore-unclaimed-state=true",
                    restore.checkpoint().named(),
                    if unclaimed.len() > 1 { format!(" and of {} more", unclaimed.len() - 1) } else { String::new() }
                );
                Err(Error::new(ErrorKind::Invalid, message))
            }
            _ => {
                for operator in unclaimed {
                    tracing::warn!(%operator, "its state is dropped: the job doesn't have the operator");
                }
                Ok(restore)
            }
        }
    }

    /// The stores behind it; they count requests.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// What is in effect.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where a job's checkpoints go.
    ///
    /// # Errors
    /// `Invalid`: the directory can't hold the job's.
    pub fn job_directory(&self, job: JobId) -> Result<JobDirectory> {
        let directory = self.stores.locate(&self.directory)?;
        match self.settings.create_subdir {
            true => JobDirectory::of_job(&directory, job),
            false => JobDirectory::of_job_alone(directory, job),
        }
    }

    fn write_settings(&self) -> WriteSettings {
        let settings = &self.settings;
        let lease_timeout = settings.lease_timeout;
        // A segment that is larger than a file may be has one of its own.
        let file_bytes_max = if settings.merges_files() { settings.max_file_size.0 } else { 1 };
        let (layout, inline_bytes_max, inline_bytes_total_max) = match self.memory_limits() {
            None => (FileLayout::Packed, settings.data_inline_threshold.0, settings.inline_total_max.0),
            Some(limits) => (FileLayout::None, limits.state_bytes_max, limits.total_bytes_max),
        };
        WriteSettings {
            layout,
            file_bytes_max,
            inline_bytes_max,
            inline_bytes_total_max,
            buffer_bytes_max: settings.segment_buffer.0,
            uploads_max: settings.upload_concurrency as usize,
            part_bytes: settings.upload_part_size.0,
            mode: if settings.pool_blocking { PoolMode::Blocking { lease_timeout } } else { PoolMode::NonBlocking },
            subtasks_per_file_max: settings.max_subtasks_per_file,
            ..WriteSettings::default()
        }
    }

    /// `None`: state goes to files.
    fn memory_limits(&self) -> Option<MemoryLimits> {
        let settings = &self.settings;
        self.is_in_memory.then_some(MemoryLimits {
            state_bytes_max: settings.memory_state_max.0,
            total_bytes_max: settings.memory_total_max.0,
        })
    }

    fn worker_settings(&self) -> WorkerSettings {
        let write = self.write_settings();
        let subtasks_per_file_max = Some(self.settings.unaligned.max_subtasks_per_channel_state_file);
        let file_bytes_max = self.settings.max_file_size.0;
        let apart =
            (!self.settings.merges_files()).then_some(WriteSettings { file_bytes_max, subtasks_per_file_max, ..write });
        WorkerSettings {
            write,
            channels: apart,
            buffered_bytes_total_max: self.settings.write_memory.0,
            linger: self.settings.seal_linger,
        }
    }

    fn read_limits(&self) -> ReadLimits {
        ReadLimits {
            memory_bytes_max: self.settings.read_memory.0,
            requests_max: self.settings.read_concurrency as usize,
            ..ReadLimits::default()
        }
    }

    fn coordinator_settings(&self) -> CoordinatorSettings {
        let settings = &self.settings;
        let space = SpacePolicy {
            amplification_max: settings.max_space_amplification,
            floor_bytes: settings.space_floor().0,
            across: settings.across_checkpoint_boundary && settings.merges_files(),
            fold_ratio_max: settings.fold_write_amplification,
            file_bytes_max: settings.max_file_size.0,
        };
        let ledger = LedgerSettings { retained: settings.num_retained as usize, space, retention: settings.retention };
        CoordinatorSettings {
            ledger,
            metadata_version: settings.metadata_version,
            fencing: FencingSettings { mode: settings.fencing_mode, proof_rounds: settings.fencing_proof_rounds },
            file_timeout: settings.commit_file_timeout,
            deletes_max: if settings.cleaner_parallel { settings.delete_concurrency as usize } else { 1 },
            delete_retries: settings.delete_retries,
            write: WriteSettings { inline_bytes_max: 0, layout: FileLayout::Packed, ..self.write_settings() },
            read: self.read_limits(),
            latest_file: settings.latest_file,
            memory: self.memory_limits(),
        }
    }
}

fn settings(config: &Config) -> Result<Settings> {
    let (settings, warnings) = config.settings()?;
    for warning in warnings {
        tracing::warn!(%warning, "configuration");
    }
    Ok(settings)
}

/// As many as Flink has: it couldn't restore a job with more.
const KEY_GROUPS_MAX: u32 = 1 << 15;

fn check(operators: &[OperatorSpec]) -> Result<()> {
    for (number, spec) in operators.iter().enumerate() {
        let OperatorSpec { id, parallelism, max_parallelism, .. } = spec;
        if *parallelism == 0 || parallelism > max_parallelism || *max_parallelism > KEY_GROUPS_MAX {
            let message = format!(
                "operator {id} has parallelism={parallelism} and max parallelism={max_parallelism}: allowed are 1 up to the \
                 latter, and that up to {KEY_GROUPS_MAX}"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if operators[..number].iter().any(|before| before.id == *id) {
            return Err(Error::new(ErrorKind::Invalid, format!("operator {id} is given twice")));
        }
    }
    Ok(())
}
