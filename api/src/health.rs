//! How well the parts of a node are, found out when asked.

mod queue;
mod schedulers;

use std::time::Duration;

use stella_domain::{
    ids::{PluginName, Tenant},
    limits::CLOCK_TOLERANCE_MICROS,
};
use stella_projections::{Mark, QueueDepth};
use tokio::time::timeout;

pub(crate) use self::queue::stuck;
use crate::{
    state::AppState,
    types::{ComponentHealth, Health, HealthStatus},
};

/// How long a part may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Events that projections may be behind before somebody should look.
const LAG_EVENTS: u64 = 10_000;
/// How long a step may wait while no worker has its plugin, in milliseconds.
const UNSERVED_MS: u64 = 10_000;
/// Things of a kind that a message names.
const NAMED: usize = 5;

type Found = (HealthStatus, String);

/// The node's health, as it is for one tenant.
pub(crate) async fn of(app: &AppState, tenant: &Tenant) -> Health {
    let (ledger, checkpoints, clock, artifacts, projections, queue, workers, schedulers) = tokio::join!(
        component("ledger", ledger(app)),
        component("checkpoints", checkpoints(app)),
        component("clock", clock(app)),
        component("artifacts", artifacts(app)),
        component("projections", projections(app, tenant)),
        component("queue", queue::queue(app, tenant)),
        component("workers", workers(app, tenant)),
        component("schedulers", schedulers::schedulers(app, tenant)),
    );
    let components =
        vec![ledger, checkpoints, clock, artifacts, projections, queue, workers, schedulers];
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

async fn artifacts(app: &AppState) -> Found {
    match app.artifacts.store.answers().await {
        Ok(()) => green(format!("{} answers", app.artifacts.store.place())),
        // Runs whose values are small go on.
        Err(e) => (HealthStatus::Yellow, e.to_string()),
    }
}

async fn projections(app: &AppState, tenant: &Tenant) -> Found {
    if let Ok(Some(why)) = app.projections.stopped(tenant).await {
        return (HealthStatus::Red, format!("they stand still: {why}"));
    }
    match app.projections.position(tenant).await {
        Ok(position) => {
            let lag = position.lag();
            let status = if lag > LAG_EVENTS { HealthStatus::Yellow } else { HealthStatus::Green };
            (status, format!("{lag} events behind the ledger"))
        }
        Err(e) => (HealthStatus::Red, e.to_string()),
    }
}

/// Whether there are workers for what waits.
async fn workers(app: &AppState, tenant: &Tenant) -> Found {
    let commands = match app.record() {
        Ok(record) => record.commands,
        Err(e) => return (HealthStatus::Red, e.to_string()),
    };
    let waiting = match app.projections.queue(tenant).await {
        Ok(queue) => queue.by_plugin.into_iter().filter(|(_, depth)| depth.queued > 0),
        Err(e) => return (HealthStatus::Red, e.to_string()),
    };
    let (workers, now) = (commands.workers(tenant), app.clock.now());
    let has = |plugin: &PluginName| {
        workers.iter().any(|worker| worker.plugins.iter().any(|has| has.name == *plugin))
    };
    // One that was restarted, or whose server was, asks for work again within moments.
    let waits_long = |depth: &QueueDepth| {
        depth.oldest_queued_at.is_some_and(|since| now.ms_since(since) > UNSERVED_MS)
    };
    let unserved = waiting.filter(|(plugin, depth)| waits_long(depth) && !has(plugin));
    let unserved: Vec<String> =
        unserved.map(|(plugin, depth)| format!("{plugin} ({} steps wait)", depth.queued)).collect();
    let seen = format!("{} heard of in the last two minutes", workers.len());
    if unserved.is_empty() {
        return green(seen);
    }
    (HealthStatus::Yellow, format!("{seen}; none has the plugin {}", names(&unserved)))
}

/// The first of them, and how many more there are.
fn names(found: &[String]) -> String {
    let more = found.len().saturating_sub(NAMED);
    let named = found.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// Who did it, when and why.
pub(crate) fn told(mark: &Mark) -> String {
    let reason = mark.reason.as_deref().filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("since {} by {}{reason}", mark.at, mark.actor)
}
