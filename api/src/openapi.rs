//! The OpenAPI 3.1 document, from the handlers themselves and from what holds for all of them.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        self, Content, HeaderBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Type,
        path::{Operation, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    routes::{dag_versions, runs, schedules, workers},
    types::{PROBLEM_JSON, Problem, StreamLink, StreamMessage},
};

/// Where everything but the probes stands.
pub(crate) const PREFIX: &str = "/api/v1/orchestrator";

/// What the handlers do not say.
#[derive(OpenApi)]
#[openapi(
    info(title = "Stella orchestrator", description = "An event-sourced DAG orchestrator. Errors \
        are problem details (RFC 9457); `code` is stable."),
    components(schemas(Problem, StreamMessage, StreamLink)),
    security(("accessToken" = [])),
    modifiers(&AccessTokenScheme)
)]
pub(crate) struct Document;

/// The verbs, which the router knows only together.
#[derive(OpenApi)]
#[openapi(paths(
    runs::cancel::cancel_run,
    runs::rerun::rerun_run,
    runs::approval::approve_step,
    runs::approval::reject_step,
    dag_versions::roll_back_dag,
    dag_versions::pause_dag,
    dag_versions::resume_dag,
    dag_versions::clear_dag_version,
    dag_versions::activate_dag_version,
    dag_versions::disable_dag_version,
    dag_versions::enable_dag_version,
    schedules::update_schedule,
    schedules::trigger_schedule,
    schedules::pause_schedule,
    schedules::resume_schedule,
    schedules::clear_schedule,
    schedules::backfill_schedule,
    schedules::cancel_backfill,
    schedules::delete_schedule,
    workers::renew_lease,
    workers::complete_lease,
    workers::fail_lease
))]
pub(crate) struct Verbs;

struct AccessTokenScheme;

impl Modify for AccessTokenScheme {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("What `stella orch serve` writes to its token file."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("accessToken", SecurityScheme::Http(scheme));
    }
}

/// Declares problems that several routes answer with.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $description:literal,)+ })+) => {
        $(
            $(#[$doc])*
            pub(crate) enum $name {}

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    [$(($status, $description)),+]
                        .map(|(status, text): (u16, &str)| {
                            (status.to_string(), problem(status, text).into())
                        })
                        .into()
                }
            }
        )+
    };
}

