//! Row (g): streams of a hundred events, loaded cold as the write side loads them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};
use stella_domain::{
    aggregate::{Aggregate as _, Run},
    dag::DagSpec,
    event::{DagEvent, Event, RunEvent},
    ids::{RunId, StreamId, Tenant},
};
use stella_ledger::{port::Ledger, recorded::Recorded};

use crate::{Failure, server::Server};

const STREAMS: usize = 1_000;
/// 33 steps of three events, the run's first and its last.
const STEPS: usize = 33;
const EVENTS: u64 = 101;
const CALLERS: usize = 2;
/// Streams of a read where many commands wait for one.
pub(crate) const GATHERED: usize = 64;

/// Streams to be loaded, all of one DAG version.
pub(crate) struct Streams {
    runs: Vec<RunId>,
    spec: Arc<DagSpec>,
}

/// Runs that have ended, of 101 events in 34 commits each.
pub(crate) async fn hundred_events(
    server: &Server,
    ledger: &Arc<dyn Ledger>,
    tenant: &Tenant,
) -> Result<Streams, Failure> {
    server.register_chain("hundred", STEPS).await?;
    let clients = (0..64).map(|_| async {
        let mut client = server.client().await?;
        let mut runs = vec![];
        for _ in 0..STREAMS.div_ceil(64) {
            let body = r#"{"dagId":"hundred","inputs":{}}"#;
            let (status, answer) = client.call(Method::POST, "/runs?wait=30s", body).await?;
            let answer: serde_json::Value = serde_json::from_slice(&answer)?;
            if status != StatusCode::CREATED || answer["status"] != "succeeded" {
                return Err(format!("{status}: {answer}").into());
            }
            runs.push(answer["runId"].as_str().unwrap_or_default().parse()?);
        }
        Ok::<_, Failure>(runs)
    });
    let runs: Vec<RunId> = futures::future::try_join_all(clients).await?.concat();
    let first = StreamId::Run(runs.first().ok_or("no runs")?.clone());
    let commits = ledger.read_streams(tenant, &[first]).await?;
    let events: usize = commits.iter().map(|commit| commit.events.len()).sum();
    if events as u64 != EVENTS {
        return Err(format!("a stream has {events} events instead of {EVENTS}").into());
    }
    Ok(Streams { runs, spec: spec(&**ledger, tenant).await? })
}

async fn spec(ledger: &dyn Ledger, tenant: &Tenant) -> Result<Arc<DagSpec>, Failure> {
    let stream = StreamId::Dag("hundred".parse()?);
    for commit in ledger.read_streams(tenant, &[stream]).await? {
        for event in Recorded::decode(commit)?.events {
            if let Event::Dag(DagEvent::DagVersionRegistered(version)) = event {
                return Ok(Arc::new(DagSpec::from_stored(&version.spec)?));
            }
        }
    }
    Err("the DAG is not in the ledger".into())
}

/// Read, verify, decode and fold streams, `at_once` in one read as the writer does when so many
/// commands wait for runs that are not in memory; loads per second.
pub(crate) async fn cold_loads(
    ledger: &Arc<dyn Ledger>,
    tenant: &Tenant,
    streams: &Streams,
    at_once: usize,
    time: Duration,
) -> Result<f64, Failure> {
    let started = Instant::now();
    let deadline = started + time;
    let callers = (0..CALLERS).map(|caller| {
        let (ledger, tenant) = (Arc::clone(ledger), tenant.clone());
        let own = streams.runs.iter().skip(caller).step_by(CALLERS);
        let (own, spec): (Vec<RunId>, _) = (own.cloned().collect(), Arc::clone(&streams.spec));
        tokio::spawn(async move {
            let mut loads = 0;
            for runs in own.chunks(at_once).cycle() {
                if Instant::now() >= deadline {
                    break;
                }
                load(&*ledger, &tenant, runs, &spec).await.map_err(|e| e.to_string())?;
                loads += runs.len();
            }
            Ok::<usize, String>(loads)
        })
    });
    let mut loads = 0;
    for caller in futures::future::join_all(callers).await {
        loads += caller??;
    }
    Ok(loads as f64 / started.elapsed().as_secs_f64())
}

async fn load(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    runs: &[RunId],
    spec: &Arc<DagSpec>,
) -> Result<(), Failure> {
    let streams: Vec<StreamId> = runs.iter().cloned().map(StreamId::Run).collect();
    let mut folded: HashMap<StreamId, Run> = HashMap::new();
    for commit in ledger.read_streams(tenant, &streams).await? {
        let recorded = Recorded::decode(commit)?;
        if !folded.contains_key(&recorded.commit.stream) {
            folded.insert(recorded.commit.stream.clone(), Run::default());
        }
        // Put there just above.
        let Some(run) = folded.get_mut(&recorded.commit.stream) else { continue };
        for event in recorded.events {
            let Event::Run(mut event) = event else { return Err("not an event of a run".into()) };
            if let RunEvent::RunCreated(created, _) = &mut event {
                created.spec = Some(Arc::clone(spec));
            }
            run.evolve(&event);
        }
    }
    match folded.iter().find(|(_, run)| run.version != EVENTS) {
        Some((stream, run)) => Err(format!("{stream} has {} events", run.version).into()),
        None if folded.len() < runs.len() => Err("a stream is missing".into()),
        None => Ok(()),
    }
}
