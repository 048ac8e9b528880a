//! `serve`: a server on this machine.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use ed25519_dalek::VerifyingKey;
use stella_api::{
    catalog::RemotePlugin,
    node::{Node, NodeConfig, NodeError, OtlpConfig, OtlpEndpoint},
    slo::{Percent, SloTargets},
};
use stella_artifacts::ArtifactUri;
use stella_domain::ids::Origin;
use stella_ledger::checkpoints::SignerError;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    erasing::ErasingArgs,
    signing::SigningArgs,
    storage::{StorageArgs, ledger_failure},
};
use crate::{failure::Failure, logging::LogFormat, output};

/// Run a server on this machine: HTTP API, projections, dispatch, and a worker.
///
/// It listens on loopback only and takes the access token that it writes to <data-dir>/token,
/// readable by its owner alone. SIGTERM and SIGINT end it in good order.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch serve
  stella orch serve --data-dir /var/lib/stella --listen 127.0.0.1:8080
  stella orch serve --ledger 'mongodb://127.0.0.1:27017/stella?replicaSet=rs0'
  stella orch serve --artifacts s3://stella-artifacts/prod
  stella orch serve --plugins ./plugins/scan --plugins ./plugins/notify --concurrency 8
  stella orch serve --remote-plugin scan=run,report --remote-plugin notify
  stella orch serve --log-format json
  stella orch serve --otlp-endpoint http://127.0.0.1:4318")]
pub(crate) struct Serve {
    #[command(flatten)]
    storage: StorageArgs,
    /// Where to listen; loopback only. Port 0 takes any free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7787")]
    listen: SocketAddr,
    /// Who runs this installation: the first half of the ledgers' names. Never change it.
    #[arg(long, value_name = "NAME", default_value = "stella.local")]
    origin: Origin,
    /// A plugin bundle's directory; may be given several times.
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,
    /// Take only plugin bundles signed by this Ed25519 key, 64 hex digits; may be given several
    /// times.
    #[arg(long, value_name = "HEX", value_parser = verifying_key)]
    plugin_key: Vec<VerifyingKey>,
    /// Where artifacts and logs of steps are kept: a folder or s3://BUCKET[/PREFIX], with keys and
    /// endpoint from the usual AWS_… variables. A folder in the data directory otherwise.
    #[arg(long, env = "STELLA_ARTIFACTS_URI", value_name = "PLACE")]
    artifacts: Option<ArtifactUri>,
    /// A plugin that only workers in processes of their own have, so that DAG specs may name it while
    /// none of them is there; with ACTIONs, only these. May be given several times.
    #[arg(long, value_name = "NAME[=ACTION,...]")]
    remote_plugin: Vec<RemotePlugin>,
    /// Steps that the worker in this process carries out at a time; 0: no such worker.
    #[arg(long, value_name = "N", default_value_t = default_concurrency())]
    concurrency: u32,
    /// Milliseconds that a lease holds without a heartbeat.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 30_000,
        value_parser = clap::value_parser!(u64).range(100..=86_400_000)
    )]
    lease_ttl: u64,
    /// Refuse to start when anything weakens the ledger's guarantees.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    slo: SloArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
    #[command(flatten)]
    signing: SigningArgs,
    #[command(flatten)]
    erasing: ErasingArgs,
    /// Write ADDR:PORT to this file once the server answers.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// What is aimed at for runs: `slo` says how that stands.
#[derive(Debug, Clone, Copy, Args)]
struct SloArgs {
    /// Percentage of runs, of those that succeed or fail, that are to succeed.
    #[arg(long, value_name = "PERCENT", default_value_t = SloTargets::default().success)]
    slo_success: Percent,
    /// Percentage of runs that are to end within --slo-duration-ms.
    #[arg(long, value_name = "PERCENT", default_value_t = SloTargets::default().duration)]
    slo_duration: Percent,
    /// Milliseconds within which a run ends in time.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = SloTargets::default().duration_ms,
        value_parser = clap::value_parser!(u64).range(1..=604_800_000)
    )]
    slo_duration_ms: u64,
    /// Days that an error budget is for.
    #[arg(
        long,
        value_name = "DAYS",
        default_value_t = SloTargets::default().period_days,
        value_parser = clap::value_parser!(u32).range(1..=366)
    )]
    slo_days: u32,
}

/// What the server tells others about what it does.
#[derive(Debug, Clone, Args)]
struct TelemetryArgs {
    /// How the log on stderr is written; as JSON it has lines about runs, too.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
    /// Send traces, logs and counters there, as OpenTelemetry in JSON (OTLP/HTTP). Without it, nothing
    /// is sent anywhere.
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<OtlpEndpoint>,
    /// Seconds between two times that counters are sent there.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    otlp_metrics_every: u64,
}

impl TelemetryArgs {
    fn otlp(self) -> Option<OtlpConfig> {
        let metrics_every = Duration::from_secs(self.otlp_metrics_every);
        self.otlp_endpoint.map(|endpoint| OtlpConfig { endpoint, metrics_every })
    }
}

