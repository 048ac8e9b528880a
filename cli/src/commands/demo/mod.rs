//! `demo`: the main job, end to end, on real input.
//!
//! It starts a node in this process and then does what a user would: everything goes through the
//! node's HTTP API. What it claims it checks, and a check that fails ends it with exit code 4.

mod live;
mod lockfile;
mod next;
mod proof;
mod screen;

use std::path::{Path, PathBuf};

use clap::Args;
use stella_api::{
    node::{Node, NodeConfig, checkpoints::CheckpointsConfig},
    slo::SloTargets,
    types::RegisteredDag,
};
use stella_domain::ids::Tenant;
use stella_ledger::uri::LedgerUri;
use stella_replay::bundle::Destination;

use self::screen::Screen;
use super::{
    ledger::{pins, write_failure},
    plugin_host::SUPPLY_CHAIN_ARGS,
    serve::node_failure,
    storage::make_dir,
};
use crate::{client::Client, failure::Failure};

/// The DAG that the demo runs.
const SPEC: &str = include_str!("../../../../fixtures/dags/supply-chain-audit.yaml");

/// Show the main job, end to end, in a few seconds: a DAG over a real Cargo.lock, every action of
/// it an event in the hash-chained ledger, exported, verified, and folded again to the same state.
///
/// Needs no server: it starts a node in this process, in a temporary directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch demo
  stella orch demo --out ./demo
  stella orch demo --lockfile ../other/Cargo.lock
  stella orch demo --ledger 'mongodb://127.0.0.1:27017/stella?replicaSet=rs0'")]
pub(crate) struct Demo {
    /// The Cargo.lock to look at; otherwise the nearest one, from this directory upwards.
    #[arg(long, value_name = "FILE")]
    lockfile: Option<PathBuf>,
    /// Keep the exported bundle here, in a new directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Another ledger than one in the temporary directory, such as a MongoDB; the demo records
    /// under a tenant of its own there.
    #[arg(long, value_name = "URI")]
    ledger: Option<LedgerUri>,
}

/// Where the demo takes place.
struct Stage {
    client: Client,
    screen: Screen,
    lockfile: String,
    /// Where the bundle goes.
    bundle: PathBuf,
    /// Whether it stays there.
    kept: bool,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let screen = Screen::new();
        let lockfile = lockfile::find(self.lockfile.as_deref())?;
        if let Some(dir) = &self.out {
            dir.parent().map_or(Ok(()), make_dir)?;
            Destination::directory(dir).check_free().map_err(write_failure)?;
        }
        let scratch = tempfile::Builder::new()
            .prefix("stella-demo-")
            .tempdir()
            .map_err(|error| Failure::failed(format!("cannot make a directory: {error}")))?;
        let (node, ledger) = start(scratch.path(), self.ledger).await?;
        let stage = Stage {
            client: Client::at(node.addr, node.token_path.clone())?,
            screen,
            lockfile,
            kept: self.out.is_some(),
            bundle: self.out.unwrap_or_else(|| scratch.path().join("bundle")),
        };
        let told = tokio::select! {
            told = stage.play(&ledger) => told,
            _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted")),
        };
        node.stop().await;
        told
    }
}

/// A node of its own, with the plugin made from this very executable.
async fn start(dir: &Path, ledger: Option<LedgerUri>) -> Result<(Node, String), Failure> {
    let exe = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
    let bundle = dir.join("plugins").join("supply-chain");
    stella_worker::supply_chain::write_bundle(&bundle, &exe, &SUPPLY_CHAIN_ARGS)
        .map_err(|error| Failure::failed(error.to_string()))?;
    // A tenant of its own, so that demos on one database do not meet.
    let tenant = format!("demo-{}", ulid::Ulid::new().to_string().to_lowercase());
    let name = |error: stella_domain::ids::IdError| Failure::failed(error.to_string());
    let tenant: Tenant = tenant.parse().map_err(name)?;
    let ledger = ledger.unwrap_or_else(|| LedgerUri::Sqlite(dir.join("ledger.db")));
    let described = format!("{ledger}, tenant {tenant}");
    let node = Node::start(NodeConfig {
        ledger,
        data_dir: dir.join("data"),
        listen: ([127, 0, 0, 1], 0).into(),
        origin: "stella.local".parse().map_err(name)?,
        tenant,
        plugins: vec![bundle],
        plugin_keys: vec![],
        remote_plugins: vec![],
        concurrency: 4,
        lease_ms: 30_000,
        strict: false,
        slo: SloTargets::default(),
        artifacts: None,
        checkpoints: CheckpointsConfig::default(),
        erasure: None,
        otlp: None,
    })
    .await
    .map_err(node_failure)?;
    Ok((node, described))
}

impl Stage {
    async fn play(&self, ledger: &str) -> Result<(), Failure> {
        let Self { client, screen, .. } = self;
        screen.heading("A node in this process")?;
        screen.line(format_args!("ledger    {ledger}"))?;
        screen.line(format_args!("lockfile  {}", self.lockfile))?;

        let dag: RegisteredDag =
            client.post_text("/dags", &[], "application/yaml", SPEC.to_owned()).await?;
        screen.heading("Register the DAG")?;
        screen.tick(format_args!("{} version {}, {}", dag.dag_id, dag.version, dag.digest))?;

        // An auditor has it before anything is run, and from elsewhere than the export.
        let pinned = pins(client).await?;
        let run = self.run_live(&dag.dag_id).await?;
        self.print_report(&run).await?;
        self.start_again(&run).await?;
        let sealed = self.export_and_verify(&pinned).await?;
        self.rebuild(&run, &sealed).await?;
        next::print(self, &run, &pinned)
    }
}
