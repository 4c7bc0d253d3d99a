//! The house rules that a compiler doesn't know: who may use whom, and how files begin.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the library, what it may use, and whether it may do I/O. The order is that of the layers.
const MODULES: &[(&str, &[&str], bool)] = &[
    ("id", &[], false),
    ("error", &[], false),
    ("path", &["error"], false),
    ("config", &["error", "path"], false),
    ("metrics", &[], false),
    ("handle", &["id"], false),
    ("protocol", &["handle", "id"], false),
    ("sync", &[], true),
    ("ledger", &["config", "error", "handle", "id", "protocol"], false),
    ("schedule", &["config", "error", "id"], false),
    ("format", &["error", "handle", "id", "protocol"], false),
    ("store", &["error", "id", "metrics", "path", "sync"], true),
    ("backup", &["format", "id", "metrics", "store", "sync"], true),
    ("write", &["backup", "error", "format", "handle", "id", "metrics", "store", "sync"], true),
    ("read", &["backup", "error", "format", "handle", "id", "metrics", "store", "sync"], true),
    ("worker", &["backup", "error", "format", "handle", "id", "metrics", "protocol", "store", "sync", "write"], true),
    (
        "coordinator",
        &[
            "config", "error", "format", "handle", "id", "jobs", "ledger", "metrics", "protocol", "read", "store",
            "sweep", "sync", "write",
        ],
        true,
    ),
    ("driver", &["coordinator", "error", "id", "metrics", "protocol", "schedule"], true),
    (
        "storage",
        &[
            "backup",
            "config",
            "coordinator",
            "error",
            "id",
            "jobs",
            "ledger",
            "protocol",
            "read",
            "store",
            "worker",
            "write",
        ],
        true,
    ),
    (
        "blocking",
        &[
            "backend",
            "backup",
            "config",
            "coordinator",
            "driver",
            "error",
            "handle",
            "id",
            "jobs",
            "protocol",
            "read",
            "schedule",
            "storage",
            "store",
            "sync",
            "worker",
            "write",
        ],
        true,
    ),
    ("backend", &["error", "format", "handle", "id", "protocol", "read", "sync", "worker", "write"], true),
    ("jobs", &["error", "format", "id", "read", "store", "sync", "verify"], true),
    ("sweep", &["error", "format", "id", "read", "store"], true),
    ("dispose", &["error", "format", "id", "jobs", "read", "store", "sweep"], true),
    ("verify", &["error", "format", "handle", "id", "read", "store"], true),
    ("repack", &["error", "format", "handle", "id", "read", "store", "sync", "verify", "write"], true),
    ("inspect", &["error", "format", "handle", "id", "read", "store", "write"], true),
];

/// Crates that have one home: named in no other module of the library.
const HOMES: &[(&str, &str)] = &[
    ("object_store", "store"),
    ("crc_fast", "format"),
    ("granit_parser", "config"),
    ("::metrics", "metrics"),
    ("strsim", "config"),
];

/// What only code that does I/O may name.
const ASYNCHRONOUS: [&str; 4] = ["tokio", "futures", "async fn", "std::fs"];

const LINES_MAX: usize = 500;

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting = vec![root.join(below)];
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", "data", "corpus", "artifacts"].contains(&name.as_str()) {
                waiting.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root).unwrap().to_path_buf(), text));
            }
        }
    }
    assert!(!files.is_empty(), "no sources below {below}");
    files.sort();
    files
}

