//! `GET /runs:compare`: two runs, side by side.

mod outputs;

use std::collections::HashMap;

use axum::{Json, extract::State};
use serde::Deserialize;
use stella_domain::ids::{RunId, StepId, Tenant};
use stella_projections::{PageRequest, RunRow, StepRow, StepState};
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    extract::Params,
    openapi::RunNotFound,
    problem::ApiError,
    state::AppState,
    types::{
        CompareVerdict, FactComparison, FirstDifference, MAX_PAGE_SIZE, OutputsComparison,
        RunComparison, StepComparison, StepSide,
    },
};

/// Steps of a run that are compared: more than a list and the steps around it.
const COMPARED: usize = 20_000;
/// Bytes of their outputs, and a page more.
const COMPARED_BYTES: usize = 64 * 1024 * 1024;
/// Steps that are listed: with more, those that differ.
const LISTED: usize = 1_000;

/// Facts that come before the steps: what a run was given. The others say how it ended.
const GIVEN: usize = 4;

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CompareParams {
    /// The first run.
    #[param(value_type = String)]
    a: RunId,
    /// The second run.
    #[param(value_type = String)]
    b: RunId,
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
}

/// Compare two runs: version, inputs, and step by step what carried them out and what came of them;
/// where they first differ.
///
/// As far as they have come, if they go on. Versions and digests of plugins are compared where they
/// are recorded in both.
#[utoipa::path(get, path = "/runs:compare", tag = "runs", params(CompareParams),
    responses((status = 200, description = "The two, the same or not.", body = RunComparison),
        RunNotFound))]
pub(crate) async fn compare_runs(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<CompareParams>,
) -> Result<Json<RunComparison>, ApiError> {
    super::reach(&app, &caller.tenant, params.min_seq).await?;
    // Both as they are now: one that has just ended is not to look as if it went on.
    super::catch_up(&app, &caller.tenant).await?;
    let a = side(&app, &caller.tenant, &params.a).await?;
    let b = side(&app, &caller.tenant, &params.b).await?;
    Ok(Json(compare(a, b)))
}

/// A run and its steps, in the order in which they were first queued.
struct Side {
    run: RunRow,
    steps: Vec<StepRow>,
    /// Whether these are all of them.
    whole: bool,
}

async fn side(app: &AppState, tenant: &Tenant, run_id: &RunId) -> Result<Side, ApiError> {
    let run = super::row(app, tenant, run_id).await?;
    let (mut steps, mut after) = (vec![], None);
    let (mut whole, mut bytes) = (false, 0);
    while steps.len() < COMPARED && bytes < COMPARED_BYTES {
        let page = PageRequest { after, size: MAX_PAGE_SIZE };
        let page = app.projections.steps(tenant, run_id, page).await?;
        let outputs = page.items.iter().filter_map(|step| step.outputs.as_ref());
        bytes += outputs.map(|outputs| outputs.as_str().len()).sum::<usize>();
        steps.extend(page.items);
        after = page.next;
        whole = after.is_none();
        if whole {
            break;
        }
    }
    Ok(Side { run, steps, whole })
}

/// Two runs, side by side. Pure.
fn compare(a: Side, b: Side) -> RunComparison {
    let facts = facts(&a.run, &b.run);
    let erased = a.run.erased_seq.is_some() || b.run.erased_seq.is_some();
    let mut others: HashMap<StepId, &StepRow> =
        b.steps.iter().map(|step| (step.step_id.clone(), step)).collect();
    let mut steps = vec![];
    for step in &a.steps {
        let other = others.remove(&step.step_id);
        steps.push(step_of(&step.step_id, Some(step), other, erased));
    }
    let alone = b.steps.iter().filter(|step| others.contains_key(&step.step_id));
    steps.extend(alone.map(|step| step_of(&step.step_id, None, Some(step), erased)));

    let first_difference = first_difference(&facts, &steps);
    let unknown = steps.iter().any(|step| step.outputs == OutputsComparison::Erased);
    let whole = a.whole && b.whole;
    let verdict = match &first_difference {
        Some(_) => CompareVerdict::Different,
        None if !whole => CompareVerdict::SameAsFarAsCompared,
        None if unknown => CompareVerdict::SameAsFarAsKept,
        None => CompareVerdict::Same,
    };
    let (a, b) = (a.run.into(), b.run.into());
    let steps_compared = steps.len() as u64;
    if steps.len() > LISTED {
        steps.retain(|step| !step.differs.is_empty());
        steps.truncate(LISTED);
    }
    RunComparison { verdict, first_difference, a, b, facts, steps, steps_compared, whole }
}

