//! `ledger head`.

use clap::Args;
use stella_api::types::LedgerHead;

use super::head_details;
use crate::{commands::ApiArgs, failure::Failure};

/// Where the ledger ends: how many events, and the hash of the newest, which stands for all.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger head
  stella orch ledger head -o json | jq -r .hash")]
pub(crate) struct Head {
    #[command(flatten)]
    api: ApiArgs,
}

impl Head {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let head: LedgerHead = self.api.client()?.get("/ledger/head", &[]).await?;
        self.api.output.print(&head, head_details)
    }
}
