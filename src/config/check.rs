//! From texts to settings: every value is read and checked, and everything that is wrong is said at once.

use super::finding::{Problem, Warning, WarningKind};
use super::{CheckpointMode, Config, ConfigOption, FlinkDuration, Given, Place, Retention, Settings, StorageKind};
use super::{catalogue, unknown};
use crate::error::{Error, ErrorKind, Result};
use crate::path;

/// All there is to say about a configuration.
#[derive(Clone, Debug)]
pub struct Check {
    /// What is in effect; where a value is wrong, the default.
    pub settings: Settings,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What to look at.
    pub warnings: Vec<Warning>,
}

/// A value that doesn't go with another option's.
struct Conflict {
    /// The value's, and the other.
    options: [&'static ConfigOption; 2],
    problem: Problem,
}

impl Config {
    /// The settings, and what to look at. The error names every value that is wrong.
    pub fn settings(&self) -> Result<(Settings, Vec<Warning>)> {
        let Check { settings, problems, warnings } = self.check();
        refuse(&problems)?;
        Ok((settings, warnings))
    }

    /// The settings as far as they can be had, with everything that is wrong.
    pub fn check(&self) -> Check {
        let (mut settings, mut problems, mut unread) = (Settings::default(), Vec::new(), Vec::new());
        settings.take(&mut |option| {
            let given = self.get(option)?;
            let refuse = |text| {
                problems.push(problem(given.key, given.text, text, given.place.clone()));
                unread.push(option.key);
            };
            option.kind.parse(given.text).map_err(refuse).ok()
        });
        let mut warnings = self.read_warnings().to_vec();
        warnings.extend(self.spelling_warnings());
        warnings.extend(self.adjustments(&settings));
        settings.settle();
        // Where a value can't be read, whether its default goes with the others says nothing.
        let conflicts = settings.conflicts().into_iter();
        let known = conflicts.filter(|conflict| !conflict.options.iter().any(|option| unread.contains(&option.key)));
        problems.extend(known.map(|conflict| conflict.problem));
        warnings.extend(settings.ineffective());
        let mut check = Check { settings, problems, warnings };
        self.locate(&mut check);
        check
    }

    /// What was found in settings speaks of options: here it learns how and where they are given.
    fn locate(&self, check: &mut Check) {
        for problem in check.problems.iter_mut() {
            if let Some(given) = self.given_as(&problem.key) {
                (problem.key, problem.value) = (given.key.to_string(), path::shown(given.text).to_string());
                problem.place = given.place;
            }
        }
        for warning in check.warnings.iter_mut().filter(|warning| warning.place == Place::default()) {
            if let Some(given) = self.given_as(&warning.key) {
                (warning.key, warning.place) = (given.key.to_string(), given.place);
            }
        }
        let line = |place: &Place| place.line.unwrap_or(u64::MAX);
        check.problems.sort_by_key(|problem| line(&problem.place));
        check.warnings.sort_by_key(|warning| line(&warning.place));
    }

    fn given_as(&self, key: &str) -> Option<Given<'_>> {
        let own = catalogue::CATALOGUE.iter().find(|option| option.key == key)?;
        self.get(own)
    }

