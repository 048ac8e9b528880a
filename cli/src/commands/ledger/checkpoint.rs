//! `ledger checkpoint`.

use std::path::PathBuf;

use clap::Args;

use crate::{
    client::{Client, ServerArgs},
    failure::Failure,
    output::write_answer,
};

/// A signed checkpoint: what the ledger commits to, in three lines and a signature.
///
/// Keep one outside the reach of whoever runs the server: nothing that it covers can be changed
/// afterwards without your noticing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger checkpoint
  stella orch ledger checkpoint --sign-now --file checkpoint.txt
  stella orch ledger checkpoint --size 4711")]
pub(crate) struct Checkpoint {
    /// Have what was recorded since the newest one signed first.
    #[arg(long, conflicts_with = "size")]
    sign_now: bool,
    /// The one of exactly so many events; the newest otherwise.
    #[arg(long, value_name = "EVENTS")]
    size: Option<u64>,
    /// Where to write it; stdout otherwise.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

impl Checkpoint {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        let note = if self.sign_now {
            client.post_for_text("/ledger:sign").await?
        } else {
            let size = self.size.map(|size| ("size", size.to_string()));
            client.get_text("/ledger/checkpoint", size.as_slice()).await?
        };
        write_answer(self.file.as_deref(), &note)
    }
}
