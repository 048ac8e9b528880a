//! `worker start`.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use ed25519_dalek::VerifyingKey;
use stella_api::types::QueueView;
use stella_domain::ids::{PluginName, WorkerId};
use stella_worker::{Plugins, Shelf, Worker, WorkerConfig};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, ServerArgs, leases::HttpLeases},
    commands::serve::{Stop, default_concurrency, verifying_key, write_atomically},
    failure::Failure,
    output,
};

/// Work off steps until SIGTERM or SIGINT; steps that run then are given back.
///
/// It holds no credentials but the server's access token, and asks by long polls. Start as many as
/// you like, on any machine that reaches the server.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch worker start
  stella orch worker start --plugins ./plugins/scan --concurrency 8
  stella orch worker start --name night-1 --server http://127.0.0.1:8080 --token-file ./token")]
pub(crate) struct Start {
    /// Its name; two workers never share one. A fresh one otherwise.
    #[arg(long, value_name = "NAME")]
    name: Option<WorkerId>,
    /// A plugin bundle's directory; may be given several times. The built-in plugins are always
    /// there.
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,
    /// Take only plugin bundles signed by this Ed25519 key, 64 hex digits; may be given several
    /// times.
    #[arg(long, value_name = "HEX", value_parser = verifying_key)]
    plugin_key: Vec<VerifyingKey>,
    /// Steps that it carries out at a time.
    #[arg(long, value_name = "N", default_value_t = default_concurrency(),
        value_parser = clap::value_parser!(u32).range(1..=256))]
    concurrency: u32,
    /// Write the worker's name to this file once it works.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

impl Start {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut stop = Stop::listen()?;
        let plugins = Plugins::load(&self.plugins, &self.plugin_key)
            .map_err(|error| Failure::usage(error.to_string()))?;
        let name = match self.name {
            Some(name) => name,
            None => format!("worker-{}", ulid::Ulid::new())
                .parse()
                .map_err(|error: stella_domain::ids::IdError| Failure::failed(error.to_string()))?,
        };
        let client = Client::new(&self.server)?;
        // A wrong address or token is told at once; later it waits for the server to come back.
        let _: QueueView = client.get("/queue", &[]).await?;
        let names = plugins.names().iter().map(PluginName::to_string).collect::<Vec<_>>();
        // Whoever reads this may have gone, the worker stays.
        let _ = output::line(format_args!(
            "worker {name}: {} at a time, plugins {}",
            self.concurrency,
            names.join(", ")
        ));
        if let Some(path) = &self.ready_file {
            write_atomically(path, name.as_str())?;
        }
        let config = WorkerConfig::new(name, self.concurrency);
        let shelf = Arc::new(Shelf::new(plugins, self.plugin_key));
        let worker = Worker::new(config, Arc::new(HttpLeases::new(client)), shelf);
        let ending = CancellationToken::new();
        let working = worker.run(ending.clone());
        tokio::pin!(working);
        tokio::select! {
            () = &mut working => return Ok(()),
            () = stop.requested() => ending.cancel(),
        }
        tracing::info!("stopping; a second signal ends it at once");
        tokio::select! {
            () = working => Ok(()),
            () = stop.requested() => Err(Failure::failed("stopped before everything had ended")),
        }
    }
}
