//! Checkpoints that lie elsewhere than their metadata says.

use std::str::FromStr;

use super::FlinkPath;
use crate::error::{Error, ErrorKind, Result};

/// What metadata names below `from` lies below `to`.
///
/// Written `FROM=TO`, both absolute. Of several rules, the one with the longest `from` that holds a path moves it;
/// a path that none holds stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebase {
    /// The directory as metadata names it.
    pub from: FlinkPath,
    /// The directory as it is.
    pub to: FlinkPath,
}

impl Rebase {
    /// Where the thing lies that metadata calls `named`.
    pub fn to_real(rules: &[Rebase], named: &FlinkPath) -> FlinkPath {
        let longest = rules.iter().filter_map(|r| Some((r, named.relative_to(&r.from)?)));
        match longest.max_by_key(|(r, _)| r.from.path().len()) {
            Some((rule, below)) => rule.to.join_literal(below),
            None => named.clone(),
        }
    }

    /// How metadata calls the thing that lies at `real`; none if the rules take every name to another place.
    pub fn to_named(rules: &[Rebase], real: &FlinkPath) -> Option<FlinkPath> {
        let mut candidates: Vec<_> = rules.iter().filter_map(|r| Some((r, real.relative_to(&r.to)?))).collect();
        candidates.sort_by_key(|(r, _)| std::cmp::Reverse(r.to.path().len()));
        let names = candidates.into_iter().map(|(r, below)| r.from.join_literal(below));
        // A longer rule may take the name elsewhere.
        names.chain([real.clone()]).find(|name| Self::to_real(rules, name) == *real)
    }
}

impl FromStr for Rebase {
    type Err = Error;

    /// An equals sign may also be part of a path, as in `/day=1`: the one is meant that leaves a path on either side.
    fn from_str(text: &str) -> Result<Self> {
        let mut found = None;
        for (at, _) in text.match_indices('=') {
            if let (Ok(from), Ok(to)) = (FlinkPath::parse(&text[..at]), FlinkPath::parse(&text[at + 1..])) {
                if found.is_some() {
                    return Err(invalid("can be read in two ways, because a path has '=/' in it"));
                }
                found = Some(Self { from, to });
            }
        }
        found.ok_or_else(|| invalid("isn't FROM=TO, two absolute paths"))
    }
}

/// Without the text, which may hold the credentials for which a path was refused.
fn invalid(problem: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("a rebase {problem}, as in s3://bucket/checkpoints=/tmp/checkpoints"))
}
