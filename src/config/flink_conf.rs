//! The line format of Flink 1's `flink-conf.yaml`: `key: value`, read as Flink 1 read it.

use super::finding::WarningKind;
use super::{Config, before_value, java_trim};

impl Config {
    /// Reads the old `flink-conf.yaml`: a `key: value` in each line, from `#` on a comment, nothing nested or quoted.
    ///
    /// As in Flink 1, what isn't of this form is passed over (with a warning), and of a key that comes twice the last
    /// value counts.
    pub fn from_flink_conf(text: &str) -> Self {
        let mut config = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let content = java_trim(line.split('#').next().unwrap_or_default());
            if content.is_empty() {
                continue;
            }
            let pair = content.split_once(": ").map(|(key, value)| (java_trim(key), java_trim(value)));
            match pair.filter(|(key, value)| !key.is_empty() && !value.is_empty()) {
                Some((key, value)) => config.insert(key.to_string(), value.to_string(), Some(number)),
                None => {
                    let text = "no key with a value, so that it is passed over; allowed: key, colon, blank, value";
                    config.warn(WarningKind::Unreadable, before_value(content), number, text.to_string());
                }
            }
        }
        config
    }
}
