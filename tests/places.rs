//! Where a result may go: never over or into something, and the source never changes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/runs.rs"]
mod runs;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;

use drystone::repack::Report;
use drystone::store::Stores;
use drystone::{ErrorKind, Result};
use synthetic::{Disk, JOB, checkpoint, chunk, contents};

fn disk() -> Disk {
    let disk = Disk::new();
    let chunks = (0..5).map(|n| disk.file(&format!("f{n}"), &chunk(30_000, n))).collect();
    disk.commit(&checkpoint(chunks));
    disk
}

async fn repack(disk: &Disk, to: &str) -> Result<Report> {
    runs::repack(&Stores::new(), &disk.checkpoint(), to, &runs::options(1, runs::all_packed())).await
}

async fn copy(disk: &Disk, to: &str) -> Result<Report> {
    runs::copy(&Stores::new(), &disk.checkpoint(), to, &runs::options(2, runs::all_packed())).await
}

/// Refused by both, and nothing on the disk has changed.
async fn refuse(disk: &Disk, to: &str, kind: ErrorKind) {
    let before = disk.files("");
    for done in [repack(disk, to).await, copy(disk, to).await] {
        let error = done.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(disk.files(""), before, "{error}");
    }
}

#[tokio::test]
async fn a_destination_that_holds_something_is_left_alone() {
    for name in [
        "foreign",
        "ds1-a0-wrepack-c7-n0-0000000000000001",
        "deep/er/file",
        // Of a run to another directory.
        "deeper/_drystone-unfinished-0000000000000001",
    ] {
        let disk = disk();
        let file = disk.at(&format!("out/{JOB}/chk-7/{name}"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, b"mine").unwrap();
        refuse(&disk, &disk.named("out"), ErrorKind::Conflict).await;
    }
}

#[tokio::test]
async fn a_checkpoint_that_is_there_already_is_left_alone() {
    let disk = disk();
    repack(&disk, &disk.named("out")).await.unwrap();
    refuse(&disk, &disk.named("out"), ErrorKind::Conflict).await;
}

#[tokio::test]
async fn what_another_source_made_is_no_result_of_this_one() {
    let (disk, other) = (disk(), Disk::new());
    other.commit(&checkpoint((0..5).map(|n| other.file(&format!("f{n}"), &chunk(30_000, n + 9))).collect()));
    let to = disk.named("out");
    runs::repack(&Stores::new(), &other.checkpoint(), &to, &runs::options(7, runs::all_packed())).await.unwrap();
    // As if that run had been interrupted when it had just committed.
    fs::write(disk.at(&format!("out/{JOB}/chk-7/_drystone-unfinished-0000000700000000")), b"").unwrap();
    refuse(&disk, &to, ErrorKind::Conflict).await;
}

#[tokio::test]
async fn a_copy_with_relative_names_can_be_moved() {
    let disk = Disk::new();
    disk.file("f", &chunk(30_000, 1));
    disk.commit(&checkpoint(vec![synthetic::relative("f", 30_000)]));
    let report = copy(&disk, &disk.named("out")).await.unwrap();
    fs::rename(disk.at(&format!("out/{JOB}/chk-7")), disk.at("moved")).unwrap();
    let stores = Stores::new();
    let found = runs::check(&stores, &runs::path(&disk.named("moved"))).await.unwrap();
    assert!(found.is_sound() && found.counts.trailer, "{:?}", found.findings);
    assert_eq!(found.counts.files, report.after.files);
    fs::write(
        disk.at("moved").join(
            fs::read_dir(disk.at("moved"))
                .unwrap()
                .find_map(|e| {
                    let name = e.unwrap().file_name();
                    name.to_string_lossy().starts_with('f').then_some(name)
                })
                .unwrap(),
        ),
        b"short",
    )
    .unwrap();
    assert!(!runs::check(&stores, &runs::path(&disk.named("moved"))).await.unwrap().is_sound());
}

#[tokio::test]
async fn other_checkpoints_beside_the_result_are_left_alone() {
    let disk = disk();
    let other = disk.at(&format!("out/{JOB}/chk-6/_metadata"));
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, b"another").unwrap();
    fs::create_dir_all(disk.at(&format!("out/{JOB}/chk-7"))).unwrap();
    repack(&disk, &disk.named("out")).await.unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"another");
}

#[tokio::test]
async fn a_destination_within_the_source_is_refused() {
    let disk = disk();
    for inside in [String::new(), "/chk-7".into(), "/chk-7/deeper".into(), "/new".into(), "/shared/x".into()] {
        refuse(&disk, &disk.named(&format!("{JOB}{inside}")), ErrorKind::Invalid).await;
        assert!(!disk.at(&format!("{JOB}/new")).exists());
    }
}

