//! The worker's loop: ask for leases, carry them out, report them, keep them alive meanwhile.
//!
//! Every lease that is received is carried out in a slot of its own and ends in exactly one report,
//! unless it was lost, or could not be reported before the worker stopped: then it expires at the
//! server.

mod running;

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use stella_domain::{event::ErrorCode, ids::WorkerId, json::CanonicalJson, time::Timestamp};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::running::{Held, Running, Stop};
use crate::{
    backoff::Backoff,
    error::StepError,
    lease::{Lease, LeaseError, LeaseSource, Outcome, PollRequest},
    log::StepLog,
    shelf::{Shelf, Stock},
    step::Step,
};

/// Pause after an empty answer that came before its time, as from a server that is draining.
const EARLY_ANSWER_PAUSE: Duration = Duration::from_millis(100);

/// How long a worker that stops tries to say so.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Its name; two workers never share one.
    pub worker_id: WorkerId,
    /// Steps at a time, at least 1.
    pub concurrency: u32,
    /// How long a poll waits for work, in milliseconds.
    pub poll_wait_ms: u64,
    /// How long a stop waits for running steps to end, in milliseconds; a plugin that ignores
    /// SIGTERM takes 2 s.
    pub stop_wait_ms: u64,
}

impl WorkerConfig {
    /// The usual waits: 10 s for work, 5 s for a stop.
    pub fn new(worker_id: WorkerId, concurrency: u32) -> Self {
        Self { worker_id, concurrency, poll_wait_ms: 10_000, stop_wait_ms: 5_000 }
    }
}

/// Works off the steps that a [`LeaseSource`] hands out.
pub struct Worker {
    config: WorkerConfig,
    source: Arc<dyn LeaseSource>,
    shelf: Arc<Shelf>,
    /// The newest request to load plugins again that was followed.
    warmed: Mutex<Option<Timestamp>>,
    running: Running,
    /// Ends every execution.
    stop: CancellationToken,
}

/// What came of a poll.
struct Polled {
    free: OwnedSemaphorePermit,
    /// What was announced with it.
    stock: Arc<Stock>,
    answer: Result<Vec<Lease>, LeaseError>,
}

impl Worker {
    /// A worker that has not started yet.
    pub fn new(config: WorkerConfig, source: Arc<dyn LeaseSource>, shelf: Arc<Shelf>) -> Self {
        let (running, stop) = (Running::default(), CancellationToken::new());
        Self { config, source, shelf, warmed: Mutex::default(), running, stop }
    }

