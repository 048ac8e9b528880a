//! `cqrs-es` on the writer: its aggregates by a thin adapter over the pure ones, its event store
//! over the ledger.
//!
//! Each known fault of the existing MongoDB backend for it is absent: an event that does not
//! decode stops the load, commits carry a majority write concern, the unique keys are checked at
//! start, and every event has its place in one total order.

use std::{collections::HashMap, fmt::Debug, sync::Arc};

use cqrs_es::{
    AggregateContext, AggregateError, DomainEvent, EventEnvelope, EventStore, event_sink::EventSink,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stella_domain::{
    aggregate::{Aggregate, Dag, Ledger as LedgerAggregate},
    event::{DagEvent, Event, LedgerEvent},
    ids::{Actor, StreamId, Tenant},
};
use stella_ledger::{
    port::Ledger,
    recorded::Recorded,
    snapshots::{ReadOn, Snapshots, read_on},
    writer::{Receipt, Writer},
};

use crate::{
    CommandError,
    engine::{Command, Engine},
    refusal::Refusal,
};

/// How often a command is decided again because its stream moved meanwhile.
const ATTEMPTS: usize = 16;

/// An aggregate that goes the standard way: its commands depend on its own stream alone.
pub trait Standard:
    Aggregate<Error: Send + Sync + 'static, Command: Clone + Send>
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its events, as `cqrs-es` wants them.
    type Fact: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync;
    /// Name for `cqrs-es`.
    const NAME: &'static str;
    /// The aggregate's event in the ledger.
    fn into_event(fact: Self::Fact) -> Event;
    /// The aggregate's event, if this is one.
    fn from_event(event: Event) -> Option<Self::Fact>;
    /// What to record.
    ///
    /// # Errors
    /// The aggregate's refusal.
    fn facts(&self, command: Self::Command) -> Result<Vec<Self::Fact>, Self::Error>;
    /// The state after `fact`.
    fn apply_fact(&mut self, fact: &Self::Fact);
    /// The aggregate's refusal as the write side's.
    fn refusal(stream: &StreamId, error: Self::Error) -> Refusal;
}

macro_rules! standard {
    ($aggregate:ty, $event:ty, $variant:ident, $name:literal, $refusal:expr) => {
        impl Standard for $aggregate {
            type Fact = $event;
            const NAME: &'static str = $name;
            fn into_event(fact: $event) -> Event {
                Event::$variant(fact)
            }
            fn from_event(event: Event) -> Option<$event> {
                match event {
                    Event::$variant(event) => Some(event),
                    _ => None,
                }
            }
            fn facts(&self, command: Self::Command) -> Result<Vec<$event>, Self::Error> {
                self.decide(command)
            }
            fn apply_fact(&mut self, fact: &$event) {
                self.evolve(fact);
            }
            fn refusal(stream: &StreamId, error: Self::Error) -> Refusal {
                $refusal(stream, error)
            }
        }
    };
}

standard!(LedgerAggregate, LedgerEvent, Ledger, "ledger", |_: &StreamId, error| {
    Refusal::Ledger(error)
});
standard!(Dag, DagEvent, Dag, "dag", |stream: &StreamId, error| match stream {
    StreamId::Dag(id) => Refusal::Dag(id.clone(), error),
    other => Refusal::Conflict { stream: other.to_string(), expected: 0, version: 0 },
});

/// One of our aggregates as `cqrs-es` knows them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(bound = "A: Standard")]
pub struct Folded<A>(pub A);

/// One of our events as `cqrs-es` knows them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact<E>(pub E);

impl<E> DomainEvent for Fact<E>
where
    E: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync,
{
    fn event_type(&self) -> String {
        std::any::type_name::<E>().to_owned()
    }
    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl<A: Standard> cqrs_es::Aggregate for Folded<A> {
    const TYPE: &'static str = A::NAME;
    type Command = A::Command;
    type Event = Fact<A::Fact>;
    type Error = A::Error;
    type Services = ();

    async fn handle(
        &mut self,
        command: A::Command,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), A::Error> {
        for fact in self.0.facts(command)? {
            sink.write(Fact(fact), self).await;
        }
        Ok(())
    }

    fn apply(&mut self, Fact(fact): Self::Event) {
        self.0.apply_fact(&fact);
    }
}

/// An event store on the ledger: reads committed events, appends through the writer.
pub struct WriterStore {
    pub(crate) writer: Writer<Engine>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) snapshots: Arc<dyn Snapshots>,
    pub(crate) tenant: Tenant,
    pub(crate) actor: Actor,
}

/// An aggregate and the stream version that it stands at.
pub struct Loaded<A> {
    aggregate: Folded<A>,
    stream: StreamId,
    version: u64,
}

impl<A: Standard> AggregateContext<Folded<A>> for Loaded<A> {
    fn aggregate(&mut self) -> &mut Folded<A> {
        &mut self.aggregate
    }
}

impl WriterStore {
    async fn stream(&self, stream: &StreamId) -> Result<Vec<Recorded>, CommandError> {
        let streams = std::slice::from_ref(stream);
        let commits = self.ledger.read_streams(&self.tenant, streams).await;
        let commits = commits.map_err(crate::read_error)?;
        let decoded = commits.into_iter().map(Recorded::decode).collect::<Result<_, _>>();
        decoded.map_err(|error| crate::read_error(error.into()))
    }

