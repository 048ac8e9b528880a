//! A ledger that fails as it is told.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use stella_domain::{
    chain::{Commit, Head},
    ids::{StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::port::{AppendError, AppendFailure, Finding, Ledger, LedgerError, Prepared};
use tokio::sync::{Semaphore, watch};

/// What an append comes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It is written, and said so.
    None,
    /// Nothing is written, and said so.
    Unavailable,
    /// All is written, and nobody says so.
    UnknownButLanded,
    /// The first commit is written, and nobody says so.
    UnknownFirstLanded,
    /// Nothing is written, and nobody says so.
    UnknownAndLost,
    /// Nothing is written; the storage claims that something stands there.
    FalseConflict,
}

pub(crate) struct Faulty {
    inner: Mutex<Arc<dyn Ledger>>,
    script: Mutex<VecDeque<Fault>>,
    /// Once the script is over.
    then: Mutex<Fault>,
    reads_fail: AtomicBool,
    pub(crate) heads_fail: AtomicBool,
    pub(crate) stream_reads_panic: AtomicBool,
    /// A stream that does not verify.
    pub(crate) unreadable: Mutex<Option<StreamId>>,
    pub(crate) server_time: Mutex<Option<Timestamp>>,
    /// Called when the server has looked at its clock, and has not answered yet.
    pub(crate) before_time_is_told: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// How often it was asked where a ledger ends.
    pub(crate) head_checks: watch::Sender<usize>,
    /// While set, it does not say where a ledger ends.
    pub(crate) heads_held: watch::Sender<bool>,
    pub(crate) heads_panic: AtomicBool,
    /// While set, it does not say that something is written.
    pub(crate) acks_held: watch::Sender<bool>,
    /// Streams as they were read.
    pub(crate) streams_read: Mutex<Vec<StreamId>>,
    gate: Option<Semaphore>,
    appends: watch::Sender<usize>,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Ledger>) -> Self {
        Self {
            inner: Mutex::new(inner),
            script: Mutex::default(),
            then: Mutex::new(Fault::None),
            reads_fail: AtomicBool::new(false),
            heads_fail: AtomicBool::new(false),
            stream_reads_panic: AtomicBool::new(false),
            unreadable: Mutex::default(),
            server_time: Mutex::default(),
            before_time_is_told: Mutex::default(),
            head_checks: watch::Sender::new(0),
            heads_held: watch::Sender::new(false),
            heads_panic: AtomicBool::new(false),
            acks_held: watch::Sender::new(false),
            streams_read: Mutex::default(),
            gate: None,
            appends: watch::Sender::new(0),
        }
    }

    /// Every append waits until it is let through.
    pub(crate) fn gated(inner: Arc<dyn Ledger>) -> Self {
        Self { gate: Some(Semaphore::new(0)), ..Self::new(inner) }
    }

    pub(crate) fn let_through(&self, appends: usize) {
        self.gate.as_ref().expect("gated").add_permits(appends);
    }

    /// Wait until so many appends were called.
    pub(crate) async fn appends(&self, count: usize) {
        self.appends.subscribe().wait_for(|appends| *appends >= count).await.unwrap();
    }

    /// Wait until it was asked so many times where a ledger ends.
    pub(crate) async fn head_checks(&self, count: usize) {
        self.head_checks.subscribe().wait_for(|checks| *checks >= count).await.unwrap();
    }

    pub(crate) fn head_checks_so_far(&self) -> usize {
        *self.head_checks.borrow()
    }

    pub(crate) fn appends_so_far(&self) -> usize {
        *self.appends.borrow()
    }

    pub(crate) fn script(&self, faults: &[Fault]) {
        self.script.lock().unwrap().extend(faults);
    }

    pub(crate) fn always(&self, fault: Fault) {
        *self.then.lock().unwrap() = fault;
    }

    pub(crate) fn reads_fail(&self, fail: bool) {
        self.reads_fail.store(fail, SeqCst);
    }

    /// Another storage stands where this one was.
    pub(crate) fn replace(&self, inner: Arc<dyn Ledger>) {
        *self.inner.lock().unwrap() = inner;
    }

    fn inner(&self) -> Arc<dyn Ledger> {
        Arc::clone(&self.inner.lock().unwrap())
    }

    fn readable(&self) -> Result<Arc<dyn Ledger>, LedgerError> {
        if self.reads_fail.load(SeqCst) {
            return Err(LedgerError::Unavailable("told so".to_owned()));
        }
        Ok(self.inner())
    }
}

#[async_trait]
impl Ledger for Faulty {
    fn prepare(&self, commit: Arc<Commit>) -> Prepared {
        self.inner().prepare(commit)
    }

    async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError> {
        if commits.is_empty() {
            return Ok(());
        }
        self.appends.send_modify(|appends| *appends += 1);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        let scripted = self.script.lock().unwrap().pop_front();
        let fault = scripted.unwrap_or(*self.then.lock().unwrap());
        let written = match fault {
            Fault::None | Fault::UnknownButLanded => commits.len(),
            Fault::UnknownFirstLanded => 1,
            Fault::Unavailable | Fault::UnknownAndLost | Fault::FalseConflict => 0,
        };
        self.inner().append_prepared(&commits[..written]).await?;
        self.acks_held.subscribe().wait_for(|held| !held).await.unwrap();
        let told = || "told so".to_owned();
        let cause = match fault {
            Fault::None => return Ok(()),
            Fault::Unavailable => AppendFailure::Unavailable(told()),
            Fault::FalseConflict => AppendFailure::Conflict,
            Fault::UnknownButLanded | Fault::UnknownFirstLanded | Fault::UnknownAndLost => {
                AppendFailure::Unknown(told())
            }
        };
        Err(AppendError { landed: 0, cause })
    }

    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
        self.readable()?.head(tenant).await
    }

    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        self.head_checks.send_modify(|checks| *checks += 1);
        self.heads_held.subscribe().wait_for(|held| !held).await.unwrap();
        assert!(!self.heads_panic.load(SeqCst), "told so");
        if self.heads_fail.load(SeqCst) {
            return Err(LedgerError::Unavailable("told so".to_owned()));
        }
        self.readable()?.is_head(tenant, next_seq).await
    }

    async fn read(
        &self,
        tenant: &Tenant,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        self.readable()?.read(tenant, from_seq, limit).await
    }

    async fn read_streams(
        &self,
        tenant: &Tenant,
        streams: &[StreamId],
    ) -> Result<Vec<Commit>, LedgerError> {
        assert!(!self.stream_reads_panic.load(SeqCst), "told so");
        self.streams_read.lock().unwrap().extend(streams.iter().cloned());
        if let Some(stream) = &*self.unreadable.lock().unwrap()
            && streams.contains(stream)
        {
            return Err(LedgerError::Malformed {
                id: stream.to_string(),
                reason: "told so".into(),
            });
        }
        self.readable()?.read_streams(tenant, streams).await
    }

    async fn first_at_or_after(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        self.readable()?.first_at_or_after(tenant, time).await
    }

    async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
        self.readable()?.tenants(limit).await
    }

    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.readable()?;
        if let Some(tell) = &*self.before_time_is_told.lock().unwrap() {
            tell();
        }
        Ok(*self.server_time.lock().unwrap())
    }

    async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
        self.readable()?.findings().await
    }
}