    /// What [`Settings::settle`] will change.
    fn adjustments(&self, settings: &Settings) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |option: &ConfigOption, text: &dyn Fn(&str) -> String| {
            let given = self.get(option).map_or("", |given| given.text);
            warnings.push(warning(WarningKind::Adjusted, option, &text(given)));
        };
        if settings.num_retained == 0 {
            warn(&catalogue::NUM_RETAINED, &|given| format!("{given} is below 1, so that 1 is used"));
        }
        if settings.pauses_between_many() {
            let pause = catalogue::MIN_PAUSE.key;
            warn(&catalogue::MAX_CONCURRENT_CHECKPOINTS, &|given| {
                format!("not {given} with {pause}, which has one at a time, so that 1 is used")
            });
        }
        if settings.max_space_amplification.is_some_and(|most| most.is_nan() || most < 1.0) {
            warn(&catalogue::MAX_SPACE_AMPLIFICATION, &|given| {
                format!("{given} is below 1 or NaN, so that nothing is written anew to save space")
            });
        }
        warnings
    }

    fn spelling_warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for option in catalogue::CATALOGUE {
            let mut spellings = self.spellings(option);
            let Some(used) = spellings.next() else { continue };
            let mut warn = |kind, key: &str, place, text| {
                warnings.push(Warning { kind, key: key.to_string(), place, text });
            };
            if option.deprecates(used.key) {
                warn(WarningKind::Deprecated, used.key, used.place, format!("deprecated: write {}", option.key));
            }
            // A key that falls back on another option's says nothing when both are given: each has its own.
            for unused in spellings.filter(|given| option.deprecates(given.key)) {
                let text = format!("not used for {}: {} counts", option.key, used.key);
                warn(WarningKind::Overridden, unused.key, unused.place, text);
            }
        }
        for (key, _) in self.iter().filter(|(key, _)| unknown::is_unknown(key)) {
            let place = self.given(key).map(|given| given.place).unwrap_or_default();
            let text = match unknown::nearest(key) {
                Some(near) => format!("no such option: is {near} meant?"),
                None => "no such option".to_string(),
            };
            warnings.push(Warning { kind: WarningKind::Unknown, key: key.to_string(), place, text });
        }
        warnings
    }
}

impl Settings {
    /// Whether every value is in its range, and goes with the others. The error names all that is wrong.
    pub fn validate(&self) -> Result<()> {
        refuse(&self.problems())
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut settled = self.clone();
        settled.settle();
        for ((option, value), (_, used)) in self.values().into_iter().zip(settled.values()) {
            let Some(value) = value else { continue };
            let text = match option.kind.check(&value) {
                Err(text) => text,
                Ok(()) if used.as_ref() == Some(&value) => continue,
                Ok(()) => {
                    let used = used.map_or_else(|| "none".to_string(), |used| used.to_string());
                    format!("allowed: {used}, as which it would be used")
                }
            };
            problems.push(problem(option.key, &value.to_string(), text, Place::default()));
        }
        problems.extend(self.conflicts().into_iter().map(|conflict| conflict.problem));
        problems
    }

