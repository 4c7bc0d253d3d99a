//! `drystone config`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use drystone::config::{
    self, CATALOGUE, Check, Config, ConfigOption, Place, Problem, Value as Setting, Warning, WarningKind,
};
use drystone::store::Stores;
use serde_json::{Value, json};

use crate::args::{ConfigArguments, ConfigCheckArguments, ConfigCommand};
use crate::output::{self, count};

/// Flink 1's file of the old line format, whatever its name says.
const OLD_NAME: &str = "flink-conf.yaml";

const YAML_HINT: &str =
    "looks like YAML, but its name says the old line format: name it .yaml or .yml, and not flink-conf.yaml";

pub fn run(arguments: ConfigArguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Some(ConfigCommand::Check(arguments)) => return check(&arguments),
        None if arguments.json => output::print_json(&catalogue_as_json())?,
        None if arguments.markdown => output::print(&config::reference())?,
        None => output::print(&catalogue_as_text())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(arguments: &ConfigCheckArguments) -> anyhow::Result<ExitCode> {
    let (path, name) = (&arguments.file, arguments.file.display().to_string());
    let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
    let checked = match read(path, &text) {
        Ok(config) => Checked::of(config.named(&name), &text),
        Err(error) => Checked { unreadable: Some(error.one_line()), ..Checked::default() },
    };
    match arguments.json {
        true => output::print_json(&checked.as_json(&name))?,
        false => output::print(&checked.as_text(&name))?,
    }
    Ok(if checked.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(crate::BAD) })
}

fn read(path: &Path, text: &str) -> drystone::Result<Config> {
    let is_old = path.file_name().is_some_and(|name| name == OLD_NAME);
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    if is_yaml && !is_old { Config::from_yaml(text) } else { Ok(Config::from_flink_conf(text)) }
}

/// Is this what a file of lines never is: a mapping with something below it, or a document that YAML reads as a whole?
fn looks_like_yaml(text: &str) -> bool {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let is_nested = |pair: &[&str]| pair[0].trim_end().ends_with(':') && pair[1].starts_with([' ', '-']);
    Config::from_yaml(text).is_ok() || lines.windows(2).any(is_nested)
}

/// A file and what there is to say about it; if it can't be read, nothing but why.
#[derive(Default)]
struct Checked {
    config: Config,
    check: Option<Check>,
    /// Lines that were passed over. A job runs without them, but whoever has a file checked meant something by them.
    unread: Vec<Warning>,
    hint: Option<&'static str>,
    unreadable: Option<String>,
}

impl Checked {
    fn of(config: Config, text: &str) -> Self {
        let mut check = config.check();
        check.problems.extend(unsupported(&config, &check));
        check.problems.sort_by_key(|problem| problem.place.line);
        let (unread, warnings): (Vec<_>, _) =
            check.warnings.into_iter().partition(|warning| warning.kind == WarningKind::Unreadable);
        check.warnings = warnings;
        let hint = (!unread.is_empty() && looks_like_yaml(text)).then_some(YAML_HINT);
        Self { config, check: Some(check), unread, hint, unreadable: None }
    }

    fn is_sound(&self) -> bool {
        self.unread.is_empty() && self.check.as_ref().is_some_and(|check| check.problems.is_empty())
    }

    fn values(&self) -> Vec<(&'static ConfigOption, Option<Setting>)> {
        self.check.as_ref().map(|check| check.settings.values()).unwrap_or_default()
    }

    fn problems(&self) -> &[Problem] {
        self.check.as_ref().map_or(&[], |check| &check.problems)
    }

    fn warnings(&self) -> &[Warning] {
        self.check.as_ref().map_or(&[], |check| &check.warnings)
    }

