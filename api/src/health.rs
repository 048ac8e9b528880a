//! How well the parts of a node are, found out when asked.

mod schedulers;

use std::time::Duration;

use stella_domain::{ids::Tenant, limits::CLOCK_TOLERANCE_MICROS};
use tokio::time::timeout;

use crate::{
    state::AppState,
    types::{ComponentHealth, Health, HealthStatus},
};

/// How long a part may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Events that projections may be behind before somebody should look.
const LAG_EVENTS: u64 = 10_000;
/// How long a step may wait for a worker before somebody should look, in milliseconds.
const QUEUE_AGE_MS: u64 = 60_000;

type Found = (HealthStatus, String);

/// The node's health, as it is for one tenant.
pub(crate) async fn of(app: &AppState, tenant: &Tenant) -> Health {
    let (ledger, checkpoints, clock, projections, workers, schedulers) = tokio::join!(
        component("ledger", ledger(app)),
        component("checkpoints", checkpoints(app)),
        component("clock", clock(app)),
        component("projections", projections(app, tenant)),
        component("workers", workers(app, tenant)),
        component("schedulers", schedulers::schedulers(app, tenant)),
    );
    let components = vec![ledger, checkpoints, clock, projections, workers, schedulers];
    let worst = components.iter().map(|part| part.status).max();
    Health { status: worst.unwrap_or(HealthStatus::Red), components }
}

async fn component(name: &str, found: impl Future<Output = Found>) -> ComponentHealth {
    let found = timeout(ANSWERS_WITHIN, found).await;
    let (status, message) = found.unwrap_or_else(|_| {
        (HealthStatus::Red, format!("no answer within {} s", ANSWERS_WITHIN.as_secs()))
    });
    ComponentHealth { name: name.to_owned(), status, message }
}

fn green(message: impl Into<String>) -> Found {
    (HealthStatus::Green, message.into())
}

async fn ledger(app: &AppState) -> Found {
    let ledger = match app.record() {
        Ok(record) => record.ledger,
        Err(e) => return (HealthStatus::Red, e.to_string()),
    };
    match ledger.findings().await {
        Ok(findings) if findings.is_empty() => green("answers, and is set up as it should be"),
        Ok(findings) => {
            let blocked = findings.iter().any(|finding| finding.blocks_writes);
            let status = if blocked { HealthStatus::Red } else { HealthStatus::Yellow };
            let messages: Vec<String> = findings
                .into_iter()
                .map(|found| format!("{}: {}", found.code, found.message))
                .collect();
            (status, messages.join("; "))
        }
        Err(e) => (HealthStatus::Red, e.to_string()),
    }
}

/// What went wrong with signing is a finding of the ledger.
async fn checkpoints(app: &AppState) -> Found {
    let checkpoints = match app.record() {
        Ok(record) => record.checkpoints,
        Err(e) => return (HealthStatus::Red, e.to_string()),
    };
    match checkpoints.signer() {
        Err(why) => (HealthStatus::Yellow, format!("this node does not sign: {why}")),
        Ok(signer) => match signer.signed().await {
            Some(signed) => {
                let size = signed.checkpoint.size;
                let (cosigned, all) =
                    (checkpoints.cosigned_by(&signed), checkpoints.witnesses.len());
                match all {
                    0 => green(format!("{size} events are signed")),
                    _ if cosigned == all => {
                        green(format!("{size} events are signed, and cosigned by {all} witnesses"))
                    }
                    _ => {
                        let message = format!(
                            "{size} events are signed, and cosigned by {cosigned} of {all} \
                             witnesses: the ledger's findings say why"
                        );
                        (HealthStatus::Yellow, message)
                    }
                }
            }
            None => green("nothing is signed yet"),
        },
    }
}

async fn clock(app: &AppState) -> Found {
    let ledger = match app.record() {
        Ok(record) => record.ledger,
        Err(e) => return (HealthStatus::Red, e.to_string()),
    };
    let server = match ledger.server_time().await {
        Ok(Some(server)) => server,
        Ok(None) => return green("the ledger is on this machine's clock"),
        Err(e) => return (HealthStatus::Red, e.to_string()),
    };
    let skew = app.clock.now().as_micros().abs_diff(server.as_micros());
    let message = format!("{} ms from the ledger's clock", skew / 1000);
    if skew > CLOCK_TOLERANCE_MICROS.unsigned_abs() {
        (HealthStatus::Red, format!("{message}: nothing is recorded until the clocks are set"))
    } else {
        green(message)
    }
}

async fn projections(app: &AppState, tenant: &Tenant) -> Found {
    match app.projections.position(tenant).await {
        Ok(position) => {
            let lag = position.lag();
            let status = if lag > LAG_EVENTS { HealthStatus::Yellow } else { HealthStatus::Green };
            (status, format!("{lag} events behind the ledger"))
        }
        Err(e) => (HealthStatus::Red, e.to_string()),
    }
}

async fn workers(app: &AppState, tenant: &Tenant) -> Found {
    let queue = match app.projections.queue(tenant).await {
        Ok(queue) => queue,
        Err(e) => return (HealthStatus::Red, e.to_string()),
    };
    let now = app.clock.now();
    let waits_long = |queued_at| now.ms_since(queued_at) > QUEUE_AGE_MS;
    let late: Vec<&str> = queue
        .by_plugin
        .iter()
        .filter(|(_, depth)| depth.oldest_queued_at.is_some_and(waits_long))
        .map(|(plugin, _)| plugin.as_str())
        .collect();
    if late.is_empty() {
        return green(format!(
            "{} steps running, {} queued",
            queue.total.running, queue.total.queued
        ));
    }
    let plugins = late.join(", ");
    let seconds = QUEUE_AGE_MS / 1000;
    let message = format!(
        "steps have waited for plugin {plugins} for more than {seconds} s: start a worker that has \
         it, or raise its concurrency"
    );
    (HealthStatus::Yellow, message)
}
