//! `POST /runs`: start a run, and wait for its end if asked to.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use stella_commands::{Commands, engine::NewRun};
use stella_domain::json::CanonicalJson;
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    extract::{JsonBody, Params, Wait},
    openapi::{PREFIX, RunRefused},
    problem::ApiError,
    state::AppState,
    types::{StartRunBody, StartedRun},
};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// How to start.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StartParams {
    /// Answer when the run has ended, or after this long, `1s` to `60s`: look at `status`.
    #[param(value_type = Option<String>, example = "10s")]
    wait: Option<Wait>,
}

/// Start a run.
///
/// With a `runToken` this can be repeated: the same run comes back, with status 200 and
/// `Idempotent-Replayed: true`. With `wait` the answer comes when the run has ended; when the wait
/// runs out first, the status code is the same and `status` says where the run stands.
#[utoipa::path(post, path = "/runs", tag = "runs", params(StartParams), request_body = StartRunBody,
    responses(
        (status = 201, description = "The run was created.", body = StartedRun,
            headers(("Location" = String, description = "Path of the run."))),
        (status = 200, description = "A run of this token was there already.", body = StartedRun,
            headers(("Idempotent-Replayed" = String, description = "`true`."),
                ("Location" = String, description = "Path of the run."))),
        RunRefused))]
pub(crate) async fn start_run(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<StartParams>,
    JsonBody(body): JsonBody<StartRunBody>,
) -> Result<Response, ApiError> {
    let run = new_run(&caller, body);
    let commands = app.record()?.commands;
    // Before the start, so that no end is missed.
    let end = params.wait.map(|wait| (commands.run_end(&caller.tenant, &run.run_id), wait.0));
    let written = app.artifacts.start_run(&commands, &caller.actor, run).await?;
    let end = match end {
        Some((end, wait)) if !written.answer.status.is_ended() => {
            super::ended(&app, end, wait).await
        }
        _ => None,
    };
    StartedRun::of(written, end).map(answer)
}

fn new_run(caller: &Caller, body: StartRunBody) -> NewRun {
    NewRun {
        run_id: Commands::run_id(&caller.tenant, body.run_token.as_ref()),
        attempt: 0,
        rerun_of: None,
        reason: body.reason,
        schedule: None,
        dag_id: body.dag_id,
        dag_version: body.dag_version,
        inputs: body.inputs.unwrap_or_else(CanonicalJson::empty_object),
        given: None,
        labels: body.labels,
        priority: body.priority,
        run_token: body.run_token,
    }
}

fn answer(run: StartedRun) -> Response {
    let replayed = run.replayed;
    let status = if replayed { StatusCode::OK } else { StatusCode::CREATED };
    let location = HeaderValue::try_from(format!("{PREFIX}/runs/{}", run.run_id));
    let mut response = (status, Json(run)).into_response();
    // A run id is letters and digits, so this is always a header value.
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}
