//! Where a ledger is, for commands that open it themselves.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use stella_domain::ids::Tenant;
use stella_ledger::{
    port::{Ledger, LedgerError},
    uri::{LedgerUri, Storage},
};

use crate::failure::Failure;

/// The ledger's and the node's places.
#[derive(Debug, Clone, Args)]
pub(crate) struct StorageArgs {
    /// Where the ledger is: sqlite:PATH, or mongodb://HOST[,HOST]/?replicaSet=NAME
    /// [default: sqlite:<data-dir>/ledger.db].
    // A connection string may hold a password: neither help nor errors show its value.
    #[arg(long, env = "STELLA_LEDGER", hide_env_values = true, value_name = "URI")]
    pub(crate) ledger: Option<LedgerUri>,
    /// The node's own directory: projections, access token.
    #[arg(long, env = "STELLA_DATA_DIR", value_name = "DIR", default_value = "./stella-data")]
    pub(crate) data_dir: PathBuf,
    /// Whose ledger.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) tenant: Tenant,
}

impl StorageArgs {
    /// Where the ledger is.
    pub(crate) fn uri(&self) -> LedgerUri {
        let beside = || LedgerUri::Sqlite(self.data_dir.join("ledger.db"));
        self.ledger.clone().unwrap_or_else(beside)
    }

    /// Where the node keeps its read models.
    pub(crate) fn projections_dir(&self) -> PathBuf {
        self.data_dir.join("projections")
    }
}

/// Open a ledger that is there already.
pub(crate) async fn open_existing(uri: &LedgerUri) -> Result<Arc<dyn Ledger>, Failure> {
    Ok(connect_existing(uri).await?.ledger)
}

/// The same, with what is stored beside it. Opening alone would begin an empty one.
pub(crate) async fn connect_existing(uri: &LedgerUri) -> Result<Storage, Failure> {
    if let LedgerUri::Sqlite(path) = uri
        && !path.exists()
    {
        let what = format!("there is no ledger at {}", path.display());
        return Err(Failure::failed(what).try_this(
            "name the right one with --ledger or --data-dir, or begin one with `stella orch serve`",
        ));
    }
    uri.connect().await.map_err(|error| ledger_failure(error).at(uri))
}

/// Open a ledger, or begin one.
pub(crate) async fn open(uri: &LedgerUri) -> Result<Arc<dyn Ledger>, Failure> {
    Ok(connect(uri).await?.ledger)
}

/// The same, with what is stored beside it.
pub(crate) async fn connect(uri: &LedgerUri) -> Result<Storage, Failure> {
    if let LedgerUri::Sqlite(path) = uri
        && let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty())
    {
        make_dir(dir)?;
    }
    let failure = |error| ledger_failure(error).at(uri);
    let storage = uri.connect().await.map_err(failure)?;
    storage.ledger.make_room().await.map_err(failure)?;
    Ok(storage)
}

/// Make a directory and those above it.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .map_err(|error| Failure::failed(format!("cannot make {}: {error}", dir.display())))
}

/// A ledger that cannot be read.
pub(crate) fn ledger_failure(error: LedgerError) -> Failure {
    match &error {
        LedgerError::Unavailable(_) => Failure::unavailable(error.to_string())
            .try_this("check that the storage runs and that --ledger names it; then try again"),
        // Its message says what to do.
        LedgerError::OtherName { .. } => Failure::not_verified(error.to_string()),
        LedgerError::Damaged { .. }
        | LedgerError::Malformed { .. }
        | LedgerError::Undecodable(_) => Failure::not_verified(error.to_string()).try_this(
            "export what can be read and see where it breaks: `stella orch ledger verify`",
        ),
    }
}

impl Failure {
    /// Say which ledger it is about.
    fn at(mut self, uri: &LedgerUri) -> Self {
        self.what = format!("{uri}: {}", self.what);
        self
    }
}
