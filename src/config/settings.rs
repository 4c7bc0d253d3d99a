//! The settings as a plain value: one typed field for each option.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::catalogue as option;
use super::choice::{CheckpointMode, ClaimMode, Fencing, Retention, StorageKind};
use super::field::{Field, initial};
use super::option::ConfigOption;
use super::{MemorySize, Value};
use crate::path::FlinkPath;

/// A struct with a field for each option, its defaults, and the one place that knows which option is which field's.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $name:ident {
            $($(#[$field_meta:meta])* $field:ident: $type:ty = $option:ident,)*
        }
        $({ $($(#[$part_meta:meta])* $part:ident: $part_type:ident,)* })?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                #[doc = concat!("[`", stringify!($option), "`](super::catalogue::", stringify!($option), ").")]
                $(#[$field_meta])*
                pub $field: $type,
            )*
            $($($(#[$part_meta])* pub $part: $part_type,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                let mut settings = Self {
                    $($field: initial(&option::$option),)*
                    $($($part: $part_type::default(),)*)?
                };
                settings.settle();
                settings
            }
        }

        impl $name {
            fn visit(&mut self, visitor: &mut dyn FnMut(&'static ConfigOption, &mut dyn Field)) {
                $(visitor(&option::$option, &mut self.$field);)*
                $($(self.$part.visit(visitor);)*)?
            }
        }
    };
}

settings! {
    /// Everything that can be configured, with what is in effect.
    ///
    /// Made by [`Config::settings`](super::Config::settings); whoever makes or changes one by hand calls
    /// [`validate`](Self::validate).
    ///
    /// ```
    /// use drystone::config::{Config, MemorySize};
    /// let config = Config::from_yaml("execution.checkpointing.file-merging: {enabled: true, max-file-size: 64mb}")?;
    /// let (settings, warnings) = config.settings()?;
    /// assert_eq!(settings.max_file_size, MemorySize(64 << 20));
    /// assert_eq!(warnings.len(), 1); // there is no directory to merge files in
    /// # Ok::<(), drystone::Error>(())
    /// ```
    Settings {
        /// `None` is as `true`; [`Settings::merges_files`] has what is in effect.
        file_merging_enabled: Option<bool> = FILE_MERGING_ENABLED,
        across_checkpoint_boundary: bool = ACROSS_CHECKPOINT_BOUNDARY,
        max_file_size: MemorySize = MAX_FILE_SIZE,
        pool_blocking: bool = POOL_BLOCKING,
        /// `None`: no limit.
        max_subtasks_per_file: Option<u32> = MAX_SUBTASKS_PER_FILE,
        /// From 1 up and finite; `None`: off.
        max_space_amplification: Option<f64> = MAX_SPACE_AMPLIFICATION,
        /// [`Settings::storage_kind`] has what is in effect.
        storage: StorageKind = STORAGE,
        state_backend: Option<String> = STATE_BACKEND,
        checkpoint_dir: Option<FlinkPath> = CHECKPOINT_DIR,
        savepoint_dir: Option<FlinkPath> = SAVEPOINT_DIR,
        create_subdir: bool = CREATE_SUBDIR,
        /// From 1 up.
        num_retained: u32 = NUM_RETAINED,
        cleaner_parallel: bool = CLEANER_PARALLEL,
        incremental: bool = INCREMENTAL,
        data_inline_threshold: MemorySize = DATA_INLINE_THRESHOLD,
        /// [`Settings::write_buffer_size`] has what is in effect.
        write_buffer_size: MemorySize = WRITE_BUFFER_SIZE,
        snapshot_compression: bool = SNAPSHOT_COMPRESSION,
        local_backup_enabled: bool = LOCAL_BACKUP_ENABLED,
        local_backup_dirs: Vec<String> = LOCAL_BACKUP_DIRS,
        local_backup_max_size: MemorySize = LOCAL_BACKUP_MAX_SIZE,
        /// `None`: no checkpoints but those that are asked for.
        interval: Option<Duration> = INTERVAL,
        /// `None`: as otherwise. Zero: none while there is a backlog.
        interval_during_backlog: Option<Duration> = INTERVAL_DURING_BACKLOG,
        timeout: Duration = TIMEOUT,
        min_pause: Duration = MIN_PAUSE,
        max_concurrent_checkpoints: u32 = MAX_CONCURRENT_CHECKPOINTS,
        tolerable_failed_checkpoints: u32 = TOLERABLE_FAILED_CHECKPOINTS,
        mode: CheckpointMode = MODE,
        retention: Retention = RETENTION,
        checkpoints_after_tasks_finish: bool = CHECKPOINTS_AFTER_TASKS_FINISH,
        checkpoints_during_recovery: bool = CHECKPOINTS_DURING_RECOVERY,
        aligned_checkpoint_timeout: Duration = ALIGNED_TIMEOUT,
        inline_total_max: MemorySize = INLINE_TOTAL_MAX,
        segment_buffer: MemorySize = SEGMENT_BUFFER,
        write_memory: MemorySize = WRITE_MEMORY,
        upload_concurrency: u32 = UPLOAD_CONCURRENCY,
        upload_part_size: MemorySize = UPLOAD_PART_SIZE,
        seal_linger: Duration = SEAL_LINGER,
        lease_timeout: Duration = LEASE_TIMEOUT,
        commit_file_timeout: Duration = COMMIT_FILE_TIMEOUT,
        delete_concurrency: u32 = DELETE_CONCURRENCY,
        delete_retries: u32 = DELETE_RETRIES,
        fold_write_amplification: f64 = FOLD_WRITE_AMPLIFICATION,
        /// `None`: `max_file_size`; [`Settings::space_floor`] has what is in effect.
        space_floor: Option<MemorySize> = SPACE_FLOOR,
        read_memory: MemorySize = READ_MEMORY,
        read_concurrency: u32 = READ_CONCURRENCY,
        metadata_version: u32 = METADATA_VERSION,
        fencing_mode: Fencing = FENCING_MODE,
        fencing_proof_rounds: u32 = FENCING_PROOF_ROUNDS,
        memory_state_max: MemorySize = MEMORY_STATE_MAX,
        memory_total_max: MemorySize = MEMORY_TOTAL_MAX,
        savepoint_pack: bool = SAVEPOINT_PACK,
        latest_file: bool = LATEST_FILE,
    }
    {
        /// Unaligned checkpoints.
        unaligned: Unaligned,
        /// Where a job starts from.
        recovery: Recovery,
    }
}

settings! {
    /// Settings of unaligned checkpoints.
    Unaligned {
        enabled: bool = UNALIGNED_ENABLED,
        forced: bool = UNALIGNED_FORCED,
        interruptible_timers: bool = UNALIGNED_INTERRUPTIBLE_TIMERS,
        max_subtasks_per_channel_state_file: u32 = UNALIGNED_MAX_SUBTASKS_PER_FILE,
        recover_output_on_downstream: bool = UNALIGNED_RECOVER_OUTPUT,
    }
}

settings! {
    /// Settings of a job's start.
    Recovery {
        path: Option<FlinkPath> = RECOVERY_PATH,
        claim_mode: ClaimMode = CLAIM_MODE,
        ignore_unclaimed_state: bool = IGNORE_UNCLAIMED_STATE,
        /// `None`: every checkpoint is restored with its records in flight.
        without_channel_state_checkpoint_id: Option<i64> = WITHOUT_CHANNEL_STATE,
        /// `None`: as `local_backup_enabled`; [`Settings::restores_from_local`] has what is in effect.
        from_local: Option<bool> = FROM_LOCAL,
        approximate_local: bool = APPROXIMATE_LOCAL,
    }
}

impl Settings {
    /// Are small pieces of state packed into few files?
    pub fn merges_files(&self) -> bool {
        self.file_merging_enabled.unwrap_or(true)
    }

    /// Where checkpoints go: never [`StorageKind::Unset`].
    pub fn storage_kind(&self) -> StorageKind {
        let of_backend = || StorageKind::of_backend(self.state_backend.as_deref()?);
        match self.storage {
            StorageKind::Unset => of_backend().unwrap_or(match self.checkpoint_dir {
                Some(_) => StorageKind::FileSystem,
                None => StorageKind::JobManager,
            }),
            given => given,
        }
    }

    /// Are copies of files kept on local disks?
    pub fn keeps_local(&self) -> bool {
        self.local_backup_enabled && !self.local_backup_dirs.is_empty()
    }

    /// Are copies on local disks read first on restore? Also where they are no longer written, if that is said, and never
    /// trusted unchecked.
    pub fn restores_from_local(&self) -> bool {
        self.recovery.from_local.unwrap_or(self.local_backup_enabled) && !self.local_backup_dirs.is_empty()
    }

    /// Up to so many bytes of files that the latest checkpoint names, nothing is written anew for space.
    pub fn space_floor(&self) -> MemorySize {
        self.space_floor.unwrap_or(self.max_file_size)
    }

    /// The bytes that are buffered before a write: no fewer than may go inline.
    pub fn write_buffer_size(&self) -> MemorySize {
        self.write_buffer_size.max(self.data_inline_threshold)
    }

    /// Is there to be a pause between checkpoints, and several at once? With barriers that overtake that is refused.
    pub(super) fn pauses_between_many(&self) -> bool {
        !self.min_pause.is_zero() && self.max_concurrent_checkpoints > 1 && !self.unaligned.enabled
    }

    /// Every option, in the catalogue's order, with the value that is in effect; `None` when nothing is set.
    pub fn values(&self) -> Vec<(&'static ConfigOption, Option<Value>)> {
        let mut values = Vec::with_capacity(option::CATALOGUE.len());
        // Fields are visited in one way, which may change them: a copy is cheaper than a second list of them all.
        self.clone()
            .visit(&mut |option, field| values.push((option, field.get().map(|value| option.kind.spelled(value)))));
        values.sort_by_key(|(option, _)| option::CATALOGUE.iter().position(|listed| listed.key == option.key));
        values
    }

    /// From what is configured to what is in effect.
    pub(super) fn settle(&mut self) {
        self.recovery.settle();
        self.num_retained = self.num_retained.max(1);
        self.interval = self.interval.filter(|interval| !interval.is_zero());
        if self.pauses_between_many() {
            self.max_concurrent_checkpoints = 1;
        }
        // NaN is in no range.
        self.max_space_amplification = self.max_space_amplification.filter(|most| (1.0..f64::INFINITY).contains(most));
    }

    /// Gives each field the value that `value` has for its option; where it has none, the field stays as it is.
    pub(super) fn take(&mut self, value: &mut dyn FnMut(&'static ConfigOption) -> Option<Value>) {
        self.visit(&mut |option, field| {
            if let Some(value) = value(option) {
                field.set(value);
            }
        });
    }
}

impl Unaligned {
    /// What is configured is in effect.
    fn settle(&mut self) {}
}

impl Recovery {
    fn settle(&mut self) {
        self.without_channel_state_checkpoint_id = self.without_channel_state_checkpoint_id.filter(|id| *id >= 0);
    }
}
