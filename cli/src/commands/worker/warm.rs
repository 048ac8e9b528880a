//! `worker warm`.

use clap::Args;
use stella_api::types::{ReasonBody, WarmView, WarmedBundle};
use stella_domain::ids::{PluginVersion, WorkerId};

use crate::{commands::ApiArgs, failure::Failure, output::Table};

/// Load plugin bundles again.
#[derive(Debug, Args)]
#[command(after_help = "\
Bundles are loaded from their directories, with signatures and digests checked anew: those of the
server at once, those of workers in processes of their own before they next ask for work. The workers
that were asked are named, `worker list` shows which versions they have. Steps that run go on with what
they began with. A bundle that cannot be used is kept as it was: exit code 1 where that is so at the
server, an error in the worker's log elsewhere. Plugins have no secrets yet, so none are read again.

Examples:
  stella orch worker warm --reason 'scan 1.3.0'
  stella orch worker warm -o json | jq '.bundles[].version'")]
pub(crate) struct Warm {
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Warm {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let body = ReasonBody { reason: self.reason };
        let warmed: WarmView = self.api.client()?.post_long_with("/workers:warm", &body).await?;
        self.api.output.print(&warmed, table)?;
        match warmed.bundles.iter().filter(|bundle| bundle.kept_because.is_some()).count() {
            0 => Ok(()),
            n => Err(Failure::failed(format!("{n} of the server's bundles cannot be used"))
                .try_this("mend or replace what is named; until then the version before is used")),
        }
    }
}

fn table(warmed: &WarmView) -> String {
    let mut table = Table::new(&["PLUGIN", "BEFORE", "NOW", ""]);
    for bundle in &warmed.bundles {
        table.row([
            bundle.plugin.to_string(),
            version(bundle.version_before.as_ref()),
            version(bundle.version.as_ref()),
            outcome(bundle),
        ]);
    }
    let asked: Vec<&str> = warmed.workers.iter().map(WorkerId::as_str).collect();
    let asked =
        if asked.is_empty() { "no worker was heard of".to_owned() } else { asked.join(", ") };
    format!("{}\nasked:  {asked}\n", table.text("the server has no bundles of its own"))
}

fn version(version: Option<&PluginVersion>) -> String {
    version.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn outcome(bundle: &WarmedBundle) -> String {
    match &bundle.kept_because {
        Some(why) => format!("kept: {why}"),
        None if bundle.digest == bundle.digest_before => "as before".to_owned(),
        None => "loaded".to_owned(),
    }
}
