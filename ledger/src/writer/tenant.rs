//! What the writer keeps per tenant.

use std::{collections::VecDeque, sync::Arc};

use stella_domain::{
    chain::{ChainError, Head},
    event::{Event, LedgerEvent},
    ids::{LedgerId, StreamId, Tenant},
    time::Timestamp,
};

use super::{Decider, Request};
use crate::{
    port::{Ledger, LedgerError, READ_LIMIT},
    recorded::Recorded,
};

/// Commits that a reopening reads to catch up with other writers; beyond that it starts afresh.
const CATCH_UP_LIMIT: usize = 16 * READ_LIMIT;

pub(super) struct TenantState<D: Decider> {
    pub(super) ledger: Arc<LedgerId>,
    /// Where the ledger ends with everything staged; `None` until it is read.
    pub(super) staged_head: Option<Head>,
    /// Where the ledger was last known to end durably.
    pub(super) durable_head: Option<Head>,
    /// `recordedAt` of the newest `ClockFaultAccepted`; while the head stands at it, a wrong clock
    /// is known and time stands still.
    pub(super) clock_fault_accepted_at: Option<Timestamp>,
    /// Whether the ledger was opened before.
    pub(super) opened: bool,
    /// Requests that wait for the head or for streams to be loaded, in order.
    pub(super) parked: VecDeque<Request<D>>,
    /// Whether a load or a reading of the head is under way.
    pub(super) loading: bool,
}

impl<D: Decider> TenantState<D> {
    pub(super) fn new(ledger: LedgerId, known: Option<Head>) -> Self {
        Self {
            ledger: Arc::new(ledger),
            staged_head: None,
            durable_head: known,
            clock_fault_accepted_at: None,
            opened: false,
            parked: VecDeque::new(),
            loading: false,
        }
    }
}

/// What a tenant's ledger was found to be.
pub(super) struct Opened {
    pub(super) head: Head,
    pub(super) clock_fault_accepted_at: Option<Timestamp>,
    /// What others have written since `durable_head`.
    pub(super) news: Vec<Recorded>,
}

/// Read where the ledger ends, and what came after `known`.
pub(super) async fn open(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    known: Option<Head>,
    opened_before: bool,
) -> Result<Opened, LedgerError> {
    let earlier_fault =
        if opened_before { None } else { newest_accepted_fault(ledger, tenant).await? };
    let Some(mut head) = known else {
        let head = ledger.head(tenant).await?;
        return Ok(Opened { head, clock_fault_accepted_at: earlier_fault, news: vec![] });
    };
    verify_still_there(ledger, tenant, &head).await?;
    let mut news = vec![];
    while news.len() < CATCH_UP_LIMIT {
        let commits = ledger.read(tenant, head.next_seq, READ_LIMIT).await?;
        if commits.is_empty() {
            break;
        }
        for commit in commits {
            commit.verify_follows(&head).map_err(|source| damaged(tenant, source))?;
            head = commit.head();
            news.push(Recorded::decode(commit)?);
        }
    }
    let newest = news.iter().rev().find(|recorded| accepts_clock_fault(recorded));
    let clock_fault_accepted_at = newest.map(|r| r.commit.recorded_at).or(earlier_fault);
    Ok(Opened { head, clock_fault_accepted_at, news })
}

/// What was durable must be there for ever: a ledger that was cut or replaced while this node was
/// running is not written on.
async fn verify_still_there(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    known: &Head,
) -> Result<(), LedgerError> {
    let Some(last) = known.next_seq.checked_sub(1) else { return Ok(()) };
    let found = ledger.read(tenant, last, 1).await?;
    if found.first().is_some_and(|commit| commit.head() == *known) {
        return Ok(());
    }
    let reason = "the event before it, durable earlier, is gone or another: was a backup restored?";
    Err(damaged(
        tenant,
        ChainError::NotNext { seq: known.next_seq, expected_seq: known.next_seq, reason },
    ))
}

fn damaged(tenant: &Tenant, source: ChainError) -> LedgerError {
    LedgerError::Damaged { tenant: tenant.clone(), source }
}

async fn newest_accepted_fault(
    ledger: &dyn Ledger,
    tenant: &Tenant,
) -> Result<Option<Timestamp>, LedgerError> {
    let own = StreamId::Ledger(tenant.clone());
    for commit in ledger.read_streams(tenant, &[own]).await?.into_iter().rev() {
        let recorded = Recorded::decode(commit)?;
        if accepts_clock_fault(&recorded) {
            return Ok(Some(recorded.commit.recorded_at));
        }
    }
    Ok(None)
}

pub(super) fn accepts_clock_fault(recorded: &Recorded) -> bool {
    let accepted =
        |event: &Event| matches!(event, Event::Ledger(LedgerEvent::ClockFaultAccepted(..)));
    recorded.events.iter().any(accepted)
}
