//! What a sweep finds dead and why, what it leaves alone, and that it deletes the one and not the other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;
#[path = "support/runs.rs"]
mod runs;
#[path = "support/swept.rs"]
mod swept;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use cases::cases;
use drystone::sweep::SweepSettings;
use proptest::prelude::*;
use swept::{DAY, Swept, delete, ours, reasons, uuid};

const SUBTASK: &str = "shared/job_0123456789abcdef0123456789abcdef_op_96eed58e350a66c179f06330f5425345_2_3";

/// A job with two checkpoints, and everything that may be left beside them.
fn littered() -> (Swept, BTreeMap<String, String>) {
    let job = Swept::new();
    for alive in [
        format!("chk-40/{}", uuid(1)),
        format!("shared/{}", uuid(2)),
        format!("shared/{}", ours(3, 39, 1)),
        format!("{SUBTASK}/{}", uuid(3)),
        format!("taskowned/{}", uuid(4)),
    ] {
        job.put(&alive, 10);
    }
    job.commit(
        40,
        &[&format!("chk-40/{}", uuid(1)), &format!("shared/{}", uuid(2)), &format!("{SUBTASK}/{}", uuid(3))],
    );
    job.commit(42, &[&format!("shared/{}", ours(3, 39, 1)), &format!("taskowned/{}", uuid(4))]);
    let dead = [
        (format!("chk-9/{}", uuid(5)), "checkpoint 9 has no metadata"),
        (format!("chk-40/{}", uuid(6)), "no retained checkpoint names it"),
        (format!("shared/{}", uuid(7)), "no retained checkpoint names it"),
        (format!("{SUBTASK}/{}", uuid(8)), "no retained checkpoint names it"),
        (
            format!("chk-41/{}", ours(3, 41, 2)),
            "written for checkpoint 41 of epoch 3 by worker_1, which has no metadata",
        ),
        (
            format!("shared/{}", ours(2, 30, 3)),
            "written for checkpoint 30 of epoch 2 by worker_1; no retained checkpoint names it",
        ),
        (
            format!("chk-41/{}#1", ours(3, 41, 4)),
            "in the making, and left so; written for checkpoint 41 of epoch 3 by worker_1",
        ),
        ("chk-41/_metadata#2".to_owned(), "in the making, and left so; to become a checkpoint's metadata"),
        (
            format!("chk-42/._metadata.inprogress.{}", uuid(9)),
            "in the making, and left so; to become a checkpoint's metadata",
        ),
        (
            "chk-50/_drystone-unfinished-00000000000000aa".to_owned(),
            "marks a run that was interrupted; checkpoint 50 has no metadata",
        ),
        (
            "chk-42/_drystone-unfinished-00000000000000ab".to_owned(),
            "marks a run that has committed, and was cut off before it removed the mark",
        ),
        (format!("chk-50/shared/{}-00000000000000aa", uuid(2)), "checkpoint 50 has no metadata"),
    ];
    for (below, _) in &dead {
        job.put(below, 7);
    }
    (job, dead.into_iter().map(|(below, why)| (below, why.to_owned())).collect())
}

#[tokio::test]
async fn each_kind_of_litter_is_found_and_explained() {
    let (job, dead) = littered();
    let sweep = job.look().await.unwrap();
    assert_eq!(reasons(&sweep), dead);
    let found = sweep.found();
    assert_eq!((found.dead_sum().files, found.dead_sum().bytes), (dead.len() as u64, 7 * dead.len() as u64));
    assert_eq!(found.checkpoints.iter().map(|id| id.0).collect::<Vec<_>>(), [40, 42]);
    assert_eq!((found.alive.files, found.young.files, found.not_ours.files), (7, 0, 0));
    assert!(found.unknown.is_empty() && found.uploads_known);
}

