//! The front ends of the configuration, and what is made of what they read.

use drystone::config::{Config, Place, Settings};

use super::is_invalid;

/// `config.yaml`, nested and flat.
pub fn yaml(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    match Config::from_yaml(text) {
        Ok(config) => {
            holds_together(&config, text);
            true
        }
        Err(error) => {
            is_invalid(&error);
            assert!(error.to_string().starts_with("line "), "{error}");
            false
        }
    }
}

/// The lines of `flink-conf.yaml`, which all are read or remarked upon; and a map of what they say.
pub fn flink_conf(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let config = Config::from_flink_conf(text);
    let settings = holds_together(&config, text);
    assert_eq!(Config::from_map(config.iter()).check().settings, settings);
    config.iter().next().is_some()
}

/// What is found names its key, value and line; what is in effect is valid, and has texts that give it again.
fn holds_together(config: &Config, text: &str) -> Settings {
    let check = config.check();
    let lines =
        text.chars().filter(|c| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')).count() as u64 + 1;
    let in_text = |place: &Place| place.line.is_some_and(|line| (1..=lines).contains(&line));
    for problem in &check.problems {
        assert!(!problem.key.is_empty() && problem.text.contains("allowed"), "{problem}");
        let given = config.iter().any(|(key, value)| key == problem.key && value == problem.value);
        // A conflict may be with a default.
        assert!(!given || in_text(&problem.place), "{problem}");
    }
    for warning in &check.warnings {
        assert!(!warning.text.is_empty() && in_text(&warning.place), "{warning}");
    }
    match config.settings() {
        Ok((settings, _)) => {
            assert!(check.problems.is_empty());
            assert_eq!(settings, check.settings);
            settings.validate().unwrap_or_else(|e| panic!("{e}"));
            let values = settings.values().into_iter();
            let texts = values.filter_map(|(option, value)| Some((option.key, value?.to_string())));
            let (again, _) = Config::from_map(texts).settings().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(again, settings);
        }
        Err(error) => {
            is_invalid(&error);
            let message = error.to_string();
            assert!(!check.problems.is_empty() && check.problems.iter().all(|p| message.contains(&p.key)), "{message}");
        }
    }
    check.settings
}