/// Code lines: no comments, and nothing of an inline test module.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..tests]
        .lines()
        .enumerate()
        .map(|(n, line)| (n + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn module_of(path: &Path) -> String {
    let below = path.strip_prefix("src").unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_string()
}

/// The library's own modules that a line names.
fn modules_named(line: &str) -> Vec<String> {
    let names = line.match_indices("crate::").map(|(at, found)| {
        let rest = &line[at + found.len()..];
        rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>()
    });
    names.filter(|name| !name.is_empty()).collect()
}

fn names_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Not what another path ends with: `crate::metrics::` is no `::metrics::`.
fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(&format!("{name}::"))
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn report(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn modules_use_only_the_layers_below() {
    let mut broken = Vec::new();
    for (path, text) in sources("src") {
        let module = module_of(&path);
        if ["lib", "bin"].contains(&module.as_str()) {
            continue;
        }
        let Some((_, may_use, may_wait)) = MODULES.iter().find(|(name, ..)| *name == module) else {
            broken.push(format!("{}: module {module} is not in the table of layers", path.display()));
            continue;
        };
        for (number, line) in code(&text) {
            for named in modules_named(line) {
                if named != module && !may_use.contains(&named.as_str()) {
                    broken.push(format!("{}:{number}: {module} must not use {named}", path.display()));
                }
            }
            for word in ASYNCHRONOUS.iter().filter(|word| !may_wait && names_word(line, word)) {
                broken.push(format!("{}:{number}: {module} is pure and must not name {word}", path.display()));
            }
        }
    }
    report(broken);
}

#[test]
fn each_foreign_crate_has_one_home() {
    let mut broken = Vec::new();
    for (path, text) in sources("src") {
        let module = module_of(&path);
        for (number, line) in code(&text) {
            for (name, home) in HOMES.iter().filter(|(name, home)| *home != module && names_crate(line, name)) {
                broken.push(format!("{}:{number}: only {home} may name {name}", path.display()));
            }
        }
    }
    report(broken);
}

#[test]
fn locks_and_atomics_have_one_home() {
    // Else they would be passed over by the schedule explorer.
    let homeless =
        ["Mutex", "RwLock", "Condvar", "Barrier", "OnceLock", "mpsc", "atomic", "std::thread", "thread_local!"];
    let mut broken = Vec::new();
    for (path, text) in sources("src") {
        if ["sync", "bin"].contains(&module_of(&path).as_str()) {
            continue;
        }
        for (number, line) in code(&text).filter(|(_, line)| line.contains("std::") || line.contains("thread_local!")) {
            for word in homeless.iter().filter(|word| line.contains(*word)) {
                broken.push(format!("{}:{number}: {word} comes from crate::sync", path.display()));
            }
        }
    }
    report(broken);
}

#[test]
fn the_command_uses_the_public_interface_only() {
    // The binary is a crate of its own, so it can't see more; but it must not include the library's files either.
    for (path, text) in sources("src/bin") {
        assert!(!text.contains("#[path"), "{}: includes a file of the library", path.display());
    }
}

#[test]
fn every_file_says_what_it_is() {
    let broken = ["src", "tests", "benches", "examples"].iter().flat_map(|below| sources(below)).filter(|(_, t)| {
        // The library's own page is the README.
        !t.starts_with("//!") && !t.starts_with("#![doc = include_str!")
    });
    report(broken.map(|(path, _)| format!("{}: begins without //!", path.display())).collect());
}

#[test]
fn files_stay_short_and_well_named() {
    let mut broken = Vec::new();
    for (path, text) in ["src", "tests", "benches", "examples"].iter().flat_map(|below| sources(below)) {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{}: {lines} lines; {LINES_MAX} are allowed", path.display()));
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if ["util", "utils", "helper", "helpers", "common", "misc"].contains(&name.as_str()) {
            broken.push(format!("{}: the name says nothing", path.display()));
        }
    }
    report(broken);
}

#[test]
fn nothing_unfinished_or_unpredictable_is_left() {
    let forbidden = [
        ("todo!(", "finish it"),
        ("unimplemented!(", "finish it"),
        ("dbg!(", "remove it"),
        (".unwrap()", "return an error that names the thing"),
        ("thread::sleep", "nothing waits by the clock"),
        ("SystemTime::now", "time is passed in"),
        ("Instant::now", "time is passed in"),
        ("thread_rng", "randomness is passed in"),
    ];
    let mut broken = Vec::new();
    for (path, text) in sources("src") {
        for (number, line) in code(&text) {
            // The runtime's clock, which a test can pause; clippy.toml bans the other by its real name.
            let line = if text.contains("use tokio::time::Instant;") {
                line.replace("Instant::now", "")
            } else {
                line.to_owned()
            };
            let line = &line.replace("tokio::time::Instant::now", "");
            for (word, advice) in forbidden.iter().filter(|(word, _)| line.contains(word)) {
                broken.push(format!("{}:{number}: {word}: {advice}", path.display()));
            }
            if line.contains("select! {") && !text.contains("biased;") {
                broken.push(format!("{}:{number}: select! without biased; takes a random branch", path.display()));
            }
        }
    }
    report(broken);
}

/// Relative links of the pages lead to files, and the architecture's page names files that are there.
#[test]
fn pages_name_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("design")).unwrap().map(|entry| entry.unwrap().path());
    let mut broken = Vec::new();
    for page in pages.chain([root.join("README.md")]).filter(|page| page.extension().is_some_and(|e| e == "md")) {
        let (text, name) = (fs::read_to_string(&page).unwrap(), page.strip_prefix(root).unwrap().display().to_string());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !link.contains("://") && !file.is_empty() && !page.parent().unwrap().join(file).exists() {
                broken.push(format!("{name}: the link to {link} leads nowhere"));
            }
        }
        if name == "design/README.md" {
            let named = text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs") && !name.contains('{'));
            let gone = named.filter(|file| !root.join("src").join(file).exists() && !root.join(file).exists());
            broken.extend(gone.map(|file| format!("{name}: there is no src/{file}")));
        }
    }
    report(broken);
}