#[tokio::test]
async fn a_look_changes_nothing_and_a_second_sweep_finds_nothing() {
    let (job, dead) = littered();
    let before = job.files();
    job.look().await.unwrap();
    assert_eq!(job.files(), before);
    let deleted = delete(job.look().await.unwrap()).await;
    assert_eq!(deleted.iter().collect::<BTreeSet<_>>(), dead.keys().collect());
    let mut left = before;
    left.retain(|path, _| !dead.contains_key(path.split_once('/').unwrap().1));
    assert_eq!(job.files(), left);
    for (emptied, is_there) in
        [("chk-9", false), ("chk-41", false), ("chk-50", false), ("chk-42", true), (SUBTASK, true)]
    {
        assert_eq!(job.at(emptied).exists(), is_there, "{emptied}");
    }
    assert_eq!(job.dead().await, BTreeMap::new());
}

#[tokio::test]
async fn what_is_not_the_jobs_or_not_known_stays() {
    let job = Swept::new();
    job.commit(1, &[]);
    job.commit_at(&format!("{}/savepoint-012345-6789abcdef", synthetic::JOB), 9, &[&format!("shared/{}", uuid(1))]);
    job.commit_at(&format!("{}/my backup", synthetic::JOB), 5, &[&format!("shared/{}", uuid(2))]);
    job.commit_at(&format!("{}/deep/er/still", synthetic::JOB), 5, &[&format!("shared/{}", uuid(3))]);
    let named = [format!("shared/{}", uuid(1)), format!("shared/{}", uuid(2)), format!("shared/{}", uuid(3))];
    let not_ours = [
        format!("savepoint-012345-6789abcdef/{}", uuid(4)),
        format!("taskowned/{}", uuid(5)),
        "taskowned/job_a_tm_b/anything".to_owned(),
        "_drystone/log-00000000000000000001".to_owned(),
        "_drystone/log-00000000000000000002#1".to_owned(),
    ];
    let unknown = [
        "chk-1/notes.txt".to_owned(),
        "chk-2/deeper/notes.txt".to_owned(),
        format!("dstl/{}", uuid(6)),
        format!("my backup/{}", uuid(7)),
        "readme".to_owned(),
        "shared/000012.sst".to_owned(),
        format!("shared/op_1_attempt_0/{}", uuid(8)),
    ];
    named.iter().chain(&not_ours).chain(&unknown).for_each(|below| job.put(below, 3));
    let before = job.files();
    let sweep = job.look().await.unwrap();
    assert_eq!(reasons(&sweep), BTreeMap::new());
    assert_eq!(sweep.found().unknown, unknown);
    assert_eq!((sweep.found().not_ours.files, sweep.found().alive.files), (5, 7));
    assert_eq!(delete(sweep).await, Vec::<String>::new());
    assert_eq!(job.files(), before);
}

#[tokio::test]
async fn the_young_are_left_alone() {
    let job = Swept::new();
    job.commit(1, &[]);
    let second = Duration::from_secs(1);
    for (number, age) in [(1, DAY - second), (2, DAY), (3, second)] {
        job.put_aged(&format!("shared/{}", uuid(number)), 5, age);
    }
    job.write(job.at(&format!("shared/{}", uuid(4))), b"of a clock that is ahead", job.now + DAY * 9);
    // Of a directory without metadata one file is young: a long checkpoint may be at work there.
    job.put_aged(&format!("chk-2/{}", uuid(5)), 5, DAY * 3);
    job.put_aged(&format!("chk-2/{}", uuid(6)), 5, DAY - second);
    job.put_aged(&format!("chk-3/{}", uuid(7)), 5, DAY * 3);
    job.put_aged("chk-3/notes.txt", 5, second);
    job.put_aged(&format!("chk-4/{}", uuid(8)), 5, DAY * 3);
    job.put_aged(&format!("chk-4/{}", uuid(9)), 5, DAY);
    let sweep = job.look().await.unwrap();
    let dead: Vec<_> = sweep.found().dead.iter().map(|file| file.below.clone()).collect();
    assert_eq!(dead, [format!("chk-4/{}", uuid(8)), format!("chk-4/{}", uuid(9)), format!("shared/{}", uuid(2))]);
    assert_eq!(sweep.found().young.files, 6);
    let settings = SweepSettings { grace: Duration::ZERO, ..SweepSettings::default() };
    let sweep = job.look_with(&settings).await.unwrap();
    // Nothing protects what was written before but a time that is still to come.
    assert_eq!((sweep.found().dead.len(), sweep.found().young.files), (8, 1));
}

