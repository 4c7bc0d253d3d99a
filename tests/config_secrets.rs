//! A configuration may hold passwords and keys, in places where none belongs, too: nothing that is said of it repeats one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drystone::config::{CATALOGUE, Config, Settings};

/// What a hand may write where a path or something else is asked for.
const TEXTS: [&str; 9] = [
    "s3://AKIA:SECRET@bucket/x",
    // The key has a slash, as many do.
    "s3://AKIA:ab/SECRET@bucket/x",
    "hdfs://user:ab/SECRET@host/x",
    "s3:/AKIA:SECRET@bucket/x",
    "s3//AKIA:SECRET@bucket/x",
    "AKIA:SECRET@bucket/x",
    "s3:SECRET",
    "https://host/x?sig=SECRET",
    "s3:///SECRET",
];

fn refuse_secrets(said: &str) {
    assert!(!said.contains("SECRET"), "{said}");
}

#[test]
fn no_option_lets_one_through() {
    for option in CATALOGUE {
        for (key, text) in option.keys().flat_map(|key| TEXTS.map(|text| (key, text))) {
            let config = Config::from_map([(key, text)]).named("config.yaml");
            let check = config.check();
            refuse_secrets(&format!("{config:?} {check:?}"));
            assert!(!check.problems.is_empty(), "{key}={text}");
            refuse_secrets(&check.problems.iter().map(|problem| problem.to_string()).collect::<String>());
            let error = config.settings().unwrap_err();
            refuse_secrets(&format!("{error} {error:?}"));
        }
    }
}

#[test]
fn settings_from_elsewhere_hold_none() {
    for field in ["checkpoint_dir", "savepoint_dir"] {
        let error = serde_json::from_str::<Settings>(&format!("{{\"{field}\": \"{}\"}}", TEXTS[0])).unwrap_err();
        refuse_secrets(&format!("{error} {error:?}"));
        assert!(error.to_string().contains("credentials"), "{error}");
    }
}

#[test]
fn lines_that_can_not_be_read_are_not_repeated() {
    for line in ["s3.secret-key:SECRET", "s3.secret-key=SECRET", "s3.secret-key SECRET", "SECRET", ": SECRET"] {
        let check = Config::from_flink_conf(line).named("flink-conf.yaml").check();
        refuse_secrets(&format!("{:?} {}", check.warnings, check.warnings[0]));
        assert!(check.warnings[0].to_string().starts_with("flink-conf.yaml:1: "), "{}", check.warnings[0]);
        assert_eq!(line.starts_with("s3"), check.warnings[0].key == "s3.secret-key");
    }
    for text in ["s3.secret-key: !SECRET", "s3.secret-key: *SECRET", "{s3.secret-key:SECRET}", "s3.secret-key:SECRET"] {
        let error = Config::from_yaml(text).unwrap_err();
        refuse_secrets(&format!("{error} {error:?}"));
    }
}
