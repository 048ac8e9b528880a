//! `ledger seal` and `ledger accept-clock-fault`: events of the ledger itself.

use clap::Args;
use stella_api::types::{ReasonBody, ReceiptView};

use crate::{
    commands::ApiArgs,
    failure::Failure,
    output::{details, time},
};

/// Record `LedgerSealed`: every time window that ends before it is closed, and can be exported.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger seal
  stella orch ledger seal --reason 'end of the quarter'")]
pub(crate) struct Seal {
    #[command(flatten)]
    record: Record,
}

/// Record that this machine's clock and the storage's, or the newest event's, are known to differ.
/// Writing goes on; `recordedAt` stands still until the clocks catch up.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger accept-clock-fault --reason 'clock was a day ahead, set right'")]
pub(crate) struct AcceptClockFault {
    #[command(flatten)]
    record: Record,
}

#[derive(Debug, Args)]
struct Record {
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Seal {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.record.post("/ledger:seal").await
    }
}

impl AcceptClockFault {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.record.post("/ledger:accept-clock-fault").await
    }
}

impl Record {
    async fn post(self, path: &str) -> Result<(), Failure> {
        let body = ReasonBody { reason: self.reason };
        let answer = self.api.client()?.post(path, &[], &body).await?;
        self.api.output.print(&answer.body, |receipt: &ReceiptView| {
            details(&[
                ("seq", receipt.seq.to_string()),
                ("recorded", time(receipt.recorded_at)),
                ("hash", receipt.hash.clone()),
            ])
        })
    }
}
