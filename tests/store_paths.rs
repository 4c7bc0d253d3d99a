//! Paths in Flink's spelling, rebase rules, and the names of files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/cases.rs"]
mod cases;

use std::path::Path;

use cases::cases;
use drystone::ErrorKind;
use drystone::id::{CheckpointId, FileToken};
use drystone::store::names::{
    PhysicalFileName, WorkerName, checkpoint_directory, final_name, is_savepoint_directory, parse_checkpoint_directory,
    parse_job_directory,
};
use drystone::store::{FlinkPath, Rebase, Stores};
use proptest::prelude::*;

fn path(text: &str) -> FlinkPath {
    FlinkPath::parse(text).expect(text)
}

#[test]
fn paths_are_spelled_as_flink_does() {
    for (text, spelled) in [
        ("/x", "file:/x"),
        ("file:/x", "file:/x"),
        ("file:///x", "file:/x"),
        ("file:////x", "file:/x"),
        ("//x//y/", "file:/x/y"),
        ("/tmp/x/", "file:/tmp/x"),
        ("/a/./b/.", "file:/a/b"),
        ("\\a\\b", "file:/a/b"),
        ("/", "file:/"),
        ("file:///", "file:/"),
        ("/a b%20c#d?e", "file:/a b%20c#d?e"),
        ("/a:b", "file:/a:b"),
        ("/...", "file:/..."),
        ("s3://b//x///y/", "s3://b/x/y"),
        ("s3a://b/x", "s3a://b/x"),
        ("s3://b", "s3://b/"),
        ("s3://b/", "s3://b/"),
        ("abfss://c@a.dfs.core.windows.net/x", "abfss://c@a.dfs.core.windows.net/x"),
        ("hdfs://user@host:8020/x", "hdfs://user@host:8020/x"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://[fe80::a]/x", "http://[fe80::a]/x"),
        ("memory:///x", "memory:/x"),
    ] {
        assert_eq!(path(text).to_string(), spelled, "{text}");
        assert_eq!(path(spelled), path(text));
        assert_eq!(path(spelled).to_string(), spelled);
    }
}

#[test]
fn paths_are_refused() {
    for (text, problem) in [
        ("", "isn't absolute"),
        ("x/y", "isn't absolute"),
        (" /x", "isn't absolute"),
        ("hdfs:x", "isn't absolute"),
        ("1a://b/x", "isn't absolute"),
        ("/a/../b", "climbs out"),
        ("s3://b/..", "climbs out"),
        ("/a\\..\\b", "climbs out"),
    ] {
        let error = FlinkPath::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(problem) && error.to_string().contains(text), "{error}");
    }
}

#[test]
fn secrets_are_refused_and_not_repeated() {
    for text in [
        "http://user:SECRET@host/x",
        "https://SECRET@host/../x",
        "s3://key:SECRET@bucket/x",
        "s3a://SECRET@bucket/x",
        "hdfs://user:SECRET@host/x",
        "abfss://c:SECRET@a.dfs.core.windows.net/x",
        "wasbs://c@SECRET@a.blob.core.windows.net/x",
        "https://host/x?sig=SECRET",
        "az://container/x?sig=SECRET",
        "https://host?sig=SECRET",
        "s3://bucket/x?X-Amz-Signature=SECRET",
        "s3a://bucket/x?a=b&x-amz-credential=SECRET",
        "gs://bucket/x?X-Goog-Signature=SECRET",
        "hdfs://host/x?sig=SECRET",
        "/x?Signature=SECRET",
        // Whose name appears when the slash behind it goes.
        "s3://bucket/SECRET?sig/",
        "file://?sig=SECRET/x",
        "s3:key:SECRET@bucket/x",
        "S3A:/key:SECRET@bucket/x",
        "gs:///key:SECRET@bucket/x",
        "s3:\\\\key:SECRET@bucket/x",
        // A slash in a key ends what reads like the host.
        "s3://AKIA:ab/SECRET@bucket/x",
        "s3a://AKIA:/SECRET@bucket/x",
        "hdfs://user:ab/SECRET@host/x",
        "abfss://c:ab/SECRET@a.dfs.core.windows.net/x",
        "http:SECRET",
        "az:SECRET@x",
    ] {
        let error = FlinkPath::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error}");
        let rule = format!("{text}=/x").parse::<Rebase>().unwrap_err();
        assert!(!format!("{rule} {rule:?}").contains("SECRET"), "{rule}");
        let argument = FlinkPath::parse_argument(text, Path::new("/home/me")).unwrap_err();
        assert!(!format!("{argument} {argument:?}").contains("SECRET"), "{argument}");
    }
}

