//! `telemetry export`.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use futures::TryStreamExt as _;
use stella_api::types::LedgerHead;
use stella_domain::{
    ids::{IdError, LedgerId, Tenant},
    time::Timestamp,
};
use stella_ledger::{port::Ledger, uri::LedgerUri};
use stella_replay::{
    export::{self, WindowError},
    telemetry::{Manifest, TelemetryError, TelemetryWriter, check_free},
};
use stella_verify::manifest::WindowTimes;

use super::manifest_text;
use crate::{
    client::{Client, ServerArgs},
    commands::{
        ledger::{Window, WindowArgs, download, verify_failure},
        storage::{ledger_failure, open_existing},
    },
    failure::Failure,
    output::{OutputArgs, Progress},
};

/// Write logs, counters and traces of a closed time window [from, to) as NDJSON, with a manifest of hashes.
///
/// They follow from the ledger alone, so that the same window gives the same bytes each time. Each line is
/// an export request of OTLP/HTTP in JSON, which any OpenTelemetry collector takes. From a running server,
/// or from a ledger where it is stored. Nothing is sent anywhere.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch telemetry export --seal --out until-now
  stella orch telemetry export --from 2026-11-01 --to 2026-12-01 --out november
  stella orch telemetry export --ledger sqlite:stella-data/ledger.db --out all --with-payloads")]
pub(crate) struct Export {
    #[command(flatten)]
    window: WindowArgs,
    /// Write to this directory, which is not there yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Logs carry what people and plugins wrote: inputs, outputs, messages. They are not erased with the
    /// ledger's.
    #[arg(long)]
    with_payloads: bool,
    /// A ledger where it is stored, instead of a server: sqlite:PATH, or mongodb://….
    #[arg(long, value_name = "URI", conflicts_with = "seal")]
    ledger: Option<LedgerUri>,
    /// Whose, with --ledger.
    #[arg(long, value_name = "NAME", default_value = "main")]
    tenant: Tenant,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Export {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // What is half written is removed, instead of being left behind.
        let manifest = tokio::select! {
            done = self.export() => done?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::failed("interrupted")),
        };
        self.output.print(&manifest, manifest_text)
    }

    async fn export(&self) -> Result<Manifest, Failure> {
        // What can be told without the server is told before anything is recorded.
        check_free(&self.out).map_err(telemetry_failure)?;
        match &self.ledger {
            Some(uri) => self.stored(open_existing(uri).await?).await,
            None => self.served().await,
        }
    }

    async fn served(&self) -> Result<Manifest, Failure> {
        let client = Client::new(&self.server)?;
        let head: LedgerHead = client.get("/ledger/head", &[]).await?;
        let name = head.ledger.parse().map_err(|error: IdError| {
            Failure::failed(format!("the server names no ledger: {error}"))
        })?;
        let window = self.window.resolve(&client, &head).await?;
        let mut writer = self.writer(name, window)?;
        let progress = Progress::unknown_bytes("exporting");
        download(&client, window, &mut |lines| {
            progress.add(lines.len() as u64);
            writer.events(lines).map_err(telemetry_failure)
        })
        .await?;
        writer.finish().map_err(telemetry_failure)
    }

    async fn stored(&self, ledger: Arc<dyn Ledger>) -> Result<Manifest, Failure> {
        let tenant = &self.tenant;
        let first = ledger.read(tenant, 0, 1).await.map_err(ledger_failure)?;
        let Some(name) = first.first().map(|commit| LedgerId::clone(&commit.ledger)) else {
            let what = format!("there is no ledger of tenant {tenant}");
            return Err(Failure::failed(what).try_this("name the right one with --tenant"));
        };
        let head = ledger.head(tenant).await.map_err(ledger_failure)?;
        let from = self.window.from.unwrap_or(Timestamp::ZERO);
        let window = Window { from, to: self.window.to.unwrap_or(head.recorded_at) };
        let resolved = export::Window::resolve(&*ledger, tenant, window.from, window.to).await;
        let resolved = resolved.map_err(|error| match error {
            WindowError::Ledger(error) => ledger_failure(error),
            WindowError::FromAfterTo { .. } | WindowError::Open { .. } => {
                Failure::usage(error.to_string())
            }
        })?;
        let mut writer = self.writer(name, window)?;
        let progress = Progress::events("exporting", resolved.events());
        let chunks = export::chunks(ledger, tenant.clone(), resolved, resolved.first_seq);
        let mut chunks = std::pin::pin!(chunks);
        let unread = |error: export::ExportError| Failure::not_verified(error.to_string());
        while let Some(chunk) = chunks.try_next().await.map_err(unread)? {
            writer.events(chunk.text.as_bytes()).map_err(telemetry_failure)?;
            progress.set(writer.taken(), resolved.events());
        }
        writer.finish().map_err(telemetry_failure)
    }

    fn writer(&self, name: LedgerId, window: Window) -> Result<TelemetryWriter, Failure> {
        let window = WindowTimes { from: window.from, to: window.to };
        TelemetryWriter::create(self.out.clone(), name, window, self.with_payloads)
            .map_err(telemetry_failure)
    }
}

fn telemetry_failure(error: TelemetryError) -> Failure {
    let what = error.to_string();
    match error {
        TelemetryError::Exists { .. } => Failure::usage(what),
        TelemetryError::Io { .. } | TelemetryError::Undecodable(_) => Failure::failed(what),
        TelemetryError::Events(error) => verify_failure(error),
        TelemetryError::Unreadable { .. } | TelemetryError::OtherLedger { .. } => {
            Failure::not_verified(what)
        }
    }
}