    /// Values that don't go with each other.
    fn conflicts(&self) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        let mut refuse = |options: [&'static ConfigOption; 2], value: String, text: String| {
            conflicts.push(Conflict { options, problem: problem(options[0].key, &value, text, Place::default()) });
        };
        let of_backend = self.state_backend.as_deref().and_then(StorageKind::of_backend);
        if self.storage_kind() == StorageKind::FileSystem && self.checkpoint_dir.is_none() {
            let text = format!("needs {}, which isn't given", catalogue::CHECKPOINT_DIR.key);
            match (self.storage, &self.state_backend) {
                (StorageKind::Unset, Some(backend)) => {
                    refuse([&catalogue::STATE_BACKEND, &catalogue::CHECKPOINT_DIR], backend.clone(), text);
                }
                _ => refuse([&catalogue::STORAGE, &catalogue::CHECKPOINT_DIR], "filesystem".into(), text),
            }
        }
        if let (Some(name), Some(backend), Some(implied)) = (self.storage.name(), &self.state_backend, of_backend)
            && implied != self.storage
        {
            let text = format!("says where checkpoints go, too, and otherwise than {}={name}", catalogue::STORAGE.key);
            refuse([&catalogue::STATE_BACKEND, &catalogue::STORAGE], backend.clone(), text);
        }
        let backlog = self.interval_during_backlog.unwrap_or_default();
        if let Some(interval) = self.interval.filter(|interval| backlog < *interval && !backlog.is_zero()) {
            let (least, key) = (FlinkDuration(interval), catalogue::INTERVAL.key);
            let text = format!("allowed: 0 (none), or a duration from {least} ({key}) up");
            let options = [&catalogue::INTERVAL_DURING_BACKLOG, &catalogue::INTERVAL];
            refuse(options, FlinkDuration(backlog).to_string(), text);
        }
        if self.unaligned.enabled && self.mode == CheckpointMode::AtLeastOnce {
            let text = format!("allowed: false, with {}=AT_LEAST_ONCE", catalogue::MODE.key);
            refuse([&catalogue::UNALIGNED_ENABLED, &catalogue::MODE], "true".into(), text);
        }
        if self.unaligned.enabled && self.max_concurrent_checkpoints > 1 {
            let text = format!("allowed: 1, with {}=true", catalogue::UNALIGNED_ENABLED.key);
            let options = [&catalogue::MAX_CONCURRENT_CHECKPOINTS, &catalogue::UNALIGNED_ENABLED];
            refuse(options, self.max_concurrent_checkpoints.to_string(), text);
        }
        if self.segment_buffer > self.write_memory {
            let text = format!("allowed: at most {} ({})", self.write_memory, catalogue::WRITE_MEMORY.key);
            let options = [&catalogue::SEGMENT_BUFFER, &catalogue::WRITE_MEMORY];
            refuse(options, self.segment_buffer.to_string(), text);
        }
        conflicts
    }

    /// What is switched on, but for lack of something else does nothing.
    fn ineffective(&self) -> Vec<Warning> {
        let in_memory = self.storage_kind() == StorageKind::JobManager;
        let nowhere = in_memory && self.checkpoint_dir.is_none();
        let directory = catalogue::CHECKPOINT_DIR.key;
        let files =
            format!("has no effect without files: the storage is jobmanager, as it also is without {directory}");
        let without = |option: &ConfigOption| format!("has no effect without {}", option.key);
        let (backlog, most) = (self.interval_during_backlog.unwrap_or_default(), self.memory_total_max);
        let above = format!("has no effect above {most} ({})", catalogue::MEMORY_TOTAL_MAX.key);
        let (aligned, backs_up) = (!self.unaligned.enabled, self.local_backup_enabled);
        let unaligned = without(&catalogue::UNALIGNED_ENABLED);
        let cases = [
            (in_memory && self.file_merging_enabled == Some(true), &catalogue::FILE_MERGING_ENABLED, &files),
            (in_memory && backs_up, &catalogue::LOCAL_BACKUP_ENABLED, &files),
            (in_memory && self.savepoint_pack, &catalogue::SAVEPOINT_PACK, &files),
            (in_memory && self.memory_state_max > most, &catalogue::MEMORY_STATE_MAX, &above),
            (nowhere && !self.create_subdir, &catalogue::CREATE_SUBDIR, &without(&catalogue::CHECKPOINT_DIR)),
            (
                nowhere && self.retention != Retention::NoExternalized,
                &catalogue::RETENTION,
                &without(&catalogue::CHECKPOINT_DIR),
            ),
            (
                !in_memory && backs_up && !self.keeps_local(),
                &catalogue::LOCAL_BACKUP_ENABLED,
                &without(&catalogue::LOCAL_BACKUP_DIRS),
            ),
            (aligned && self.unaligned.forced, &catalogue::UNALIGNED_FORCED, &unaligned),
            (aligned && self.unaligned.interruptible_timers, &catalogue::UNALIGNED_INTERRUPTIBLE_TIMERS, &unaligned),
            (aligned && !self.aligned_checkpoint_timeout.is_zero(), &catalogue::ALIGNED_TIMEOUT, &unaligned),
            (
                self.interval.is_none() && !backlog.is_zero(),
                &catalogue::INTERVAL_DURING_BACKLOG,
                &without(&catalogue::INTERVAL),
            ),
            (
                self.checkpoints_during_recovery && !self.unaligned.recover_output_on_downstream,
                &catalogue::CHECKPOINTS_DURING_RECOVERY,
                &without(&catalogue::UNALIGNED_RECOVER_OUTPUT),
            ),
        ];
        let said = cases.into_iter().filter(|(is_ineffective, ..)| *is_ineffective);
        said.map(|(_, option, text)| warning(WarningKind::Ineffective, option, text)).collect()
    }
}

fn problem(key: &str, value: &str, text: String, place: Place) -> Problem {
    let shown = path::shown(value);
    // Some texts repeat the value.
    let text = if shown == value { text } else { text.replace(&format!("'{value}'"), shown) };
    Problem { key: key.to_string(), value: shown.to_string(), place, text }
}

fn warning(kind: WarningKind, option: &ConfigOption, text: &str) -> Warning {
    Warning { kind, key: option.key.to_string(), place: Place::default(), text: text.to_string() }
}

fn refuse(problems: &[Problem]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let texts = problems.iter().map(Problem::to_string).collect::<Vec<_>>();
    Err(Error::new(ErrorKind::Invalid, texts.join("; ")))
}