#[test]
fn one_place_has_many_spellings() {
    for (one, other) in [
        ("s3://b/x", "s3a://b/x"),
        ("s3p://b/x", "S3://b/x"),
        ("file://localhost/x", "/x"),
        ("abfs://c@a.dfs.core.windows.net/x", "wasbs://c@a.blob.core.windows.net/x"),
        ("abfss://c@a.dfs.core.windows.net/x", "wasb://c@a.blob.core.windows.net/x"),
        ("az://c/x", "abfs://c/x"),
    ] {
        assert_eq!(path(one), path(other));
        assert_eq!(path(other).relative_to(&path(one).parent().unwrap()), Some("x"));
    }
    for (one, other) in [
        ("s3://b/x", "s3://c/x"),
        ("s3://b/x", "gs://b/x"),
        ("http://h/x", "https://h/x"),
        ("/a b", "/a%20b"),
        ("/x", "/X"),
        ("abfs://c@a.dfs.core.windows.net/x", "abfs://d@a.dfs.core.windows.net/x"),
        ("abfs://c@a.dfs.core.windows.net/x", "abfs://c@b.dfs.core.windows.net/x"),
        ("memory:/x", "memory://a/x"),
    ] {
        assert_ne!(path(one), path(other));
        assert!(!path(one).is_within(&path(other)));
    }
}

#[test]
fn paths_have_parts() {
    let deep = path("s3a://b/x/y");
    assert_eq!((deep.scheme(), deep.authority(), deep.path(), deep.file_name()), ("s3a", "b", "/x/y", Some("y")));
    assert_eq!(deep.parent().unwrap().to_string(), "s3a://b/x");
    let root = deep.parent().unwrap().parent().unwrap();
    assert_eq!((root.to_string().as_str(), root.file_name(), root.parent()), ("s3a://b/", None, None));
    assert_eq!(root.join("x//./y/").unwrap().to_string(), "s3a://b/x/y");
    assert_eq!(deep.join("").unwrap(), deep);
    for refused in ["/x", "..", "a/../../b", "\\x", "a\\..\\b"] {
        assert_eq!(deep.join(refused).unwrap_err().kind(), ErrorKind::Invalid, "{refused}");
    }
    // As text, `s3://c/x` below a directory is a strange name, not another store.
    assert!(deep.join("s3://c/x").unwrap().is_within(&deep));
}

#[test]
fn whole_components_count() {
    for (inner, base, below) in [
        ("/a/b/c", "/a/b", Some("c")),
        ("/a/b/c", "/a", Some("b/c")),
        ("/a/b", "/a/b", Some("")),
        ("/a/b", "/", Some("a/b")),
        ("/", "/", Some("")),
        ("/a/bc", "/a/b", None),
        ("/a", "/a/b", None),
        ("/", "/a", None),
    ] {
        assert_eq!(path(inner).relative_to(&path(base)), below, "{inner} in {base}");
    }
}

#[test]
fn arguments_may_be_relative() {
    let cwd = Path::new("/home/me");
    for (text, spelled) in [
        ("x", "file:/home/me/x"),
        (".", "file:/home/me"),
        ("../you/./x/", "file:/home/you/x"),
        ("/a/../b", "file:/b"),
        ("a:b", "file:/home/me/a:b"),
        ("s4:x", "file:/home/me/s4:x"),
        ("x?y&significant=1", "file:/home/me/x?y&significant=1"),
        ("chk-1#2?3", "file:/home/me/chk-1#2?3"),
        ("file:/x", "file:/x"),
        ("s3://b/x", "s3://b/x"),
    ] {
        assert_eq!(FlinkPath::parse_argument(text, cwd).unwrap().to_string(), spelled, "{text}");
    }
    for (text, cwd, problem) in [
        ("../../../x", "/home/me", "above the root"),
        ("/..", "/home/me", "above the root"),
        ("s3://b/../x", "/home/me", "climbs out"),
        ("x", "relative", "can't be named"),
        ("", "/home/me", "empty"),
        ("s3:x", "/home/me", "s3://name/path"),
    ] {
        let error = FlinkPath::parse_argument(text, Path::new(cwd)).unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(problem), "{error}");
    }
}

