//! Row (l): how long it takes to say how deep the queue is.

use std::{sync::Arc, time::Instant};

use stella_domain::{
    chain::{Commit, Draft, Head},
    event::{Event, RunCreated, RunEvent, RunRequest, StepQueued},
    hash::Salt,
    ids::{LedgerId, RunId, StreamId, Tenant},
    json::CanonicalJson,
    time::Timestamp,
};
use stella_ledger::{
    clock::{Clock as _, SystemClock},
    feed::Feed,
    port::Ledger,
};
use stella_projections::Projections;

use crate::{
    Failure, Place,
    figures::Figures,
    runs::{latencies, percentile_ms},
};

/// Steps of each run that waits, as many as stand in the queue at a time; DAGs that they are spread over.
const STEPS: u64 = 256;
const DAGS: u64 = 10;
const COMMITS_AT_ONCE: usize = 64;
const QUERIES: usize = 200;

/// Record runs with so many waiting steps in a ledger of their own, fold them, and ask.
pub(crate) async fn depth(place: &Place, steps: u64, figures: &mut Figures) -> Result<(), Failure> {
    let tenant: Tenant = format!("queued-{steps}").parse()?;
    fill(&*place.ledger, &tenant, steps).await?;
    let feed = Feed::new(Arc::clone(&place.ledger));
    let dir = place.dir.path().join(tenant.as_str());
    let projections = Projections::open(&dir, Arc::clone(&place.ledger), feed)?;
    projections.rebuild(&tenant, &|_| {}).await?;
    let mut latency = latencies()?;
    for _ in 0..QUERIES {
        let asked = Instant::now();
        let report = projections.queue(&tenant).await?;
        latency.saturating_record(u64::try_from(asked.elapsed().as_micros())?);
        if report.total.queued != steps {
            return Err(format!("{} of {steps} steps are queued", report.total.queued).into());
        }
    }
    for percentile in [50.0, 99.0] {
        let name = format!("(l) queue depth p{percentile:.0}, {steps} steps queued");
        figures.put(&name, "ms", place.name, percentile_ms(&latency, percentile));
    }
    projections.close().await;
    Ok(())
}

async fn fill(ledger: &dyn Ledger, tenant: &Tenant, steps: u64) -> Result<(), Failure> {
    let name = Arc::new(LedgerId { origin: "stella.local".parse()?, tenant: tenant.clone() });
    let (mut head, mut commits) = (Head::EMPTY, vec![]);
    let runs = steps.div_ceil(STEPS);
    for run in 0..runs {
        let waiting = STEPS.min(steps - run * STEPS);
        let commit = Commit::seal(&name, &head, SystemClock.now(), a_run(run, waiting)?)?;
        head = commit.head();
        commits.push(Arc::new(commit));
        if commits.len() == COMMITS_AT_ONCE || run + 1 == runs {
            ledger.append(&commits).await?;
            commits.clear();
        }
    }
    Ok(())
}

/// A run that was created, with so many steps that wait.
fn a_run(run: u64, waiting: u64) -> Result<Draft, Failure> {
    let run_id: RunId = ulid::Ulid::new().to_string().parse()?;
    let created = RunCreated {
        attempt: 0,
        concurrency: None,
        dag_digest: format!("b3:{}", "0".repeat(64)),
        dag_id: format!("dag-{}", run % DAGS).parse()?,
        dag_version: 1,
        deadline: None::<Timestamp>,
        inputs_hash: format!("b3:{}", "0".repeat(64)),
        priority: 0,
        rerun_of: None,
        schedule: None,
        spec: None,
    };
    let request = RunRequest {
        inputs: CanonicalJson::empty_object(),
        labels: [].into(),
        reason: None,
        run_token: None,
    };
    let mut events = vec![RunEvent::RunCreated(Box::new(created), Some(Box::new(request)))];
    for step in 0..waiting {
        events.push(RunEvent::StepQueued(StepQueued {
            attempt: 1,
            concurrency: None,
            deadline: None,
            plugin: "core".parse()?,
            priority: 0,
            step_id: format!("step-{step}").parse()?,
        }));
    }
    let salt = Salt::from([7; 16]);
    Ok(Draft {
        stream: StreamId::Run(run_id),
        stream_version: 1,
        actor: "user:bench".parse()?,
        events: events.into_iter().map(|event| (Event::Run(event).encode(), salt)).collect(),
    })
}
