//! `ledger copy`.

use clap::Args;
use serde::Serialize;
use stella_domain::ids::Tenant;
use stella_ledger::{
    copy::{CopyError, copy},
    uri::{LedgerUri, Storage},
};

use crate::{
    commands::storage::{connect, connect_existing, ledger_failure},
    failure::Failure,
    output::{Format, OutputArgs, Progress, Table, json},
};

/// Ledgers that are copied at most when no tenant is named.
const MAX_TENANTS: usize = 100_000;

/// Copy ledgers from one storage to another, unchanged, with their checkpoints: every hash stays as it
/// is.
///
/// Stop the server first, so that nothing is recorded in the old place meanwhile. A copy that was
/// interrupted goes on where it stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger copy --from sqlite:stella-data/ledger.db --to 'mongodb://127.0.0.1:27017/stella?replicaSet=rs0'
  stella orch ledger copy --from sqlite:old.db --to sqlite:new.db --tenant main")]
pub(crate) struct Copy {
    /// Where they are.
    #[arg(long, value_name = "URI")]
    from: LedgerUri,
    /// Where they shall be.
    #[arg(long, value_name = "URI")]
    to: LedgerUri,
    /// Only this tenant's; every tenant's otherwise.
    #[arg(long, value_name = "NAME")]
    tenant: Option<Tenant>,
    #[command(flatten)]
    output: OutputArgs,
}

/// One ledger that was copied.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CopiedLedger {
    tenant: Tenant,
    events: u64,
    already_there: u64,
    checkpoints: u64,
    head: String,
}

impl Copy {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        if self.from == self.to {
            return Err(Failure::usage("--from and --to are the same storage"));
        }
        let source = connect_existing(&self.from).await?;
        let target = connect(&self.to).await?;
        let tenants = match self.tenant {
            Some(tenant) => vec![tenant],
            None => source.ledger.tenants(MAX_TENANTS).await.map_err(ledger_failure)?,
        };
        let mut copied = Vec::new();
        for tenant in tenants {
            copied.push(copy_one(&source, &target, tenant).await?);
        }
        target.ledger.close().await;
        match self.output.format {
            Format::Json => copied.iter().try_for_each(json),
            Format::Table => self.output.print(&copied, |copied| table(copied)),
        }
    }
}

async fn copy_one(
    source: &Storage,
    target: &Storage,
    tenant: Tenant,
) -> Result<CopiedLedger, Failure> {
    let total = source.ledger.head(&tenant).await.map_err(ledger_failure)?.next_seq;
    let progress = Progress::events("copying", total);
    let copied = copy(source, target, &tenant, |done| progress.set(done, total.max(done)))
        .await
        .map_err(|error| {
            let what = error.to_string();
            match error {
                CopyError::Source(error) | CopyError::Target(error) => ledger_failure(error),
                CopyError::Broken(_)
                | CopyError::NotAsSigned { .. }
                | CopyError::Shorter { .. } => Failure::not_verified(what),
                CopyError::Differs { .. } => Failure::failed(what),
                CopyError::Refused(_) => Failure::unavailable(what),
            }
        })?;
    let head = copied.head;
    Ok(CopiedLedger {
        tenant,
        events: head.next_seq,
        already_there: copied.already_there,
        checkpoints: copied.checkpoints,
        head: head.hash.to_string(),
    })
}

fn table(copied: &[CopiedLedger]) -> String {
    let mut table = Table::new(&["TENANT", "EVENTS#", "ALREADY THERE#", "CHECKPOINTS#", "HEAD"]);
    for ledger in copied {
        table.row([
            ledger.tenant.to_string(),
            ledger.events.to_string(),
            ledger.already_there.to_string(),
            ledger.checkpoints.to_string(),
            ledger.head.clone(),
        ]);
    }
    table.text("there are no ledgers to copy")
}
