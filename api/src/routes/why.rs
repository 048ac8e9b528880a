//! Why steps wait, in words: what dispatch says, and who of the operators did it.

use std::collections::{BTreeSet, HashMap};

use stella_commands::dispatch::{Hold, Wait};
use stella_domain::ids::{DagId, RunId, StepId, Tenant};
use stella_projections::{ControlRow, Mark, StepRow, StepState};

use crate::{problem::ApiError, state::AppState, types::WaitView};

/// What is known of why some steps wait.
pub(super) struct Reasons {
    waits: HashMap<(RunId, StepId), Wait>,
    control: Option<ControlRow>,
    paused_dags: HashMap<DagId, Mark>,
    /// Whether dispatch has begun: it begins with the ledger.
    dispatching: bool,
}

impl Reasons {
    /// All there is to be known of these steps.
    pub(super) async fn gather(
        app: &AppState,
        tenant: &Tenant,
        steps: &[StepRow],
    ) -> Result<Self, ApiError> {
        // Reads go on without the ledger.
        let commands = app.record().ok().map(|record| record.commands);
        let named = steps.iter().map(|step| (&step.run_id, &step.step_id));
        let waits = commands.as_ref().map(|commands| commands.why(tenant, named.clone()));
        let waits =
            named.zip(waits.into_iter().flatten()).filter_map(|((run_id, step_id), wait)| {
                Some(((run_id.clone(), step_id.clone()), wait?))
            });
        let control = app.projections.control(tenant).await?;
        let mut paused_dags = HashMap::new();
        for dag_id in steps.iter().map(|step| &step.dag_id).collect::<BTreeSet<_>>() {
            let row = app.projections.dag(tenant, dag_id).await?;
            if let Some(mark) = row.and_then(|row| row.paused) {
                paused_dags.insert(dag_id.clone(), mark);
            }
        }
        let (waits, dispatching) = (waits.collect(), commands.is_some());
        Ok(Self { waits, control, paused_dags, dispatching })
    }

    pub(super) fn of(&self, step: &StepRow) -> WaitView {
        let wait = self.waits.get(&(step.run_id.clone(), step.step_id.clone()));
        let until = match wait {
            Some(Wait::BackingOff(until)) => Some(*until),
            _ => None,
        };
        let (code, detail) = match wait {
            Some(Wait::BackingOff(until)) => {
                let attempt = step.attempt;
                ("BACKING_OFF", format!("attempt {attempt} failed; the next is queued at {until}"))
            }
            Some(Wait::Held(hold)) => self.held(hold),
            Some(Wait::NoWorker(plugin)) => {
                let detail = format!(
                    "no worker with plugin {plugin} was heard of in the last two minutes: start one \
                     with `stella orch worker start`"
                );
                ("NO_WORKER", detail)
            }
            None if step.phase == StepState::AwaitingApproval => {
                let (run_id, step_id) = (&step.run_id, &step.step_id);
                let until = step.deadline.map(|at| format!(" until {at}")).unwrap_or_default();
                let detail = format!(
                    "it waits for an operator{until}: `stella orch run approve {run_id} {step_id}`, \
                     or reject"
                );
                ("APPROVAL", detail)
            }
            None if !self.dispatching => {
                let detail =
                    "the ledger does not answer: nothing is given to workers until it does";
                ("LEDGER_UNAVAILABLE", detail.to_owned())
            }
            // Just queued, or just leased: what dispatch knows and the read model differ a moment.
            Some(Wait::Worker) | None => {
                let detail = "the workers with its plugin are busy, or older steps and steps of \
                              higher priority go first";
                ("WORKERS_BUSY", detail.to_owned())
            }
        };
        WaitView { code: code.to_owned(), detail, until }
    }

    fn held(&self, hold: &Hold) -> (&'static str, String) {
        let control = self.control.as_ref();
        match hold {
            Hold::DispatchPaused => {
                let mark = control.and_then(|control| control.dispatch_paused.as_ref());
                ("DISPATCH_PAUSED", format!("dispatch is paused{}", by(mark)))
            }
            Hold::PluginPaused(plugin) => {
                let mark = control.and_then(|control| control.plugins_paused.get(plugin));
                ("PLUGIN_PAUSED", format!("plugin {plugin} is paused{}", by(mark)))
            }
            Hold::DagPaused(dag_id) => {
                let mark = self.paused_dags.get(dag_id);
                ("DAG_PAUSED", format!("DAG {dag_id} is paused{}", by(mark)))
            }
            Hold::Limit { scope, limit } => {
                let limits = control.map(|control| control.limits.as_slice()).unwrap_or_default();
                let mark = limits.iter().find(|row| row.value.scope == *scope).map(|row| &row.set);
                let detail = format!("{scope} runs {limit} at once at most, as set{}", by(mark));
                ("CONCURRENCY_LIMIT", detail)
            }
            Hold::Concurrency { limit, keyed } => {
                let of = if *keyed { "with the same concurrency key " } else { "" };
                let detail = format!("its DAG lets {limit} of its steps {of}run at once");
                ("CONCURRENCY_LIMIT", detail)
            }
        }
    }
}

/// Who did it, if the read model knows it yet.
fn by(mark: Option<&Mark>) -> String {
    let Some(Mark { actor, at, reason, .. }) = mark else { return String::new() };
    match reason {
        Some(reason) => format!(" by {actor} since {at}: {reason}"),
        None => format!(" by {actor} since {at}"),
    }
}