    fn as_text(&self, name: &str) -> String {
        let mut text = String::new();
        if let Some(problem) = &self.unreadable {
            text += &format!("BAD {name}: {problem}\n");
        }
        if let Some(hint) = self.hint {
            text += &format!("BAD {name}: {hint}\n");
        }
        for line in &self.unread {
            text += &format!("BAD {line}\n");
        }
        for problem in self.problems() {
            text += &format!("BAD {problem}\n");
        }
        for warning in self.warnings() {
            text += &format!("WARN {warning}\n");
        }
        // With a wrong value in it, nothing is in effect.
        if self.is_sound() {
            let row = |(option, value): (&'static ConfigOption, Option<Setting>)| {
                vec![option.key.to_string(), shown(value.as_ref()), self.origin(option)]
            };
            text += &output::table(&["option", "value", "from"], self.values().into_iter().map(row).collect());
        }
        let verdict = if self.is_sound() { "ok" } else { "bad" };
        let problems = self.problems().len() + self.unread.len() + usize::from(self.unreadable.is_some());
        let (problems, warnings) = (count(problems as u64, "error"), count(self.warnings().len() as u64, "warning"));
        text + &format!("{name}: {verdict}: {problems}, {warnings}\n")
    }

    fn origin(&self, option: &ConfigOption) -> String {
        let Some(given) = self.config.get(option) else { return "default".into() };
        let line = given.place.line.map_or_else(String::new, |line| format!("line {line}"));
        match given.key == option.key {
            true => line,
            false => format!("{line}, {}", given.key),
        }
    }

    fn as_json(&self, name: &str) -> Value {
        let unreadable =
            self.unreadable.iter().map(|problem| json!({"problem": problem, "key": null, "value": null, "line": null}));
        let unread = self.unread.iter().map(
            |Warning { key, place, text, .. }| json!({"problem": text, "key": key, "value": null, "line": place.line}),
        );
        let problems = self.problems().iter().map(|problem| {
            let Problem { key, value, place, text, .. } = problem;
            json!({"problem": text, "key": key, "value": value, "line": place.line})
        });
        let warnings = self.warnings().iter().map(|warning| {
            let Warning { kind, key, place: Place { line, .. }, text, .. } = warning;
            json!({"kind": kind.name(), "warning": text, "key": key, "line": line})
        });
        let values = self.values().into_iter().map(|(option, value)| {
            let given = self.config.get(option);
            json!({
                "key": option.key,
                "value": value.map(|value| value.to_string()),
                "given": given.as_ref().map(|given| given.text),
                "givenAs": given.as_ref().map(|given| given.key),
                "line": given.as_ref().and_then(|given| given.place.line),
            })
        });
        json!({
            "file": name,
            "sound": self.is_sound(),
            "hint": self.hint,
            "errors": unreadable.chain(unread).chain(problems).collect::<Vec<_>>(),
            "warnings": warnings.collect::<Vec<_>>(),
            "values": if self.is_sound() { values.collect::<Vec<_>>() } else { Vec::new() },
        })
    }
}

/// Paths of which nobody has a store. That of another build, or one that can't be reached from here, is good.
fn unsupported(config: &Config, check: &Check) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (option, value) in check.settings.values() {
        if let (Some(Setting::Path(path)), Some(given)) = (value, config.get(option))
            && let Err(error) = Stores::support(&path)
        {
            let (key, value) = (given.key.to_string(), path.to_string());
            problems.push(Problem { key, value, place: given.place, text: error.one_line() });
        }
    }
    problems
}

fn shown(value: Option<&Setting>) -> String {
    value.map_or_else(|| "-".to_string(), Setting::to_string)
}

fn catalogue_as_text() -> String {
    let row = |option: &&ConfigOption| {
        let default = shown(option.default_value().as_ref());
        vec![option.key.into(), option.kind.name().into(), default, option.user.to_string(), option.sentence.into()]
    };
    output::table(&["option", "type", "default", "user", "meaning"], CATALOGUE.iter().map(row).collect())
}

fn catalogue_as_json() -> Value {
    let options = CATALOGUE.iter().map(|option| {
        let older = option.older.iter().map(|older| json!({"key": older.key, "deprecated": older.deprecated}));
        json!({
            "key": option.key,
            "olderKeys": older.collect::<Vec<_>>(),
            "type": option.kind.name(),
            "allowed": option.kind.allowed(),
            "default": option.default_value().map(|value| value.to_string()),
            "user": option.user.to_string(),
            "group": option.group,
            "meaning": option.sentence,
        })
    });
    options.collect()
}