fn rules(texts: &[&str]) -> Vec<Rebase> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn the_longest_rule_moves_a_path() {
    let rules =
        rules(&["s3://b/ck=/mnt/ck", "s3://b/ck/job/shared=/fast", "hdfs://h:1/=gs://g/from-hdfs", "/day=1=/other"]);
    for (named, real) in [
        ("s3a://b/ck/job/chk-1/f", "file:/mnt/ck/job/chk-1/f"),
        ("s3://b/ck", "file:/mnt/ck"),
        ("s3://b/ck/job/shared/f", "file:/fast/f"),
        ("s3://b/ck/job/shared2/f", "file:/mnt/ck/job/shared2/f"),
        ("s3://b/ckx", "s3://b/ckx"),
        ("hdfs://h:1/a", "gs://g/from-hdfs/a"),
        ("/day=1/x", "file:/other/x"),
    ] {
        let moved = Rebase::to_real(&rules, &path(named));
        assert_eq!(moved.to_string(), real);
        assert_eq!(Rebase::to_named(&rules, &moved), Some(path(named)));
    }
    // The name that the first rule gives it leads to /fast.
    assert_eq!(Rebase::to_named(&rules, &path("/mnt/ck/job/shared/f")), Some(path("/mnt/ck/job/shared/f")));
    // No name leads here at all.
    assert_eq!(Rebase::to_named(&rules, &path("s3://b/ck/f")), None);
    let location = Stores::new().with_rebase(rules).locate(&path("s3://b/ck/f")).unwrap();
    assert_eq!(format!("{location:?}"), "Location(s3://b/ck/f (at file:/mnt/ck/f))");
}

#[test]
fn rules_are_refused() {
    for text in ["", "/a", "/a=", "=/a", "/a=b", "a=/b", "/a=/b=/c"] {
        let error = text.parse::<Rebase>().unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("rebase"), "{error}");
    }
}

#[tokio::test]
async fn a_moved_file_keeps_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let rule = format!("s3://b/ck={}", directory.path().display());
    let stores = Stores::new().with_rebase(rules(&[&rule]));
    let named = stores.locate(&path("s3a://b/ck/f")).unwrap();
    named.create(vec![bytes::Bytes::from_static(b"x")]).await.unwrap();
    assert!(directory.path().join("f").exists());
    let listed = stores.locate(&path("s3://b/ck")).unwrap().list().await.unwrap();
    assert_eq!(listed[0].path.to_string(), "s3://b/ck/f");
    let real = stores.locate_real(named.real()).unwrap();
    assert_eq!(real.name(), named.name());
    assert_eq!(real.read_all(1).await.unwrap(), "x");
    let error = named.join("../g").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = stores.locate(&path("s3://b/ck/g")).unwrap().size().await.unwrap_err().to_string();
    assert!(error.contains("s3://b/ck/g (at file:/") && error.contains("no such file"), "{error}");
}

