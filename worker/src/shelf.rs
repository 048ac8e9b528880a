//! The plugins that a worker has now, and loading their bundles again while it works.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use ed25519_dalek::VerifyingKey;
use stella_domain::{
    ids::PluginName,
    plugin::{PluginBuild, WorkerPlugin},
};

use crate::catalog::{CatalogError, Plugins};

/// The plugins of a worker at one time.
///
/// A step is carried out with the stock with which its lease was asked for, so that what its start
/// says of the plugin is what carries it out, whatever is loaded meanwhile.
pub struct Stock {
    /// The plugins.
    pub plugins: Plugins,
    /// The same, as they are announced.
    pub announced: Arc<[WorkerPlugin]>,
}

/// Holds the newest [`Stock`], and replaces it as a whole.
pub struct Shelf {
    trusted: Vec<VerifyingKey>,
    stock: RwLock<Arc<Stock>>,
    /// Held while bundles are loaded: two at a time could lose what one of them found.
    loading: Mutex<()>,
}

/// What came of loading a bundle again.
#[derive(Debug)]
pub struct Reloaded {
    /// The plugin.
    pub name: PluginName,
    /// Its bundle's directory, as it was given.
    pub dir: PathBuf,
    /// What was there.
    pub before: PluginBuild,
    /// What is there now; or why the one before is kept.
    pub after: Result<PluginBuild, CatalogError>,
}

impl Stock {
    fn new(plugins: Plugins) -> Arc<Self> {
        let announced = plugins.announced().into();
        Arc::new(Self { plugins, announced })
    }
}

impl Shelf {
    /// These plugins; bundles that are loaded again must be signed by one of the `trusted` keys, if
    /// there are any.
    pub fn new(plugins: Plugins, trusted: Vec<VerifyingKey>) -> Self {
        let stock = RwLock::new(Stock::new(plugins));
        Self { trusted, stock, loading: Mutex::default() }
    }

    /// What there is now.
    pub fn stock(&self) -> Arc<Stock> {
        Arc::clone(&self.stock.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Load every bundle again from its directory, signatures and digests checked anew.
    ///
    /// One that cannot be used is kept as it was. Reads and hashes files: not for an async thread.
    pub fn reload(&self) -> Vec<Reloaded> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let (plugins, reloaded) = self.stock().plugins.reloaded(&self.trusted);
        for Reloaded { name, dir, before, after } in &reloaded {
            let dir = dir.display();
            match after {
                Ok(after) if after == before => tracing::debug!(%name, %dir, "plugin as before"),
                Ok(after) => {
                    let version = after.version.as_ref().map(tracing::field::display);
                    tracing::info!(%name, %dir, version, "plugin loaded again");
                }
                Err(error) => {
                    tracing::error!(%name, %dir, %error, "plugin not loaded: kept as it was");
                }
            }
        }
        // Nobody who waits with what was announced is disturbed where nothing has changed.
        if reloaded.iter().any(|one| one.after.as_ref().is_ok_and(|after| *after != one.before)) {
            let stock = Stock::new(plugins);
            *self.stock.write().unwrap_or_else(PoisonError::into_inner) = stock;
        }
        reloaded
    }
}
