//! The plugins of a worker: the built-in ones and loaded bundles, by name.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use ed25519_dalek::VerifyingKey;
use stella_domain::{
    dag::PluginCatalog,
    ids::PluginName,
    json::CanonicalJson,
    plugin::{PluginBuild, WorkerPlugin},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bundle::{Bundle, BundleError},
    core::Core,
    error::StepError,
    lease::Lease,
    process,
    shelf::Reloaded,
    step::Step,
};

/// A plugin that is part of this program.
#[async_trait]
pub trait BuiltIn: Send + Sync {
    /// What it can do.
    fn actions(&self) -> Vec<String>;

    /// Carry out `lease`; dropped when the time is over, and on `cancel`.
    ///
    /// # Errors
    /// [`StepError`].
    async fn execute(
        &self,
        lease: &Lease,
        cancel: &CancellationToken,
    ) -> Result<CanonicalJson, StepError>;
}

/// Why a plugin cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is one of that name.
    #[error("there is already a plugin {0}: remove one of the two")]
    Duplicate(PluginName),
    /// The bundle is not valid.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle that is loaded again is another plugin's.
    #[error(
        "the bundle in {dir} was plugin {before} and is {after} now: start anew to take it, or put \
         it elsewhere"
    )]
    Renamed {
        /// Its directory.
        dir: PathBuf,
        /// The plugin that was loaded from there.
        before: PluginName,
        /// The one that is there.
        after: PluginName,
    },
}

/// The plugins of a worker.
#[derive(Clone)]
pub struct Plugins(HashMap<PluginName, Plugin>);

#[derive(Clone)]
enum Plugin {
    BuiltIn(Arc<dyn BuiltIn>),
    Bundle(Arc<Bundle>),
}

impl Plugin {
    fn build(&self) -> PluginBuild {
        match self {
            // Part of this program, whose version is a version.
            Self::BuiltIn(_) => {
                PluginBuild { digest: None, version: env!("CARGO_PKG_VERSION").parse().ok() }
            }
            Self::Bundle(bundle) => bundle.build(),
        }
    }
}

impl Plugins {
    /// The built-in `core` alone.
    pub fn core() -> Self {
        let mut plugins = Self(HashMap::new());
        // `core` is a plugin name, and the catalog is empty.
        if let Ok(name) = "core".parse() {
            plugins.0.insert(name, Plugin::BuiltIn(Arc::new(Core)));
        }
        plugins
    }

    /// `core` and the bundles in `dirs`, each a bundle's directory.
    ///
    /// # Errors
    /// [`CatalogError`] of the first that cannot be added.
    pub fn load<P: AsRef<Path>>(
        dirs: &[P],
        trusted: &[VerifyingKey],
    ) -> Result<Self, CatalogError> {
        let mut plugins = Self::core();
        for dir in dirs {
            plugins.add_bundle(Bundle::load(dir.as_ref(), trusted)?)?;
        }
        Ok(plugins)
    }

    /// Add a bundle.
    ///
    /// # Errors
    /// [`CatalogError::Duplicate`].
    pub fn add_bundle(&mut self, bundle: Bundle) -> Result<(), CatalogError> {
        self.add(bundle.name().clone(), Plugin::Bundle(Arc::new(bundle)))
    }

    /// Add a plugin that is part of this program.
    ///
    /// # Errors
    /// [`CatalogError::Duplicate`].
    pub fn add_built_in(
        &mut self,
        name: PluginName,
        plugin: Arc<dyn BuiltIn>,
    ) -> Result<(), CatalogError> {
        self.add(name, Plugin::BuiltIn(plugin))
    }

    fn add(&mut self, name: PluginName, plugin: Plugin) -> Result<(), CatalogError> {
        match self.0.entry(name) {
            Entry::Occupied(taken) => Err(CatalogError::Duplicate(taken.key().clone())),
            Entry::Vacant(free) => {
                free.insert(plugin);
                Ok(())
            }
        }
    }

