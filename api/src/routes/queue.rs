//! What waits for workers, and why; which workers there are.

use std::collections::HashMap;

use axum::{Json, extract::State};
use serde::Deserialize;
use stella_domain::{
    dag::{DagSpec, Step},
    event::LimitScope,
    ids::{DagId, PluginName, RunId, StepId},
    time::Timestamp,
};
use stella_projections::{
    ControlRow, DagRow, DrainRow, LimitRow, Mark, QueueDepth, RunRow, StepRow, StepState,
    WaitingFilter,
};
use utoipa::IntoParams;

use super::why::Reasons;
use crate::{
    auth::Caller,
    extract::{PageSize, Params, Segment},
    health,
    openapi::RunNotFound,
    page::{self, PageToken},
    problem::ApiError,
    state::AppState,
    types::{
        ControlView, DagQueueView, DescribedPlugin, DrainView, LimitView, MarkView, Page,
        PausedDagView, PausedPluginView, PluginQueueView, QueueDepthView, QueueView, WaitView,
        WaitingStepView, WaitingStepsView, WorkerView, WorkersView,
    },
};

/// Steps of a run that are listed as waiting.
const WAITING: usize = 1_000;

/// From which state to answer.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QueueParams {
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
}

/// Which waiting steps.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitingParams {
    /// Of this DAG.
    #[param(value_type = Option<String>)]
    dag_id: Option<DagId>,
    /// For this plugin.
    #[param(value_type = Option<String>)]
    plugin: Option<PluginName>,
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
    /// Steps on a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 50)]
    page_size: PageSize,
    /// What the page before gave as `nextPageToken`.
    #[param(value_type = Option<String>)]
    page_token: Option<PageToken>,
}

/// How much waits for workers, and for how long: in all, by DAG, by plugin; what is held back; which
/// plugins take far longer than usual.
#[utoipa::path(get, path = "/queue", tag = "queue", params(QueueParams),
    responses((status = 200, description = "The queue.", body = QueueView)))]
pub(crate) async fn get_queue(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<QueueParams>,
) -> Result<Json<QueueView>, ApiError> {
    super::runs::reach(&app, &caller.tenant, params.min_seq).await?;
    let report = app.projections.queue(&caller.tenant).await?;
    let control = app.projections.control(&caller.tenant).await?;
    let paused = app.projections.paused_dags(&caller.tenant).await?;
    let running = app.projections.running(&caller.tenant).await?;
    let now = app.clock.now();
    let by_dag = report.by_dag.into_iter();
    let by_plugin = report.by_plugin.into_iter();
    Ok(Json(QueueView {
        total: view(report.total, now),
        by_dag: by_dag.map(|(dag_id, d)| DagQueueView { dag_id, depth: view(d, now) }).collect(),
        by_plugin: by_plugin
            .map(|(plugin, d)| PluginQueueView { plugin, depth: view(d, now) })
            .collect(),
        control: control.map(ControlView::from).unwrap_or_default(),
        paused_dags: paused.into_iter().filter_map(paused_dag).collect(),
        stuck: health::stuck(running, now),
    }))
}

/// List steps that wait for a worker or for their next attempt, each with the reason why; those that
/// were queued first come first.
#[utoipa::path(get, path = "/queue/steps", tag = "queue", params(WaitingParams),
    responses((status = 200, description = "A page of steps.", body = Page<WaitingStepView>)))]
pub(crate) async fn list_waiting(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<WaitingParams>,
) -> Result<Json<Page<WaitingStepView>>, ApiError> {
    super::runs::reach(&app, &caller.tenant, params.min_seq).await?;
    let filter = WaitingFilter { dag_id: params.dag_id, plugin: params.plugin };
    let page = page::request(params.page_size, params.page_token);
    let found = app.projections.waiting(&caller.tenant, &filter, page).await?;
    let reasons = Reasons::gather(&app, &caller.tenant, &found.items).await?;
    let items = found.items.into_iter().map(|row| waiting(row, &reasons)).collect();
    Ok(Json(Page::with_next(items, found.next)))
}

/// Say of every step of a run that neither runs nor has ended why it waits.
#[utoipa::path(get, path = "/runs/{runId}/waiting", tag = "runs",
    params(("runId" = String, Path, description = "The run."), QueueParams),
    responses((status = 200, description = "The steps, in the order of the DAG.",
        body = WaitingStepsView), RunNotFound))]
