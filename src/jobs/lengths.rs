//! The lengths of files, by as few requests as it takes.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::error::{Error, ErrorKind, Result};
use crate::store::{FlinkPath, Stores};

/// Up to so many files of one directory are asked for one by one; of more the directory is listed.
const ASKED_MAX: u64 = 4;

/// The lengths in bytes of those of these files that are there, by their names.
///
/// # Errors
/// Those of the store, other than that a file isn't there.
pub(crate) async fn lengths(
    stores: &Stores,
    wanted: &BTreeSet<FlinkPath>,
    requests_max: usize,
) -> Result<BTreeMap<FlinkPath, u64>> {
    let mut found = BTreeMap::new();
    let mut single = Vec::new();
    let mut counts: BTreeMap<FlinkPath, u64> = BTreeMap::new();
    for parent in wanted.iter().filter_map(FlinkPath::parent) {
        *counts.entry(parent).or_default() += 1;
    }
    for (directory, count) in counts {
        if count <= ASKED_MAX {
            single.extend(wanted.iter().filter(|path| path.parent().as_ref() == Some(&directory)).cloned());
            continue;
        }
        for file in stores.locate(&directory)?.list_dir().await?.files {
            if wanted.contains(&file.path) {
                found.insert(file.path, file.size);
            }
        }
    }
    let asked = stream::iter(single).map(|path| {
        let stores = stores.clone();
        async move {
            match stores.locate(&path)?.size().await {
                Ok(size) => Ok(Some((path, size))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok::<_, Error>(None),
                Err(error) => Err(error),
            }
        }
    });
    let asked: Vec<_> = asked.buffer_unordered(requests_max.max(1)).try_collect().await?;
    found.extend(asked.into_iter().flatten());
    Ok(found)
}
