//! The reference page is what the catalogue says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use drystone::config::{CATALOGUE, reference};

#[test]
fn the_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("design/configuration.md");
    if std::env::var_os("DRYSTONE_WRITE_REFERENCE").is_some() {
        fs::write(&path, reference()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference(),
        "{} isn't current; to write it anew: DRYSTONE_WRITE_REFERENCE=1 cargo test --test config_reference",
        path.display()
    );
}

#[test]
fn the_reference_has_every_key_once_as_a_row() {
    let page = reference();
    for option in CATALOGUE {
        assert_eq!(page.matches(&format!("\n| `{}`", option.key)).count(), 1, "{}", option.key);
        for older in option.older {
            assert!(page.contains(&format!("`{}`", older.key)), "{}", older.key);
        }
    }
}