#[tokio::test]
async fn the_sources_own_root_is_refused() {
    let disk = disk();
    // The root holds the job, so the result would be the source.
    refuse(&disk, &disk.named(""), ErrorKind::Invalid).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_into_the_source_is_refused() {
    use std::os::unix::fs::symlink;
    let disk = disk();
    symlink(disk.at(&format!("{JOB}/chk-7")), disk.at("link")).unwrap();
    symlink(disk.at(""), disk.at("around")).unwrap();
    for to in ["link", "link/deeper", &format!("around/{JOB}"), &format!("around/around/{JOB}/chk-7")] {
        for how in 0..2 {
            let to = disk.named(to);
            let done = if how == 0 { repack(&disk, &to).await } else { copy(&disk, &to).await };
            assert_eq!(done.unwrap_err().kind(), ErrorKind::Invalid, "{to}");
        }
    }
    let names: Vec<_> = fs::read_dir(disk.at(&format!("{JOB}/chk-7"))).unwrap().collect();
    assert_eq!(names.len(), 6);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_within_the_destination_that_leads_into_the_source_is_refused() {
    let disk = disk();
    let before = disk.files(JOB);
    fs::create_dir_all(disk.at("out")).unwrap();
    std::os::unix::fs::symlink(disk.at(JOB), disk.at(&format!("out/{JOB}"))).unwrap();
    assert!(repack(&disk, &disk.named("out")).await.is_err());
    assert!(copy(&disk, &disk.named("out")).await.is_err());
    // The link as the job's directory, and as the checkpoint's, which would be a new one.
    fs::remove_file(disk.at(&format!("out/{JOB}"))).unwrap();
    fs::create_dir_all(disk.at(&format!("out/{JOB}"))).unwrap();
    fs::create_dir_all(disk.at(&format!("{JOB}/shared"))).unwrap();
    std::os::unix::fs::symlink(disk.at(&format!("{JOB}/shared")), disk.at(&format!("out/{JOB}/chk-7"))).unwrap();
    assert!(repack(&disk, &disk.named("out")).await.is_err());
    assert!(copy(&disk, &disk.named("out")).await.is_err());
    assert_eq!(disk.files(JOB), before);
}

#[tokio::test]
async fn a_destination_that_only_begins_like_the_source_is_taken() {
    let disk = disk();
    let report = repack(&disk, &disk.named(&format!("{JOB}-packed"))).await.unwrap();
    assert_eq!(report.destination, runs::path(&disk.named(&format!("{JOB}-packed/{JOB}/chk-7"))));
}

#[tokio::test]
async fn a_source_without_a_job_directory() {
    let disk = Disk::new();
    let at = disk.at("loose/here");
    fs::create_dir_all(&at).unwrap();
    fs::write(at.join("f"), chunk(1000, 1)).unwrap();
    let metadata = checkpoint(vec![synthetic::relative("f", 1000)]);
    fs::write(at.join("_metadata"), drystone::format::encode(&metadata).unwrap().bytes).unwrap();
    let (stores, from) = (Stores::new(), runs::path(&disk.named("loose/here")));
    let mut options = runs::options(1, runs::all_packed());
    let report = runs::repack(&stores, &from, &disk.named("out"), &options).await.unwrap();
    assert_eq!(report.destination, runs::path(&disk.named("out/chk-7")));
    options.job_id = Some(JOB.parse().unwrap());
    let report = runs::copy(&stores, &from, &disk.named("out"), &options).await.unwrap();
    assert_eq!(report.destination, runs::path(&disk.named(&format!("out/{JOB}/chk-7"))));
    assert!(contents(&stores, &report.destination).await == contents(&stores, &from).await);
    // Beside the source is not within it.
    let report = runs::repack(&stores, &from, &disk.named("loose"), &options).await.unwrap();
    assert_eq!(report.destination, runs::path(&disk.named(&format!("loose/{JOB}/chk-7"))));
    let inside = runs::repack(&stores, &from, &disk.named("loose/here/in"), &options).await.unwrap_err();
    assert_eq!(inside.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn files_of_the_same_name_in_several_directories_keep_apart_in_a_copy() {
    let disk = Disk::new();
    let mut handles = vec![disk.file("f", &chunk(100, 1))];
    for (n, directory) in
        ["elsewhere", "other", &format!("{JOB}/shared"), &format!("{JOB}/foreign-0"), &format!("{JOB}/chk-7/shared")]
            .into_iter()
            .enumerate()
    {
        fs::create_dir_all(disk.at(directory)).unwrap();
        fs::write(disk.at(&format!("{directory}/f")), chunk(100, n as u64 + 10)).unwrap();
        handles.push(synthetic::file(&disk.named(&format!("{directory}/f")), 100));
    }
    disk.commit(&checkpoint(handles));
    let stores = Stores::new();
    let report = copy(&disk, &disk.named("out")).await.unwrap();
    assert_eq!(report.after.files, 6);
    assert!(contents(&stores, &report.destination).await == contents(&stores, &disk.checkpoint()).await);
    repack(&disk, &disk.named("packed")).await.unwrap();
}

#[tokio::test]
async fn a_files_name_may_hold_anything_but_a_partial_files() {
    let disk = Disk::new();
    let names = ["a b", "a%20b", "ä€😀", "a+b=c&d", "_drystone-unfinished-1", "#", "x#y", "[x]*?"];
    disk.commit(&checkpoint(names.iter().map(|name| disk.file(name, &chunk(100, name.len() as u64))).collect()));
    let stores = Stores::new();
    for report in [copy(&disk, &disk.named("out dir")).await, repack(&disk, &disk.named("päck%20ed")).await] {
        let report = report.unwrap();
        assert!(contents(&stores, &report.destination).await == contents(&stores, &disk.checkpoint()).await);
        assert!(runs::check(&stores, &report.destination).await.unwrap().is_sound());
    }
}
