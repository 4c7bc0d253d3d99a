//! In doubt nothing is deleted: what a sweep refuses, and what it spares.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/runs.rs"]
mod runs;
#[path = "support/swept.rs"]
mod swept;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::time::SystemTime;

use drystone::ErrorKind;
use drystone::format::encode;
use drystone::store::{FlinkPath, Stores};
use drystone::sweep::{Sweep, SweepSettings};
use swept::{DAY, Swept, delete, metadata, uuid};
use synthetic::JOB;

/// A job with a dead file, which a test then makes doubtful.
fn doubtful() -> Swept {
    let job = Swept::new();
    job.put(&format!("shared/{}", uuid(1)), 10);
    job.put(&format!("shared/{}", uuid(2)), 10);
    job.commit(1, &[&format!("shared/{}", uuid(1))]);
    job
}

async fn refuses(job: &Swept, kind: ErrorKind, parts: &[&str]) {
    refuses_with(job, &SweepSettings::default(), kind, parts).await;
}

async fn refuses_with(job: &Swept, settings: &SweepSettings, kind: ErrorKind, parts: &[&str]) {
    let before = job.files();
    let error = job.look_with(settings).await.map(drop).unwrap_err();
    let text = error.one_line();
    assert_eq!(error.kind(), kind, "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "{part}: {text}"));
    assert_eq!(job.files(), before);
}

#[tokio::test]
async fn the_job_is_swept_where_nothing_is_in_doubt() {
    let job = doubtful();
    assert_eq!(delete(job.look().await.unwrap()).await, [format!("shared/{}", uuid(2))]);
}

#[tokio::test]
async fn metadata_that_cannot_be_read_is_refused() {
    let whole = metadata(2, &[]);
    let mut unknown_version = whole.clone();
    unknown_version[7] = 99;
    let cut = whole[..whole.len() / 2].to_vec();
    let longer = [whole.clone(), b"appended".to_vec()].concat();
    for (bytes, part) in [
        (cut, "offset"),
        (unknown_version, "version"),
        (longer, "no intact trailer"),
        (Vec::new(), "offset"),
        (b"barred".to_vec(), "offset"),
        (whole, "is of checkpoint 2"),
    ] {
        let places = ["chk-9", "savepoint-1-2", "my backup"];
        for place in places.iter().filter(|place| **place == "chk-9" || part != "is of checkpoint 2") {
            let job = doubtful();
            job.write(job.at(place).join("_metadata"), &bytes, job.now - DAY * 2);
            refuses(&job, ErrorKind::Damaged, &[&format!("{place}/_metadata"), "nothing can be swept", part]).await;
        }
        // It may name files of this job.
        if part != "is of checkpoint 2" {
            let job = doubtful();
            job.write(job.beside("fedcba9876543210fedcba9876543210/chk-9/_metadata"), &bytes, job.now - DAY * 2);
            refuses(&job, ErrorKind::Damaged, &["fedcba9876543210fedcba9876543210/chk-9/_metadata", part]).await;
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_was_barred_names_nothing_and_is_no_checkpoint() {
    let job = doubtful();
    let bar = |id| drystone::format::barred(drystone::id::CheckpointId(id), 7);
    job.write(job.at("chk-2/_metadata"), &bar(2), job.now - DAY * 2);
    job.put(&format!("chk-2/{}", uuid(3)), 10);
    job.write(job.beside("fedcba9876543210fedcba9876543210/chk-9/_metadata"), &bar(9), job.now - DAY * 2);
    let sweep = job.look().await.unwrap();
    assert_eq!((sweep.found().checkpoints.len(), sweep.found().metadata), (1, 1));
    assert_eq!(delete(sweep).await, [format!("chk-2/{}", uuid(3)), format!("shared/{}", uuid(2))]);
    // What bars it stays, or its metadata could come yet.
    assert!(job.at("chk-2/_metadata").exists());
    fs::remove_dir_all(job.at("chk-1")).unwrap();
    refuses(&job, ErrorKind::Invalid, &["no checkpoint is left"]).await;
}

#[tokio::test]
async fn a_handle_that_leads_nowhere_is_refused() {
    for (named, kind, part) in [
        ("hdfs://host/x/y", ErrorKind::Unsupported, "hdfs"),
        ("file:/a/../b", ErrorKind::Damaged, "climbs"),
        ("relative", ErrorKind::Damaged, "isn't absolute"),
        ("file:/", ErrorKind::Damaged, "root"),
    ] {
        let job = doubtful();
        job.write(job.at("chk-2/_metadata"), &metadata(2, &[(named.to_owned(), 5)]), job.now - DAY * 2);
        refuses(&job, kind, &["chk-2/_metadata", "operator", part]).await;
    }
    let job = doubtful();
    let climbing = synthetic::checkpoint(vec![synthetic::relative("../shared/x", 5)]);
    job.write(job.at("savepoint-1-2/_metadata"), &encode(&climbing).unwrap().bytes, job.now);
    refuses(&job, ErrorKind::Damaged, &["savepoint-1-2/_metadata", "climbs"]).await;
}

#[tokio::test]
async fn a_checkpoint_that_names_what_is_not_there_is_refused() {
    // A single wrong bit in a name that has no checksum looks like this.
    let job = doubtful();
    let missing = format!("shared/{}", uuid(3));
    job.commit(2, &[&missing]);
    refuses(&job, ErrorKind::Damaged, &["chk-2/_metadata", &missing, "isn't there"]).await;
    fs::remove_dir_all(job.at("chk-2")).unwrap();
    assert_eq!(job.dead().await.len(), 1);
}

#[tokio::test]
async fn a_directory_that_was_moved_or_copied_is_refused() {
    let job = doubtful();
    let copy = "fedcba9876543210fedcba9876543210";
    for (path, (bytes, modified)) in job.files() {
        job.write(job.beside(&path.replace(JOB, copy)), &bytes, modified);
    }
    // The copy names the files of the original, so by their paths its own are dead, every one.
    let before = job.files();
    let look = |stores: Stores, place: FlinkPath| async move {
        Sweep::look(&stores, &place, &SweepSettings::default(), SystemTime::UNIX_EPOCH + DAY * 30_000).await
    };
    let error = look(job.stores.clone(), job.path(copy)).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("moved or copied") && error.to_string().contains(&uuid(1)), "{error}");
    // Nor may a link to the directory make its files look like others.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(job.at(""), job.beside("link")).unwrap();
        let error = look(job.stores.clone(), job.path("link")).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("has two names"), "{error}");
        fs::remove_file(job.beside("link")).unwrap();
    }
    fs::remove_dir_all(job.at("")).unwrap();
    let error = look(job.stores.clone(), job.path(copy)).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let rule = format!("{}={}", job.job(), job.path(copy)).parse().unwrap();
    let moved = Stores::new().with_rebase(vec![rule]);
    let sweep = look(moved, job.path(copy)).await.unwrap();
    assert_eq!(delete(sweep).await, [format!("shared/{}", uuid(2))]);
    let left = job.files();
    assert!(left.len() == 2 && left.iter().all(|(path, file)| before.get(path) == Some(file)), "{left:?}");
}

#[tokio::test]
async fn without_a_checkpoint_somebody_has_to_say_that_the_job_is_over() {
    let job = doubtful();
    fs::remove_dir_all(job.at("chk-1")).unwrap();
    job.commit_at(&format!("{JOB}/savepoint-1-2"), 1, &[&format!("shared/{}", uuid(1))]);
    refuses(&job, ErrorKind::Invalid, &["no checkpoint is left", "abandoned"]).await;
    let settings = SweepSettings { abandoned: true, ..SweepSettings::default() };
    assert_eq!(delete(job.look_with(&settings).await.unwrap()).await, [format!("shared/{}", uuid(2))]);
}

#[tokio::test]
async fn other_directories_are_refused_with_what_was_meant() {
    let job = doubtful();
    job.commit_at("fedcba9876543210fedcba9876543210/chk-3", 3, &[]);
    let before = job.files();
    let jobs = format!("holds the directories of 2 jobs, {JOB} to fedcba9876543210fedcba9876543210");
    for (place, kind, part) in [
        ("", ErrorKind::NotFound, jobs.as_str()),
        (&format!("{JOB}/chk-1"), ErrorKind::Invalid, "name its job's directory"),
        (&format!("{JOB}/shared"), ErrorKind::NotFound, "no job's directory"),
        ("nothing", ErrorKind::NotFound, "no job's directory"),
    ] {
        let settings = SweepSettings { abandoned: true, ..SweepSettings::default() };
        let error = Sweep::look(&job.stores, &job.path(place), &settings, job.now).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{place}: {error}");
        assert!(error.to_string().contains(part), "{place}: {error}");
    }
    assert_eq!(job.files(), before);
}

#[tokio::test]
async fn a_local_file_that_was_written_to_since_the_look_is_spared() {
    let job = doubtful();
    let dead = format!("shared/{}", uuid(2));
    let sweep = job.look().await.unwrap();
    // Flink goes on with a file of several checkpoints.
    job.write(job.at(&dead), b"longer than it was", job.now);
    let deleted = sweep.delete(&|_, _| {}).await;
    assert!(deleted.is_complete() && deleted.files.is_empty(), "{deleted:?}");
    assert_eq!(deleted.spared.iter().map(|file| file.below.as_str()).collect::<Vec<_>>(), [dead.as_str()]);
    assert!(job.at(&dead).exists());
}
