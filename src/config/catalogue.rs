//! Every option, declared once: key, older keys, type, default, user, sentence. All else comes out of this table.
//!
//! Options whose keys begin with `execution.` are Flink's, as of 2.2.1 and 2.3.0, and mean what they mean there; where
//! we differ, the sentence says so. Those below `drystone.` are our own.

use std::time::Duration;

use super::Kind;
use super::choice::{CheckpointMode, ClaimMode, Fencing, Retention};
use super::option::{ConfigOption, Older, User};

/// Above this, nothing may go into the metadata: every reader of a checkpoint holds all of it in memory.
const INLINE_BYTES_MAX: u64 = 1 << 20;

const BOOL: Kind = Kind::Bool;
const SIZE: Kind = Kind::Memory { min: 0, max: i64::MAX as u64 };
const PART_SIZE: Kind = Kind::Memory { min: 5 << 20, max: 5 << 30 };
const SIZE_NOT_ZERO: Kind = Kind::Memory { min: 1, max: i64::MAX as u64 };
const INLINE: Kind = Kind::Memory { min: 0, max: INLINE_BYTES_MAX };
/// What is in a metadata file has to fit Flink's arrays.
const MEMORY: Kind = Kind::Memory { min: 1, max: 1 << 30 };
const FROM_0: Kind = Kind::Int { min: 0, max: i32::MAX as i64 };
const FROM_1: Kind = Kind::Int { min: 1, max: i32::MAX as i64 };
const TIME: Kind = Kind::Duration { min: Duration::ZERO, off: false };
const TIME_FROM_10_MS: Kind = Kind::Duration { min: Duration::from_millis(10), off: false };
const TIME_FROM_10_MS_OR_OFF: Kind = Kind::Duration { min: Duration::from_millis(10), off: true };

const fn deprecated(key: &'static str) -> Older {
    Older { key, deprecated: true }
}

/// Another option, whose value holds for this one, too.
const fn fallback(key: &'static str) -> Older {
    Older { key, deprecated: false }
}

/// A static of its own for each option, and the list of them all.
macro_rules! catalogue {
    ($($group:literal { $(
        $name:ident $key:literal $(as [$($older:expr),*])? $kind:expr, $default:expr, $user:ident: $sentence:expr;
    )* })*) => {
        $($(
            #[doc = concat!("`", $key, "`: ", $sentence)]
            pub static $name: ConfigOption = ConfigOption {
                key: $key,
                older: &[$($($older),*)?],
                kind: $kind,
                default: $default,
                user: User::$user,
                group: $group,
                sentence: $sentence,
            };
        )*)*

        /// Every option, in groups.
        pub static CATALOGUE: &[&ConfigOption] = &[$($(&$name),*),*];
    };
}

