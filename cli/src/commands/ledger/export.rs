//! `ledger export`.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use clap::Args;
use stella_api::types::LedgerHead;
use stella_domain::time::Timestamp;

use crate::{
    client::{Client, ServerArgs},
    failure::Failure,
    input,
    output::{Progress, note},
};

/// Write a closed time window [from, to) as NDJSON: the same bytes for ever.
///
/// A window is closed once something was recorded at its end or later; `stella orch ledger seal`
/// sees to that.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger export --file events.ndjson
  stella orch ledger export --from 2026-10-01 --to 2026-11-01 --file october.ndjson
  stella orch ledger export --from 2026-11-23T09:00:00Z | gzip > events.ndjson.gz")]
pub(crate) struct Export {
    /// Begin of the window (RFC 3339, or a day; UTC); the ledger's own otherwise.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    from: Option<Timestamp>,
    /// End of the window, not part of it; the time of the newest event otherwise.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    to: Option<Timestamp>,
    /// Where to write it, once it is whole; stdout otherwise.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

impl Export {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        let to = match self.to {
            Some(to) => to,
            None => {
                let head: LedgerHead = client.get("/ledger/head", &[]).await?;
                note(format_args!("events recorded before {}", head.recorded_at));
                head.recorded_at
            }
        };
        let window = Window { from: self.from.unwrap_or(Timestamp::ZERO), to };
        match &self.file {
            Some(file) => {
                window.export_to_file(&client, file).await?;
                note(format_args!("check it: stella orch ledger verify {}", file.display()));
                Ok(())
            }
            None => window.export(&client, &mut io::stdout()).await,
        }
    }
}

/// A time window [from, to).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl Window {
    /// Export the window to a file, which appears when it is whole.
    pub(crate) async fn export_to_file(self, client: &Client, file: &Path) -> Result<(), Failure> {
        let mut unfinished = file.as_os_str().to_owned();
        unfinished.push(".part");
        let unfinished = PathBuf::from(unfinished);
        let wrong =
            |error| Failure::failed(format!("cannot write {}: {error}", unfinished.display()));
        let mut out = BufWriter::new(File::create(&unfinished).map_err(wrong)?);
        let written = self.export(client, &mut out).await;
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

    async fn export(self, client: &Client, out: &mut impl io::Write) -> Result<(), Failure> {
        let query = [("from", self.from.to_string()), ("to", self.to.to_string())];
        let mut response = client.open("/ledger/export", &query).await?;
        let progress = Progress::unknown_bytes("exporting");
        while let Some(piece) = client.next_piece(&mut response).await? {
            out.write_all(piece.as_ref())?;
            progress.add(piece.as_ref().len() as u64);
        }
        Ok(out.flush()?)
    }
}
