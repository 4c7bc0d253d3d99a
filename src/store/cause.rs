//! A store's own errors: what they mean to the caller, and their text without anything secret.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use object_store::Error as StoreError;

use crate::error::{Error, ErrorKind};
use crate::path::visible;

/// What a store said, down to the first cause: its texts, in which no URL has a user or a query.
///
/// A copy, because the store's own error may hold a signed URL in its `Debug` text.
#[derive(Debug)]
pub(super) struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl Cause {
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        let source = error.source().map(|beneath| Box::new(Self::of(beneath)));
        Self { text: redact(&error.to_string()), source }
    }

    /// One line: the text, and what the causes beneath add to it.
    pub(super) fn line(&self) -> String {
        let mut line = self.text.clone();
        let mut beneath = self.source.as_deref();
        while let Some(cause) = beneath {
            if !line.contains(&cause.text) {
                line = format!("{line}: {}", cause.text);
            }
            beneath = cause.source.as_deref();
        }
        line
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

/// The error of an operation on `place`.
pub(super) fn store_error(operation: &str, place: impl fmt::Display, error: StoreError) -> Error {
    let cause = Cause::of(&error);
    let (kind, text) = match &error {
        // Not `NotFound`, so that nobody takes a mistyped bucket for an empty one.
        StoreError::NotFound { .. } | StoreError::Generic { .. } if lacks_bucket(&cause) => {
            (ErrorKind::Invalid, "there is no such bucket or container".to_owned())
        }
        StoreError::NotFound { .. } => (ErrorKind::NotFound, "there is no such file".to_owned()),
        _ if is_below_a_file(&error) => (ErrorKind::NotFound, "there is a file where a directory should be".to_owned()),
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
            (ErrorKind::Conflict, "something is already there".to_owned())
        }
        // Of a listing. What it holds can't be told, so nobody may go on as if it weren't there.
        StoreError::InvalidPath { .. } => (
            ErrorKind::Invalid,
            format!("{}: it is nothing of Drystone's or Flink's: rename it, or put it elsewhere", cause.line()),
        ),
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => (ErrorKind::Unsupported, cause.line()),
        _ => (ErrorKind::Store, cause.line()),
    };
    Error::new(kind, format!("{operation} {place}: {text}")).with_source(cause)
}

/// By the codes of S3, Azure and Google. An answer to a HEAD request has none of them.
fn lacks_bucket(cause: &Cause) -> bool {
    let line = cause.line();
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"].iter().any(|code| line.contains(code))
}

/// Local disks only: `a/b`, where `a` is a file.
fn is_below_a_file(error: &StoreError) -> bool {
    let mut next = Some(error as &(dyn StdError + 'static));
    while let Some(cause) = next {
        if cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::NotADirectory) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// On one line, and of each URL neither user nor query.
fn redact(text: &str) -> String {
    let words = text.split_whitespace().map(|word| match word.split_once("://") {
        None => word.to_owned(),
        Some((scheme, rest)) => {
            let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
            let host_end = rest.find('/').unwrap_or(rest.len());
            let (host, path) = rest.split_at(host_end);
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
    });
    visible(&words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_user_and_query() {
        assert_eq!(redact("GET https://u:p@host/a?sig=s\n failed"), "GET https://host/a failed");
        assert_eq!(redact("no url: a?b"), "no url: a?b");
        assert_eq!(redact("(http://k@host)"), "(http://host)");
    }

    #[test]
    fn a_missing_bucket_is_no_missing_file() {
        let source = || "404 Not Found: <Error><Code>NoSuchBucket</Code></Error>".into();
        for error in [
            StoreError::NotFound { path: "x".to_owned(), source: source() },
            StoreError::Generic { store: "s", source: source() },
        ] {
            let error = store_error("listing", "s3://b/x", error);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(error.to_string(), "listing s3://b/x: there is no such bucket or container");
        }
    }

    #[test]
    fn a_full_disk_is_named() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let text = full.to_string();
        let error = store_error("creating", "/x", StoreError::Generic { store: "s", source: Box::new(full) });
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains(&text), "{error}");
        assert_eq!(error.to_string().matches(&text).count(), 1, "{error}");
    }
}