    /// The names of all plugins, in order.
    pub fn names(&self) -> Vec<PluginName> {
        let mut names: Vec<_> = self.0.keys().cloned().collect();
        names.sort();
        names
    }

    /// All plugins as a worker announces them, by name.
    pub fn announced(&self) -> Vec<WorkerPlugin> {
        let announced = |(name, plugin): (&PluginName, &Plugin)| WorkerPlugin {
            name: name.clone(),
            build: plugin.build(),
        };
        let mut all: Vec<_> = self.0.iter().map(announced).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The same plugins with their bundles loaded again, each that can be used, and what came of
    /// each, by name.
    pub(crate) fn reloaded(&self, trusted: &[VerifyingKey]) -> (Self, Vec<Reloaded>) {
        let mut plugins = self.clone();
        let mut outcomes = vec![];
        for name in self.names() {
            let Some(bundle) = self.bundle(&name) else { continue };
            let (dir, before) = (bundle.given().to_owned(), bundle.build());
            let after = load_again(bundle, trusted).map(|bundle| {
                let build = bundle.build();
                plugins.0.insert(name.clone(), Plugin::Bundle(Arc::new(bundle)));
                build
            });
            outcomes.push(Reloaded { name, dir, before, after });
        }
        (plugins, outcomes)
    }

    /// The bundle of a plugin; none for a built-in or unknown one.
    pub fn bundle(&self, name: &PluginName) -> Option<&Bundle> {
        match self.0.get(name)? {
            Plugin::Bundle(bundle) => Some(bundle),
            Plugin::BuiltIn(_) => None,
        }
    }

    /// Carry out a step within its time, or until it is cancelled.
    ///
    /// # Errors
    /// [`StepError`].
    pub async fn execute(&self, step: &Step<'_>) -> Result<CanonicalJson, StepError> {
        let lease = step.lease;
        match self.0.get(&lease.plugin) {
            Some(Plugin::Bundle(bundle)) => process::execute(bundle, step).await,
            Some(Plugin::BuiltIn(plugin)) => {
                let inputs = step.inputs(None).await?;
                if inputs == lease.with {
                    return in_time(plugin.as_ref(), lease, step.cancel).await;
                }
                let lease = Lease { with: inputs, ..lease.clone() };
                in_time(plugin.as_ref(), &lease, step.cancel).await
            }
            None => Err(StepError::NotFound(format!("this worker has no plugin {}", lease.plugin))),
        }
    }
}

fn load_again(bundle: &Bundle, trusted: &[VerifyingKey]) -> Result<Bundle, CatalogError> {
    let again = Bundle::load(bundle.given(), trusted)?;
    if again.name() == bundle.name() {
        return Ok(again);
    }
    let (before, after) = (bundle.name().clone(), again.name().clone());
    Err(CatalogError::Renamed { dir: bundle.given().to_owned(), before, after })
}

impl PluginCatalog for Plugins {
    fn known(&self) -> Vec<PluginName> {
        self.names()
    }

    fn actions(&self, plugin: &PluginName) -> Option<Vec<String>> {
        Some(match self.0.get(plugin)? {
            Plugin::BuiltIn(plugin) => plugin.actions(),
            Plugin::Bundle(bundle) => bundle.manifest().actions.keys().cloned().collect(),
        })
    }
}

/// An action that is ready at once costs no timer: one is set up only when it first waits.
async fn in_time(
    plugin: &dyn BuiltIn,
    lease: &Lease,
    cancel: &CancellationToken,
) -> Result<CanonicalJson, StepError> {
    let limit = Duration::from_millis(lease.timeout_ms);
    tokio::select! {
        biased;
        outputs = tokio::time::timeout(limit, plugin.execute(lease, cancel)) => {
            outputs.unwrap_or(Err(StepError::TimedOut { timeout_ms: lease.timeout_ms }))
        }
        () = cancel.cancelled() => Err(StepError::Cancelled),
    }
}