#[tokio::test]
async fn jobs_that_share_a_checkpoint_directory_keep_what_either_names() {
    let job = Swept::new();
    // One job has no directory of its own, another has one in the same place, with what it took over from the first.
    let other = "fedcba9876543210fedcba9876543210";
    for number in 1..=4 {
        job.put(&format!("shared/{}", uuid(number)), 5);
    }
    job.put(&format!("{other}/shared/{}", uuid(5)), 5);
    job.commit(1, &[&format!("shared/{}", uuid(1))]);
    job.commit(7, &[&format!("shared/{}", uuid(2))]);
    job.commit_at(&format!("{}/{other}/chk-3", synthetic::JOB), 3, &[&format!("shared/{}", uuid(3))]);
    let sweep = job.look().await.unwrap();
    assert_eq!(sweep.found().dead.iter().map(|f| f.below.clone()).collect::<Vec<_>>(), [format!("shared/{}", uuid(4))]);
    assert_eq!(sweep.found().not_ours.files, 1);
    delete(sweep).await;
    assert!(job.at(&format!("{other}/shared/{}", uuid(5))).exists());
}

#[tokio::test]
async fn what_another_job_took_over_is_alive() {
    let job = Swept::new();
    for number in 1..=4 {
        job.put(&format!("shared/{}", uuid(number)), 5);
    }
    job.commit(1, &[]);
    job.commit_at("fedcba9876543210fedcba9876543210/chk-3", 3, &[&format!("shared/{}", uuid(1))]);
    job.commit_at("savepoint-1-2", 3, &[&format!("shared/{}", uuid(2))]);
    let dead = |below: [u32; 2]| below.map(|number| format!("shared/{}", uuid(number))).to_vec();
    assert_eq!(job.dead().await.into_keys().collect::<Vec<_>>(), dead([3, 4]));
    // Where jobs lie elsewhere, somebody has to say so.
    job.commit_at("elsewhere/fedcba9876543210fedcba9876543210/chk-3", 3, &[&format!("shared/{}", uuid(3))]);
    job.commit_at("far/chk-8", 8, &[&format!("shared/{}", uuid(4))]);
    for named_by in [vec!["elsewhere", "far"], vec!["elsewhere", "far/chk-8"]] {
        let named_by = named_by.into_iter().map(|place| job.path(place)).collect();
        let settings = SweepSettings { named_by, ..SweepSettings::default() };
        assert_eq!(reasons(&job.look_with(&settings).await.unwrap()), BTreeMap::new());
    }
}

