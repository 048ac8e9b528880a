//! The half of a node that lives on the ledger: what is checked before it begins, and waiting for
//! a ledger that does not answer yet.

use std::{sync::Arc, time::Duration};

use stella_commands::{Commands, CommandsConfig};
use stella_domain::{
    ids::{Actor, LedgerId},
    open_work::OpenWork,
};
use stella_ledger::{
    checkpoints::gate::Gate,
    clock::Clock,
    erasure::{Eraser, Mark},
    feed::Feed,
    name::check_name,
    port::Ledger,
    snapshots::{SnapshotFiles, Snapshots},
    uri::Storage,
};
use stella_projections::Projections;
use stella_worker::{Shelf, Worker, WorkerConfig};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    NodeConfig, NodeError,
    artifacts::Artifacts,
    checkpoints::{Checkpoints, SigningTask},
    data_dir::{DataDir, NodeName},
    erasures::{Erasures, Parts},
    lease_source::LocalLeases,
    telemetry::{self, Telling},
};
use crate::{app::Record, warmth::Warmth};

/// Between two attempts to reach a ledger that does not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What is needed to begin.
pub(super) struct Starter {
    pub(super) config: NodeConfig,
    pub(super) name: NodeName,
    pub(super) data_dir: Arc<DataDir>,
    pub(super) storage: Storage,
    /// What may blank payloads, where there is something that may.
    pub(super) eraser: Option<Arc<dyn Eraser>>,
    pub(super) gate: Arc<Gate>,
    /// The ledger behind the gate.
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) feed: Arc<Feed>,
    pub(super) projections: Arc<Projections>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) warmth: Warmth,
    pub(super) artifacts: Artifacts,
    pub(super) clock: Arc<dyn Clock>,
    /// Where the record is handed out.
    pub(super) opened: watch::Sender<Result<Record, String>>,
    pub(super) stop: CancellationToken,
}

/// The parts that live on the ledger.
pub(super) struct Begun {
    worker: Option<JoinHandle<()>>,
    follow: JoinHandle<()>,
    writer: JoinHandle<()>,
    signing: SigningTask,
    erasing: JoinHandle<()>,
    sweeping: JoinHandle<()>,
    telling: Telling,
}

impl Starter {
    /// Begin; `None` when the ledger does not answer and the projections have something to show
    /// until it does.
    pub(super) async fn begin_or_wait(&self) -> Result<Option<Begun>, NodeError> {
        let error = match self.begin().await {
            Ok(begun) => return Ok(Some(begun)),
            Err(error) => error,
        };
        match error.passing() {
            Some(reason) if self.has_something_to_show().await => {
                self.still_waiting(reason);
                Ok(None)
            }
            Some(_) | None => Err(error),
        }
    }

