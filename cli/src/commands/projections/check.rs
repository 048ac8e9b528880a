//! `projections check`.

use clap::Args;
use stella_api::types::CheckReport;

use crate::{
    commands::ApiArgs,
    failure::Failure,
    output::{Progress, Table},
};

/// Compare the read models in use with a fresh fold of the same events, by digest; exit code 4
/// when they differ. The server goes on meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch projections check
  stella orch projections check -o json")]
pub(crate) struct Check {
    #[command(flatten)]
    api: ApiArgs,
}

impl Check {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let bar = Progress::waiting("checking");
        let checked = client.post_long("/admin/projections:check").await;
        drop(bar);
        let report: CheckReport = checked?;
        self.api.output.print(&report, table)?;
        if report.identical {
            return Ok(());
        }
        Err(Failure::not_verified("the read models are not what the ledger gives")
            .try_this("build them anew: `stella orch projections rebuild --online`"))
    }
}

fn table(report: &CheckReport) -> String {
    let mut table = Table::new(&["MODEL", "", "IN USE", "REBUILT"]);
    for model in &report.models {
        let same = if model.identical { "identical" } else { "DIFFERENT" };
        table.row([
            model.model.clone(),
            same.into(),
            shortened(&model.live),
            shortened(&model.rebuilt),
        ]);
    }
    format!("{}\nfolded from {} events", table.text("no models").trim_end(), report.position)
}

/// The beginning of a digest; `-o json` has all of it.
fn shortened(digest: &str) -> String {
    digest.get(..16).unwrap_or(digest).to_owned()
}
