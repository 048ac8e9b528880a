//! A decider for tests: each run is a list of ids, and each id is recorded once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use stella_domain::{
    event::{Event, LedgerEvent, NoData, Reason, RunEvent},
    ids::{Actor, RunId, StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::{
    recorded::Recorded,
    writer::{Decided, Decider, Decision},
};
use tokio::sync::watch;

#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// Record `id` in the run, by so many events; nothing if it is there already.
    Add {
        run: u8,
        id: u32,
        events: usize,
    },
    /// How many events the run has.
    Get {
        run: u8,
    },
    AcceptClockFault,
}

pub(crate) fn add(run: u8, id: u32) -> Command {
    Command::Add { run, id, events: 1 }
}

impl Command {
    fn stream(&self, tenant: &Tenant) -> StreamId {
        match self {
            Self::Add { run, .. } | Self::Get { run } => {
                StreamId::Run(RunId::from_bytes([*run; 16]))
            }
            Self::AcceptClockFault => StreamId::Ledger(tenant.clone()),
        }
    }
}

/// What the decider was told, for the test to look at.
#[derive(Clone, Default)]
pub(crate) struct Watched {
    /// `add <id>` and `get`, as they became durable.
    pub(crate) performed: Arc<Mutex<Vec<String>>>,
    /// Commands that nobody asked for.
    pub(crate) due: Arc<Mutex<Vec<(Tenant, Command)>>>,
    decided: watch::Sender<usize>,
}

impl Watched {
    /// Wait until so many commands have been decided, repetitions counted.
    pub(crate) async fn decided(&self, count: usize) {
        self.decided.subscribe().wait_for(|decided| *decided >= count).await.unwrap();
    }

    pub(crate) fn decided_so_far(&self) -> usize {
        *self.decided.borrow()
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    ids: HashMap<(Tenant, StreamId), Vec<u32>>,
    watched: Watched,
}

impl Counters {
    pub(crate) fn new(watched: &Watched) -> Self {
        Self { ids: HashMap::new(), watched: watched.clone() }
    }
}

/// The ids that a commit records, one for each event.
pub(crate) fn ids_of(commit: &Recorded) -> impl Iterator<Item = u32> + '_ {
    commit.events.iter().map(|event| match event {
        Event::Run(RunEvent::RunCancelRequested(_, Some(Reason { reason }))) => {
            reason.parse().unwrap()
        }
        Event::Ledger(LedgerEvent::ClockFaultAccepted(..)) => u32::MAX,
        other => panic!("not of this test: {other:?}"),
    })
}

impl Decider for Counters {
    type Command = Command;
    type Answer = usize;
    type Effect = String;
    type Fold = ();

    fn fold(_: &StreamId, _: &str) -> Option<()> {
        None
    }

    fn missing(&self, tenant: &Tenant, command: &Command) -> Vec<StreamId> {
        let key = (tenant.clone(), command.stream(tenant));
        if self.ids.contains_key(&key) { vec![] } else { vec![key.1] }
    }

    fn load(
        &mut self,
        tenant: &Tenant,
        streams: &[StreamId],
        _: Vec<(StreamId, u64, ())>,
        commits: Vec<Recorded>,
    ) {
        for stream in streams {
            let of_stream = commits.iter().filter(|recorded| recorded.commit.stream == *stream);
            let ids = of_stream.flat_map(ids_of).collect();
            self.ids.insert((tenant.clone(), stream.clone()), ids);
        }
    }

    fn decide(
        &mut self,
        tenant: &Tenant,
        command: &Command,
        _at: Timestamp,
    ) -> Decision<usize, String> {
        self.watched.decided.send_modify(|decided| *decided += 1);
        let stream = command.stream(tenant);
        let ids = self.ids.get_mut(&(tenant.clone(), stream.clone())).expect("loaded");
        let stream_version = 1 + ids.len() as u64;
        let (events, effect) = match command {
            Command::Get { .. } => (vec![], "get".to_owned()),
            Command::Add { id, .. } if ids.contains(id) => (vec![], format!("again {id}")),
            Command::Add { id, events, .. } => {
                ids.extend(std::iter::repeat_n(*id, *events));
                let reason = Reason { reason: id.to_string() };
                let event = Event::Run(RunEvent::RunCancelRequested(NoData {}, Some(reason)));
                (vec![event; *events], format!("add {id}"))
            }
            Command::AcceptClockFault => {
                ids.push(u32::MAX);
                let event = LedgerEvent::ClockFaultAccepted(NoData {}, Some(Reason::default()));
                (vec![Event::Ledger(event)], "accept".to_owned())
            }
        };
        let answer = ids.len();
        let actor = Actor::user("test");
        let commit =
            (!events.is_empty()).then(|| Decided { stream, stream_version, actor, events });
        Decision { commit, answer, effects: vec![effect] }
    }

    fn next_due(&mut self, _now: Timestamp) -> Option<(Tenant, Command)> {
        self.watched.due.lock().unwrap().pop()
    }

    fn undecided(&mut self, tenant: &Tenant, command: Command) {
        self.watched.due.lock().unwrap().push((tenant.clone(), command));
    }

    fn wake_at(&self) -> Option<Timestamp> {
        None
    }

    fn recorded(&mut self, tenant: &Tenant, recorded: &Recorded, ours: bool) {
        let key = (tenant.clone(), recorded.commit.stream.clone());
        if !ours {
            self.ids.remove(&key);
        }
    }

    fn perform(&mut self, _tenant: &Tenant, effect: String) {
        self.watched.performed.lock().unwrap().push(effect);
    }

    fn abandon(&mut self, _tenant: &Tenant, _effect: String, _may_be_written: bool) {}

    fn forget(&mut self, tenant: &Tenant, streams: &[StreamId]) {
        self.ids.retain(|(of, stream), _| of != tenant || !streams.contains(stream));
    }

    fn accepts_clock_fault(&self, command: &Command) -> bool {
        matches!(command, Command::AcceptClockFault)
    }
}
