//! `ledger init`.

use clap::Args;
use serde::Serialize;
use stella_ledger::port::Finding;

use crate::{
    commands::storage::{StorageArgs, ledger_failure, open},
    failure::Failure,
    output::{OutputArgs, Table},
};

/// Set up a storage for ledgers (collections, indexes), and say what weakens its guarantees.
///
/// Serving does the same where it may. Run this once with a user who may create indexes when the
/// server's own user may only read and insert.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger init --ledger 'mongodb://127.0.0.1:27017/stella?replicaSet=rs0'
  stella orch ledger init --data-dir /var/lib/stella -o json")]
pub(crate) struct Init {
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What weakens the guarantees.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FindingView {
    code: &'static str,
    blocks_writes: bool,
    message: String,
}

impl Init {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let uri = self.storage.uri();
        let ledger = open(&uri).await?;
        uri.set_up().await.map_err(ledger_failure)?;
        let findings = ledger.findings().await.map_err(ledger_failure)?;
        let findings: Vec<_> = findings
            .into_iter()
            .map(|Finding { code, blocks_writes, message }| FindingView {
                code,
                blocks_writes,
                message,
            })
            .collect();
        self.output.print(&findings, |findings| {
            let mut table = Table::new(&["FOUND", "WRITES", "WHAT TO DO"]);
            for finding in findings {
                let writes = if finding.blocks_writes { "refused" } else { "possible" };
                table.row([finding.code.into(), writes.into(), finding.message.clone()]);
            }
            table.text(&format!("{uri} is set up, nothing weakens it"))
        })?;
        if findings.iter().any(|finding| finding.blocks_writes) {
            return Err(Failure::failed(format!("{uri} does not take writes as it is")));
        }
        Ok(())
    }
}