problems! {
    /// Starting a run.
    RunRefused {
        404: "`DAG_NOT_FOUND`, `DAG_VERSION_NOT_FOUND`.",
        409: "`RUN_TOKEN_CONFLICT`: the token started another run; `detail` names both. \
              `DAG_VERSION_DISABLED`, `DAG_PAUSED`.",
        422: "`INPUTS_INVALID`: `errors` lists the violations, the first hundred; `detail` says how many. `LABEL_REFUSED`, `EVENT_TOO_LARGE`, \
              `ARTIFACT_UNKNOWN`.",
    }
    /// Adding to a log.
    LogRefused {
        409: "`LEASE_NOT_HELD`, `LEASE_ENDED`. `LOG_GAP`: what comes before is missing; `detail` says \
              where to begin.",
        422: "`LOG_TOO_LARGE`: leave out what is in the middle.",
        503: "`ARTIFACT_STORE_UNAVAILABLE`, `LEDGER_UNAVAILABLE` and others that pass: try again.",
    }
    /// Handing over a file.
    ArtifactRefused {
        409: "`LEASE_NOT_HELD`.",
        413: "`BODY_TOO_LARGE`: more than 256 MiB.",
        503: "`ARTIFACT_STORE_UNAVAILABLE`, `LEDGER_UNAVAILABLE` and others that pass: try again.",
    }
    /// Reading a log.
    NoLog {
        404: "`RUN_NOT_FOUND`, `STEP_NOT_FOUND`. `ARTIFACT_NOT_FOUND`: it is recorded, and not in the \
              artifact store.",
        500: "`ARTIFACT_DAMAGED`: it is not what was recorded.",
        503: "`ARTIFACT_STORE_UNAVAILABLE` and others that pass: try again.",
    }
    /// Reading an artifact.
    NoArtifact {
        404: "`ARTIFACT_NOT_FOUND`: it is not in the artifact store.",
        503: "`ARTIFACT_STORE_UNAVAILABLE` and others that pass: try again.",
    }
    /// Draining the queue.
    DrainRefused {
        409: "`DISPATCH_PAUSED`: resume it first, or nothing would be worked off.",
    }
    /// Pausing a DAG, or letting it go on.
    DagNotPaused {
        404: "`DAG_NOT_FOUND`.",
    }
    /// Cancelling the runs of a version.
    DagVersionNotCleared {
        404: "`DAG_NOT_FOUND`, `DAG_VERSION_NOT_FOUND`.",
        409: "`DAG_VERSION_ENABLED`: disable it first, or more of its runs start.",
    }
    /// Naming a schedule.
    ScheduleNotFound {
        404: "`SCHEDULE_NOT_FOUND`.",
    }
    /// Naming a schedule, and why something is done to it.
    ScheduleUnchanged {
        404: "`SCHEDULE_NOT_FOUND`.",
    }
    /// Creating a schedule.
    ScheduleExists {
        404: "`DAG_NOT_FOUND`, `DAG_VERSION_NOT_FOUND`.",
        409: "`SCHEDULE_EXISTS`: there is another one of this id.",
        422: "`SCHEDULE_INVALID`, `INPUTS_INVALID`: `errors` lists everything. `EVENT_TOO_LARGE`.",
    }
    /// Changing a schedule.
    ScheduleRefused {
        404: "`SCHEDULE_NOT_FOUND`, `DAG_NOT_FOUND`, `DAG_VERSION_NOT_FOUND`.",
        422: "`SCHEDULE_INVALID`, `INPUTS_INVALID`: `errors` lists everything. `EVENT_TOO_LARGE`.",
    }
    /// Firing a schedule.
    ScheduleNotTriggered {
        404: "`SCHEDULE_NOT_FOUND`.",
    }
    /// Asking for a backfill.
    BackfillRefused {
        404: "`SCHEDULE_NOT_FOUND`.",
        409: "`BACKFILL_UNDER_WAY`: wait for its end, or cancel it.",
        422: "`BACKFILL_EMPTY`, `BACKFILL_TOO_LARGE`.",
    }
    /// Running a run again.
    RerunRefused {
        404: "`RUN_NOT_FOUND`, `DAG_VERSION_NOT_FOUND`.",
        409: "`RUN_NOT_ENDED`; `INPUTS_ERASED`: start a new run. `RUN_TOKEN_CONFLICT`, \
              `DAG_VERSION_DISABLED`, `DAG_PAUSED`.",
        422: "`INPUTS_INVALID`: they do not fit this version. `EVENT_TOO_LARGE`.",
    }
    /// Running again what has ended in a window.
    BulkRerunRefused {
        422: "`TOO_MANY_RUNS`: narrow the filter, or raise `cap`.",
    }
    /// Naming a run.
    RunNotFound {
        404: "`RUN_NOT_FOUND`.",
    }
    /// Deciding about an approval.
    NotApproved {
        404: "`RUN_NOT_FOUND`, `STEP_NOT_FOUND`.",
        409: "`STEP_NOT_AWAITING_APPROVAL`; `APPROVAL_DECIDED`: the opposite was decided.",
    }
    /// Naming a DAG.
    DagNotFound {
        404: "`DAG_NOT_FOUND`.",
    }
    /// Naming a version of a DAG.
    DagVersionNotFound {
        404: "`DAG_NOT_FOUND`, `DAG_VERSION_NOT_FOUND`.",
    }
    /// Making a version of a DAG the active one.
    DagVersionRefused {
        404: "`DAG_NOT_FOUND`, `DAG_VERSION_NOT_FOUND`.",
        409: "`DAG_VERSION_DISABLED`: enable it first.",
    }
    /// Rolling back to a version of a DAG.
    DagNotRolledBack {
        404: "`DAG_NOT_FOUND`, `DAG_VERSION_NOT_FOUND`.",
        409: "`DAG_VERSION_DISABLED`: enable it first. `DAG_VERSION_NOT_OLDER`: activate it.",
    }
    /// Disabling or enabling a version of a DAG.
    DagVersionUnchanged {
        404: "`DAG_NOT_FOUND`, `DAG_VERSION_NOT_FOUND`.",
    }
    /// Reporting what came of a lease.
    LeaseNotHeld {
        404: "`RUN_NOT_FOUND`, `LEASE_NOT_FOUND`.",
        409: "`FENCING_TOKEN_STALE`, `LEASE_NOT_HELD`, `LEASE_ENDED`: drop the step.",
    }
    /// Reporting that a step is done.
    ReportRefused {
        404: "`RUN_NOT_FOUND`, `LEASE_NOT_FOUND`.",
        409: "`FENCING_TOKEN_STALE`, `LEASE_NOT_HELD`, `LEASE_ENDED`: drop the step.",
        422: "`EVENT_TOO_LARGE`: put many small members into one. `ARTIFACT_UNKNOWN`: hand it over first.",
    }
    /// Giving a DAG spec.
    SpecRefused {
        400: "`MALFORMED_TEXT` (not UTF-8), `BODY_INCOMPLETE`.",
        422: "`SPEC_INVALID`: `errors` lists everything that is wrong, with the text or the spec.",
    }
    /// Erasing the payloads of a run.
    NotErased {
        404: "`RUN_NOT_FOUND`.",
        409: "`RUN_NOT_ENDED`; `NOTHING_TO_ERASE`: somebody removed the payloads before.",
        422: "`REASON_REFUSED`: it has 1 to 1024 bytes.",
        501: "`ERASURE_NOT_CONFIGURED`: this server has no credential that may; nothing was \
              recorded.",
        503: "`ERASURE_REFUSED`: the storage refuses its credential, nothing was recorded. \
              `ERASURE_PENDING`: recorded, and carried out as soon as the storage lets it. \
              `LEDGER_UNAVAILABLE`, `OUTCOME_UNKNOWN` and others that pass: try again.",
    }
    /// Exporting a window.
    WindowOpen {
        409: "`WINDOW_OPEN`: no event at or after `to` yet; seal the ledger.",
    }
    /// Asking for the proof of a window.
    NoWindowProof {
        409: "`WINDOW_OPEN`: no event at or after `to` yet; seal the ledger. \
              `CHECKPOINT_BEYOND_LEDGER`: `since` is larger than the ledger. `SIGNED_ELSEWHERE`, \
              `SIGNING_KEY_MISSING`, `SIGNING_KEY_UNUSABLE`.",
        422: "`TOO_MANY_ERASURES`: export shorter windows. `TOO_FEW_WITNESSES`: the server has fewer \
              than `witnessesNeeded`.",
        503: "`NOT_SIGNED_YET`, `NOT_COSIGNED_YET`: no checkpoint reaches so far, or none has the \
              cosignatures that are asked for.",
    }
    /// Asking for a checkpoint, or for a proof from one.
    CheckpointNotFound {
        404: "`CHECKPOINT_NOT_FOUND`: none was signed of this size, or none at all yet.",
    }
    /// Signing.
    NotSigning {
        409: "`SIGNED_ELSEWHERE`, `SIGNING_KEY_MISSING`, `SIGNING_KEY_UNUSABLE`: `detail` says \
              which key signs, and what to do.",
    }
    /// Rotating the signing key.
    KeyNotRotated {
        409: "`SIGNED_ELSEWHERE`, `SIGNING_KEY_MISSING`, `SIGNING_KEY_UNUSABLE`, \
              `KEY_ROTATION_REFUSED`.",
    }
    /// Asking for a receipt.
    NoReceipt {
        404: "`RUN_NOT_FOUND`.",
        409: "`SIGNED_ELSEWHERE`, `SIGNING_KEY_MISSING`, `SIGNING_KEY_UNUSABLE`.",
        422: "`RECEIPT_TOO_LARGE`: export the run's time window. `TOO_FEW_WITNESSES`: the server has \
              fewer than `witnessesNeeded`.",
        503: "`NOT_SIGNED_YET`, `NOT_COSIGNED_YET`: no checkpoint reaches so far, or none has the \
              cosignatures that are asked for.",
    }
    /// Streaming.
    UpgradeRequired {
        426: "`UPGRADE_REQUIRED`: the request asks neither for a WebSocket nor, with `Accept: \
              text/event-stream`, for Server-Sent Events.",
    }
    /// Being asked for readiness.
    NotReady {
        503: "`NOT_READY`: `detail` names the parts that are not well.",
    }
    /// Every request.
    Everywhere {
        403: "`ORIGIN_REFUSED`: web pages may not call this server.",
        421: "`UNKNOWN_HOST`: this server answers to loopback names only.",
    }
    /// Every request that needs the access token.
    Authenticated {
        401: "`UNAUTHORIZED`.",
        500: "A fault of this node or its storage; its log says more.",
        503: "`LEDGER_UNAVAILABLE`, `OUTCOME_UNKNOWN`, `CLOCK_FAULT`, `PROJECTION_BEHIND`, `QUEUE_DRAINING` and \
              others that pass: try again.",
    }
    /// Every request with parameters.
    Parameterised {
        400: "`INVALID_PATH`, `INVALID_QUERY` or another code that says what is wrong.",
    }
    /// Every request with parameters and a body.
    ParameterisedBody {
        400: "`INVALID_PATH`, `INVALID_QUERY`, `MALFORMED_TEXT`, `MALFORMED_JSON` (not I-JSON), \
              `INVALID_BODY`, `BODY_INCOMPLETE`.",
    }
    /// Every request with a body.
    WithBody {
        400: "`MALFORMED_TEXT`, `MALFORMED_JSON` (not I-JSON), `INVALID_BODY`, `BODY_INCOMPLETE`.",
        408: "`BODY_TIMEOUT`.",
        413: "`BODY_TOO_LARGE`: more than 1 MiB.",
        415: "`UNSUPPORTED_MEDIA_TYPE`.",
    }
}

