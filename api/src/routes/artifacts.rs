//! What workers hand over while they carry out a step: the log as it is written, and files.

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
};
use futures::StreamExt as _;
use serde::Deserialize;
use stella_artifacts::{ArtifactError, LiveLogs};
use stella_domain::{
    artifact::{self, Artifact},
    hash::ArtifactHasher,
    ids::{FencingToken, WorkerId},
    limits::FILE_BYTES,
};
use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
};
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    extract::{Params, Segment, media_type, read_body},
    openapi::{ArtifactRefused, LogRefused},
    problem::ApiError,
    state::AppState,
    types::{ArtifactView, LogSizeView},
};

/// How long a piece of a large body may take to arrive.
const PIECE_ARRIVES: std::time::Duration = std::time::Duration::from_secs(30);

const BYTES: &str = "application/octet-stream";
const MEDIA_TYPE_BYTES: usize = 128;

/// Where it belongs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AppendParams {
    /// Who holds the lease.
    #[param(value_type = String)]
    worker_id: WorkerId,
    /// Bytes of the log before these.
    offset: u64,
}

/// Add to a step's log.
///
/// Up to 1 MiB of it, as bytes; 16 MiB in all. Safe to repeat: what is there already is not added twice.
/// Whoever follows the log sees it at once, and its digest is part of the event that ends the attempt.
#[utoipa::path(post, path = "/leases/{token}/logs", tag = "workers",
    params(("token" = String, Path, description = "The fencing token."), AppendParams),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, description = "It is kept.", body = LogSizeView), LogRefused))]
pub(crate) async fn append_log(
    State(app): State<AppState>,
    caller: Caller,
    Segment(token): Segment<FencingToken>,
    Params(params): Params<AppendParams>,
    request: Request,
) -> Result<Json<LogSizeView>, ApiError> {
    if media_type(request.headers()) != artifact::LOG {
        return Err(ApiError::media_type(artifact::LOG));
    }
    let bytes = read_body(request.into_body()).await?;
    held(&app, &caller, &params.worker_id, &token)?;
    let live = app.artifacts.live.clone();
    let appended =
        tokio::task::spawn_blocking(move || live.append(&token, params.offset, &bytes)).await;
    let size = appended.map_err(|_| ApiError::panicked())??;
    Ok(Json(LogSizeView { size }))
}

/// Of which file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FileParams {
    /// Who holds the lease.
    #[param(value_type = String)]
    worker_id: WorkerId,
    /// Its name: 1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit.
    name: String,
    /// What it is, such as `text/csv`.
    #[serde(default = "bytes_of_any_kind")]
    #[param(default = "application/octet-stream")]
    media_type: String,
}

fn bytes_of_any_kind() -> String {
    BYTES.to_owned()
}

/// Hand over a file that a step leaves.
///
/// Up to 256 MiB. It is kept with the run; the step's outputs name it by the answer, as
/// `{"$artifact": …}`. Safe to repeat.
#[utoipa::path(post, path = "/leases/{token}/artifacts", tag = "workers",
    params(("token" = String, Path, description = "The fencing token."), FileParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "It is kept.", body = ArtifactView), ArtifactRefused))]
pub(crate) async fn put_artifact(
    State(app): State<AppState>,
    caller: Caller,
    Segment(token): Segment<FencingToken>,
    Params(params): Params<FileParams>,
    request: Request,
) -> Result<Json<ArtifactView>, ApiError> {
    if media_type(request.headers()) != BYTES {
        return Err(ApiError::media_type(BYTES));
    }
    let is_media_type = (1..=MEDIA_TYPE_BYTES).contains(&params.media_type.len())
        && params.media_type.bytes().all(|b| b.is_ascii_graphic());
    if !is_media_type {
        let detail = format!(
            "mediaType is 1 to {MEDIA_TYPE_BYTES} printable characters without spaces, such as {BYTES}"
        );
        return Err(ApiError::bad_request("INVALID_QUERY", detail));
    }
    if !artifact::is_file_name(&params.name) {
        let detail = "name is 1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit";
        return Err(ApiError::bad_request("INVALID_QUERY", detail));
    }
    held(&app, &caller, &params.worker_id, &token)?;
    let (file, digest, size) = receive(&app.artifacts.live, request.into_body()).await?;
    let (media_type, name) = (params.media_type.into(), Some(params.name.into()));
    let artifact = Artifact { digest, media_type, name, size };
    let (store, ledger) = (&app.artifacts.store, app.artifacts.ledger());
    store.put_file(ledger, &token.run_id, &artifact, file).await?;
    Ok(Json(artifact.into()))
}

/// A large body, in a file of this node without a name: nothing is left of it, however this ends.
async fn receive(
    live: &LiveLogs,
    body: Body,
) -> Result<(File, artifact::ArtifactDigest, u64), ApiError> {
    let unwritable = ArtifactError::File;
    let mut file = File::from_std(tempfile::tempfile_in(live.folder()).map_err(unwritable)?);
    let (mut hasher, mut size) = (ArtifactHasher::default(), 0);
    let mut chunks = body.into_data_stream();
    loop {
        let chunk = tokio::time::timeout(PIECE_ARRIVES, chunks.next()).await;
        let Some(chunk) = chunk.map_err(|_| ApiError::body_too_slow())? else { break };
        let chunk = chunk.map_err(|e| ApiError::bad_request("BODY_INCOMPLETE", e))?;
        size += chunk.len() as u64;
        if size > FILE_BYTES {
            return Err(ApiError::body_too_large(FILE_BYTES));
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(unwritable)?;
    }
    // Whether the last piece was written: going back to the beginning would not say.
    file.flush().await.map_err(unwritable)?;
    file.rewind().await.map_err(unwritable)?;
    Ok((file, hasher.finish().into(), size))
}

fn held(
    app: &AppState,
    caller: &Caller,
    worker_id: &WorkerId,
    token: &FencingToken,
) -> Result<(), ApiError> {
    let is_held = app.record()?.commands.holds(&caller.tenant, worker_id, token);
    if is_held { Ok(()) } else { Err(ApiError::lease_not_held(token)) }
}
