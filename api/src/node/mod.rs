//! A node: every part of the orchestrator in one process, put together.

mod data_dir;
mod lease_source;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use stella_commands::{CommandError, Commands, CommandsConfig};
use stella_domain::{
    ids::{Actor, IdError, LedgerId, Origin, Tenant},
    open_work::OpenWork,
};
use stella_ledger::{
    clock::{Clock, SystemClock},
    feed::Feed,
    name::check_name,
    port::{Ledger, LedgerError},
    uri::LedgerUri,
};
use stella_projections::{ProjectionError, Projections};
use stella_worker::{CatalogError, Plugins, Worker, WorkerConfig};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{data_dir::DataDir, lease_source::LocalLeases};
use crate::{app::App, auth::AccessToken};

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
    /// Steps that the in-process worker carries out at a time; 0: no in-process worker.
    pub concurrency: u32,
    /// Milliseconds that a lease holds without a heartbeat.
    pub lease_ms: u64,
    /// Refuse to start when anything weakens the ledger's guarantees.
    pub strict: bool,
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
    /// The projections cannot be used.
    #[error(transparent)]
    Projections(#[from] ProjectionError),
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
    worker: Option<JoinHandle<()>>,
    follow: JoinHandle<()>,
    writer: JoinHandle<()>,
    _data_dir: DataDir,
}

impl Node {
    /// Start every part, in the order in which they depend on each other.
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
        let plugins = Arc::new(Plugins::load(&config.plugins, &config.plugin_keys)?);
        let ledger = config.ledger.open().await?;
        report_findings(&*ledger, config.strict).await?;
        let feed = Feed::new(Arc::clone(&ledger));
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            NodeError::Listen { addr: config.listen, reason: error.to_string() }
        })?;
        let addr = listener.local_addr().map_err(|error| NodeError::Listen {
            addr: config.listen,
            reason: error.to_string(),
        })?;

        let directory = data_dir.projections();
        let projections =
            Arc::new(Projections::open(&directory, Arc::clone(&ledger), Arc::clone(&feed))?);
        // Notices a ledger that was replaced or restored from an older backup.
        projections.verify(&config.tenant).await?;
        let work = projections.open_work(&config.tenant).await?;
        let is_begun = work.head.next_seq > 0;
        let name = LedgerId { origin: config.origin.clone(), tenant: config.tenant.clone() };
        check_name(&*ledger, &name).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let node = data_dir.node_name()?;
        let commands_config = CommandsConfig {
            origin: config.origin.clone(),
            clock: Arc::clone(&clock),
            lease_ms: config.lease_ms,
            open_work: vec![(config.tenant.clone(), without_own_leases(work, &node))],
        };
        let (commands, writer) =
            Commands::start(commands_config, Arc::clone(&ledger), Arc::clone(&feed));
        // One that has begun is served even while it takes no writes: reads work, and commands do
        // again as soon as the storage does.
        if !is_begun {
            commands.open_ledger(&config.tenant, &Actor::system("ledger")?).await?;
        }

        let stop = CancellationToken::new();
        let follow = tokio::spawn({
            let (projections, tenant) = (Arc::clone(&projections), config.tenant.clone());
            let stop = stop.clone();
            async move {
                let followed = projections.follow(&tenant, stop.cancelled_owned()).await;
                if let Err(error) = followed {
                    tracing::error!(%tenant, %error, "projections stand still");
                }
            }
        });
        let worker = (config.concurrency > 0).then(|| {
            let source = LocalLeases { commands: commands.clone(), tenant: config.tenant.clone() };
            let worker_config = WorkerConfig::new(node.worker_id, config.concurrency);
            let worker = Worker::new(worker_config, Arc::new(source), Arc::clone(&plugins));
            tokio::spawn(worker.run(stop.clone()))
        });
        let tenant = config.tenant;
        let app = App { tenant, commands, projections, ledger, feed, plugins, clock, access_token };
        let router = crate::router(app.clone());
        let http = tokio::spawn(crate::serve(listener, router, stop.clone().cancelled_owned()));
        let _data_dir = data_dir;
        Ok(Self { addr, token_path, app, stop, http, worker, follow, writer, _data_dir })
    }

    /// Wait until the writer has ended by itself, which is a defect: a node without a writer must
    /// not go on answering.
    pub async fn writer_failed(&mut self) {
        let ended = (&mut self.writer).await;
        tracing::error!(?ended, "the writer has ended: this node cannot go on");
    }

    /// End the node: no new requests, running steps are ended and given back, what was
    /// acknowledged is in the ledger.
    pub async fn stop(self) {
        let Self { app, stop, http, worker, follow, writer, _data_dir, .. } = self;
        stop.cancel();
        let ended = async {
            if let Some(worker) = worker {
                let _ = worker.await;
            }
            let _ = http.await;
            let _ = follow.await;
            drop(app);
            if !writer.is_finished() {
                let _ = writer.await;
            }
        };
        if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
            tracing::warn!("stopping took longer than {STOP_WAIT:?}: what is left is cut off");
        }
    }
}

async fn report_findings(ledger: &dyn Ledger, strict: bool) -> Result<(), NodeError> {
    let findings = ledger.findings().await?;
    for finding in &findings {
        let (code, message) = (finding.code, &finding.message);
        if finding.blocks_writes {
            tracing::error!(code, "{message}");
        } else {
            tracing::warn!(code, "{message}");
        }
    }
    if strict && !findings.is_empty() {
        let all: Vec<String> = findings
            .iter()
            .map(|finding| format!("{}: {}", finding.code, finding.message))
            .collect();
        return Err(NodeError::Findings(all.join("; ")));
    }
    Ok(())
}

/// Leases of this node's earlier processes end at once: the data directory's lock proves that
/// they are gone.
fn without_own_leases(mut work: OpenWork, node: &data_dir::NodeName) -> OpenWork {
    for lease in &mut work.leases {
        if node.is_earlier_worker(&lease.worker_id) {
            lease.lease_ms = 0;
        }
    }
    work
}