    async fn append(
        &self,
        stream: &StreamId,
        expected: u64,
        events: Vec<Event>,
    ) -> Result<Option<Receipt>, CommandError> {
        let (actor, stream) = (self.actor.clone(), stream.clone());
        let command = Command::Append { actor, stream, expected, events };
        let written = self.writer.execute(&self.tenant, command).await?;
        written.answer?;
        Ok(written.receipt)
    }
}

fn outside<E: std::error::Error>(
    error: impl std::error::Error + Send + Sync + 'static,
) -> AggregateError<E> {
    AggregateError::UnexpectedError(Box::new(error))
}

impl<A: Standard> EventStore<Folded<A>> for WriterStore {
    type AC = Loaded<A>;

    async fn load_events(
        &self,
        aggregate_id: &str,
    ) -> Result<Vec<EventEnvelope<Folded<A>>>, AggregateError<A::Error>> {
        let stream: StreamId = aggregate_id.parse().map_err(outside)?;
        let commits = self.stream(&stream).await.map_err(outside)?;
        let events = commits.into_iter().flat_map(|recorded| recorded.events);
        Ok(envelopes(aggregate_id, 0, events.filter_map(A::from_event)))
    }

    async fn load_aggregate(
        &self,
        aggregate_id: &str,
    ) -> Result<Loaded<A>, AggregateError<A::Error>> {
        let stream: StreamId = aggregate_id.parse().map_err(outside)?;
        let fold = |state: &str| serde_json::from_str::<A>(state).ok();
        let read_on = read_on(&*self.ledger, &*self.snapshots, &self.tenant, &stream, fold).await;
        let (mut aggregate, mut version, commits) = match read_on {
            Ok(Some(ReadOn { fold, version, commits })) => (fold, version, commits),
            // Read whole, it is found out what is wrong with it.
            Ok(None) | Err(_) => (A::default(), 0, self.stream(&stream).await.map_err(outside)?),
        };
        for event in commits.into_iter().flat_map(|recorded| recorded.events) {
            version += 1;
            if let Some(fact) = A::from_event(event) {
                aggregate.apply_fact(&fact);
            }
        }
        Ok(Loaded { aggregate: Folded(aggregate), stream, version })
    }

    async fn commit(
        &self,
        events: Vec<Fact<A::Fact>>,
        context: Loaded<A>,
        _metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<Folded<A>>>, AggregateError<A::Error>> {
        let facts: Vec<A::Fact> = events.into_iter().map(|Fact(fact)| fact).collect();
        let recorded = facts.iter().cloned().map(A::into_event).collect();
        match self.append(&context.stream, context.version, recorded).await {
            Ok(_) => Ok(envelopes(&context.stream.to_string(), context.version, facts)),
            Err(CommandError::Refused(Refusal::Conflict { .. })) => {
                Err(AggregateError::AggregateConflict)
            }
            Err(error) => Err(outside(error)),
        }
    }
}

fn envelopes<A: Standard>(
    aggregate_id: &str,
    version: u64,
    facts: impl IntoIterator<Item = A::Fact>,
) -> Vec<EventEnvelope<Folded<A>>> {
    let numbered = (version as usize + 1..).zip(facts);
    numbered
        .map(|(sequence, fact)| EventEnvelope {
            aggregate_id: aggregate_id.to_owned(),
            sequence,
            payload: Fact(fact),
            metadata: HashMap::new(),
        })
        .collect()
}

/// Load, decide, append; again if the stream moved meanwhile.
///
/// # Errors
/// The aggregate's refusal, or what kept the events from being recorded.
pub async fn execute<A: Standard>(
    store: &WriterStore,
    stream: &StreamId,
    command: A::Command,
) -> Result<(A, Option<Receipt>), CommandError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let id = stream.to_string();
        let load = EventStore::<Folded<A>>::load_aggregate(store, &id).await;
        let mut context = load.map_err(inside)?;
        let sink = EventSink::default();
        let aggregate = context.aggregate();
        cqrs_es::Aggregate::handle(aggregate, command.clone(), &(), &sink)
            .await
            .map_err(|error| A::refusal(stream, error))?;
        let events: Vec<Event> =
            sink.collect().await.into_iter().map(|Fact(fact)| A::into_event(fact)).collect();
        if events.is_empty() {
            return Ok((context.aggregate.0, None));
        }
        // `commit` gives envelopes and no receipt, which is what the caller is owed.
        match store.append(stream, context.version, events).await {
            Ok(receipt) => return Ok((context.aggregate.0, receipt)),
            Err(CommandError::Refused(Refusal::Conflict { .. })) if attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

/// What came through `cqrs-es` as an unexpected error is one of ours.
fn inside<E: std::error::Error>(error: AggregateError<E>) -> CommandError {
    match error {
        AggregateError::UnexpectedError(error) | AggregateError::DatabaseConnectionError(error) => {
            match error.downcast::<CommandError>() {
                Ok(error) => *error,
                Err(other) => crate::unreadable(other.to_string()),
            }
        }
        other => crate::unreadable(other.to_string()),
    }
}
