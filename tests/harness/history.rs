//! A whole ledger read back, and what holds for every one of them.

use std::collections::BTreeMap;

use stella_domain::{
    chain::{Commit, Head},
    event::{Event, RunEvent},
    ids::{FencingToken, RunId, StreamId, Tenant},
};
use stella_ledger::{port::Ledger, recorded::Recorded, uri::LedgerUri};
use stella_replay::verify::verify_ledger;

const PAGE_COMMITS: usize = 1_000;

/// Every commit of a tenant, in order.
pub struct History {
    commits: Vec<Recorded>,
    /// Places in `commits`, by stream.
    streams: BTreeMap<StreamId, Vec<usize>>,
}

impl History {
    /// Read the ledger at `uri`, and check what has to hold for any: dense seqs, an unbroken
    /// chain from seq 0, dense versions in each stream, and at most one end per run.
    #[track_caller]
    pub fn read(uri: &str, tenant: &str) -> impl Future<Output = Self> {
        let (uri, tenant): (LedgerUri, Tenant) = (uri.parse().unwrap(), tenant.parse().unwrap());
        async move {
            let ledger = uri.open().await.expect("the ledger opens");
            let mut no_progress = |_| {};
            let verified = verify_ledger(&*ledger, &tenant, &mut no_progress).await;
            let report = verified.expect("the ledger verifies");
            let history = Self::of(&*ledger, &tenant).await;
            assert_eq!(report.events, history.head().next_seq, "as many as were verified");
            history.check_streams();
            history
        }
    }

    async fn of(ledger: &dyn Ledger, tenant: &Tenant) -> Self {
        let mut history = Self { commits: vec![], streams: BTreeMap::new() };
        loop {
            let from = history.head().next_seq;
            let page = ledger.read(tenant, from, PAGE_COMMITS).await.expect("the ledger reads");
            if page.is_empty() {
                return history;
            }
            for commit in page {
                commit.verify_follows(&history.head()).expect("the chain holds");
                let place = history.commits.len();
                history.streams.entry(commit.stream.clone()).or_default().push(place);
                history.commits.push(Recorded::decode(commit).expect("events decode"));
            }
        }
    }

    fn check_streams(&self) {
        for stream in self.streams.keys() {
            let mut version = 1;
            for commit in self.stream(stream) {
                assert_eq!(commit.commit.stream_version, version, "versions of {stream}");
                version += commit.events.len() as u64;
            }
            if let StreamId::Run(run_id) = stream {
                self.check_run(run_id);
            }
        }
    }

    fn check_run(&self, run_id: &RunId) {
        let events: Vec<&RunEvent> = self.run_events(run_id).map(|(_, event)| event).collect();
        assert!(matches!(events[0], RunEvent::RunCreated(..)), "{run_id} begins otherwise");
        let created = events.iter().filter(|e| matches!(e, RunEvent::RunCreated(..))).count();
        let ends = events.iter().filter(|e| is_end(e)).count();
        assert_eq!((created, ends.min(1)), (1, ends), "{run_id} is created once, ends once");
        assert!(ends == 0 || is_end(events[events.len() - 1]), "{run_id} went on after its end");
    }

    /// Where it ends.
    pub fn head(&self) -> Head {
        self.commits.last().map_or(Head::EMPTY, |recorded| recorded.commit.head())
    }

    /// The commit that begins at `seq`.
    pub fn commit_at(&self, seq: u64) -> Option<&Commit> {
        let place = self.commits.binary_search_by_key(&seq, |recorded| recorded.commit.seq).ok()?;
        Some(&self.commits[place].commit)
    }

    /// A stream's commits, in order.
    pub fn stream<'a>(&'a self, stream: &StreamId) -> impl Iterator<Item = &'a Recorded> + use<'a> {
        let places = self.streams.get(stream).map(Vec::as_slice).unwrap_or_default();
        places.iter().map(|place| &self.commits[*place])
    }

    /// Every stream.
    pub fn streams(&self) -> impl Iterator<Item = &StreamId> {
        self.streams.keys()
    }

    /// Every run.
    pub fn runs(&self) -> impl Iterator<Item = &RunId> {
        self.streams().filter_map(|stream| match stream {
            StreamId::Run(run_id) => Some(run_id),
            _ => None,
        })
    }

    /// A run's events with their stream versions.
    pub fn run_events<'a>(
        &'a self,
        run_id: &RunId,
    ) -> impl Iterator<Item = (u64, &'a RunEvent)> + use<'a> {
        let commits = self.stream(&StreamId::Run(run_id.clone()));
        let events = commits.flat_map(|recorded| &recorded.events);
        (1..).zip(events.filter_map(|event| match event {
            Event::Run(event) => Some(event),
            _ => None,
        }))
    }

    /// Whether the run has ended.
    pub fn has_ended(&self, run_id: &RunId) -> bool {
        self.run_events(run_id).last().is_some_and(|(_, event)| is_end(event))
    }

    /// How often the lease of `token` was ended by its worker's report: more than once would be a
    /// step done twice.
    pub fn closings(&self, token: &FencingToken) -> usize {
        let started = self.run_events(&token.run_id).find_map(|(version, event)| match event {
            RunEvent::StepStarted(started) if version == token.stream_version => Some(started),
            _ => None,
        });
        let Some(started) = started else { return 0 };
        let of_attempt = |event: &RunEvent| match event {
            RunEvent::StepSucceeded(end, _) | RunEvent::StepTimedOut(end, _) => {
                (&end.step_id, end.attempt) == (&started.step_id, started.attempt)
            }
            RunEvent::StepCancelled(end, _) => {
                (&end.step_id, end.attempt) == (&started.step_id, started.attempt)
            }
            RunEvent::StepFailed(end, _) => {
                (&end.step_id, end.attempt) == (&started.step_id, started.attempt)
            }
            _ => false,
        };
        self.run_events(&token.run_id).filter(|(_, event)| of_attempt(event)).count()
    }
}

fn is_end(event: &RunEvent) -> bool {
    matches!(
        event,
        RunEvent::RunSucceeded(..)
            | RunEvent::RunFailed(..)
            | RunEvent::RunCancelled(..)
            | RunEvent::RunTimedOut(..)
    )
}
