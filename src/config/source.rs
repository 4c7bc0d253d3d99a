//! Where settings come from: keys and values as texts, with the lines that they stand in.

use std::collections::BTreeMap;
use std::fmt;

use super::finding::{Place, Warning, WarningKind};
use super::option::ConfigOption;

/// A configuration: keys and their values, as given. Which of them mean anything is the
/// [catalogue](super::catalogue)'s to say.
#[derive(Clone, Debug, Default)]
pub struct Config {
    entries: BTreeMap<String, Entry>,
    file: Option<String>,
    warnings: Vec<Warning>,
}

#[derive(Clone)]
struct Entry {
    text: String,
    line: Option<u64>,
}

/// What is given for an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<'a> {
    /// The key by which it is given: the option's own or an older one.
    pub key: &'a str,
    /// The value, as it stands there.
    pub text: &'a str,
    /// Where.
    pub place: Place,
}

impl Config {
    /// Keys and values from elsewhere. Of a key that comes twice, the last value counts.
    pub fn from_map<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut config = Self::default();
        for (key, value) in pairs {
            config.insert(key.into(), value.into(), None);
        }
        config
    }

    /// Says which file this is, for messages.
    pub fn named(mut self, file: impl Into<String>) -> Self {
        let file = file.into();
        for warning in &mut self.warnings {
            warning.place.file = Some(file.clone());
        }
        self.file = Some(file);
        self
    }

    /// What is given for an option: by its own key, or else by the first of its older keys that is there.
    pub fn get(&self, option: &ConfigOption) -> Option<Given<'_>> {
        self.spellings(option).next()
    }

    /// Every key with its value, in the order of the keys; also those that the catalogue doesn't know.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry.text.as_str()))
    }

    /// All that is given for an option, what counts first.
    pub(super) fn spellings(&self, option: &ConfigOption) -> impl Iterator<Item = Given<'_>> {
        option.keys().filter_map(|key| self.given(key))
    }

    pub(super) fn given(&self, key: &str) -> Option<Given<'_>> {
        let (key, entry) = self.entries.get_key_value(key)?;
        Some(Given { key, text: &entry.text, place: self.place(entry.line) })
    }

    pub(super) fn place(&self, line: Option<u64>) -> Place {
        Place { file: self.file.clone(), line }
    }

    /// What was noticed while the text was read.
    pub(super) fn read_warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The last value of a key counts. From a file, that is worth a warning.
    pub(super) fn insert(&mut self, key: String, text: String, line: Option<u64>) {
        let replaced = self.entries.insert(key.clone(), Entry { text, line });
        if let (Some(Entry { line: Some(before), .. }), Some(now)) = (replaced, line) {
            self.warn(WarningKind::Overridden, &key, now, format!("given in line {before}, too; the last one counts"));
        }
    }

    pub(super) fn warn(&mut self, kind: WarningKind, key: &str, line: u64, text: String) {
        let place = self.place(Some(line));
        self.warnings.push(Warning { kind, key: key.to_string(), place, text });
    }
}

impl fmt::Debug for Entry {
    /// Without the text: the entries are a whole file's, with passwords and keys of others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("line", &self.line).finish_non_exhaustive()
    }
}
