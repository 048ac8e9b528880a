//! `worker list`.

use clap::Args;
use stella_api::types::{DescribedPlugin, WorkersView};

use crate::{
    commands::ApiArgs,
    failure::Failure,
    output::{Table, time},
};

/// Workers that the server heard of in the last two minutes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch worker list
  stella orch worker list -o json")]
pub(crate) struct List {
    #[command(flatten)]
    api: ApiArgs,
}

impl List {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let workers: WorkersView = self.api.client()?.get("/workers", &[]).await?;
        self.api.output.print(&workers, |workers| {
            let mut table = Table::new(&["WORKER", "HEARD OF", "PLUGINS"]);
            for worker in &workers.items {
                let plugins: Vec<String> = worker.plugins.iter().map(plugin).collect();
                let (name, seen) = (worker.worker_id.to_string(), time(worker.seen_at));
                table.row([name, seen, plugins.join(", ")]);
            }
            table.text("no worker was heard of: start one with `stella orch worker start`")
        })
    }
}

/// Its name, and its version where the worker says it.
fn plugin(plugin: &DescribedPlugin) -> String {
    let name = &plugin.name;
    plugin.version.as_ref().map_or_else(|| name.to_string(), |version| format!("{name} {version}"))
}
