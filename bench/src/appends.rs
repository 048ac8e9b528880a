//! Rows (a), (b) and (g): the writer against raw inserts of the very documents it writes, and cold
//! loads of streams.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use mongodb::{
    Client, Collection, IndexModel,
    bson::{RawDocumentBuf, doc},
    options::{Acknowledgment, IndexOptions, WriteConcern},
};
use stella_domain::{
    chain::{Commit, Head},
    event::{Event, RunEvent, StepAttempt, StepQueued, StepStarted},
    ids::{Actor, RunId, StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::{
    clock::SystemClock,
    feed::Feed,
    port::{AppendError, Finding, Ledger, LedgerError, Prepared},
    recorded::Recorded,
    snapshots::NoSnapshots,
    writer::{Decided, Decider, Decision, Writer, WriterConfig},
};

use crate::Failure;

/// Writes one commit of three events, each time to a stream of its own.
struct ThreeEvents;

impl Decider for ThreeEvents {
    type Command = RunId;
    type Answer = ();
    type Effect = ();
    type Fold = ();

    fn fold(_: &StreamId, _: &str) -> Option<()> {
        None
    }

    fn missing(&self, _: &Tenant, _: &RunId) -> Vec<StreamId> {
        vec![]
    }
    fn load(&mut self, _: &Tenant, _: &[StreamId], _: Vec<(StreamId, u64, ())>, _: Vec<Recorded>) {}
    fn decide(&mut self, _: &Tenant, run_id: &RunId, _: Timestamp) -> Decision<(), ()> {
        let commit = Some(three_events(run_id, 1));
        Decision { commit, answer: (), effects: vec![] }
    }
    fn next_due(&mut self, _: Timestamp) -> Option<(Tenant, RunId)> {
        None
    }
    fn undecided(&mut self, _: &Tenant, _: RunId) {}
    fn wake_at(&self) -> Option<Timestamp> {
        None
    }
    fn recorded(&mut self, _: &Tenant, _: &Recorded, _: bool) {}
    fn perform(&mut self, _: &Tenant, (): ()) {}
    fn abandon(&mut self, _: &Tenant, (): (), _: bool) {}
    fn forget(&mut self, _: &Tenant, _: &[StreamId]) {}
    fn accepts_clock_fault(&self, _: &RunId) -> bool {
        false
    }
}

fn three_events(run_id: &RunId, version: u64) -> Decided {
    // Constant names, within their grammars.
    #[allow(clippy::unwrap_used)]
    let (step, plugin, worker) =
        ("inventory".parse().unwrap(), "core".parse().unwrap(), "worker-1".parse().unwrap());
    let step: stella_domain::ids::StepId = step;
    let events = vec![
        RunEvent::StepQueued(StepQueued {
            attempt: 1,
            concurrency: None,
            deadline: None,
            plugin,
            priority: 0,
            step_id: step.clone(),
        }),
        RunEvent::StepStarted(StepStarted {
            attempt: 1,
            lease_ms: 30_000,
            plugin_digest: None,
            plugin_version: None,
            step_id: step.clone(),
            timeout_ms: None,
            worker_id: worker,
        }),
        RunEvent::StepTimedOut(StepAttempt { attempt: 1, step_id: step }, None),
    ];
    Decided {
        stream: StreamId::Run(run_id.clone()),
        stream_version: version,
        actor: Actor::dispatch(),
        events: events.into_iter().map(Event::Run).collect(),
    }
}

/// A ledger that notes how large the writer's batches are.
struct Noting {
    inner: Arc<dyn Ledger>,
    batches: Mutex<Vec<usize>>,
}

#[async_trait]
impl Ledger for Noting {
    async fn make_room(&self) -> Result<(), LedgerError> {
        self.inner.make_room().await
    }
    fn prepare(&self, commit: Arc<Commit>) -> Prepared {
        self.inner.prepare(commit)
    }

    async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(commits.len());
        self.inner.append_prepared(commits).await
    }
    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
        self.inner.head(tenant).await
    }
    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        self.inner.is_head(tenant, next_seq).await
    }
    async fn read(&self, t: &Tenant, from: u64, limit: usize) -> Result<Vec<Commit>, LedgerError> {
        self.inner.read(t, from, limit).await
    }
    async fn read_streams(
        &self,
        tenant: &Tenant,
        streams: &[StreamId],
    ) -> Result<Vec<Commit>, LedgerError> {
        self.inner.read_streams(tenant, streams).await
    }
    async fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamId,
        from_version: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        self.inner.read_stream(tenant, stream, from_version, limit).await
    }
    async fn first_at_or_after(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        self.inner.first_at_or_after(tenant, time).await
    }
    async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
        self.inner.tenants(limit).await
    }
    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.inner.server_time().await
    }
    async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
        self.inner.findings().await
    }
}