catalogue! {
    "File merging" {
        FILE_MERGING_ENABLED "execution.checkpointing.file-merging.enabled" BOOL, None, Storage:
            "Whether small pieces of state are packed into few files; unset, they are. In Flink it is false by default.";
        ACROSS_CHECKPOINT_BOUNDARY "execution.checkpointing.file-merging.across-checkpoint-boundary"
            BOOL, Some("false"), Storage: "Whether a file may hold pieces of more than one checkpoint.";
        MAX_FILE_SIZE "execution.checkpointing.file-merging.max-file-size" SIZE_NOT_ZERO, Some("32mb"), Storage:
            "The most bytes in a file that several pieces share.";
        POOL_BLOCKING "execution.checkpointing.file-merging.pool-blocking" BOOL, Some("false"), Storage:
            "Whether a writer waits for a file that is in use before it opens another one.";
        MAX_SUBTASKS_PER_FILE "execution.checkpointing.file-merging.max-subtasks-per-file" FROM_1, None, Storage:
            "The most subtasks that share a file; unset, there is no limit. Flink declares 4, but reads it nowhere.";
        MAX_SPACE_AMPLIFICATION "execution.checkpointing.file-merging.max-space-amplification"
            Kind::Float { min: f64::NEG_INFINITY }, Some("2"), Storage:
            "Bytes in files per byte in use, above which files are written anew; below 1 or NaN, none ever is.";
    }
    "Storage" {
        STORAGE "execution.checkpointing.storage" as [deprecated("state.checkpoint-storage")] Kind::Storage, None, Storage:
            "Where checkpoints go: filesystem, or jobmanager, which is the coordinator's memory and the metadata. Unset, filesystem \
             where there is a directory. Flink's names of classes are understood, other factories aren't.";
        STATE_BACKEND "state.backend.type" as [deprecated("state.backend")] Kind::Name, None, Engine:
            "The state backend. Of the older names jobmanager and filesystem also say where checkpoints go, as the storage of the \
             same name; rocksdb and hashmap don't.";
        CHECKPOINT_DIR "execution.checkpointing.dir"
            as [deprecated("state.checkpoints.dir"), deprecated("state.backend.fs.checkpointdir")]
            Kind::Path, None, Storage: "The directory of checkpoints; the storage filesystem needs it, and jobmanager writes its metadata there if it is given.";
        SAVEPOINT_DIR "execution.checkpointing.savepoint-dir"
            as [deprecated("state.savepoints.dir"), deprecated("savepoints.state.backend.fs.dir")]
            Kind::Path, None, Storage: "The directory of savepoints for which none is named.";
        CREATE_SUBDIR "execution.checkpointing.create-subdir" as [deprecated("state.checkpoints.create-subdir")]
            BOOL, Some("true"), Storage: "Whether a job's checkpoints go to a directory named by its id. Otherwise they lie right in the checkpoint \
             directory, which is that one job's then: another job, and files of nobody knows whom, are refused.";
        NUM_RETAINED "execution.checkpointing.num-retained" as [deprecated("state.checkpoints.num-retained")]
            Kind::Count, Some("1"), Storage: "How many completed checkpoints are kept; below 1, it is 1.";
        CLEANER_PARALLEL "execution.checkpointing.cleaner.parallel-mode"
            as [deprecated("state.checkpoint.cleaner.parallel-mode")]
            BOOL, Some("true"), Storage: "Whether a checkpoint's files are deleted side by side.";
        INCREMENTAL "execution.checkpointing.incremental" as [deprecated("state.backend.incremental")]
            BOOL, Some("false"), Engine:
            "Whether a checkpoint writes only what changed since the one before, where the state backend can.";
        DATA_INLINE_THRESHOLD "execution.checkpointing.data-inline-threshold"
            as [deprecated("state.storage.fs.memory-threshold"), deprecated("state.backend.fs.memory-threshold")]
            INLINE, Some("20kb"), Storage:
            "Pieces up to this size go into the metadata. Above 1 MB, Flink warns and uses 20 KB; Drystone refuses it.";
        WRITE_BUFFER_SIZE "execution.checkpointing.write-buffer-size"
            as [deprecated("state.storage.fs.write-buffer-size"), deprecated("state.backend.fs.write-buffer-size")]
            Kind::Bytes { min: -1 }, Some("4096"), Carried:
            "Bytes buffered before a write; at least the inline threshold is used.";
        SNAPSHOT_COMPRESSION "execution.checkpointing.snapshot-compression" BOOL, Some("false"), Engine:
            "Whether the state backend compresses the state in full snapshots.";
        LOCAL_BACKUP_ENABLED "execution.checkpointing.local-backup.enabled"
            as [fallback("execution.state-recovery.from-local"), deprecated("state.backend.local-recovery")]
            BOOL, Some("false"), Storage:
            "Whether a worker keeps copies of its files on local disks.";
        LOCAL_BACKUP_DIRS "execution.checkpointing.local-backup.dirs"
            as [deprecated("taskmanager.state.local.root-dirs")] Kind::Paths, None, Storage:
            "Directories on local disks for those copies, in turn; without one there are none.";
    }
    "Checkpoints" {
        INTERVAL "execution.checkpointing.interval" TIME_FROM_10_MS_OR_OFF, None, Scheduler:
            "Time from one checkpoint's start to the next one's; unset or 0, there are none.";
        INTERVAL_DURING_BACKLOG "execution.checkpointing.interval-during-backlog"
            TIME_FROM_10_MS_OR_OFF, None, Scheduler:
            "The same while a source works off a backlog; unset, as otherwise; 0, none; never below the interval.";
        TIMEOUT "execution.checkpointing.timeout" TIME_FROM_10_MS, Some("10 min"), Scheduler:
            "A checkpoint that takes longer is aborted.";
        MIN_PAUSE "execution.checkpointing.min-pause" TIME, Some("0 ms"), Scheduler:
            "Time from one checkpoint's end to the next one's start, at least.";
        MAX_CONCURRENT_CHECKPOINTS "execution.checkpointing.max-concurrent-checkpoints" FROM_1, Some("1"), Scheduler:
            "How many checkpoints may be under way at once; 1 where they are unaligned, or there is a pause between them.";
        TOLERABLE_FAILED_CHECKPOINTS "execution.checkpointing.tolerable-failed-checkpoints"
            FROM_0, Some("0"), Scheduler: "How many checkpoints in a row may fail before the job does.";
        MODE "execution.checkpointing.mode" Kind::OneOf(CheckpointMode::NAMES), Some("EXACTLY_ONCE"), Scheduler:
            "How often a record counts after a failure.";
        RETENTION "execution.checkpointing.externalized-checkpoint-retention"
            Kind::OneOf(Retention::NAMES), Some("NO_EXTERNALIZED_CHECKPOINTS"), Storage:
            "What happens to the retained checkpoints when the job ends.";
        CHECKPOINTS_AFTER_TASKS_FINISH "execution.checkpointing.checkpoints-after-tasks-finish"
            as [deprecated("execution.checkpointing.checkpoints-after-tasks-finish.enabled")]
            BOOL, Some("true"), Scheduler: "Whether there are checkpoints once some of the tasks have finished.";
        CHECKPOINTS_DURING_RECOVERY "execution.checkpointing.during-recovery.enabled" BOOL, Some("false"), Engine:
            "Whether there are checkpoints while records in flight are still being restored; Flink 2.3 and later.";
    }
    "Unaligned checkpoints" {
        UNALIGNED_ENABLED "execution.checkpointing.unaligned.enabled"
            as [deprecated("execution.checkpointing.unaligned")] BOOL, Some("false"), Engine: "Whether barriers overtake records, which then are part of the checkpoint; in the mode EXACTLY_ONCE only.";
        UNALIGNED_FORCED "execution.checkpointing.unaligned.forced" BOOL, Some("false"), Engine:
            "Whether they do so even in iterations.";
        UNALIGNED_INTERRUPTIBLE_TIMERS "execution.checkpointing.unaligned.interruptible-timers.enabled"
            BOOL, Some("false"), Engine: "Whether a barrier may come between timers that fire together.";
        UNALIGNED_MAX_SUBTASKS_PER_FILE "execution.checkpointing.unaligned.max-subtasks-per-channel-state-file"
            FROM_1, Some("5"), Storage:
            "How many subtasks share a file of records in flight, where files aren't merged; where they are, any number.";
        UNALIGNED_RECOVER_OUTPUT "execution.checkpointing.unaligned.recover-output-on-downstream.enabled"
            BOOL, Some("false"), Engine:
            "Whether the receiving task restores the records that were on their way out; Flink 2.3 and later.";
        ALIGNED_TIMEOUT "execution.checkpointing.aligned-checkpoint-timeout"
            as [deprecated("execution.checkpointing.alignment-timeout")] TIME, Some("0 ms"), Engine:
            "An unaligned checkpoint begins aligned, and turns unaligned after this time; 0, at once.";
    }
    "Recovery" {
        RECOVERY_PATH "execution.state-recovery.path" as [deprecated("execution.savepoint.path")]
            Kind::Path, None, Scheduler: "The checkpoint or savepoint that the job starts from.";
        CLAIM_MODE "execution.state-recovery.claim-mode" as [deprecated("execution.savepoint-restore-mode")]
            Kind::OneOf(ClaimMode::NAMES), Some("NO_CLAIM"), Carried: "Who owns the files of that checkpoint; the caller passes it when it restores.";
        IGNORE_UNCLAIMED_STATE "execution.state-recovery.ignore-unclaimed-state"
            as [deprecated("execution.savepoint.ignore-unclaimed-state")] BOOL, Some("false"), Storage:
            "Whether state that no operator of the job asks for is left behind.";
        WITHOUT_CHANNEL_STATE "execution.state-recovery.without-channel-state.checkpoint-id"
            as [deprecated("execution.checkpointing.recover-without-channel-state.checkpoint-id")]
            Kind::Int { min: -1, max: i64::MAX }, Some("-1"), Storage:
            "The checkpoint whose records in flight are left out when it is restored; -1, none.";
        FROM_LOCAL "execution.state-recovery.from-local" as [deprecated("state.backend.local-recovery")]
            BOOL, None, Storage:
            "Whether copies on local disks are read first on restore; unset, they are where they are kept. In Flink it is false by default.";
        APPROXIMATE_LOCAL "execution.state-recovery.approximate-local-recovery"
            as [deprecated("execution.checkpointing.approximate-local-recovery")] BOOL, Some("false"), Scheduler:
            "Whether only the failed tasks restart, which loses what they had not yet sent on.";
    }
    "Drystone's own" {
        INLINE_TOTAL_MAX "drystone.inline-total-max" SIZE, Some("8mb"), Storage:
            "The most bytes of a checkpoint that a worker puts into the metadata; past it, small pieces are packed.";
        SEGMENT_BUFFER "drystone.segment-buffer" SIZE, Some("8mb"), Storage:
            "A piece of unknown size is buffered up to this, then streamed to a file; at most the write memory.";
        WRITE_MEMORY "drystone.write-memory" SIZE_NOT_ZERO, Some("256mb"), Storage:
            "The most bytes that a worker's writers buffer together.";
        UPLOAD_CONCURRENCY "drystone.upload.concurrency" FROM_1, Some("4"), Storage: "Files that are uploaded at once.";
        UPLOAD_PART_SIZE "drystone.upload.part-size" PART_SIZE, Some("8mb"), Storage:
            "An object store gets a file of two such parts or more in parts, side by side; larger than a file may be: never.";
        SEAL_LINGER "drystone.seal.linger" TIME, Some("50 ms"), Storage:
            "How long a subtask that has finished waits for others to join its file before the file is sealed.";
        LEASE_TIMEOUT "drystone.pool.lease-timeout" TIME, Some("1 s"), Storage:
            "How long a writer of a blocking pool waits for a file that is in use before it opens another one.";
        COMMIT_FILE_TIMEOUT "drystone.commit.file-timeout" TIME, Some("10 s"), Storage:
            "How long a commit waits for a file that it names to appear.";
        DELETE_CONCURRENCY "drystone.delete.concurrency" FROM_1, Some("16"), Storage: "Files that are deleted at once.";
        DELETE_RETRIES "drystone.delete.retries" FROM_0, Some("3"), Storage:
            "How often a failed delete is tried again.";
        FOLD_WRITE_AMPLIFICATION "drystone.fold.write-amplification" Kind::Float { min: 0.0 }, Some("0.5"), Storage:
            "The most bytes that are folded forward from old files for each byte that a checkpoint writes.";
        SPACE_FLOOR "drystone.space.floor" SIZE, None, Storage:
            "Up to so many bytes of files that the latest checkpoint names, nothing is written anew for space; unset, as \
             many as one file may hold.";
        LOCAL_BACKUP_MAX_SIZE "drystone.local-backup.max-size" SIZE, Some("32gb"), Storage:
            "The most bytes of copies on local disks of a worker, in all directories together; what has no room isn't copied.";
        READ_MEMORY "drystone.read.memory" SIZE_NOT_ZERO, Some("64mb"), Storage:
            "Memory for reads that are under way, of all tasks of a restore; each has one read beside it.";
        READ_CONCURRENCY "drystone.read.concurrency" FROM_1, Some("32"), Storage: "Reads that are under way at once.";
        METADATA_VERSION "drystone.metadata-version" Kind::Int { min: 4, max: 6 }, Some("4"), Storage:
            "The version of the metadata that is written; 4 is read by Flink 1.20 and later.";
        FENCING_MODE "drystone.fencing.mode" Kind::OneOf(Fencing::NAMES), Some("auto"), Storage:
            "Are a job's coordinators kept apart by claims in its directory? auto: yes, and a warning where the store can't \
             do it; required: else none starts; off: that there is one at a time is for others to see to.";
        FENCING_PROOF_ROUNDS "drystone.fencing.proof-rounds" FROM_0, Some("4"), Storage:
            "Rounds of 16 writers at once by which a coordinator tries out, when it starts, whether the store lets one of \
             them create a file; not on local disks.";
        MEMORY_STATE_MAX "drystone.memory.state-max" MEMORY, Some("5mb"), Storage:
            "With the storage jobmanager: the most bytes of one piece of state. In Flink, too, it is 5 MB by default.";
        MEMORY_TOTAL_MAX "drystone.memory.total-max" MEMORY, Some("256mb"), Storage:
            "With the storage jobmanager: the most bytes of state in one checkpoint; so much is in memory for each that is kept \
             or under way.";
        SAVEPOINT_PACK "drystone.savepoint.pack" BOOL, Some("false"), Storage:
            "Are a savepoint's small pieces packed into common files? Then it is moved by drystone copy only, since Flink's \
             format names parts of files by absolute paths.";
        LATEST_FILE "drystone.latest-file" BOOL, Some("false"), Storage:
            "Is the path of the latest checkpoint written to _drystone/latest in the job's directory, for other tools? One \
             request more for each checkpoint, which nothing waits for.";
    }
}

/// The option of which this is the key, or, failing that, an older key.
pub fn find(key: &str) -> Option<&'static ConfigOption> {
    let exact = CATALOGUE.iter().find(|option| option.key == key);
    exact.or_else(|| CATALOGUE.iter().find(|option| option.keys().any(|k| k == key))).copied()
}
