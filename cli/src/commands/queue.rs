//! `queue`: what waits for workers.

use clap::Args;
use stella_api::types::{QueueDepthView, QueueView};

use super::ApiArgs;
use crate::{
    failure::Failure,
    output::{Table, duration, time_or_dash},
};

/// What waits for workers: in all, by DAG, by plugin.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch queue
  stella orch queue -o json")]
pub(crate) struct Queue {
    #[command(flatten)]
    api: ApiArgs,
}

impl Queue {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let queue: QueueView = self.api.client()?.get("/queue", &[]).await?;
        self.api.output.print(&queue, table)
    }
}

fn table(queue: &QueueView) -> String {
    let mut table =
        Table::new(&["", "QUEUED#", "RUNNING#", "BACKING OFF#", "OLDEST", "WAITS FOR#"]);
    let mut row = |name: String, depth: &QueueDepthView| {
        table.row([
            name,
            depth.queued.to_string(),
            depth.running.to_string(),
            depth.backing_off.to_string(),
            time_or_dash(depth.oldest_queued_at),
            depth.oldest_age_ms.map_or_else(|| "-".to_owned(), duration),
        ]);
    };
    row("all".into(), &queue.total);
    queue.by_dag.iter().for_each(|dag| row(format!("dag {}", dag.dag_id), &dag.depth));
    queue
        .by_plugin
        .iter()
        .for_each(|plugin| row(format!("plugin {}", plugin.plugin), &plugin.depth));
    table.text("")
}
