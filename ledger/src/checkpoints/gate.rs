//! Between the writer and its ledger: closed once the ledger is found not to extend what was
//! signed. Reading goes on, so that people can look at what happened.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use stella_domain::{
    chain::{Commit, Head},
    ids::{StreamId, Tenant},
    time::Timestamp,
};

use super::SignerError;
use crate::{
    append_times::AppendTimes,
    port::{AppendError, AppendFailure, Finding, Ledger, LedgerError, Prepared},
};

/// What was found about the ledger; shared by the signer, which finds, and the writer's ledger.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    append_times: AppendTimes,
}

#[derive(Debug, Default)]
struct State {
    /// Why nothing is written any more. For as long as the process lives: whoever mends the ledger
    /// starts the node again, and then everything is checked.
    closed: Option<Finding>,
    /// Why nothing was signed when it was last tried.
    notice: Option<Finding>,
    /// Which witnesses did not cosign what was signed last, and why.
    witnesses: Vec<Finding>,
    /// Why what was erased is still there.
    erasure: Option<Finding>,
}

impl Gate {
    /// Why nothing is written any more, if so.
    pub fn closed(&self) -> Option<Finding> {
        self.lock().closed.clone()
    }

    /// How long what it let pass took.
    pub fn append_times(&self) -> &AppendTimes {
        &self.append_times
    }

    /// Closed or not, everything that was found.
    pub fn findings(&self) -> Vec<Finding> {
        let state = self.lock();
        let of_signing = state.closed.iter().chain(&state.notice).chain(&state.witnesses);
        of_signing.chain(&state.erasure).cloned().collect()
    }

    /// What came of signing.
    pub(super) fn learn(&self, outcome: Result<(), &SignerError>) {
        let mut state = self.lock();
        let before = state.notice.take();
        let Err(error) = outcome else { return };
        let message = error.to_string();
        match error.closes_the_ledger() {
            Some(code) if state.closed.is_none() => {
                tracing::error!(code, "nothing is written any more: {message}");
                state.closed = Some(Finding { code, blocks_writes: true, message });
            }
            Some(_) => {}
            None => {
                // Tried again every few seconds; said once.
                if before.is_none_or(|before| before.message != message) {
                    tracing::warn!("no checkpoint was signed: {message}");
                }
                let code = "NOT_SIGNED";
                state.notice = Some(Finding { code, blocks_writes: false, message });
            }
        }
    }

    /// Who of the witnesses did not cosign.
    pub(super) fn learn_of_witnesses(&self, findings: Vec<Finding>) {
        let mut state = self.lock();
        // Asked again every few seconds; said once.
        for found in findings.iter().filter(|found| !state.witnesses.contains(found)) {
            tracing::warn!(code = found.code, "{}", found.message);
        }
        state.witnesses = findings;
    }

    /// Why a recorded erasure is not carried out; `None` once all are.
    pub fn learn_of_erasures(&self, unfinished: Option<String>) {
        let mut state = self.lock();
        let finding = unfinished.map(|message| {
            let code = "ERASURE_UNFINISHED";
            Finding { code, blocks_writes: false, message }
        });
        // Tried again every few seconds; said once.
        if let Some(found) = finding.iter().find(|found| state.erasure.as_ref() != Some(*found)) {
            tracing::warn!(code = found.code, "{}", found.message);
        }
        state.erasure = finding;
    }

    /// A poisoned lock guards plain data that every holder leaves whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ledger that takes nothing once its gate is closed.
pub struct GatedLedger {
    ledger: Arc<dyn Ledger>,
    gate: Arc<Gate>,
}

impl GatedLedger {
    /// `ledger` behind `gate`.
    pub fn new(ledger: Arc<dyn Ledger>, gate: Arc<Gate>) -> Self {
        Self { ledger, gate }
    }
}

#[async_trait]
impl Ledger for GatedLedger {
    async fn make_room(&self) -> Result<(), LedgerError> {
        self.ledger.make_room().await
    }

    fn prepare(&self, commit: Arc<Commit>) -> Prepared {
        self.ledger.prepare(commit)
    }

    async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError> {
        if let Some(Finding { code, message, .. }) = self.gate.closed() {
            let cause = AppendFailure::Unavailable(format!("{code}: {message}"));
            return Err(AppendError { landed: 0, cause });
        }
        let began = Instant::now();
        let appended = self.ledger.append_prepared(commits).await;
        self.gate.append_times.took(began.elapsed(), appended.is_ok());
        appended
    }

    async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
        let mut findings = self.gate.findings();
        findings.extend(self.ledger.findings().await?);
        Ok(findings)
    }

    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
        self.ledger.head(tenant).await
    }

    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        self.ledger.is_head(tenant, next_seq).await
    }

    async fn read(
        &self,
        tenant: &Tenant,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        self.ledger.read(tenant, from_seq, limit).await
    }

    async fn read_streams(
        &self,
        tenant: &Tenant,
        streams: &[StreamId],
    ) -> Result<Vec<Commit>, LedgerError> {
        self.ledger.read_streams(tenant, streams).await
    }

    async fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamId,
        from_version: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        self.ledger.read_stream(tenant, stream, from_version, limit).await
    }

    async fn first_at_or_after(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        self.ledger.first_at_or_after(tenant, time).await
    }

    async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
        self.ledger.tenants(limit).await
    }

    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.ledger.server_time().await
    }
}