    /// Work until `shutdown`; then end every process group and return.
    ///
    /// Steps that this cuts off are given back by reporting them as cancelled, so that another
    /// worker starts them again. Dropping the future ends the processes as well, and reports nothing.
    pub async fn run(self, shutdown: CancellationToken) {
        let worker = Arc::new(self);
        let mut tasks = JoinSet::new();
        let mut heartbeats =
            pin!(running::heartbeats(&worker.running, &*worker.source, &worker.config.worker_id));
        tokio::select! {
            () = &mut heartbeats => {}
            () = worker.poll_until(&shutdown, &mut tasks) => {}
        }
        worker.stop.cancel();
        let ended = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = &mut heartbeats => {}
            _ = timeout(Duration::from_millis(worker.config.stop_wait_ms), ended) => {}
        }
        tasks.shutdown().await;
        let _ = timeout(LEAVES_WITHIN, worker.source.leave(&worker.config.worker_id)).await;
    }

    async fn poll_until(self: &Arc<Self>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
        let slots = Arc::new(Semaphore::new(self.config.concurrency.max(1) as usize));
        let mut backoff = Backoff::default();
        loop {
            while tasks.try_join_next().is_some() {}
            let asked_at = Instant::now();
            // A poll that is dropped here may have been granted leases: they expire.
            let Polled { free, stock, answer } = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(polled) = self.poll(&slots) => polled,
                else => return,
            };
            let pause = match answer {
                Ok(leases) => {
                    backoff = Backoff::default();
                    let early =
                        asked_at.elapsed().as_millis() < u128::from(self.config.poll_wait_ms);
                    let pause = leases.is_empty() && early;
                    self.start(leases, &stock, free, tasks);
                    pause.then_some(EARLY_ANSWER_PAUSE)
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot get work");
                    Some(pause)
                }
            };
            if let Some(pause) = pause {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = sleep(pause) => {}
                }
            }
        }
    }

    /// Ask for as many leases as there are free slots, once there is one.
    async fn poll(&self, slots: &Arc<Semaphore>) -> Option<Polled> {
        // The semaphore is never closed, so that there is always an answer.
        let mut free = Arc::clone(slots).acquire_owned().await.ok()?;
        let others = u32::try_from(slots.available_permits()).unwrap_or(u32::MAX);
        if let Ok(more) = Arc::clone(slots).try_acquire_many_owned(others) {
            free.merge(more);
        }
        self.load_again_if_asked().await;
        let max = u32::try_from(free.num_permits()).unwrap_or(u32::MAX);
        let stock = self.shelf.stock();
        let answer = self.source.poll(self.request(&stock, max, self.config.poll_wait_ms)).await;
        Some(Polled { free, stock, answer })
    }

    fn request(&self, stock: &Stock, max: u32, wait_ms: u64) -> PollRequest {
        let worker_id = self.config.worker_id.clone();
        PollRequest { worker_id, plugins: Arc::clone(&stock.announced), max, wait_ms }
    }

    /// The request to load plugins again that was not followed yet.
    fn warm_asked_at(&self) -> Option<Timestamp> {
        let asked_at = self.source.warm_asked_at()?;
        let warmed = self.warmed.lock().unwrap_or_else(PoisonError::into_inner);
        (*warmed != Some(asked_at)).then_some(asked_at)
    }

    /// Only the loop that polls does this, and no step waits for it.
    async fn load_again_if_asked(&self) {
        let Some(asked_at) = self.warm_asked_at() else { return };
        let shelf = Arc::clone(&self.shelf);
        // What came of each bundle is in the log.
        if let Err(error) = tokio::task::spawn_blocking(move || shelf.reload()).await {
            tracing::error!(%error, "plugins were not loaded again");
        }
        *self.warmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked_at);
    }

    fn start(
        self: &Arc<Self>,
        leases: Vec<Lease>,
        stock: &Arc<Stock>,
        mut free: OwnedSemaphorePermit,
        tasks: &mut JoinSet<()>,
    ) {
        for lease in leases {
            let Some(slot) = free.split(1) else {
                tracing::warn!(token = %lease.token, "more leases than asked for: one is left");
                continue;
            };
            let (worker, stock) = (Arc::clone(self), Arc::clone(stock));
            tasks.spawn(async move {
                // A slot works on for as long as completions bring the next lease.
                let mut next = Some((lease, stock));
                while let Some((lease, stock)) = next {
                    next = worker.work_off(lease, stock).await;
                }
                drop(slot);
            });
        }
    }

    /// Carry out and report one lease; the next one for the same slot, if there is one.
    async fn work_off(&self, lease: Lease, stock: Arc<Stock>) -> Option<(Lease, Arc<Stock>)> {
        let held = self.running.hold(&lease, &self.stop);
        let log = StepLog::default();
        let step = Step {
            lease: &lease,
            worker_id: &self.config.worker_id,
            source: &*self.source,
            cancel: held.cancelled(),
            log: &log,
        };
        let execution = async {
            let execution = AssertUnwindSafe(stock.plugins.execute(&step)).catch_unwind().await;
            log.end();
            execution.unwrap_or_else(|panic| Err(StepError::Panicked(panic_text(&*panic))))
        };
        // The log is whole at the server before the end is reported; of a lost lease nobody wants it.
        let shipping = async {
            tokio::select! {
                () = log.ship(&step) => {}
                () = held.lost() => {}
            }
        };
        let (outputs, ()) = tokio::join!(execution, shipping);
        if held.stop() == Some(Stop::Lost) {
            tracing::info!(token = %lease.token, "a step was dropped: its lease is lost");
            return None;
        }
        // Ended because the worker stops is reported as cancelled too: it gives the lease back.
        let outcome = outcome_of(outputs);
        self.report(&lease, &held, outcome).await
    }

    /// Report until it is recorded, or the lease is lost.
    async fn report(
        &self,
        lease: &Lease,
        held: &Held<'_>,
        mut outcome: Outcome,
    ) -> Option<(Lease, Arc<Stock>)> {
        let mut backoff = Backoff::default();
        let mut refused = false;
        loop {
            // Without a wait: the outcome must not be held back. The poll loop waits for work.
            // With plugins to be loaded again, the slot goes back to that loop, which does it first.
            let stock = self.shelf.stock();
            let go_on = !self.stop.is_cancelled() && self.warm_asked_at().is_none();
            let and_poll = go_on.then(|| self.request(&stock, 1, 0));
            let sent = outcome.clone();
            let id = &self.config.worker_id;
            match self.source.complete(id, &lease.token, sent, and_poll).await {
                Ok(completed) => {
                    if completed.next.len() > 1 {
                        tracing::warn!(leases = completed.next.len(), "asked for one lease only");
                    }
                    return completed.next.into_iter().next().map(|lease| (lease, stock));
                }
                Err(LeaseError::Unavailable(reason)) => {
                    sleep(backoff.next_pause()).await;
                    if held.stop() == Some(Stop::Lost) {
                        tracing::warn!(token = %lease.token, %reason, "an outcome was not recorded");
                        return None;
                    }
                }
                Err(LeaseError::Refused(reason)) if !refused => {
                    tracing::warn!(token = %lease.token, %reason, "an outcome was refused");
                    refused = true;
                    outcome = Outcome::Failed {
                        code: ErrorCode::lenient("OUTCOME_REFUSED"),
                        message: reason,
                        retryable: false,
                    };
                }
                Err(error @ (LeaseError::Stale | LeaseError::Refused(_))) => {
                    tracing::info!(token = %lease.token, %error, "a step was dropped");
                    return None;
                }
            }
        }
    }
}

fn outcome_of(outputs: Result<CanonicalJson, StepError>) -> Outcome {
    match outputs {
        Ok(outputs) => Outcome::Succeeded { outputs },
        Err(StepError::TimedOut { .. }) => Outcome::TimedOut,
        Err(StepError::Cancelled) => Outcome::Cancelled,
        Err(error) => Outcome::Failed {
            code: ErrorCode::lenient(error.code()),
            message: error.message(),
            retryable: error.retryable(),
        },
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
