//! The stores that are open.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};

use object_store::ObjectStore;

use super::local::LocalDisk;
use super::open::{Kind, open};
use super::requests::{Counted, Counters, Requests};
use super::uploads::Uploads;
use super::{FlinkPath, Location, Rebase, UploadLog};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;

/// Opens the store of a path at its first use and keeps it open. Cheap to clone; clones share what is open.
///
/// `file` and `memory` are always there (what is in memory lives as long as the last clone); `s3`, `s3a`, `s3p`; `gs`;
/// `abfs`, `abfss`, `wasb`, `wasbs`, `az`; `http` and `https` come with the cargo features `aws`, `gcp`, `azure` and
/// `http`. Credentials, regions and endpoints come from the environment, in each vendor's usual variables.
#[derive(Clone, Default)]
pub struct Stores {
    rules: Arc<[Rebase]>,
    layer: Option<Layer>,
    /// By store identity.
    opened: Arc<Mutex<BTreeMap<String, OpenStore>>>,
    /// Of all that are open, and shared by all clones.
    counters: Arc<Counters>,
}

/// Puts something of the caller's around a store.
type Layer = Arc<dyn Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> + Send + Sync>;

/// One store.
#[derive(Clone)]
pub(super) struct OpenStore {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// What only a local disk has.
    pub(super) disk: Option<LocalDisk>,
    /// How its unfinished uploads are found.
    pub(super) uploads: Uploads,
}

impl Stores {
    /// No store is open yet, and every path is where its name says.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks for named paths where `rules` say. Replaces earlier rules.
    pub fn with_rebase(mut self, rules: Vec<Rebase>) -> Self {
        self.rules = rules.into();
        self
    }

    /// Serves all paths with the scheme and authority of `root` from `store`, whose keys are the whole paths after the
    /// authority. Clones made before don't see it.
    pub fn with_store(mut self, root: &FlinkPath, store: Arc<dyn ObjectStore>) -> Self {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        opened.insert(
            root.store_identity().to_owned(),
            self.enter(OpenStore { objects: store, disk: None, uploads: Uploads::Unknown }),
        );
        self.opened = Arc::new(Mutex::new(opened));
        self
    }

    /// Puts a layer around every store that is opened or given from here on, a local disk too: the single seam for
    /// faults, throttling and counting. What a layer is asked for has been counted before. Only a local disk's own
    /// affairs pass it by: its directories, and its files in the making. Replaces an earlier layer; clones made before
    /// don't see it.
    pub fn with_layer(
        mut self,
        layer: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> + Send + Sync + 'static,
    ) -> Self {
        self.layer = Some(Arc::new(layer));
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.opened = Arc::new(Mutex::new(opened));
        self
    }

    /// Where the unfinished uploads of the store of `root` are found, which was handed in before. Clones made before don't
    /// see it.
    pub fn with_uploads(mut self, root: &FlinkPath, log: Arc<dyn UploadLog>) -> Self {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(store) = opened.get_mut(root.store_identity()) {
            store.uploads = Uploads::Asked(log);
        }
        self.opened = Arc::new(Mutex::new(opened));
        self
    }

    /// What was asked of all these stores so far, through this value or a clone of it.
    pub fn requests(&self) -> Requests {
        self.counters.requests()
    }

    /// Whether there is a store for such a path, be it in a build with more features than this one. None is opened.
    ///
    /// # Errors
    ///
    /// `Unsupported`: of its scheme there is none. `Invalid`: it is a local path with a host.
    pub fn support(path: &FlinkPath) -> Result<()> {
        Kind::of(path).map(drop)
    }

    /// The place of something that metadata or a user names. No request is made.
    ///
    /// # Errors
    ///
    /// `Unsupported`: this build has no such store. `Invalid`: the store's settings in the environment don't suffice,
    /// or the path can't be a key.
    pub fn locate(&self, named: &FlinkPath) -> Result<Location> {
        self.at(named.clone(), Rebase::to_real(&self.rules, named))
    }

    /// The place of something by where it really lies; its [`name`](Location::name) is how metadata would call it.
    ///
    /// # Errors
    ///
    /// As for [`locate`](Self::locate), and `Invalid` if the rebase rules leave no name for it.
    pub fn locate_real(&self, real: &FlinkPath) -> Result<Location> {
        let named = Rebase::to_named(&self.rules, real).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("no path names {real}, because the rebase rules lead elsewhere"))
        })?;
        self.at(named, real.clone())
    }

    /// The store as it is used: in its layer, and counted.
    fn enter(&self, store: OpenStore) -> OpenStore {
        let layered = match &self.layer {
            Some(layer) => layer(store.objects),
            None => store.objects,
        };
        OpenStore { objects: Counted::around(layered, &self.counters), ..store }
    }

    fn at(&self, named: FlinkPath, real: FlinkPath) -> Result<Location> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match opened.get(real.store_identity()) {
            Some(store) => store.clone(),
            None => {
                let store = self.enter(open(&real)?);
                opened.insert(real.store_identity().to_owned(), store.clone());
                store
            }
        };
        Location::new(named, real, store)
    }
}

impl fmt::Debug for Stores {
    /// Without the stores, whose own texts may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("rules", &self.rules).finish_non_exhaustive()
    }
}
