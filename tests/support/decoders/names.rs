//! The names of directories and files.

use drystone::id::{CheckpointId, FileToken};
use drystone::store::FlinkPath;
use drystone::store::names::{
    PhysicalFileName, WorkerName, checkpoint_directory, final_name, is_flink_file, is_flink_metadata_in_the_making,
    is_flink_subtask_directory, is_savepoint_directory, log_entry, parse_checkpoint_directory, parse_job_directory,
    parse_log_entry, parse_unfinished_marker, unfinished_marker,
};

use super::is_invalid;

/// Of each thing there is one name, which says it again; and what any text is made to be a worker's name can be in one.
pub fn read(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let worker = WorkerName::sanitise(text);
    assert!((1..=WorkerName::LENGTH_MAX).contains(&worker.as_str().len()), "{worker}");
    assert_eq!(WorkerName::sanitise(worker.as_str()), worker);

    let mut numbers = input.chunks(8).map(|chunk| chunk.iter().fold(0_u64, |number, &b| number << 8 | u64::from(b)));
    let mut next = || numbers.next().unwrap_or_default();
    let (attempt, checkpoint, sequence, token) = (next(), CheckpointId(next()), next(), FileToken(next()));
    let name = PhysicalFileName { attempt, worker, checkpoint, sequence, token };
    let shown = name.to_string();
    assert_eq!(shown.parse::<PhysicalFileName>().ok().as_ref(), Some(&name));
    let path = FlinkPath::parse("s3://bucket").unwrap().join(&shown).unwrap();
    assert_eq!((path.file_name(), PhysicalFileName::of(&path).as_ref()), (Some(shown.as_str()), Some(&name)));
    assert_eq!(parse_checkpoint_directory(&checkpoint_directory(checkpoint)), Some(checkpoint));
    assert_eq!(parse_unfinished_marker(&unfinished_marker(token)), Some(token));
    assert_eq!(parse_log_entry(&log_entry(sequence)), Some(sequence));
    assert_eq!(log_entry(attempt).cmp(&log_entry(sequence)), attempt.cmp(&sequence));

    for (behind, is_ours) in [("#1", true), ("#", false), ("#1#2", false)] {
        let path = FlinkPath::parse("/d").unwrap().join(&format!("{shown}{behind}")).unwrap();
        assert_eq!(PhysicalFileName::of(&path), is_ours.then(|| name.clone()), "{path}");
    }
    if let Some(path) = FlinkPath::parse("/d").ok().and_then(|root| root.join(text).ok())
        && let Some(of) = PhysicalFileName::of(&path)
    {
        let whole = path.file_name().expect("a name");
        let digits = whole.strip_prefix(&of.to_string()).expect("its name");
        let digits = digits.strip_prefix('#').unwrap_or(if digits.is_empty() { "0" } else { "" });
        assert!(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()), "{path}");
        assert_eq!(final_name(&path).is_none(), whole == of.to_string());
    }

    let mut meanings = 0;
    match text.parse::<PhysicalFileName>() {
        Ok(name) => {
            assert_eq!(name.to_string(), text);
            meanings += 1;
        }
        Err(error) => is_invalid(&error),
    }
    if let Some(checkpoint) = parse_checkpoint_directory(text) {
        assert_eq!(checkpoint_directory(checkpoint), text);
        meanings += 1;
    }
    if let Some(run) = parse_unfinished_marker(text) {
        assert_eq!(unfinished_marker(run), text);
        meanings += 1;
    }
    if let Some(job) = parse_job_directory(text) {
        assert_eq!(job.to_string(), text);
        meanings += 1;
    }
    if let Some(position) = parse_log_entry(text) {
        assert_eq!(log_entry(position), text);
        meanings += 1;
    }
    let others = [is_savepoint_directory, is_flink_file, is_flink_metadata_in_the_making, is_flink_subtask_directory];
    meanings += others.iter().filter(|is_one| is_one(text)).count();
    assert!(meanings <= 1, "{text} is a name of several things");
    meanings == 1
}
