//! What lies in the store, as a listing says it.

use std::collections::BTreeMap;

use drystone::Result;
use drystone::store::{FlinkPath, Location, names};

/// The data files of a moment, with their lengths; without metadata and a coordinator's own files.
#[derive(Clone, Debug, Default)]
pub struct Sample(pub BTreeMap<FlinkPath, u64>);

impl Sample {
    pub async fn of(root: &Location) -> Result<Self> {
        let listed = root.list().await?;
        let is_data = |path: &FlinkPath| {
            let mut directories = path.relative_to(root.name()).unwrap_or_default().split('/').rev().skip(1);
            let is_state = directories.next().is_some_and(|directory| {
                directory == names::SHARED || names::parse_checkpoint_directory(directory).is_some()
            });
            is_state && path.file_name().is_some_and(|name| !name.starts_with('_'))
        };
        Ok(Self(listed.into_iter().filter(|file| is_data(&file.path)).map(|file| (file.path, file.size)).collect()))
    }

    pub fn files(&self) -> u64 {
        self.0.len() as u64
    }

    pub fn bytes(&self) -> u64 {
        self.0.values().sum()
    }
}
