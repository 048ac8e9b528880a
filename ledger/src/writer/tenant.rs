//! What the writer keeps per tenant.

use std::{collections::VecDeque, sync::Arc};

use stella_domain::{
    chain::{ChainError, Head},
    event::{Event, LedgerEvent},
    ids::{LedgerId, StreamId, Tenant},
    time::Timestamp,
};
use tokio::time::Instant;

use super::{Decider, Request};
use crate::{
    name::check_commit,
    own_stream::OwnStream,
    port::{Ledger, LedgerError, READ_LIMIT},
    recorded::Recorded,
    snapshots::Snapshots,
};

/// A reading of news with fewer commits than this is taken for the last. One that was cut short by
/// its size costs no more than a conflict: the next commit finds its place taken.
const LAST_PAGE: usize = 64;

pub(super) struct TenantState<D: Decider> {
    pub(super) ledger: Arc<LedgerId>,
    /// Where the ledger ends with everything staged; `None` until it is read.
    pub(super) staged_head: Option<Head>,
    /// Where the ledger was last known to end durably.
    pub(super) durable_head: Option<Head>,
    /// When the durable head was last seen in the ledger.
    pub(super) seen_at: Instant,
    /// Decisions that are staged or under way.
    pub(super) in_flight: usize,
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
            seen_at: Instant::now(),
            in_flight: 0,
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
    /// What others have written since the known head, as far as one reading goes.
    pub(super) news: Vec<Recorded>,
    /// Whether another reading may find more.
    pub(super) more: bool,
}

/// Read where the ledger `name` ends, and what came after `known`, one page of it.
pub(super) async fn open(
    ledger: &dyn Ledger,
    snapshots: &dyn Snapshots,
    name: &LedgerId,
    known: Option<Head>,
    opened_before: bool,
) -> Result<Opened, LedgerError> {
    let tenant = &name.tenant;
    let earlier_fault = match opened_before {
        true => None,
        false => {
            OwnStream::read(ledger, snapshots, tenant).await?.clock_fault_accepted_at().await?
        }
    };
    let mut head = match known {
        Some(known) => known,
        None => ledger.head(tenant).await?,
    };
    let from_seq = head.next_seq.saturating_sub(1);
    let mut page = ledger.read(tenant, from_seq, READ_LIMIT).await?.into_iter();
    if head.next_seq > 0 {
        // What was durable must be there for ever: a ledger that was cut or replaced while this
        // node was running is not written on.
        let last = page.next().filter(|last| last.head() == head);
        let last = last.ok_or_else(|| gone(tenant, head.next_seq))?;
        check_commit(&last, name)?;
    }
    let mut news = Vec::with_capacity(page.len());
    for commit in page {
        check_commit(&commit, name)?;
        commit.verify_follows(&head).map_err(|source| damaged(tenant, source))?;
        head = commit.head();
        news.push(Recorded::decode(commit)?);
    }
    let newest = news.iter().rev().find(|recorded| accepts_clock_fault(recorded));
    let clock_fault_accepted_at = newest.map(|r| r.commit.recorded_at).or(earlier_fault);
    let more = news.len() >= LAST_PAGE;
    Ok(Opened { head, clock_fault_accepted_at, news, more })
}

fn gone(tenant: &Tenant, next_seq: u64) -> LedgerError {
    let reason = "the event before it, durable earlier, is gone or another: was a backup restored?";
    damaged(tenant, ChainError::NotNext { seq: next_seq, expected_seq: next_seq, reason })
}

fn damaged(tenant: &Tenant, source: ChainError) -> LedgerError {
    LedgerError::Damaged { tenant: tenant.clone(), source }
}

pub(super) fn accepts_clock_fault(recorded: &Recorded) -> bool {
    let accepted =
        |event: &Event| matches!(event, Event::Ledger(LedgerEvent::ClockFaultAccepted(..)));
    // Most commits are of runs, and are not looked through.
    matches!(recorded.commit.stream, StreamId::Ledger(_)) && recorded.events.iter().any(accepted)
}
