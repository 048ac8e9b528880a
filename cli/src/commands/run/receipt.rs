//! `run receipt`.

use std::path::PathBuf;

use clap::Args;
use stella_domain::ids::RunId;

use crate::{
    client::{Client, ServerArgs, path},
    failure::Failure,
    output::write_answer,
};

/// A run's receipt: its events, the proof that each is in a signed tree, and the checkpoint. One
/// JSON document that proves itself, without the server, to whoever pinned the ledger's key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run receipt 0RQ9CWTXP9BPJR3KTYEG0MB9FF --file receipt.json
  stella orch run receipt 0RQ9CWTXP9BPJR3KTYEG0MB9FF | jq -r .checkpoint")]
pub(crate) struct Receipt {
    /// The run.
    run_id: RunId,
    /// With the oldest checkpoint that at least so many of the server's witnesses have cosigned.
    #[arg(long, value_name = "K")]
    witnesses_needed: Option<usize>,
    /// Where to write it; stdout otherwise.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

impl Receipt {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        let needed = self.witnesses_needed.map(|needed| ("witnessesNeeded", needed.to_string()));
        let query = Vec::from_iter(needed);
        let receipt = client.get_text(&path("runs", &self.run_id, "/receipt"), &query).await?;
        write_answer(self.file.as_deref(), &receipt)
    }
}
