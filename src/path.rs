//! Paths as Flink spells them. No store is known here: what a path may hold, and what may be shown of it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// An absolute path in Flink's spelling: scheme, authority, path. Cheap to clone.
///
/// Nothing is percent-decoded: a blank and a `%20` are two different texts, both taken literally. Two paths are equal
/// if they name the same place, however they spell it: `s3`, `s3a` and `s3p` are one store, and so are `abfs`, `abfss`,
/// `wasb` and `wasbs` of one account and container. The spelling is kept all the same, for [`Display`](fmt::Display).
///
/// ```
/// use drystone::store::FlinkPath;
/// let path = FlinkPath::parse("file:///tmp//checkpoints/")?;
/// assert_eq!(path.to_string(), "file:/tmp/checkpoints");
/// assert_eq!(path, FlinkPath::parse("/tmp/checkpoints")?);
/// # Ok::<(), drystone::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlinkPath {
    /// Shared by all paths of one store that come from one another.
    root: Arc<Root>,
    /// Starts with a slash, has no other at its end, no empty component, no `.` and no `..`.
    path: Arc<str>,
}

struct Root {
    scheme: String,
    authority: String,
    /// Equal for all spellings of one store.
    identity: String,
}

impl FlinkPath {
    /// Reads an absolute path; a plain one (`/tmp/x`) names a local file.
    ///
    /// Back-slashes become slashes, and duplicate and trailing slashes and `.` components go. Nothing is trimmed: a
    /// blank at an end is part of the name.
    ///
    /// # Errors
    ///
    /// `Invalid`: the path is relative, climbs with `..`, or holds credentials or a signed query, or names no bucket or
    /// host where its scheme needs one (the error then doesn't repeat it).
    pub fn parse(text: &str) -> Result<Self> {
        let slashed = text.replace('\\', "/");
        let (scheme, rest) = split_scheme(&slashed).unwrap_or(("file", &slashed));
        let has_scheme = rest.len() != slashed.len();
        let (authority, path) = match rest.strip_prefix("//").filter(|_| has_scheme) {
            Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
            None => ("", rest),
        };
        // First of all, so that no other error repeats them.
        refuse_secrets(scheme, authority, path)?;
        if !(path.starts_with('/') || (path.is_empty() && !authority.is_empty())) {
            let shown = shown(text);
            return Err(invalid(format!(
                "path '{shown}' isn't absolute: write it as scheme://authority/path or /path"
            )));
        }
        let path = normalise(path, Climbing::Refused)
            .ok_or_else(|| invalid(format!("path '{}' climbs out with '..': write where it leads", shown(text))))?;
        // A slash that goes may have hidden a parameter's name.
        refuse_secrets(scheme, authority, &path)?;
        let identity = identity(scheme, authority);
        let root = Root { scheme: scheme.to_owned(), authority: authority.to_owned(), identity };
        Ok(Self { root: Arc::new(root), path: path.into() })
    }

    /// Reads a path from a command line: as [`parse`](Self::parse), and local paths may also be relative to `cwd`.
    /// In a local path without a scheme, `..` is resolved by its text alone, without a look at links.
    ///
    /// # Errors
    ///
    /// `Invalid`: as for `parse`; or a relative path and a `cwd` that is relative itself or isn't Unicode; or `..`
    /// above the root.
    pub fn parse_argument(text: &str, cwd: &std::path::Path) -> Result<Self> {
        if split_scheme(text).is_some_and(|(scheme, rest)| rest.starts_with('/') || is_remote(scheme)) {
            return Self::parse(text);
        }
        if text.is_empty() {
            return Err(invalid("an empty path names nothing"));
        }
        let absolute = if text.starts_with(['/', '\\']) {
            text.to_owned()
        } else {
            match cwd.to_str().filter(|_| cwd.is_absolute()) {
                Some(cwd) => format!("{cwd}/{text}"),
                None => {
                    let cwd = cwd.display();
                    return Err(invalid(format!(
                        "path '{text}' is relative, to a directory that can't be named: {cwd}"
                    )));
                }
            }
        };
        let resolved = normalise(&absolute.replace('\\', "/"), Climbing::Resolved)
            .ok_or_else(|| invalid(format!("path '{text}' climbs above the root")))?;
        Self::parse(&format!("file:{resolved}"))
    }

