//! `ledger export`.

mod bundle;
mod events;

use std::{
    fs::File,
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use clap::Args;
use stella_api::types::{LedgerHead, ReasonBody, ReceiptView};
use stella_domain::time::Timestamp;
use stella_ledger::clock::{Clock as _, SystemClock};
use stella_replay::bundle::Destination;

use self::bundle::Since;
pub(crate) use self::{
    bundle::{Asked, export as export_bundle, pins, write_failure},
    events::download,
};
use crate::{
    client::{Client, ServerArgs},
    failure::Failure,
    input,
    output::{Progress, note},
};

/// Endings that would promise another form than a directory or a .tar.zst.
const OTHER_FORMS: [&str; 7] = [".ndjson", ".json", ".tar", ".gz", ".tgz", ".zip", ".zst"];

/// Write a closed time window [from, to): as a bundle, which proves to whoever holds a pinned key
/// that it is complete and unchanged, or its events alone as NDJSON. The same bytes each time.
///
/// A window is closed once something was recorded at its end or later; --seal sees to that. A bundle
/// is verified once more when it is there, with the key that the server names.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger export --seal --out until-now
  stella orch ledger export --from 2026-10-01 --to 2026-11-01 --out october.tar.zst
  stella orch ledger export --from 2026-11-01 --to 2026-12-01 --out november --since october.checkpoint
  stella orch ledger export --file events.ndjson
  stella orch ledger export --from 2026-11-23T09:00:00Z | gzip > events.ndjson.gz")]
pub(crate) struct Export {
    #[command(flatten)]
    window: WindowArgs,
    /// Write a bundle here: a new directory, or a new archive if the name ends in .tar.zst.
    #[arg(long, value_name = "PATH", value_parser = destination)]
    out: Option<Destination>,
    /// An older checkpoint of this ledger that you kept: the bundle proves that it extends it.
    #[arg(long, value_name = "CHECKPOINT", requires = "out")]
    since: Option<PathBuf>,
    /// Build on the oldest checkpoint that at least so many of the server's witnesses have cosigned.
    #[arg(long, value_name = "K", requires = "out")]
    witnesses_needed: Option<usize>,
    /// Write the events alone to this file, once it is whole; without --out and --file to stdout.
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    file: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Which window is exported.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WindowArgs {
    /// Begin of the window (RFC 3339, or a day; UTC); the ledger's own otherwise.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    pub(crate) from: Option<Timestamp>,
    /// End of the window, not part of it; with --seal now, else the time of the newest event.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    pub(crate) to: Option<Timestamp>,
    /// Record `LedgerSealed` first, if the window is open otherwise.
    #[arg(long)]
    pub(crate) seal: bool,
}

/// A time window [from, to).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// Where a bundle shall be.
fn destination(text: &str) -> Result<Destination, String> {
    if text.is_empty() {
        return Err("name a new directory, or a new file that ends in .tar.zst".to_owned());
    }
    let destination = Destination::new(text);
    let other = OTHER_FORMS.iter().find(|ending| text.ends_with(*ending));
    match other {
        Some(ending) if !destination.is_archive() => Err(format!(
            "a bundle is a directory, or an archive whose name ends in .tar.zst, and not {ending}; \
             the events alone are written with --file"
        )),
        Some(_) | None => Ok(destination),
    }
}

impl Export {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // What is half written is removed, instead of being left behind.
        tokio::select! {
            done = self.export() => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted")),
        }
    }

    async fn export(self) -> Result<(), Failure> {
        // What can be told without the server is told before anything is recorded.
        if let Some(out) = &self.out {
            out.check_free().map_err(write_failure)?;
        }
        let since = self.since.as_deref().map(Since::read).transpose()?;
        let client = Client::new(&self.server)?;
        let head: LedgerHead = client.get("/ledger/head", &[]).await?;
        if let Some(since) = &since {
            since.check_ledger(&head.ledger)?;
        }
        let window = self.window.resolve(&client, &head).await?;
        match (self.out, self.file) {
            (Some(out), _) => {
                let path = out.path().to_owned();
                let asked =
                    Asked { since: since.as_ref(), witnesses_needed: self.witnesses_needed };
                export_bundle(&client, window, asked, out).await?;
                bundle::verify(&client, &path, since.as_ref()).await
            }
            (None, Some(file)) => {
                window.write_to_file(&client, &file).await?;
                note(format_args!("check it: stella orch ledger verify {}", file.display()));
                Ok(())
            }
            (None, None) => window.write(&client, &mut io::stdout()).await,
        }
    }
}

impl WindowArgs {
    /// The window that is meant; sealed, if that was asked for and it is open.
    pub(crate) async fn resolve(
        self,
        client: &Client,
        head: &LedgerHead,
    ) -> Result<Window, Failure> {
        let from = self.from.unwrap_or(Timestamp::ZERO);
        let to = match self.to {
            // One that is upside down is refused by the server.
            Some(to) if self.seal && head.recorded_at < to && from <= to => {
                if to > SystemClock.now() {
                    let what = format!("--to {to} lies in the future: nothing can close that yet");
                    return Err(Failure::usage(what).try_this("leave out --to to export until now"));
                }
                seal(client).await?;
                to
            }
            Some(to) => to,
            None if self.seal => seal(client).await?.recorded_at,
            None => {
                note(format_args!("events recorded before {}", head.recorded_at));
                head.recorded_at
            }
        };
        Ok(Window { from, to })
    }
}

async fn seal(client: &Client) -> Result<ReceiptView, Failure> {
    let reason = ReasonBody { reason: "export".to_owned() };
    let sealed: ReceiptView = client.post("/ledger:seal", &[], &reason).await?.body;
    note(format_args!("sealed at seq {}, {}", sealed.seq, sealed.recorded_at));
    Ok(sealed)
}

impl Window {
    fn query(self) -> Vec<(&'static str, String)> {
        vec![("from", self.from.to_string()), ("to", self.to.to_string())]
    }

    /// Write the window's events to a file, which appears when it is whole.
    async fn write_to_file(self, client: &Client, file: &Path) -> Result<(), Failure> {
        let mut unfinished = file.as_os_str().to_owned();
        unfinished.push(".part");
        let unfinished = PathBuf::from(unfinished);
        let wrong =
            |error| Failure::failed(format!("cannot write {}: {error}", unfinished.display()));
        let mut out = BufWriter::new(File::create(&unfinished).map_err(wrong)?);
        let written = self.write(client, &mut out).await;
        let durable = written.and_then(|()| {
            let whole = out.into_inner().map_err(|error| wrong(error.into_error()))?;
            whole.sync_all().map_err(wrong)?;
            std::fs::rename(&unfinished, file).map_err(wrong)
        });
        if durable.is_err() {
            // Half an export is of no use, and the failure is told anyway.
            let _ = std::fs::remove_file(&unfinished);
        }
        durable
    }

    async fn write(self, client: &Client, out: &mut impl io::Write) -> Result<(), Failure> {
        let progress = Progress::unknown_bytes("exporting");
        download(client, self, &mut |lines| {
            out.write_all(lines)?;
            progress.add(lines.len() as u64);
            Ok(())
        })
        .await?;
        Ok(out.flush()?)
    }
}