pub(crate) async fn list_waiting_of_run(
    State(app): State<AppState>,
    caller: Caller,
    Segment(run_id): Segment<RunId>,
    Params(params): Params<QueueParams>,
) -> Result<Json<WaitingStepsView>, ApiError> {
    super::runs::reach(&app, &caller.tenant, params.min_seq).await?;
    let run = super::runs::row(&app, &caller.tenant, &run_id).await?;
    if run.status.is_ended() {
        return Ok(Json(WaitingStepsView { items: vec![] }));
    }
    let (dag_id, number) = (&run.dag_id, run.dag_version);
    let version = app.projections.dag_version(&caller.tenant, dag_id, number).await?;
    let version = version.ok_or_else(|| ApiError::dag_version_not_found(dag_id, number, number))?;
    let spec = DagSpec::from_stored(&version.spec)?;
    let mut rows: HashMap<StepId, StepRow> = HashMap::new();
    let mut request = page::request(PageSize::MAX, None::<PageToken>);
    loop {
        let page = app.projections.steps(&caller.tenant, &run_id, request).await?;
        rows.extend(page.items.into_iter().map(|row| (row.step_id.clone(), row)));
        request.after = page.next;
        if request.after.is_none() {
            break;
        }
    }
    let queued: Vec<StepRow> = rows.values().filter(|row| is_waiting(row)).cloned().collect();
    let reasons = Reasons::gather(&app, &caller.tenant, &queued).await?;
    let items = spec.steps().iter().filter_map(|step| match rows.get(&step.id) {
        Some(row) => is_waiting(row).then(|| waiting(row.clone(), &reasons)),
        None => {
            let needs = step.needs.iter().map(|need| &spec.step(*need).id);
            let unmet = needs.filter(|id| rows.get(id).is_none_or(|row| !is_done(row)));
            Some(needing(&run, step, &unmet.map(StepId::as_str).collect::<Vec<_>>()))
        }
    });
    let mut of_lists: Vec<&StepRow> =
        rows.values().filter(|row| spec.index_of(&row.step_id).is_none()).collect();
    of_lists.sort_by_key(|row| row.seq);
    let of_lists = of_lists.into_iter().filter(|row| is_waiting(row));
    let items = items.chain(of_lists.map(|row| waiting(row.clone(), &reasons)));
    Ok(Json(WaitingStepsView { items: items.take(WAITING).collect() }))
}

/// List the workers that were heard of in the last two minutes.
#[utoipa::path(get, path = "/workers", tag = "workers",
    responses((status = 200, description = "The workers.", body = WorkersView)))]
pub(crate) async fn list_workers(
    State(app): State<AppState>,
    caller: Caller,
) -> Result<Json<WorkersView>, ApiError> {
    let seen = app.record()?.commands.workers(&caller.tenant).into_iter();
    let items = seen.map(|worker| WorkerView {
        worker_id: worker.worker_id,
        plugins: worker.plugins.iter().cloned().map(DescribedPlugin::from).collect(),
        seen_at: worker.seen_at,
    });
    Ok(Json(WorkersView { items: items.collect() }))
}

fn is_waiting(row: &StepRow) -> bool {
    matches!(row.phase, StepState::Queued | StepState::BackingOff | StepState::AwaitingApproval)
}

fn is_done(row: &StepRow) -> bool {
    matches!(row.phase, StepState::Succeeded | StepState::Skipped | StepState::Failed)
}

fn waiting(row: StepRow, reasons: &Reasons) -> WaitingStepView {
    WaitingStepView {
        why: reasons.of(&row),
        run_id: row.run_id,
        step_id: row.step_id,
        dag_id: row.dag_id,
        plugin: row.plugin,
        priority: row.priority,
        attempt: row.attempt,
        queued_at: Some(row.queued_at),
    }
}

/// A step that was never queued.
fn needing(run: &RunRow, step: &Step, unmet: &[&str]) -> WaitingStepView {
    let detail = match unmet {
        [] => "its turn comes: a run queues so many steps at a time".to_owned(),
        unmet => format!("it needs {}", unmet.join(", ")),
    };
    WaitingStepView {
        run_id: run.run_id.clone(),
        step_id: step.id.clone(),
        dag_id: run.dag_id.clone(),
        plugin: step.action().map(|action| action.plugin.clone()),
        priority: run.priority,
        attempt: 0,
        queued_at: None,
        why: WaitView { code: "NEEDS".to_owned(), detail, until: None },
    }
}

fn view(depth: QueueDepth, now: Timestamp) -> QueueDepthView {
    QueueDepthView {
        queued: depth.queued,
        running: depth.running,
        backing_off: depth.backing_off,
        oldest_queued_at: depth.oldest_queued_at,
        oldest_age_ms: depth.oldest_queued_at.map(|queued_at| now.ms_since(queued_at)),
    }
}

fn paused_dag(row: DagRow) -> Option<PausedDagView> {
    Some(PausedDagView { dag_id: row.dag_id, paused: row.paused?.into() })
}

impl From<Mark> for MarkView {
    fn from(Mark { actor, at, reason, seq }: Mark) -> Self {
        Self { actor, at, reason, seq }
    }
}

impl From<ControlRow> for ControlView {
    fn from(row: ControlRow) -> Self {
        let paused = row.plugins_paused.into_iter();
        Self {
            dispatch_paused: row.dispatch_paused.map(MarkView::from),
            plugins_paused: paused
                .map(|(plugin, mark)| PausedPluginView { plugin, paused: mark.into() })
                .collect(),
            schedulers_paused: row.schedulers_paused.map(MarkView::from),
            drain: row.drain.map(DrainView::from),
            limits: row.limits.into_iter().filter_map(limit).collect(),
        }
    }
}

impl From<DrainRow> for DrainView {
    fn from(row: DrainRow) -> Self {
        Self {
            started: row.started.into(),
            then_pause: row.then_pause,
            ended: row.ended.map(MarkView::from),
            emptied: row.emptied,
        }
    }
}

fn limit(row: LimitRow) -> Option<LimitView> {
    let (dag_id, plugin) = match row.value.scope {
        LimitScope::Tenant => (None, None),
        LimitScope::Dag(dag_id) => (Some(dag_id), None),
        LimitScope::Plugin(plugin) => (None, Some(plugin)),
    };
    Some(LimitView { dag_id, plugin, limit: row.value.limit?, set: row.set.into() })
}