    /// Until the node stops. Begins as soon as the ledger answers, unless it has `begun`.
    ///
    /// # Errors
    /// [`NodeError`]: the node cannot go on.
    pub(super) async fn run(self, begun: Option<Begun>) -> Result<(), NodeError> {
        let stop = self.stop.clone();
        let begun = match begun {
            Some(begun) => begun,
            None => tokio::select! {
                begun = self.begin_when_it_answers() => begun?,
                () = stop.cancelled() => return Ok(()),
            },
        };
        // What it holds would keep the writer from ending.
        drop(self);
        let Begun { worker, follow, mut writer, signing, erasing, sweeping, telling } = begun;
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            ended = &mut writer => {
                tracing::error!(?ended, "the writer has ended: this node cannot go on");
                return Err(NodeError::Ended("the writer"));
            }
        }
        if let Some(worker) = worker {
            let _ = worker.await;
        }
        let _ = follow.await;
        let _ = sweeping.await;
        let _ = erasing.await;
        let _ = writer.await;
        telling.end().await;
        signing.end().await;
        Ok(())
    }

    async fn begin_when_it_answers(&self) -> Result<Begun, NodeError> {
        loop {
            tokio::time::sleep(TRY_AGAIN).await;
            let begun = self.begin().await;
            match begun.as_ref().err().and_then(NodeError::passing) {
                Some(reason) => self.still_waiting(reason),
                None => return begun,
            }
        }
    }

    /// Tell those who ask for the record, and the log when there is something new to tell.
    fn still_waiting(&self, reason: &str) {
        let said = format!("not since this server started: {reason}");
        let is_news = self.opened.borrow().as_ref().err() != Some(&said);
        if is_news {
            tracing::warn!(
                reason,
                "the ledger does not answer: until it does, commands are refused and reads show \
                 what the projections have seen"
            );
        }
        drop(self.opened.send_replace(Err(said)));
    }

    /// Whether the projections are of this build's version and of a ledger that has begun: neither
    /// needs the ledger to be told.
    async fn has_something_to_show(&self) -> bool {
        let position = self.projections.position(&self.config.tenant).await;
        position.is_ok_and(|position| position.applied.next_seq > 0)
    }

    /// Check the ledger, and start what lives on it. Until this ends well, nothing is applied to
    /// the projections and nothing of the ledger is shown.
    async fn begin(&self) -> Result<Begun, NodeError> {
        let NodeConfig { tenant, origin, lease_ms, strict, .. } = &self.config;
        self.ledger.make_room().await?;
        report_findings(&*self.ledger, *strict).await?;
        // Before anything is written: the ledger has to extend what was signed.
        let (storage, gate) = (self.storage.clone(), Arc::clone(&self.gate));
        let snapshots: Arc<dyn Snapshots> = Arc::new(SnapshotFiles::new(self.data_dir.snapshots()));
        let places = (&*self.data_dir, Arc::clone(&snapshots));
        let checkpoints = Checkpoints::open(&self.config, places, storage, gate).await?;
        let name = LedgerId { origin: origin.clone(), tenant: tenant.clone() };
        check_name(&*self.ledger, &name).await?;
        // Notices a ledger that was replaced or restored from an older backup.
        self.projections.verify(tenant).await?;
        let work = self.projections.open_work(tenant).await?;
        let is_begun = work.head.next_seq > 0;
        let next_seq = self.ledger.head(tenant).await?.next_seq;
        let commands_config = CommandsConfig {
            origin: origin.clone(),
            clock: Arc::clone(&self.clock),
            lease_ms: *lease_ms,
            logs: Arc::new(self.artifacts.clone()),
            snapshots,
            open_work: vec![(tenant.clone(), self.without_own_leases(work))],
        };
        let (commands, writer) =
            Commands::start(commands_config, Arc::clone(&self.ledger), Arc::clone(&self.feed));
        // One that has begun is served even while it takes no writes: reads work, and commands do
        // again as soon as the storage does.
        if !is_begun {
            commands.open_ledger(tenant, &Actor::system("ledger")?).await?;
        }
        let (follow, worker) = (self.follow(), self.worker(&commands));
        let otlp = self.config.otlp.as_ref();
        let telling = telemetry::start(&name, &self.ledger, &self.feed, next_seq, otlp);
        let signing = checkpoints.start(self.config.checkpoints.every, &self.stop);
        let (ledger, feed) = (Arc::clone(&self.ledger), Arc::clone(&self.feed));
        let erasures = Erasures::new(Parts {
            tenant: tenant.clone(),
            ledger: Arc::clone(&ledger),
            eraser: self.eraser.clone(),
            gate: Arc::clone(&self.gate),
            commands: commands.clone(),
            artifacts: self.artifacts.clone(),
            mark: Mark::new(self.data_dir.erasures(tenant)),
        });
        let sweeping = self.artifacts.sweep_until(&commands, &self.stop);
        let erasing = erasures.start(&self.stop);
        let record = Record { commands, ledger, checkpoints, erasures, feed };
        drop(self.opened.send_replace(Ok(record)));
        tracing::info!(%tenant, "the ledger answers, and is the one that the projections know");
        Ok(Begun { worker, follow, writer, signing, erasing, sweeping, telling })
    }

    fn follow(&self) -> JoinHandle<()> {
        let (projections, tenant) = (Arc::clone(&self.projections), self.config.tenant.clone());
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let followed = projections.follow(&tenant, stop.cancelled_owned()).await;
            if let Err(error) = followed {
                tracing::error!(%tenant, %error, "projections stand still");
            }
        })
    }

    fn worker(&self, commands: &Commands) -> Option<JoinHandle<()>> {
        let NodeConfig { tenant, concurrency, .. } = &self.config;
        (*concurrency > 0).then(|| {
            let source = LocalLeases {
                commands: commands.clone(),
                tenant: tenant.clone(),
                artifacts: self.artifacts.clone(),
                shelf: Arc::clone(&self.shelf),
                warmth: self.warmth.clone(),
            };
            let worker_config = WorkerConfig::new(self.name.worker_id.clone(), *concurrency);
            let worker = Worker::new(worker_config, Arc::new(source), Arc::clone(&self.shelf));
            tokio::spawn(worker.run(self.stop.clone()))
        })
    }

    /// Leases of this node's earlier processes end at once: the data directory's lock proves that
    /// they are gone.
    fn without_own_leases(&self, mut work: OpenWork) -> OpenWork {
        for lease in &mut work.leases {
            if self.name.is_earlier_worker(&lease.worker_id) {
                lease.lease_ms = 0;
            }
        }
        work
    }
}

async fn report_findings(ledger: &dyn Ledger, strict: bool) -> Result<(), NodeError> {
    let findings = ledger.findings().await?;
    for finding in &findings {
        let (code, message) = (finding.code, &finding.message);
        if finding.blocks_writes {
            tracing::error!(code, "{message}");
        } else {
            tracing::warn!(code, "{message}");
        }
    }
    if strict && !findings.is_empty() {
        let all: Vec<String> = findings
            .iter()
            .map(|finding| format!("{}: {}", finding.code, finding.message))
            .collect();
        return Err(NodeError::Findings(all.join("; ")));
    }
    Ok(())
}