impl SloArgs {
    fn targets(self) -> SloTargets {
        SloTargets {
            success: self.slo_success,
            duration: self.slo_duration,
            duration_ms: self.slo_duration_ms,
            period_days: self.slo_days,
        }
    }
}

pub(super) fn default_concurrency() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores * 2).unwrap_or(u32::MAX)
}

pub(super) fn verifying_key(text: &str) -> Result<VerifyingKey, String> {
    let mut bytes = [0; ed25519_dalek::PUBLIC_KEY_LENGTH];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| "write it as the 64 hex digits of an Ed25519 public key".to_owned())?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| "this is no Ed25519 public key".to_owned())
}

impl Serve {
    /// How the log is written.
    pub(crate) fn log_format(&self) -> LogFormat {
        self.telemetry.log_format
    }

    pub(crate) async fn run(self) -> Result<(), Failure> {
        // From here on a signal ends the server in good order, also while it starts.
        let mut stop = Stop::listen()?;
        let Self { storage, listen, origin, ready_file, .. } = self;
        let uri = storage.uri();
        let config = NodeConfig {
            ledger: uri.clone(),
            data_dir: storage.data_dir,
            listen,
            origin,
            tenant: storage.tenant.clone(),
            plugins: self.plugins,
            plugin_keys: self.plugin_key,
            remote_plugins: self.remote_plugin,
            concurrency: self.concurrency,
            lease_ms: self.lease_ttl,
            strict: self.strict,
            slo: self.slo.targets(),
            artifacts: self.artifacts,
            checkpoints: self.signing.config()?,
            erasure: self.erasing.config(&uri)?,
            otlp: self.telemetry.otlp(),
        };
        let node = tokio::select! {
            node = Node::start(config) => node.map_err(node_failure)?,
            () = stop.requested() => return Ok(()),
        };
        // Whoever reads this may have gone, the server stays.
        let _ = output::line(format_args!(
            "listening on http://{}\naccess token in {}\nledger {uri}, tenant {}",
            node.addr,
            node.token_path.display(),
            storage.tenant,
        ));
        if let Ok(record) = node.app.record()
            && let Ok(signer) = record.checkpoints.signer()
        {
            let key = signer.pinned().await.0.pop().map(|pinned| pinned.key.to_string());
            let _ = output::line(format_args!("checkpoints signed by {}", key.unwrap_or_default()));
        }
        // Last: who waits for it may read what was printed.
        if let Some(path) = &ready_file {
            write_atomically(path, &node.addr.to_string())?;
        }
        let served = serve(node, &mut stop).await;
        if let Some(path) = &ready_file {
            // It may have been removed by whoever waited for it.
            let _ = std::fs::remove_file(path);
        }
        served
    }
}

/// Until a signal comes, or until there is nothing left to serve with.
async fn serve(mut node: Node, stop: &mut Stop) -> Result<(), Failure> {
    tokio::select! {
        () = stop.requested() => {}
        error = node.failed() => {
            // What ends as it should gets the time that a stop would give it.
            node.stop().await;
            return Err(node_failure(error));
        }
    }
    tracing::info!("stopping; a second signal ends it at once");
    tokio::select! {
        () = node.stop() => Ok(()),
        () = stop.requested() => Err(Failure::failed("stopped before everything had ended")),
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::failed(format!("cannot hear signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Readers see the whole text or no file.
pub(super) fn write_atomically(path: &Path, text: &str) -> Result<(), Failure> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    std::fs::write(&unfinished, text)
        .and_then(|()| std::fs::rename(&unfinished, path))
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

/// Why a node did not start, in terms of this command's options.
pub(crate) fn node_failure(error: NodeError) -> Failure {
    let what = error.to_string();
    match error {
        NodeError::Ledger(error) => ledger_failure(error),
        NodeError::Listen { addr, .. } if !addr.ip().is_loopback() => Failure::usage(what),
        NodeError::Listen { .. } => {
            Failure::failed(what).try_this("choose another port with --listen 127.0.0.1:PORT")
        }
        NodeError::Findings(_) => {
            Failure::failed(what).try_this("mend what is named, or start without --strict")
        }
        NodeError::Ended(_) => {
            Failure::failed(what).try_this("start again; what was acknowledged is in the ledger")
        }
        NodeError::Plugins(_) => Failure::usage(what),
        NodeError::Artifacts(_) => Failure::failed(what)
            .try_this("name a folder that can be written to, or a bucket, with --artifacts"),
        NodeError::Command(_) => Failure::unavailable(what)
            .try_this("check that the storage takes writes; then start again"),
        NodeError::Checkpoints(SignerError::Ledger(error)) => ledger_failure(error),
        NodeError::Checkpoints(SignerError::Key(_)) => Failure::usage(what),
        NodeError::Checkpoints(_) => Failure::failed(what),
        NodeError::DataDir { .. } | NodeError::Projections(_) | NodeError::Name(_) => {
            Failure::failed(what)
        }
    }
}
