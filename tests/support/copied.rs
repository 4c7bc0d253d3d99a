//! Copies of what stock Flink wrote, and the command on them as a user runs it.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use std::time::SystemTime;

use serde_json::Value;

/// A copy of a fixture, in a directory of its own.
pub struct Copied {
    root: tempfile::TempDir,
    fixture: &'static str,
}

impl Copied {
    pub fn new(fixture: &'static str) -> Self {
        let copied = Self { root: tempfile::tempdir().unwrap(), fixture };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flink").join(fixture);
        copy(&source, &copied.root.path().join(fixture));
        copied.age(Duration::from_secs(3 * 86_400 + 60));
        copied
    }

    /// Below the fixture's folder.
    pub fn at(&self, below: &str) -> PathBuf {
        self.root.path().join(self.fixture).join(below)
    }

    pub fn write(&self, below: &str, bytes: impl AsRef<[u8]>) {
        let at = self.at(below);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, bytes).unwrap();
    }

    #[allow(clippy::disallowed_methods, reason = "the command goes by this machine's clock")]
    pub fn age(&self, age: Duration) {
        for file in files(self.root.path()) {
            let file = fs::File::options().write(true).open(file).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
    }

    /// A command on something below the fixture's folder, whose metadata names files below `/data/flink`.
    pub fn drystone(&self, command: &str, below: &str, arguments: &[&str]) -> Output {
        self.command(command, below, arguments).output().unwrap()
    }

    /// The same, not yet run.
    pub fn command(&self, command: &str, below: &str, arguments: &[&str]) -> Command {
        let rebase = format!("--rebase=file:/data/flink={}", self.root.path().display());
        let mut run = Command::new(env!("CARGO_BIN_EXE_drystone"));
        run.arg(command).arg(self.at(below)).arg(rebase).args(arguments);
        run
    }

    /// Every file, below the fixture's folder.
    pub fn files(&self) -> Vec<String> {
        let root = self.root.path().join(self.fixture);
        let below = |path: PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        files(&root).into_iter().map(below).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { fs::copy(entry.path(), to).map(drop).unwrap() }
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", out(output), err(output)))
}
