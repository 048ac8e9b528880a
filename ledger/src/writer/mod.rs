//! The writer: one task per node that decides commands in order on staged state, gathers commits
//! while the last batch is under way, and answers when they are durable.
//!
//! Correctness rests on the storage's unique keys alone. A commit names its seq; whoever writes
//! seq *n* has seen everything before it. When another writer was first, what the tenant had
//! staged is dropped, the new tail is read, and the same commands are decided again.

mod append;
mod confirm;
mod decider;
mod loads;
mod salt;
mod settle;
mod skew;
mod task;
mod tenant;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use stella_domain::{
    chain::Head,
    hash::Hash32,
    ids::{Origin, Tenant},
    time::Timestamp,
};
use tokio::sync::{Notify, mpsc, oneshot};

pub use self::decider::{Decided, Decider, Decision};
use crate::{clock::Clock, feed::Feed, port::Ledger, snapshots::Snapshots};

/// Commands that wait for the writer at most; a caller beyond that waits to be let in.
const QUEUED_COMMANDS: usize = 8_192;

/// Where a command's commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// `seq` of its first event.
    pub first_seq: u64,
    /// `seq` of its last event.
    pub last_seq: u64,
    /// Hash of its last event.
    pub hash: Hash32,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

/// The durable answer to a command.
#[derive(Debug)]
pub struct Written<A> {
    /// The decider's answer.
    pub answer: A,
    /// The commit, if anything was recorded.
    pub receipt: Option<Receipt>,
    /// The seq up to which the answer has seen the ledger: a read that waits for this one sees
    /// the command's effect.
    pub as_of: u64,
}

/// Why a command was not carried out, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// Nothing was written.
    #[error("the ledger does not take writes at present, nothing was recorded: {0}")]
    Unavailable(String),
    /// The command may have been recorded.
    #[error(
        "the ledger did not say whether the command was recorded: {0}; \
         send it again, with the same runToken: nothing happens twice"
    )]
    OutcomeUnknown(String),
    /// The clock is wrong.
    #[error(
        "the clock is wrong, nothing was recorded: {0}; set the clock, or let an admin record \
         that it is known: `stella orch ledger accept-clock-fault`"
    )]
    ClockFault(String),
    /// The ledger holds something that this build cannot read, is damaged, or has another name.
    #[error("the ledger cannot be carried on, nothing was recorded: {0}")]
    Unreadable(String),
    /// The node is shutting down.
    #[error("this node is shutting down, nothing was recorded")]
    ShuttingDown,
}

/// What a writer needs to know.
pub struct WriterConfig {
    /// First half of the ledgers' names.
    pub origin: Origin,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where folds of long streams are kept.
    pub snapshots: Arc<dyn Snapshots>,
    /// How far the decider knows each ledger already: the writer tells it what came since.
    pub known: HashMap<Tenant, Head>,
}

/// The way to the writer's task; cheap to clone.
pub struct Writer<D: Decider> {
    requests: mpsc::Sender<Request<D>>,
    wake: Arc<Notify>,
}

impl<D: Decider> Clone for Writer<D> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone(), wake: Arc::clone(&self.wake) }
    }
}

/// A command on its way.
struct Request<D: Decider> {
    tenant: Tenant,
    command: D::Command,
    /// `None` for work that nobody asked for.
    reply: Option<oneshot::Sender<Result<Written<D::Answer>, WriteError>>>,
}

impl<D: Decider> Writer<D> {
    /// Start the writer's task. It ends, having answered what it took, when every `Writer` is
    /// dropped.
    pub fn start(
        config: WriterConfig,
        ledger: Arc<dyn Ledger>,
        feed: Arc<Feed>,
        decider: D,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (requests, inbox) = mpsc::channel(QUEUED_COMMANDS);
        let wake = Arc::new(Notify::new());
        let task = task::Task {
            config,
            ledger,
            feed,
            decider,
            tenants: HashMap::new(),
            waiting: HashSet::new(),
            staged: std::collections::VecDeque::new(),
            settling: std::collections::VecDeque::new(),
            unannounced: vec![],
            salts: salt::Salts::default(),
            outage: None,
            unconfirmed: HashMap::new(),
            clock_skew_micros: 0,
            clock_compared_at: None,
        };
        (Self { requests, wake: Arc::clone(&wake) }, tokio::spawn(task.run(inbox, wake)))
    }

    /// Have `command` decided, and wait until the outcome is durable.
    ///
    /// # Errors
    /// [`WriteError`] says whether anything was recorded.
    pub async fn execute(
        &self,
        tenant: &Tenant,
        command: D::Command,
    ) -> Result<Written<D::Answer>, WriteError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { tenant: tenant.clone(), command, reply: Some(reply) };
        self.requests.send(request).await.map_err(|_| WriteError::ShuttingDown)?;
        answer.await.map_err(|_| {
            WriteError::OutcomeUnknown("the node stopped before it could answer".to_owned())
        })?
    }

    /// Have the writer ask the decider for [due work](Decider::next_due) now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}
