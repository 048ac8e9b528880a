//! `ledger init`.

use clap::Args;
use serde::Serialize;
use stella_ledger::{
    mongo::{APPEND_ONLY_ROLE, MadeRole, RoleError},
    port::Finding,
    uri::LedgerUri,
};

use crate::{
    commands::storage::{StorageArgs, ledger_failure, open},
    failure::Failure,
    output::{OutputArgs, Table, note},
};

/// Set up a storage for ledgers (collections, indexes), and say what weakens its guarantees.
///
/// Serving does the same where it may. Run this once with a user who may create indexes when the
/// server's own user may only read and insert. With --role it makes the role for such a user:
/// MongoDB then refuses to change or remove what was recorded, whoever has the server's password.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger init --ledger 'mongodb://127.0.0.1:27017/stella?replicaSet=rs0'
  stella orch ledger init --role --ledger 'mongodb://root:PASSWORD@db1/stella?replicaSet=rs0&authSource=admin'
  stella orch ledger init --data-dir /var/lib/stella -o json")]
pub(crate) struct Init {
    #[command(flatten)]
    storage: StorageArgs,
    /// Make a MongoDB role that may find and insert in this ledger's database, and nothing else
    /// [default name: stellaAppendOnly]. Needs a user with userAdmin there.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = APPEND_ONLY_ROLE)]
    role: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What weakens the guarantees.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FindingView {
    code: &'static str,
    blocks_writes: bool,
    message: String,
}

/// Findings as they are printed.
pub(super) fn views(findings: Vec<Finding>) -> Vec<FindingView> {
    let view =
        |Finding { code, blocks_writes, message }| FindingView { code, blocks_writes, message };
    findings.into_iter().map(view).collect()
}

/// Findings for people.
pub(super) fn findings_table(findings: &[FindingView]) -> Table {
    let mut table = Table::new(&["FOUND", "WRITES", "WHAT TO DO"]);
    for finding in findings {
        let writes = if finding.blocks_writes { "refused" } else { "possible" };
        table.row([finding.code.into(), writes.into(), finding.message.clone()]);
    }
    table
}

impl Init {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let uri = self.storage.uri();
        if self.role.is_some() && matches!(uri, LedgerUri::Sqlite(_)) {
            return Err(role_failure(RoleError::NoRoles));
        }
        let ledger = open(&uri).await?;
        uri.set_up().await.map_err(ledger_failure)?;
        if let Some(name) = &self.role {
            let made = uri.make_role(name).await.map_err(role_failure)?;
            note(role_note(name, &made));
        }
        let findings = ledger.findings().await.map_err(ledger_failure)?;
        let findings = views(findings);
        self.output.print(&findings, |findings| {
            let table = findings_table(findings);
            table.text(&format!("{uri} is set up, nothing weakens it"))
        })?;
        if findings.iter().any(|finding| finding.blocks_writes) {
            return Err(Failure::failed(format!("{uri} does not take writes as it is")));
        }
        Ok(())
    }
}

fn role_failure(error: RoleError) -> Failure {
    let what = error.to_string();
    match error {
        RoleError::Ledger(error) => ledger_failure(error),
        RoleError::NoRoles => Failure::usage(what).try_this("leave out --role"),
        RoleError::MayNot { .. } | RoleError::Differs { .. } => Failure::failed(what),
    }
}

/// What to do with the role.
fn role_note(name: &str, MadeRole { database, is_new }: &MadeRole) -> String {
    let made = if *is_new { "is made" } else { "was there, and grants just this" };
    format!(
        "role {name} of the database {database} {made}: find, insert and listIndexes on ledger, \
         tiles and checkpoints, listCollections, nothing else. A user for the server, in mongosh:
  use {database}
  db.createUser({{ user: \"stella-server\", pwd: passwordPrompt(), roles: [\"{name}\"] }})
and a server that refuses to start with more than that:
  stella orch serve --strict --ledger 'mongodb://stella-server:PASSWORD@HOST/{database}?replicaSet=NAME'
What is found below is about the user of this command."
    )
}