/// In the order in which a difference counts as the first.
fn facts(a: &RunRow, b: &RunRow) -> Vec<FactComparison> {
    type Fact = fn(&RunRow) -> String;
    let facts: [(&str, Fact); 7] = [
        ("dagId", |run| run.dag_id.to_string()),
        ("dagVersion", |run| run.dag_version.to_string()),
        ("dagDigest", |run| run.dag_digest.clone()),
        ("inputsHash", |run| run.inputs_hash.clone()),
        ("status", |run| run.status.as_str().to_owned()),
        ("errorCode", |run| run.error_code.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("failedStep", |run| run.failed_step.as_ref().map(ToString::to_string).unwrap_or_default()),
    ];
    let fact = |(name, fact): (&str, Fact)| {
        let (a, b) = (fact(a), fact(b));
        FactComparison { name: name.to_owned(), same: a == b, a, b }
    };
    facts.into_iter().map(fact).collect()
}

fn first_difference(facts: &[FactComparison], steps: &[StepComparison]) -> Option<FirstDifference> {
    let fact = |fact: &FactComparison| {
        (!fact.same).then(|| FirstDifference { step_id: None, what: fact.name.clone() })
    };
    let step = |step: &StepComparison| {
        let what = step.differs.first()?.clone();
        Some(FirstDifference { step_id: Some(step.step_id.clone()), what })
    };
    let (given, ends) = facts.split_at(GIVEN.min(facts.len()));
    let given = given.iter().find_map(fact);
    given.or_else(|| steps.iter().find_map(step)).or_else(|| ends.iter().find_map(fact))
}

/// One step; who has it not never queued it.
fn step_of(
    step_id: &StepId,
    a: Option<&StepRow>,
    b: Option<&StepRow>,
    erased: bool,
) -> StepComparison {
    let given = |step: Option<&StepRow>| step.and_then(|step| step.outputs.clone());
    let (outputs_a, outputs_b) = (given(a), given(b));
    let succeeded = [a, b].into_iter().flatten().any(|row| row.phase == StepState::Succeeded);
    let outputs = match (&outputs_a, &outputs_b) {
        (Some(a), Some(b)) if a == b => OutputsComparison::Same,
        (Some(_), Some(_)) => OutputsComparison::Different,
        _ if erased && succeeded => OutputsComparison::Erased,
        (None, None) => OutputsComparison::None,
        (Some(_), None) | (None, Some(_)) => OutputsComparison::Different,
    };
    let outputs_differ = outputs_a.zip(outputs_b).and_then(|(a, b)| outputs::first(&a, &b));
    let differs = match (a, b) {
        (Some(a), Some(b)) => [
            ("plugin", a.plugin != b.plugin),
            ("pluginVersion", both_differ(a.plugin_version.as_ref(), b.plugin_version.as_ref())),
            ("pluginDigest", both_differ(a.plugin_digest.as_ref(), b.plugin_digest.as_ref())),
            ("phase", a.phase != b.phase),
            ("attempt", a.attempt != b.attempt),
            ("errorCode", a.error_code != b.error_code),
            ("outputs", outputs == OutputsComparison::Different),
        ]
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| name.to_owned())
        .collect(),
        _ => vec!["queued".to_owned()],
    };
    let (a, b) = (a.map(StepSide::from), b.map(StepSide::from));
    StepComparison { step_id: step_id.clone(), differs, a, b, outputs, outputs_differ }
}

/// What is not recorded in one of the two, as of a worker that does not say it, is no difference.
fn both_differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a != b)
}

impl From<&StepRow> for StepSide {
    fn from(row: &StepRow) -> Self {
        Self {
            plugin: row.plugin.clone(),
            plugin_digest: row.plugin_digest.clone(),
            plugin_version: row.plugin_version.clone(),
            phase: row.phase.into(),
            attempt: row.attempt,
            error_code: row.error_code.clone(),
            waited_ms: row.started_at.map(|started| started.ms_since(row.queued_at)),
            took_ms: row.started_at.zip(row.ended_at).map(|(start, end)| end.ms_since(start)),
        }
    }
}