fn problem(status: u16, description: &str) -> Response {
    let schema = Ref::from_schema_name("Problem");
    let response = ResponseBuilder::new()
        .description(description)
        .content(PROBLEM_JSON, Content::new(Some(schema)));
    let header = match status {
        401 => Some(("WWW-Authenticate", Type::String)),
        503 => Some(("Retry-After", Type::Integer)),
        _ => None,
    };
    match header {
        Some((name, kind)) => response
            .header(name, HeaderBuilder::new().schema(Some(Object::with_type(kind))).build()),
        None => response,
    }
    .build()
}

/// Add to every operation what holds for all of its kind.
pub(crate) fn complete(mut document: openapi::OpenApi) -> openapi::OpenApi {
    for (path, item) in &mut document.paths.paths {
        let takes_path = path.contains('{');
        for operation in operations(item) {
            let open = operation.security.is_some();
            let parameters = takes_path || operation.parameters.is_some();
            let body = operation.request_body.is_some();
            add(operation, Everywhere::responses());
            if !open {
                add(operation, Authenticated::responses());
            }
            if body && parameters {
                add(operation, ParameterisedBody::responses());
            }
            if body {
                add(operation, WithBody::responses());
            } else if parameters {
                add(operation, Parameterised::responses());
            }
        }
    }
    document
}

fn add(operation: &mut Operation, responses: BTreeMap<String, RefOr<Response>>) {
    for (status, response) in responses {
        operation.responses.responses.entry(status).or_insert(response);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post].into_iter().flatten()
}
