//! A node: every part of the orchestrator in one process, put together.

pub mod artifacts;
pub mod checkpoints;
mod data_dir;
pub mod erasures;
mod lease_source;
mod start;
mod telemetry;
pub mod witnesses;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use stella_artifacts::{ArtifactError, ArtifactUri};
use stella_commands::CommandError;
use stella_domain::ids::{IdError, Origin, Tenant};
use stella_ledger::{
    checkpoints::{
        SignerError,
        gate::{Gate, GatedLedger},
    },
    clock::{Clock, SystemClock},
    feed::Feed,
    port::{Ledger, LedgerError},
    uri::LedgerUri,
};
use stella_projections::{ProjectionError, Projections};
use stella_worker::{CatalogError, Plugins, Shelf};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use self::telemetry::{EndpointError, OtlpConfig, OtlpEndpoint};
use self::{
    artifacts::Artifacts, checkpoints::CheckpointsConfig, data_dir::DataDir, start::Starter,
};
use crate::{
    app::App,
    auth::AccessToken,
    catalog::{Catalog, RemotePlugin},
    slo::SloTargets,
    warmth::Warmth,
};

/// How long a stop waits for what is under way.
const STOP_WAIT: Duration = Duration::from_secs(15);

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where the ledger is.
    pub ledger: LedgerUri,
    /// Where projections, the access token and what else belongs to this node are kept.
    pub data_dir: PathBuf,
    /// Where the HTTP API listens; loopback only until there is real authentication.
    pub listen: SocketAddr,
    /// First half of the ledgers' names.
    pub origin: Origin,
    /// The tenant that this node serves.
    pub tenant: Tenant,
    /// Plugin bundles, a directory each.
    pub plugins: Vec<PathBuf>,
    /// Keys of those who may sign plugin bundles; none: unsigned ones are taken.
    pub plugin_keys: Vec<ed25519_dalek::VerifyingKey>,
    /// Plugins that only workers in processes of their own have: DAG specs may name them.
    pub remote_plugins: Vec<RemotePlugin>,
    /// Steps that the in-process worker carries out at a time; 0: no in-process worker.
    pub concurrency: u32,
    /// Milliseconds that a lease holds without a heartbeat.
    pub lease_ms: u64,
    /// Refuse to start when anything weakens the ledger's guarantees.
    pub strict: bool,
    /// What is aimed at for runs.
    pub slo: SloTargets,
    /// Where artifacts are kept; none: a folder in the data directory.
    pub artifacts: Option<ArtifactUri>,
    /// Signing.
    pub checkpoints: CheckpointsConfig,
    /// The same ledger with a credential that may blank payloads; none: nothing is erased here.
    pub erasure: Option<LedgerUri>,
    /// Where telemetry is sent; none: nothing is sent.
    pub otlp: Option<OtlpConfig>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error("the data directory {path}: {reason}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Something weakens the ledger's guarantees, and `strict` was asked for.
    #[error("refusing to start under --strict: {0}")]
    Findings(String),
    /// The ledger does not extend what was signed, or nothing can be signed.
    #[error(transparent)]
    Checkpoints(#[from] SignerError),
    /// The projections cannot be used.
    #[error(transparent)]
    Projections(#[from] ProjectionError),
    /// The place for artifacts cannot be used.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// A plugin bundle cannot be used.
    #[error(transparent)]
    Plugins(#[from] CatalogError),
    /// The ledger could not be begun.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A name that this node gives itself is not valid.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The HTTP API cannot listen.
    #[error("cannot listen on {addr}: {reason}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A part that never ends has ended, which is a defect.
    #[error("{0} has ended by itself: see the log")]
    Ended(&'static str),
}

impl NodeError {
    /// Why the ledger does not answer, where that is all that is wrong: later it may.
    fn passing(&self) -> Option<&str> {
        match self {
            Self::Ledger(LedgerError::Unavailable(reason))
            | Self::Checkpoints(SignerError::Ledger(LedgerError::Unavailable(reason)))
            | Self::Projections(ProjectionError::Ledger(LedgerError::Unavailable(reason))) => {
                Some(reason)
            }
            _ => None,
        }
    }
}

/// A node that runs.
pub struct Node {
    /// Where the HTTP API listens.
    pub addr: SocketAddr,
    /// The file that holds the access token.
    pub token_path: PathBuf,
    /// The parts.
    pub app: App,
    stop: CancellationToken,
    http: JoinHandle<std::io::Result<()>>,
    /// Everything that lives on the ledger.
    on_ledger: JoinHandle<Result<(), NodeError>>,
    _data_dir: Arc<DataDir>,
}

impl Node {
    /// Start every part, in the order in which they depend on each other.
    ///
    /// A ledger that does not answer is waited for when the projections have something to show:
    /// reads are answered meanwhile, commands are refused, and whatever is checked at a start is
    /// checked when the ledger answers.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left running.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        if !config.listen.ip().is_loopback() {
            return Err(NodeError::Listen {
                addr: config.listen,
                reason: "only loopback addresses are allowed until there is authentication: \
                         listen on 127.0.0.1 and put an authenticating proxy in front"
                    .to_owned(),
            });
        }
        let data_dir = DataDir::open(&config.data_dir)?;
        let token_path = data_dir.token_path();
        let access_token = AccessToken::create_file(&token_path)
            .map_err(|error| data_dir.error(format!("the token file: {error}")))?;
        let plugins = Plugins::load(&config.plugins, &config.plugin_keys)?;
        let shelf = Arc::new(Shelf::new(plugins, config.plugin_keys.clone()));
        let catalog = Arc::new(Catalog::new(shelf, config.remote_plugins.clone())?);
        let warmth = Warmth::default();
        let artifacts = Artifacts::open(&config, &data_dir)?;
        let storage = config.ledger.connect().await?;
        let eraser = match &config.erasure {
            Some(uri) => Some(uri.eraser().await?),
            None => None,
        };
        let gate = Arc::<Gate>::default();
        let ledger: Arc<dyn Ledger> =
            Arc::new(GatedLedger::new(Arc::clone(&storage.ledger), Arc::clone(&gate)));
        let feed = Feed::new(Arc::clone(&ledger));
        let (listener, addr) = listen(config.listen).await?;
        let directory = data_dir.projections();
        let projections =
            Arc::new(Projections::open(&directory, Arc::clone(&ledger), Arc::clone(&feed))?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stop = CancellationToken::new();
        let (opened, record) = watch::channel(Err("it was not asked yet".to_owned()));
        let (tenant, slo) = (config.tenant.clone(), config.slo);
        let data_dir = Arc::new(data_dir);
        let starter = Starter {
            name: data_dir.node_name()?,
            config,
            data_dir: Arc::clone(&data_dir),
            storage,
            eraser,
            gate: Arc::clone(&gate),
            ledger,
            feed,
            projections: Arc::clone(&projections),
            shelf: Arc::clone(catalog.shelf()),
            warmth: warmth.clone(),
            artifacts: artifacts.clone(),
            clock: Arc::clone(&clock),
            opened,
            stop: stop.clone(),
        };
        let begun = starter.begin_or_wait().await?;

        let stopping = stop.clone();
        let app = App {
            tenant,
            projections,
            catalog,
            artifacts,
            warmth,
            clock,
            access_token,
            stop: stopping,
            slo,
            gate,
            record,
        };
        let router = crate::router(app.clone());
        let http = tokio::spawn(crate::serve(listener, router, stop.clone().cancelled_owned()));
        let on_ledger = tokio::spawn(starter.run(begun));
        Ok(Self { addr, token_path, app, stop, http, on_ledger, _data_dir: data_dir })
    }

    /// Wait until the node cannot go on: its ledger, when it answered at last, is not one to go on
    /// with, or the writer has ended by itself. A node without a writer must not go on answering.
    pub async fn failed(&mut self) -> NodeError {
        match (&mut self.on_ledger).await {
            Ok(Err(error)) => error,
            // It ends well only after `stop`, which takes the node away.
            Ok(Ok(())) => NodeError::Ended("what works on the ledger"),
            Err(panicked) => {
                tracing::error!(%panicked, "what works on the ledger ended badly");
                NodeError::Ended("what works on the ledger")
            }
        }
    }

    /// End the node: no new requests, running steps are ended and given back, what was
    /// acknowledged is in the ledger.
    pub async fn stop(self) {
        let Self { app, stop, http, on_ledger, _data_dir, .. } = self;
        // The listener closes now: workers are not heard from here on, and keep their leases.
        if let Ok(record) = app.record() {
            record.commands.close();
        }
        stop.cancel();
        let ended = async {
            let _ = http.await;
            // The writer ends when nobody can give it commands any more.
            drop(app);
            if !on_ledger.is_finished() {
                let _ = on_ledger.await;
            }
        };
        if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
            tracing::warn!("stopping took longer than {STOP_WAIT:?}: what is left is cut off");
        }
    }
}

async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), NodeError> {
    let failed = |error: std::io::Error| NodeError::Listen { addr, reason: error.to_string() };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, addr))
}
