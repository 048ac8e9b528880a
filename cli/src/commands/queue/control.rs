//! `queue pause`, `queue resume`, `queue drain`, `queue limit`: what operators hold back.

use std::{num::NonZeroU32, time::Duration};

use clap::Args;
use stella_api::types::{
    ApprovalView, ChangedControl, DagView, DrainBody, LimitBody, QueueBody, QueueDepthView,
    QueueView, WorkersView,
};
use stella_domain::ids::{DagId, PluginName};

use crate::{
    client::Client,
    commands::ApiArgs,
    failure::Failure,
    output::{details, note},
};

/// How often the queue is looked at while a drain is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Steps that wait for an operator are counted so far.
const APPROVALS_COUNTED: usize = 500;

/// Lease no step, or none of a plugin. What runs goes on, and runs are still admitted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch queue pause --reason 'database maintenance'
  stella orch queue pause --plugin scanner --reason 'its registry is down'")]
pub(super) struct Pause {
    #[command(flatten)]
    scope: Scope,
}

/// Lease steps again. Without --plugin this also ends a drain.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch queue resume
  stella orch queue resume --plugin scanner --reason 'its registry is back'")]
pub(super) struct Resume {
    #[command(flatten)]
    scope: Scope,
}

/// Admit no run until those that there are have ended; what waits goes oldest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch queue drain --reason 'work off the backlog'
  stella orch queue drain --then-pause --wait --reason 'before the upgrade'")]
pub(super) struct Drain {
    /// Pause dispatch once nothing is left, instead of going on as before.
    #[arg(long)]
    then_pause: bool,
    /// Wait until nothing is left, and say how much still is.
    #[arg(long)]
    wait: bool,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// Limit how many steps run at once: of all, of a DAG, or of a plugin.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch queue limit 50
  stella orch queue limit 2 --plugin scanner --reason 'two licences'
  stella orch queue limit --lift --dag nightly")]
pub(super) struct Limit {
    /// Steps that run at once at most.
    #[arg(value_name = "N", value_parser = at_least_one)]
    limit: Option<NonZeroU32>,
    /// Lift the limit.
    #[arg(long, conflicts_with = "limit")]
    lift: bool,
    /// Of this DAG.
    #[arg(long, value_name = "DAG", conflicts_with = "plugin")]
    dag: Option<DagId>,
    /// Of this plugin.
    #[arg(long)]
    plugin: Option<PluginName>,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Args)]
struct Scope {
    /// Of this plugin only.
    #[arg(long)]
    plugin: Option<PluginName>,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Pause {
    pub(super) async fn run(self) -> Result<(), Failure> {
        self.scope.ask("/queue:pause").await
    }
}

impl Resume {
    pub(super) async fn run(self) -> Result<(), Failure> {
        self.scope.ask("/queue:resume").await
    }
}

impl Scope {
    async fn ask(self, path: &str) -> Result<(), Failure> {
        let client = self.api.client()?;
        let body = QueueBody { plugin: self.plugin, reason: self.reason };
        let answer = client.post(path, &[], &body).await?;
        print_control(&self.api, &answer.body)?;
        note_if_unknown_plugin(&client, body.plugin.as_ref()).await;
        Ok(())
    }
}

impl Drain {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let body = DrainBody { then_pause: self.then_pause.then_some(true), reason: self.reason };
        let mut answer: ChangedControl = client.post("/queue:drain", &[], &body).await?.body;
        let mut min_seq = answer.seq;
        let mut said = String::new();
        while self.wait && answer.draining {
            let query: Vec<_> =
                min_seq.take().map(|seq| ("minSeq", seq.to_string())).into_iter().collect();
            let QueueView { total, control, .. } = client.get("/queue", &query).await?;
            answer.draining = control.drain.is_some_and(|drain| drain.ended.is_none());
            answer.dispatch_paused = control.dispatch_paused.is_some();
            if answer.draining {
                let asked = client.list("/approvals", &[], APPROVALS_COUNTED).await?;
                let left = left(&total, &asked);
                if left != said {
                    note(format_args!("draining: {left}"));
                    said = left;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        print_control(&self.api, &answer)
    }
}

fn at_least_one(text: &str) -> Result<NonZeroU32, String> {
    let what =
        "a limit is a number, 1 or more; `queue pause` lets nothing run, --lift takes it away";
    text.parse().map_err(|_| what.to_owned())
}

/// What a drain still waits for: nobody else would say that it is an operator.
fn left(depth: &QueueDepthView, asked: &[ApprovalView]) -> String {
    let QueueDepthView { queued, backing_off, running, .. } = depth;
    let left = format!("{} step(s) wait, {running} run", queued + backing_off);
    match asked.len() {
        0 => left,
        n => {
            let or_more = if n == APPROVALS_COUNTED { " or more" } else { "" };
            format!("{left}, {n}{or_more} wait for an operator (`stella orch run approvals`)")
        }
    }
}

impl Limit {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { limit, dag: dag_id, plugin, reason, api, lift } = self;
        if limit.is_none() && !lift {
            return Err(Failure::usage("it is not said how many steps may run at once")
                .try_this("give a number, or --lift: `stella orch queue limit 50`"));
        }
        let client = api.client()?;
        let body = LimitBody { dag_id, plugin, limit, reason };
        let answer = client.post("/queue:limit", &[], &body).await?;
        print_control(&api, &answer.body)?;
        if let Some(dag_id) = &body.dag_id {
            note_if_unknown_dag(&client, dag_id).await;
        }
        note_if_unknown_plugin(&client, body.plugin.as_ref()).await;
        Ok(())
    }
}

/// It may be meant, ahead of the DAG's registration; more often it is a slip. What was asked for is done:
/// that this cannot be found out is no failure of it.
async fn note_if_unknown_dag(client: &Client, dag_id: &DagId) {
    let dags: Result<Vec<DagView>, _> = client.list("/dags", &[], usize::MAX).await;
    let Ok(dags) = dags else { return };
    if dags.iter().all(|dag| dag.dag_id != *dag_id) {
        note(format_args!("note: there is no DAG {dag_id} yet: see `stella orch dag list`"));
    }
}

/// As for a DAG: no worker has it, and no step has waited for it.
async fn note_if_unknown_plugin(client: &Client, plugin: Option<&PluginName>) {
    let Some(plugin) = plugin else { return };
    let Ok(queue) = client.get::<QueueView>("/queue", &[]).await else { return };
    let Ok(workers) = client.get::<WorkersView>("/workers", &[]).await else { return };
    let mut has = workers.items.iter().flat_map(|worker| &worker.plugins);
    let used = queue.by_plugin.iter().any(|of| of.plugin == *plugin);
    if !used && has.all(|has| has.name != *plugin) {
        note(format_args!(
            "note: no worker has a plugin {plugin}, and no step waited for it: see `stella orch \
             worker list`"
        ));
    }
}

/// What is held back after a command.
pub(crate) fn print_control(api: &ApiArgs, control: &ChangedControl) -> Result<(), Failure> {
    api.output.print(control, |control| {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let plugins: Vec<&str> = control.plugins_paused.iter().map(PluginName::as_str).collect();
        let plugins = if plugins.is_empty() { "-".to_owned() } else { plugins.join(", ") };
        details(&[
            ("dispatch paused", yes(control.dispatch_paused)),
            ("plugins paused", plugins),
            ("schedulers paused", yes(control.schedulers_paused)),
            ("draining", yes(control.draining)),
            ("seq", control.seq.map_or("- (nothing to change)".to_owned(), |seq| seq.to_string())),
        ])
    })
}