/// Where a file lies, by number; what is alive or not is for the plain maps to say.
fn place(kind: u8, number: u32) -> String {
    match kind {
        0 => format!("chk-{}/{}", number % 5, uuid(number)),
        1 => format!("shared/{}", uuid(number)),
        2 => format!("{SUBTASK}/{}", uuid(number)),
        3 => format!("chk-{}/{}", number % 5, ours(u64::from(number), u64::from(number % 5), u64::from(number % 99))),
        4 => format!("shared/{}", ours(u64::from(number), 8, u64::from(number % 99))),
        5 => format!("taskowned/{}", uuid(number)),
        6 => format!("savepoint-a-b/{}", uuid(number)),
        7 => format!("chk-{}/something-{number}", number % 5),
        _ => format!("other/{}", uuid(number)),
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn what_goes_is_what_plain_maps_say(
        files in proptest::collection::btree_map((0_u8..9, 0_u32..40), 0_u64..5, 0..40),
        committed in proptest::collection::btree_map(0_u64..5, proptest::collection::vec(any::<prop::sample::Index>(), 0..12), 1..4),
        grace in 0_u64..5,
    ) {
        let job = Swept::new();
        let ages: BTreeMap<String, u64> = files.iter().map(|(&(kind, number), &age)| (place(kind, number), age)).collect();
        for (below, age) in &ages {
            job.put_aged(below, 4, Duration::from_secs(3600 * age));
        }
        let all: Vec<&String> = ages.keys().collect();
        let mut named = BTreeSet::new();
        for (id, picks) in &committed {
            let picked: Vec<&str> = picks.iter().filter(|_| !all.is_empty()).map(|pick| pick.get(&all).as_str()).collect();
            job.commit(*id, &picked);
            named.extend(picked.into_iter().map(str::to_owned));
        }
        let checkpoint = |below: &str| below.strip_prefix("chk-").map(|rest| rest[..1].parse::<u64>().unwrap());
        let age_of = |below: &String| match checkpoint(below).filter(|id| !committed.contains_key(id)) {
            Some(id) => ages.iter().filter(|(other, _)| checkpoint(other) == Some(id)).map(|(_, &age)| age).min().unwrap(),
            None => ages[below],
        };
        let swept_place = |below: &str| {
            (below.starts_with("chk-") && !below.contains("something")) || below.starts_with("shared/")
        };
        let expected: Vec<String> = ages
            .keys()
            .filter(|below| swept_place(below) && !named.contains(*below) && age_of(below) >= grace)
            .cloned()
            .collect();
        let settings = SweepSettings { grace: Duration::from_secs(3600 * grace), ..SweepSettings::default() };
        let before = job.files();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let deleted = runtime.block_on(async { delete(job.look_with(&settings).await.unwrap()).await });
        prop_assert_eq!(&deleted, &expected);
        let mut left = before;
        left.retain(|path, _| !expected.contains(&path.split_once('/').unwrap().1.to_owned()));
        prop_assert_eq!(job.files(), left);
        let again = runtime.block_on(async { reasons(&job.look_with(&settings).await.unwrap()) });
        prop_assert_eq!(again, BTreeMap::new());
    }
}

/// Copies a fixture, all of it a while old, and says where its job's directory is.
fn fixture(name: &str) -> (tempfile::TempDir, drystone::store::Stores, drystone::store::FlinkPath) {
    let copied = tempfile::tempdir().unwrap();
    for (below, bytes) in runs::files_below(&runs::data().join(name)) {
        let at = copied.path().join(name).join(below);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, bytes).unwrap();
    }
    let stores = drystone::store::Stores::new().with_rebase(runs::moved_to(copied.path().to_str().unwrap()));
    let jobs = fs::read_dir(copied.path().join(name).join("ckpt")).unwrap();
    let job = jobs.map(|entry| entry.unwrap().path()).next().unwrap();
    let job = runs::path(job.to_str().unwrap());
    (copied, stores, job)
}

#[tokio::test]
async fn in_directories_of_stock_flink_only_what_was_planted_goes() {
    let mut seen = 0;
    for entry in fs::read_dir(runs::data()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !runs::data().join(&name).join("ckpt").is_dir() {
            continue;
        }
        seen += 1;
        let (_copied, stores, job) = fixture(&name);
        let at = std::path::PathBuf::from(job.path());
        let planted = [format!("chk-9/{}", uuid(1)), format!("shared/{}", uuid(3)), format!("{SUBTASK}/{}", uuid(2))];
        for below in &planted {
            fs::create_dir_all(at.join(below).parent().unwrap()).unwrap();
            fs::write(at.join(below), b"nobody's").unwrap();
        }
        let before = runs::files_below(&at);
        // All files are new, so that the time to come is what makes them old.
        let later = fs::metadata(at.join(&planted[0])).unwrap().modified().unwrap() + 2 * DAY;
        let settings = SweepSettings::default();
        let sweep = drystone::sweep::Sweep::look(&stores, &job, &settings, later).await.unwrap();
        assert_eq!(reasons(&sweep).into_keys().collect::<Vec<_>>(), planted, "{name}");
        let checkpoints = sweep.found().checkpoints.clone();
        delete(sweep).await;
        let mut left = before;
        planted.iter().for_each(|below| drop(left.remove(below)));
        assert_eq!(runs::files_below(&at), left, "{name}");
        assert!(!at.join("chk-9").exists() && !at.join(SUBTASK).exists(), "{name}");
        for id in checkpoints {
            let found = runs::check(&stores, &job.join(&format!("chk-{id}")).unwrap()).await.unwrap();
            assert!(found.is_sound(), "{name}: {:?}", found.findings);
        }
    }
    assert!(seen >= 10, "{seen} fixtures");
}
