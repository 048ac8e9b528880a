//! `POST /add-checkpoint`, with the answers that C2SP tlog-witness has for it.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use stella_domain::witness::{SIZE_MEDIA_TYPE, SUBMISSION_BYTES, WitnessRefusal};
use tower_http::catch_panic::CatchPanicLayer;

use super::{NotCosigned, Witness};

/// How long a submission may take to arrive.
const BODY_ARRIVES: Duration = Duration::from_secs(10);

/// The routes of a witness.
pub(super) fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .fallback(async || text(StatusCode::NOT_FOUND, "a witness has POST /add-checkpoint alone"))
        .layer(CatchPanicLayer::new())
        .with_state(witness)
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Body) -> Response {
    let body = axum::body::to_bytes(body, SUBMISSION_BYTES);
    let Ok(body) = tokio::time::timeout(BODY_ARRIVES, body).await else {
        return text(StatusCode::REQUEST_TIMEOUT, "the submission did not arrive within 10 s");
    };
    let Ok(body) = body else {
        let why = format!("a submission has at most {SUBMISSION_BYTES} bytes");
        return text(StatusCode::PAYLOAD_TOO_LARGE, &why);
    };
    let Ok(submission) = String::from_utf8(body.into()) else {
        return text(StatusCode::BAD_REQUEST, "the submission is not UTF-8");
    };
    // To its end, also when whoever asked has gone: what is remembered and what is on the disk
    // must not come apart.
    let judged = tokio::spawn(async move { witness.add_checkpoint(&submission).await });
    match judged.await {
        Ok(Ok(line)) => {
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response()
        }
        Ok(Err(refused)) => refusal(&refused),
        Err(panicked) => {
            tracing::error!(%panicked, "judging a submission ended badly");
            text(StatusCode::INTERNAL_SERVER_ERROR, "see the witness's log")
        }
    }
}

fn refusal(refused: &NotCosigned) -> Response {
    let status = match refused {
        NotCosigned::NotKept(_) => StatusCode::INTERNAL_SERVER_ERROR,
        NotCosigned::Refused { refusal, .. } => match refusal {
            WitnessRefusal::OtherSize { size } => {
                let size_type = [(header::CONTENT_TYPE, SIZE_MEDIA_TYPE)];
                return (StatusCode::CONFLICT, size_type, format!("{size}\n")).into_response();
            }
            WitnessRefusal::Malformed { .. }
            | WitnessRefusal::Note(_)
            | WitnessRefusal::OldBeyondNew { .. } => StatusCode::BAD_REQUEST,
            WitnessRefusal::UnknownLog(_) => StatusCode::NOT_FOUND,
            WitnessRefusal::NotSigned(_) => StatusCode::FORBIDDEN,
            WitnessRefusal::Fork { seen, size, .. } if seen.size == *size => StatusCode::CONFLICT,
            WitnessRefusal::Fork { .. } | WitnessRefusal::NotConsistent { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
        },
    };
    text(status, &refused.to_string())
}

fn text(status: StatusCode, why: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{why}\n"))
        .into_response()
}
