//! What the writer needs from the write side: decisions on staged state.

use stella_domain::{
    event::Event,
    ids::{Actor, StreamId, Tenant},
    time::Timestamp,
};

use crate::recorded::Recorded;

/// Decides commands, in order, on state that runs ahead of the ledger.
///
/// The writer calls it from one task only. Between [`decide`](Self::decide) and
/// [`recorded`](Self::recorded) a decision is staged: later decisions build on it, nobody else sees
/// it. It becomes durable or is [forgotten](Self::forget).
pub trait Decider: Send + 'static {
    /// What can be asked.
    type Command: Send + 'static;
    /// What the asker gets; refusals included.
    type Answer: Send + 'static;
    /// What is to be done once the decision is durable.
    type Effect: Send + 'static;
    /// What a stream that never ends folds to.
    type Fold: Send + 'static;

    /// The fold of such a stream that a [snapshot](crate::snapshots) of this build spells.
    fn fold(stream: &StreamId, state: &str) -> Option<Self::Fold>;

    /// Streams that must be loaded before `command` can be decided. Asked again after a load:
    /// what was loaded may refer to more.
    fn missing(&self, tenant: &Tenant, command: &Self::Command) -> Vec<StreamId>;

    /// All there is of `streams`: folds of some, each with the stream version that it reaches, and
    /// what follows, by seq. A stream of which there is neither does not exist yet.
    fn load(
        &mut self,
        tenant: &Tenant,
        streams: &[StreamId],
        folds: Vec<(StreamId, u64, Self::Fold)>,
        commits: Vec<Recorded>,
    );

    /// What to record and what to answer. `at` will be the commit's `recordedAt`.
    fn decide(
        &mut self,
        tenant: &Tenant,
        command: &Self::Command,
        at: Timestamp,
    ) -> Decision<Self::Answer, Self::Effect>;

    /// Work that nobody asked for: a step and a worker that waits for it, an expired lease, a due
    /// retry. Called until it gives nothing more.
    fn next_due(&mut self, now: Timestamp) -> Option<(Tenant, Self::Command)>;

    /// A command that [`next_due`](Self::next_due) gave could not be decided now: it is still due.
    fn undecided(&mut self, tenant: &Tenant, command: Self::Command);

    /// When [`next_due`](Self::next_due) may have something, if nothing else happens.
    fn wake_at(&self) -> Option<Timestamp>;

    /// `commit` is durable: one of ours, in order, or another writer's. A commit of ours has been
    /// folded when it was decided.
    fn recorded(&mut self, tenant: &Tenant, commit: &Recorded, ours: bool);

    /// The decision that this effect came with is durable.
    fn perform(&mut self, tenant: &Tenant, effect: Self::Effect);

    /// The decision that this effect came with was not written; or, if it `may_be_written`, nobody
    /// knows: if it was, it comes as [recorded](Self::recorded) by another writer, before anything
    /// of ours is.
    fn abandon(&mut self, tenant: &Tenant, effect: Self::Effect, may_be_written: bool);

    /// Drop what is cached of these streams: what was staged on them did not become durable. They
    /// are loaded again when needed. Other streams are as the ledger has them, as far as was told.
    fn forget(&mut self, tenant: &Tenant, streams: &[StreamId]);

    /// Whether `command` is an admin's word that a clock fault is known, which is written although
    /// the clock is wrong.
    fn accepts_clock_fault(&self, command: &Self::Command) -> bool;
}

/// The outcome of one command.
#[derive(Debug)]
pub struct Decision<A, E> {
    /// What to record; `None` for a refusal, and for what is recorded already.
    pub commit: Option<Decided>,
    /// What the asker gets once this is durable.
    pub answer: A,
    /// What is to be done then.
    pub effects: Vec<E>,
}

/// A commit without its place in the chain.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The aggregate.
    pub stream: StreamId,
    /// `streamVersion` of its first event.
    pub stream_version: u64,
    /// Who caused it.
    pub actor: Actor,
    /// At least one; within the limits of `stella_domain::limits`, which the decider has checked.
    pub events: Vec<Event>,
}