    /// The scheme as it is spelled, without the colon.
    pub fn scheme(&self) -> &str {
        &self.root.scheme
    }

    /// What stands between `//` and the path: a bucket, a host. Empty for local files.
    pub fn authority(&self) -> &str {
        &self.root.authority
    }

    /// The path within the store: starts with a slash, and ends with none unless it is the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The directory above; none above the root.
    pub fn parent(&self) -> Option<Self> {
        let (parent, name) = self.path.rsplit_once('/')?;
        let parent = if parent.is_empty() { "/" } else { parent };
        (!name.is_empty()).then(|| self.with_path(parent))
    }

    /// The last component; the root has none.
    pub fn file_name(&self) -> Option<&str> {
        self.path.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// The path of something below; the empty text is the path itself.
    ///
    /// # Errors
    ///
    /// `Invalid`: `relative` starts with a slash or has a `..`.
    pub fn join(&self, relative: &str) -> Result<Self> {
        let slashed = relative.replace('\\', "/");
        if slashed.starts_with('/') {
            return Err(invalid(format!("'{relative}' isn't relative: it can't be placed below {self}")));
        }
        let below = normalise(&slashed, Climbing::Refused)
            .ok_or_else(|| invalid(format!("'{relative}' climbs out of {self} with '..'")))?;
        Ok(self.join_literal(below.trim_start_matches('/')))
    }

    /// As `join`, of a text that is already as it should be: a store's own key, in which even a back-slash is literal.
    pub(crate) fn join_literal(&self, relative: &str) -> Self {
        match (relative, &*self.path) {
            ("", _) => self.clone(),
            (_, "/") => self.with_path(&format!("/{relative}")),
            (_, path) => self.with_path(&format!("{path}/{relative}")),
        }
    }

    /// What has to be joined to `base` to get here: empty if they are equal, none if this isn't at or below `base`.
    pub fn relative_to(&self, base: &Self) -> Option<&str> {
        if self.root.identity != base.root.identity {
            return None;
        }
        let rest = self.path.strip_prefix(base.path.trim_end_matches('/'))?;
        match rest.strip_prefix('/') {
            Some(below) => Some(below),
            None => rest.is_empty().then_some(""),
        }
    }

    /// Is this `base`, or below it?
    pub fn is_within(&self, base: &Self) -> bool {
        self.relative_to(base).is_some()
    }

    /// That a store could have a key for it.
    ///
    /// # Errors
    ///
    /// `Invalid`: it has a control character.
    pub(crate) fn check_key(&self) -> Result<()> {
        match self.path.contains(|c: char| c.is_ascii_control()) {
            true => {
                let shown = visible(&self.to_string());
                Err(invalid(format!("{shown} has a control character, which no store can hold")))
            }
            false => Ok(()),
        }
    }

    /// The store, the same text for all its spellings.
    pub(crate) fn store_identity(&self) -> &str {
        &self.root.identity
    }

    fn with_path(&self, path: &str) -> Self {
        Self { root: Arc::clone(&self.root), path: path.into() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Climbing {
    Refused,
    Resolved,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// A text that may be meant for a path and can't be read as one, for an error: stars in its place where it may hold a
/// password or a key.
pub(crate) fn shown(text: &str) -> &str {
    let is_host_cut_off = |(scheme, rest): (&str, &str)| {
        let has_host = rest.strip_prefix("//").is_some_and(|after| !after.starts_with('/'));
        is_remote(scheme) && !has_host && !rest.is_empty()
    };
    let is_secret = text.contains(['@', '?']) || split_scheme(text).is_some_and(is_host_cut_off);
    if is_secret { "***" } else { text }
}

/// The scheme and what follows its colon; none if the text starts with a plain path.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut bytes = scheme.bytes();
    let legal = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    legal.then_some((scheme, rest))
}

/// With one slash before each component. None if it climbs: at all, or above the root.
fn normalise(path: &str, climbing: Climbing) -> Option<String> {
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if climbing == Climbing::Refused => return None,
            ".." => {
                components.pop()?;
            }
            name => components.push(name),
        }
    }
    Some(format!("/{}", components.join("/")))
}

/// Paths end up in metadata, in errors and in logs, which is no place for a password or a signed URL.
fn refuse_secrets(scheme: &str, authority: &str, path: &str) -> Result<()> {
    let scheme = scheme.to_ascii_lowercase();
    let is_azure = is_azure(&scheme);
    if let Some((user, _)) = authority.rsplit_once('@')
        && (user.contains([':', '@']) || !(is_azure || scheme == "hdfs"))
    {
        return Err(invalid(format!(
            "a {scheme} path has credentials before its host: leave them out and give them in the environment"
        )));
    }
    // A slash in them ends what reads like the host before its end. IPv6 addresses are in brackets.
    if let Some((_, port)) = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'))
        && (is_bucket(&scheme) || !port.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(invalid(format!("a {scheme} path has what is no port after its host: it may be a password")));
    }
    let has_query = path.contains('?') || authority.contains('?');
    if has_query && (is_azure || matches!(scheme.as_str(), "http" | "https")) || is_signed(authority) || is_signed(path)
    {
        return Err(invalid(format!("a {scheme} path ends in a query ('?...'): leave it out")));
    }
    // What stands in the wrong place may be anything, also a key.
    if authority.is_empty() && is_remote(&scheme) {
        return Err(invalid(format!("a {scheme} path names no bucket or host: write it as {scheme}://name/path")));
    }
    Ok(())
}

/// Has the query of a presigned URL? In the paths of most stores a question mark is a character like any other.
fn is_signed(text: &str) -> bool {
    let Some((_, query)) = text.split_once('?') else { return false };
    query.split(['?', '&', ';']).any(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default().to_ascii_lowercase();
        let is_known = ["sig", "signature", "awsaccesskeyid", "googleaccessid"].contains(&name.as_str());
        is_known || name.starts_with("x-amz-") || name.starts_with("x-goog-")
    })
}

/// A scheme whose stores are reached by a name: a bucket, a container, a host.
fn is_remote(scheme: &str) -> bool {
    let scheme = scheme.to_ascii_lowercase();
    is_azure(&scheme) || is_bucket(&scheme) || matches!(scheme.as_str(), "http" | "https")
}

fn is_bucket(scheme: &str) -> bool {
    matches!(scheme, "s3" | "s3a" | "s3p" | "gs")
}

fn is_azure(scheme: &str) -> bool {
    matches!(scheme, "abfs" | "abfss" | "wasb" | "wasbs" | "az")
}

/// One text for all spellings of one store.
fn identity(scheme: &str, authority: &str) -> String {
    let scheme = scheme.to_ascii_lowercase();
    let scheme = match scheme.as_str() {
        "s3a" | "s3p" => "s3",
        azure if is_azure(azure) => "azure",
        other => other,
    };
    let authority = match (scheme, authority.split_once('.')) {
        ("file", _) if authority == "localhost" => String::new(),
        // The two services of one account: container@account.dfs.core.windows.net and .blob.
        ("azure", Some((account, host))) => {
            let host = host.strip_prefix("dfs.").or_else(|| host.strip_prefix("blob.")).unwrap_or(host);
            format!("{account}.{host}")
        }
        _ => authority.to_owned(),
    };
    format!("{scheme}://{authority}")
}

impl fmt::Display for FlinkPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.root.scheme)?;
        if !self.root.authority.is_empty() {
            write!(f, "//{}", self.root.authority)?;
        }
        f.write_str(&self.path)
    }
}

impl fmt::Debug for FlinkPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlinkPath({self})")
    }
}

impl FromStr for FlinkPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for FlinkPath {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<FlinkPath> for String {
    fn from(path: FlinkPath) -> Self {
        path.to_string()
    }
}

impl PartialEq for FlinkPath {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for FlinkPath {}

impl PartialOrd for FlinkPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FlinkPath {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.root.identity, &self.path).cmp(&(&other.root.identity, &other.path))
    }
}

impl Hash for FlinkPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.root.identity.hash(state);
        self.path.hash(state);
    }
}

/// Without control characters, which a terminal would obey.
pub(crate) fn visible(text: &str) -> String {
    let one = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().map(one).collect()
}