/// What a run of the writer gave.
pub(crate) struct Appends {
    /// Events per second over the whole run.
    pub(crate) events_per_s: f64,
    /// The sizes of its batches, in commits.
    pub(crate) batches: Vec<usize>,
}

/// Append three-event commits from `callers` tasks for `time`.
pub(crate) async fn append(
    ledger: &Arc<dyn Ledger>,
    tenant: &Tenant,
    callers: usize,
    time: Duration,
) -> Result<Appends, Failure> {
    let noting = Arc::new(Noting { inner: Arc::clone(ledger), batches: Mutex::default() });
    let config = WriterConfig {
        origin: "stella.local".parse()?,
        clock: Arc::new(SystemClock),
        snapshots: Arc::new(NoSnapshots),
        known: HashMap::new(),
    };
    let shared: Arc<dyn Ledger> = Arc::<Noting>::clone(&noting);
    let (writer, task) = Writer::start(config, Arc::clone(&shared), Feed::new(shared), ThreeEvents);
    writer.execute(tenant, fresh_run()).await?;
    let started = Instant::now();
    let deadline = started + time;
    let calls = (0..callers).map(|_| {
        let (writer, tenant) = (writer.clone(), tenant.clone());
        tokio::spawn(async move {
            let mut commits = 0_u64;
            while Instant::now() < deadline {
                writer.execute(&tenant, fresh_run()).await.map_err(|e| e.to_string())?;
                commits += 1;
            }
            Ok::<u64, String>(commits)
        })
    });
    let mut commits = 0;
    for caller in futures::future::join_all(calls).await {
        commits += caller??;
    }
    let events_per_s = 3.0 * commits as f64 / started.elapsed().as_secs_f64();
    drop(writer);
    task.await?;
    let batches =
        std::mem::take(&mut *noting.batches.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Appends { events_per_s, batches })
}

/// Insert the documents that the writer wrote, raw, in the batches that it used; events per second.
pub(crate) async fn raw_inserts(
    client: &Client,
    database: &str,
    tenant: &Tenant,
    batches: &[usize],
) -> Result<f64, Failure> {
    use futures::TryStreamExt as _;
    let source: Collection<RawDocumentBuf> = client.database(database).collection("ledger");
    let range = doc! { "_id": { "$gte": format!("{tenant}/"), "$lt": format!("{tenant}0") } };
    let found = source.find(range).sort(doc! { "_id": 1 }).await?;
    let mut documents: std::collections::VecDeque<RawDocumentBuf> =
        found.try_collect::<Vec<_>>().await?.into();
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    let target: Collection<RawDocumentBuf> = client.database("stella-raw").collection("ledger");
    target.drop().await?;
    let unique = IndexOptions::builder().unique(true).build();
    let keys = doc! { "tenant": 1, "stream": 1, "streamVersion": 1 };
    target.create_index(IndexModel::builder().keys(keys).options(unique).build()).await?;
    let started = Instant::now();
    let mut inserted = 0;
    for size in batches {
        let batch: Vec<RawDocumentBuf> = documents.drain(..(*size).min(documents.len())).collect();
        if batch.is_empty() {
            break;
        }
        inserted += batch.len();
        target.insert_many(batch).write_concern(concern.clone()).ordered(true).await?;
    }
    let rate = 3.0 * inserted as f64 / started.elapsed().as_secs_f64();
    target.drop().await?;
    Ok(rate)
}

/// Insert documents one at a time, each durable before the next; the latencies in microseconds.
/// What a lone run of four commits cannot beat four times of.
pub(crate) async fn lone_inserts(
    client: &Client,
    time: Duration,
) -> Result<hdrhistogram::Histogram<u64>, Failure> {
    let source: Collection<RawDocumentBuf> = client.database("stella-bench").collection("ledger");
    let sample = source.find_one(doc! {}).await?.ok_or("the ledger is empty")?;
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    let target: Collection<mongodb::bson::Document> =
        client.database("stella-raw").collection("lone");
    target.drop().await?;
    let mut latency = crate::runs::latencies()?;
    let mut document = mongodb::bson::Document::try_from(sample)?;
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        document.insert("_id", fresh_run().to_string());
        let sent = Instant::now();
        target.insert_one(&document).write_concern(concern.clone()).await?;
        latency.saturating_record(u64::try_from(sent.elapsed().as_micros())?);
    }
    target.drop().await?;
    Ok(latency)
}

fn fresh_run() -> RunId {
    RunId::from_bytes(ulid::Ulid::new().to_bytes())
}
