//! `queue`: how much waits, what is held back, which plugins are stuck.

use std::fmt::Write as _;

use clap::Args;
use stella_api::types::{ControlView, QueueDepthView, QueueView};

use crate::{
    commands::ApiArgs,
    failure::Failure,
    output::{Table, by, duration, time, time_or_dash},
};

/// How much waits.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    api: ApiArgs,
}

impl Status {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let queue: QueueView = self.api.client()?.get("/queue", &[]).await?;
        self.api.output.print(&queue, text)
    }
}

fn text(queue: &QueueView) -> String {
    let mut text = table(queue);
    for line in held_back(&queue.control) {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\n{line}");
    }
    for dag in &queue.paused_dags {
        let _ = write!(text, "\nDAG {} is paused {}", dag.dag_id, by(&dag.paused));
    }
    for stuck in &queue.stuck {
        let (age, usual) = (duration(stuck.oldest_age_ms), duration(stuck.usual_ms));
        let which = stuck.run_id.as_ref().zip(stuck.step_id.as_ref());
        let which = which.map_or(String::new(), |(run, step)| format!(", {step} of run {run},"));
        let plugin = &stuck.plugin;
        let _ = write!(
            text,
            "\nstuck: a step of plugin {plugin}{which} runs for {age}, usual is {usual}"
        );
    }
    text
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

fn held_back(control: &ControlView) -> Vec<String> {
    let mut lines = vec![];
    if let Some(mark) = &control.dispatch_paused {
        lines.push(format!("dispatch is paused {}", by(mark)));
    }
    for plugin in &control.plugins_paused {
        lines.push(format!("plugin {} is paused {}", plugin.plugin, by(&plugin.paused)));
    }
    if let Some(mark) = &control.schedulers_paused {
        lines.push(format!("schedulers are paused {}", by(mark)));
    }
    match &control.drain {
        Some(drain) if drain.ended.is_none() => {
            lines.push(format!("draining, no run is admitted {}", by(&drain.started)));
        }
        Some(drain) if drain.emptied == Some(true) => {
            let ended = drain.ended.as_ref().map_or(String::new(), |ended| time(ended.at));
            lines.push(format!("drained: nothing was left at {ended}"));
        }
        Some(_) | None => {}
    }
    for limit in &control.limits {
        let of = match (&limit.dag_id, &limit.plugin) {
            (Some(dag_id), _) => format!("DAG {dag_id}"),
            (None, Some(plugin)) => format!("plugin {plugin}"),
            (None, None) => "all".to_owned(),
        };
        lines.push(format!("limit: {of}: {} at once {}", limit.limit, by(&limit.set)));
    }
    lines
}
