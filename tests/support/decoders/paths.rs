//! Paths in Flink's spelling, and the rules that move them.

use std::path::Path;

use drystone::store::{FlinkPath, Rebase};

use super::is_invalid;

/// A path, and in the next line what is joined to it.
pub fn path(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let (text, relative) = text.split_once('\n').unwrap_or((text, ""));
    match FlinkPath::parse_argument(text, Path::new("/srv/here")) {
        Ok(path) => comes_back(&path),
        Err(error) => is_invalid(&error),
    }
    let path = match FlinkPath::parse(text) {
        Ok(path) => path,
        Err(error) => {
            is_invalid(&error);
            return false;
        }
    };
    comes_back(&path);
    // Each directory above holds it, and the last is the root.
    let mut here = path.clone();
    while let Some(above) = here.parent() {
        assert!(path.is_within(&above) && !above.is_within(&here), "{here} in {above}");
        assert_eq!(above.join(here.file_name().expect("only a root has no name")).as_ref().ok(), Some(&here));
        here = above;
    }
    assert_eq!((here.path(), here.file_name()), ("/", None));
    assert_eq!(FlinkPath::parse_argument(&path.to_string(), Path::new("/")).ok().as_ref(), Some(&path));

    match path.join(relative) {
        Ok(below) => {
            is_normal(&below);
            let rest = below.relative_to(&path).unwrap_or_else(|| panic!("{below} isn't below {path}"));
            assert_eq!(path.join(rest).ok().as_ref(), Some(&below));
        }
        Err(error) => is_invalid(&error),
    }
    true
}

/// Two rules and a path, in three lines.
pub fn rebase(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let mut lines = text.split('\n');
    let mut rules = Vec::new();
    for line in lines.by_ref().take(2) {
        match line.parse::<Rebase>() {
            Ok(rule) => {
                match format!("{}={}", rule.from, rule.to).parse::<Rebase>() {
                    Ok(again) => assert_eq!(again, rule),
                    // An authority may end in an equals sign, too, which now has the slash of its root behind it.
                    Err(error) => assert!(error.to_string().contains("two ways"), "{error}"),
                }
                rules.push(rule);
            }
            Err(error) => is_invalid(&error),
        }
    }
    let Some(Ok(path)) = lines.next().map(FlinkPath::parse) else { return false };
    let real = Rebase::to_real(&rules, &path);
    is_normal(&real);
    let holding: Vec<_> = rules.iter().filter(|rule| path.is_within(&rule.from)).collect();
    match holding[..] {
        [] => assert_eq!(real, path),
        _ => assert!(holding.iter().any(|rule| real.is_within(&rule.to)), "{path} leads to {real}"),
    }
    // It has a name, though not always this one: several may lead there.
    let named = Rebase::to_named(&rules, &real).unwrap_or_else(|| panic!("{path} leads to {real}, which has no name"));
    assert_eq!(Rebase::to_real(&rules, &named), real);
    if let Some(named) = Rebase::to_named(&rules, &path) {
        assert_eq!(Rebase::to_real(&rules, &named), path);
    }
    !rules.is_empty()
}

/// Its text means the same path, and is the text of that.
fn comes_back(path: &FlinkPath) {
    is_normal(path);
    let again = FlinkPath::parse(&path.to_string()).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!((&again, again.to_string()), (path, path.to_string()));
}

/// No way out of it, and one spelling.
fn is_normal(path: &FlinkPath) {
    let components = path.path().strip_prefix('/').unwrap_or_else(|| panic!("{path} has no slash"));
    if !components.is_empty() {
        assert!(components.split('/').all(|name| !matches!(name, "" | "." | "..")), "{path}");
    }
}