#[test]
fn a_store_that_is_not_there_says_how_to_get_it() {
    for (text, part) in
        [("ftp://h/x", "known are file"), ("hdfs://h/x", "known are file"), ("file://tmp/x", "names a host")]
    {
        let error = Stores::new().locate(&path(text)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    #[cfg(not(feature = "aws"))]
    {
        let error = Stores::new().locate(&path("s3p://b/x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("cargo feature 'aws'"), "{error}");
    }
}

#[test]
fn an_embedder_serves_a_store() {
    let stores = Stores::new().with_store(&path("s3://b/"), std::sync::Arc::new(object_store::memory::InMemory::new()));
    let location = stores.locate(&path("s3a://b/x/y")).unwrap();
    assert_eq!(location.name().to_string(), "s3a://b/x/y");
    assert!(!format!("{stores:?} {location:?}").contains("InMemory"));
}

#[test]
fn directories_have_names() {
    assert_eq!(checkpoint_directory(CheckpointId(42)), "chk-42");
    for (name, id) in [("chk-42", Some(42)), ("chk-0", Some(0)), ("chk-18446744073709551615", Some(u64::MAX))] {
        assert_eq!(parse_checkpoint_directory(name), id.map(CheckpointId));
    }
    for name in ["chk-", "chk-007", "chk-+1", "chk--1", "chk-18446744073709551616", "chk-1x", "CHK-1", "chk", "1"] {
        assert_eq!(parse_checkpoint_directory(name), None, "{name}");
    }
    assert!(is_savepoint_directory("savepoint-1a2b3c-0123456789ab"));
    assert!(!is_savepoint_directory("savepoint-") && !is_savepoint_directory("savepoints"));
    assert!(parse_job_directory("0123456789abcdef0123456789abcdef").is_some());
    assert!(parse_job_directory("0123456789ABCDEF0123456789ABCDEF").is_none());
    assert!(parse_job_directory("shared").is_none());
}

#[test]
fn physical_files_have_names() {
    let name = PhysicalFileName {
        attempt: 3,
        worker: WorkerName::sanitise("host:53424-a"),
        checkpoint: CheckpointId(42),
        sequence: 0,
        token: FileToken(0xabc),
    };
    assert_eq!(name.to_string(), "ds1-a3-whost_53424_a-c42-n0-0000000000000abc");
    assert_eq!(name.to_string().parse::<PhysicalFileName>().unwrap(), name);
    for text in [
        "",
        "_metadata",
        "ds1-a3-w-c42-n0-0000000000000abc",
        "ds1-a03-wx-c42-n0-0000000000000abc",
        "ds1-a3-wx-c42-n-0000000000000abc",
        "ds1-a3-wx-c42-n0-abc",
        "ds1-a3-wx-c42-n0-0000000000000ABC",
        "ds1-a3-wx-c42-n0-0000000000000abc-",
        "ds1-a3-wx y-c42-n0-0000000000000abc",
        "ds2-a3-wx-c42-n0-0000000000000abc",
        "ds1-a3-wx-c42-n0-0000000000000abc#1",
    ] {
        let error = text.parse::<PhysicalFileName>().unwrap_err();
        assert!(error.to_string().contains("ds1-a<attempt>"), "{error}");
    }
    let long = format!("ds1-a3-w{}-c42-n0-0000000000000abc", "x".repeat(65));
    assert!(long.parse::<PhysicalFileName>().is_err());
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_path_survives_its_text(text in "(file:|s3://b|abfs://c@a.dfs.core.windows.net|gs://b)?(/|//|\\\\)[a-z./ %#é\\\\:=-]{0,30}") {
        if let Ok(path) = FlinkPath::parse(&text) {
            let again = FlinkPath::parse(&path.to_string()).unwrap();
            prop_assert_eq!(&again, &path);
            prop_assert_eq!(again.to_string(), path.to_string());
            prop_assert!(path.path() == "/" || !path.path().ends_with('/'));
            prop_assert!(!path.path().contains("//") && !path.path().split('/').any(|c| c == ".." || c == "."));
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
                prop_assert_eq!(parent.join(name).unwrap(), path.clone());
                prop_assert_eq!(path.relative_to(&parent), Some(name));
            }
        }
    }

    #[test]
    fn joining_stays_inside(below in "[a-z./\\\\ ]{0,20}") {
        let base = path("s3://b/x");
        if let Ok(joined) = base.join(&below) {
            prop_assert!(joined.is_within(&base));
            prop_assert_eq!(base.join(joined.relative_to(&base).unwrap()).unwrap(), joined);
        }
    }

    #[test]
    fn a_name_leads_back(named in "(s3://b|/x|/y)(/(a|b|c)){0,4}", from in "(s3://b|/x)(/(a|b)){0,2}", to in "(s3://b|/y)(/(a|c)){0,2}", more in "/x(/(a|b)){0,3}") {
        let rules = [format!("{from}={to}"), format!("{more}=/z")].map(|text| text.parse::<Rebase>().unwrap());
        let real = Rebase::to_real(&rules, &path(&named));
        // What lies there has a name, maybe another one, and that name leads there.
        let name = Rebase::to_named(&rules, &real).unwrap();
        prop_assert_eq!(Rebase::to_real(&rules, &name), real);
    }

    #[test]
    fn a_physical_file_name_survives_its_text(attempt: u64, worker in ".{0,80}", checkpoint: u64, sequence: u64, token: u64) {
        let name = PhysicalFileName {
            attempt,
            worker: WorkerName::sanitise(&worker),
            checkpoint: CheckpointId(checkpoint),
            sequence,
            token: FileToken(token),
        };
        let text = name.to_string();
        prop_assert!(text.len() <= 4 + 22 + 66 + 22 + 22 + 16 && text.is_ascii());
        prop_assert_eq!(text.parse::<PhysicalFileName>().unwrap(), name);
    }

    #[test]
    fn no_text_panics(text in ".{0,40}") {
        let _ = FlinkPath::parse(&text);
        let _ = FlinkPath::parse_argument(&text, Path::new("/home/me"));
        let _ = text.parse::<Rebase>();
        let _ = text.parse::<PhysicalFileName>();
        let _ = path("/x").join(&text).map(|p| Stores::new().locate(&p));
    }
}

#[test]
fn only_what_a_disk_makes_of_a_name_is_called_by_it() {
    let name = "ds1-a0-wrepack-c7-n0-0000000000000001";
    for (behind, is_ours) in
        [("", true), ("#1", true), ("#", false), ("#backup", false), ("#1#2", false), ("#x#2", false)]
    {
        let path = path("/d").join(&format!("{name}{behind}")).unwrap();
        assert_eq!(PhysicalFileName::of(&path).is_some(), is_ours, "{path}");
    }
    assert_eq!(final_name(&path("/d/x#y#12")), Some("x#y"));
    assert_eq!(final_name(&path("/d/x#y")), None);
}
