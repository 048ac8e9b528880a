//! Which plugins DAG specs may name: those of this server, and those that only workers have.
//!
//! Of what only workers have, the server knows what workers said that asked for work lately, and what
//! it was told when it started; that is taken while no worker is there, too.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use stella_commands::dispatch::SeenWorker;
use stella_domain::{dag::PluginCatalog, ids::PluginName};
use stella_worker::{CatalogError, Shelf};

/// A plugin that only workers in processes of their own have.
///
/// Its text is `NAME`, or `NAME=ACTION,ACTION` where specs are held to these actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePlugin {
    /// The plugin.
    pub name: PluginName,
    /// Its actions; none: any is taken, and only its workers know which they have.
    pub actions: Vec<String>,
}

impl FromStr for RemotePlugin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, actions) = match text.split_once('=') {
            None => (text, vec![]),
            Some((name, actions)) => (name, actions.split(',').map(str::to_owned).collect()),
        };
        if actions.iter().any(String::is_empty) {
            return Err("write it as NAME, or as NAME=ACTION,ACTION".to_owned());
        }
        let name = name.parse().map_err(|error: stella_domain::ids::IdError| error.to_string())?;
        Ok(Self { name, actions })
    }
}

/// The plugins that DAG specs may name, whatever workers there are.
pub struct Catalog {
    shelf: Arc<Shelf>,
    remote: BTreeMap<PluginName, Vec<String>>,
}

impl Catalog {
    /// Those of this server, and `remote` ones.
    ///
    /// # Errors
    /// [`CatalogError::Duplicate`] when there are two of a name.
    pub fn new(shelf: Arc<Shelf>, remote: Vec<RemotePlugin>) -> Result<Self, CatalogError> {
        let mut declared = BTreeMap::new();
        for RemotePlugin { name, actions } in remote {
            let is_here = shelf.stock().plugins.actions(&name).is_some();
            if is_here || declared.insert(name.clone(), actions).is_some() {
                return Err(CatalogError::Duplicate(name));
            }
        }
        Ok(Self { shelf, remote: declared })
    }

    /// The plugins of this server.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }
}

/// The plugins that DAG specs may name while there are these workers.
pub(crate) struct WithWorkers<'a> {
    pub(crate) catalog: &'a Catalog,
    /// Heard of lately.
    pub(crate) workers: &'a [SeenWorker],
}

impl WithWorkers<'_> {
    fn announced(&self) -> impl Iterator<Item = &PluginName> {
        self.workers.iter().flat_map(|worker| worker.plugins.iter().map(|plugin| &plugin.name))
    }
}

impl PluginCatalog for WithWorkers<'_> {
    fn actions(&self, plugin: &PluginName) -> Option<Vec<String>> {
        let Catalog { shelf, remote } = self.catalog;
        let here = shelf.stock().plugins.actions(plugin);
        here.or_else(|| remote.get(plugin).cloned())
            // A worker says which plugins it has, not which actions.
            .or_else(|| self.announced().any(|announced| announced == plugin).then(Vec::new))
    }

    fn known(&self) -> Vec<PluginName> {
        let mut known = self.catalog.shelf.stock().plugins.names();
        known.extend(self.catalog.remote.keys().cloned());
        known.extend(self.announced().cloned());
        known.sort();
        known.dedup();
        known
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use stella_domain::time::Timestamp;
    use stella_worker::Plugins;

    use super::*;

    #[test]
    fn a_remote_plugin_is_a_name_and_maybe_actions() {
        for (text, actions) in
            [("scan", vec![]), ("scan=run", vec!["run"]), ("scan=a,b", vec!["a", "b"])]
        {
            let plugin: RemotePlugin = text.parse().expect(text);
            assert_eq!(
                (plugin.name.as_str(), plugin.actions),
                ("scan", actions.iter().map(|a| (*a).to_owned()).collect())
            );
        }
        for bad in ["", "=run", "scan=", "scan=a,,b", "a b"] {
            assert!(bad.parse::<RemotePlugin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_stands_for_one_plugin() {
        let shelf = || Arc::new(Shelf::new(Plugins::core(), vec![]));
        let remote = |text: &str| text.parse::<RemotePlugin>().expect(text);
        assert!(Catalog::new(shelf(), vec![remote("core")]).is_err());
        assert!(Catalog::new(shelf(), vec![remote("scan=a"), remote("scan=b")]).is_err());
        let catalog = Catalog::new(shelf(), vec![remote("scan=a"), remote("any")]).expect("two");
        let worker = |plugins: &[&str]| SeenWorker {
            worker_id: "w".parse().expect("an id"),
            plugins: plugins
                .iter()
                .map(|name| name.parse::<PluginName>().expect(name).into())
                .collect(),
            seen_at: Timestamp::from_micros(0),
        };
        let workers = [worker(&["core", "scan", "own"])];
        let seen = WithWorkers { catalog: &catalog, workers: &workers };
        let known = seen.known();
        let names: Vec<&str> = known.iter().map(PluginName::as_str).collect();
        assert_eq!(names, ["any", "core", "own", "scan"]);
        let actions = |name: &str| seen.actions(&name.parse().expect("a name"));
        // What the server was told counts for more than what a worker does not say.
        assert_eq!((actions("scan"), actions("own")), (Some(vec!["a".to_owned()]), Some(vec![])));
        assert_eq!((actions("any"), actions("none")), (Some(vec![]), None));
    }
}
