//! `GET /runs/{runId}/ledger`: a run's events as the ledger holds them.

use axum::{Json, extract::State};
use serde::Deserialize;
use stella_domain::{
    chain::{Commit, StoredPayload},
    hash::data_hash,
    ids::{RunId, StreamId},
};
use utoipa::IntoParams;

use super::goes_on;
use crate::{
    auth::Caller,
    extract::{PageSize, Params, Segment},
    openapi::RunNotFound,
    page::PageToken,
    problem::ApiError,
    state::AppState,
    types::{EventView, Page},
};

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsParams {
    /// Events on a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 50)]
    page_size: PageSize,
    /// What the page before gave as `nextPageToken`.
    #[param(value_type = Option<String>)]
    page_token: Option<PageToken>,
}

/// List the events of a run, by seq, each with its header, data and payload.
#[utoipa::path(get, path = "/runs/{runId}/ledger", tag = "runs",
    params(("runId" = String, Path, description = "The run."), EventsParams),
    responses((status = 200, description = "A page of events.", body = Page<EventView>),
        RunNotFound))]
pub(crate) async fn list_events(
    State(app): State<AppState>,
    caller: Caller,
    Segment(run_id): Segment<RunId>,
    Params(params): Params<EventsParams>,
) -> Result<Json<Page<EventView>>, ApiError> {
    let (ledger, stream) = (app.record()?.ledger, StreamId::Run(run_id.clone()));
    let size = params.page_size.0 as usize;
    // The token names the stream version of the last event shown. Every commit has an event, so
    // that one commit more than the page has events shows whether there is another page.
    let after = params.page_token.map_or(0, |token| token.0);
    let from = after.saturating_add(1);
    let commits = ledger.read_stream(&caller.tenant, &stream, from, size + 1).await?;
    if commits.is_empty() && ledger.read_stream(&caller.tenant, &stream, 1, 1).await?.is_empty() {
        return Err(ApiError::run_not_found(&run_id));
    }
    let mut events = commits
        .iter()
        .flat_map(|commit| (0..commit.events.len()).map(move |i| (commit, i)))
        .filter(|(commit, i)| commit.stream_version + *i as u64 > after);
    let items: Vec<_> = events.by_ref().take(size).map(|(commit, i)| view(commit, i)).collect();
    let goes_on = events.next().is_some()
        || goes_on(&*ledger, &caller.tenant, &stream, &commits, size + 1).await?;
    let next = items.last().filter(|_| goes_on).map(|last| last.stream_version);
    Ok(Json(Page::with_next(items, next)))
}

/// Event `i` of a commit.
fn view(commit: &Commit, i: usize) -> EventView {
    let event = &commit.events[i];
    let prev = if i == 0 { commit.prev } else { commit.events[i - 1].hash };
    let salt = match &event.payload {
        StoredPayload::Present { salt, .. } => Some(salt.to_string()),
        StoredPayload::None | StoredPayload::Erased(_) => None,
    };
    EventView {
        seq: commit.seq + i as u64,
        hash: event.hash.to_string(),
        prev: prev.to_string(),
        ledger: commit.ledger.to_string(),
        event_type: event.event_type.to_string(),
        schema: event.schema,
        stream: commit.stream.to_string(),
        stream_version: commit.stream_version + i as u64,
        commit_seq: commit.seq,
        recorded_at: commit.recorded_at,
        actor: commit.actor.clone(),
        data_hash: data_hash(event.data.as_str()).to_string(),
        payload_hash: event.payload.hash().to_string(),
        data: event.data.clone(),
        payload: event.payload.json().cloned(),
        salt,
    }
}
