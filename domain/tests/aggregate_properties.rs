//! Whatever is asked of a DAG or of a ledger, in whatever order, its history keeps the rules.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fmt::Debug, sync::Arc};

use proptest::prelude::*;
use stella_domain::{
    aggregate::{
        Aggregate, Dag, DagCommand, ErasureReason, Ledger, LedgerCommand, LedgerRefusal, RunStatus,
        RunToErase,
    },
    chain::{Commit, Draft, Head},
    dag::{DagSpec, PluginCatalog},
    event::{DagEvent, EncodedEvent, Event, LedgerEvent},
    ids::{Actor, LedgerId, PluginName, StreamId},
    limits::{COMMIT_BYTES, COMMIT_EVENTS, EVENT_PART_BYTES},
    time::Timestamp,
};

struct AnyPlugin;
impl PluginCatalog for AnyPlugin {
    fn actions(&self, _: &PluginName) -> Option<Vec<String>> {
        Some(vec!["noop".to_owned()])
    }
}

/// Specs of one DAG, each number another digest; the larger ones come near what a spec may have.
fn spec(n: u8) -> Arc<DagSpec> {
    let text = "x".repeat(usize::from(n) * 10_000);
    let step = serde_json::json!({"id": "s", "plugin": "p", "action": "noop", "with": {"a": text}});
    let text = serde_json::json!({"id": "d", "steps": [step]}).to_string();
    Arc::new(DagSpec::parse(&text, &AnyPlugin).unwrap())
}

/// Decide, check what holds for every aggregate, and fold.
fn ask<A>(
    aggregate: &mut A,
    command: A::Command,
    encode: impl Fn(&A::Event) -> EncodedEvent,
) -> Result<Vec<A::Event>, A::Error>
where
    A: Aggregate<Command: Clone, Event: PartialEq + Debug, Error: PartialEq + Debug>,
{
    let decided = aggregate.decide(command.clone());
    assert_eq!(aggregate.decide(command), decided, "deciding is deterministic");
    let events = decided?;
    assert!(events.len() <= COMMIT_EVENTS);
    let mut commit = 0;
    for event in &events {
        let encoded = encode(event);
        for part in [Some(&encoded.data), encoded.payload.as_ref()].into_iter().flatten() {
            assert!(part.as_str().len() <= EVENT_PART_BYTES, "{}", encoded.event_type);
            commit += part.as_str().len();
        }
        aggregate.evolve(event);
    }
    assert!(commit <= COMMIT_BYTES);
    Ok(events)
}

/// The events as they come back from storage: sealed and decoded.
fn through_the_ledger(stream: &str, commits: &[Vec<EncodedEvent>]) -> Vec<Event> {
    let ledger: Arc<LedgerId> = Arc::new("o/t".parse().unwrap());
    let stream: StreamId = stream.parse().unwrap();
    let (mut head, mut back) = (Head::EMPTY, vec![]);
    for events in commits.iter().filter(|events| !events.is_empty()) {
        let draft = Draft {
            stream: stream.clone(),
            stream_version: back.len() as u64 + 1,
            actor: Actor::user("a"),
            events: events.iter().map(|event| (event.clone(), [1; 16].into())).collect(),
        };
        let commit = Commit::seal(&ledger, &head, Timestamp::ZERO, draft).unwrap();
        commit.verify_follows(&head).unwrap();
        head = commit.head();
        back.extend(commit.events.iter().map(|stored| Event::decode(&stream, stored).unwrap()));
    }
    back
}

#[derive(Debug, Clone, Copy)]
enum Ask {
    Open,
    Seal(usize),
    AcceptClockFault(usize),
}

fn ledger_ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        1 => Just(Ask::Open),
        2 => (0..EVENT_PART_BYTES - 100).prop_map(Ask::Seal),
        2 => (0..EVENT_PART_BYTES - 100).prop_map(Ask::AcceptClockFault),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 128, ..ProptestConfig::default()
    })]

    #[test]
    fn versions_of_a_dag_are_dense_unique_and_never_change(
        specs in prop::collection::vec(0..7_u8, 1..24),
    ) {
        let (mut dag, mut commits, mut digests) = (Dag::default(), vec![], Vec::<String>::new());
        for n in specs {
            let spec = spec(n);
            let before = dag.clone();
            let command = DagCommand::Register { spec: Arc::clone(&spec), reason: String::new() };
            let events = ask(&mut dag, command, DagEvent::encode).unwrap();
            if digests.iter().any(|known| known == spec.digest()) {
                prop_assert!(events.is_empty(), "a known digest changes nothing");
                prop_assert_eq!(&dag, &before);
            } else {
                digests.push(spec.digest().to_owned());
                prop_assert_eq!(dag.active, Some(digests.len() as u32), "the new one is active");
            }
            for (number, version) in &before.versions {
                prop_assert_eq!(&dag.versions[number], version, "a version never changes");
            }
            let numbered = (1..).zip(&digests).map(|(number, digest)| (number, digest.as_str()));
            let have = dag.versions.iter().map(|(number, v)| (*number, v.digest.as_str()));
            prop_assert!(have.eq(numbered), "numbers are dense, in the order of registering");
            let (number, startable) = dag.startable(dag.version_of(spec.digest())).unwrap();
            prop_assert_eq!(startable.digest(), &digests[number as usize - 1]);
            commits.push(events.iter().map(DagEvent::encode).collect());
        }
        let mut folded = Dag::default();
        for event in through_the_ledger("dag/d", &commits) {
            let Event::Dag(event) = event else { panic!("{event:?}") };
            folded.evolve(&event);
        }
        prop_assert_eq!(folded, dag, "folding is deterministic");
    }

    /// However many payloads a run has, and however often it is asked: each is named once, in order,
    /// in commits that the format takes.
    #[test]
    fn every_payload_is_named_once(
        counts in prop::collection::vec(
            prop_oneof![
                12 => 0..20_usize, 6 => 1_990..2_010_usize, 1 => 199_000..200_500_usize,
            ],
            1..3,
        ),
        gap in 1..40_000_000_u64,
        reason in "[a-z\u{1}\"é]{1,340}",
    ) {
        let reason: ErasureReason = format!("r{reason}").parse().unwrap();
        let mut ledger = Ledger::default();
        let open = LedgerCommand::Open { tenant: "t".parse().unwrap() };
        ask(&mut ledger, open, LedgerEvent::encode).unwrap();
        for (n, count) in counts.into_iter().enumerate() {
            let payloads: Vec<u64> = (1..=count as u64).map(|i| i * gap).collect();
            let run_id = format!("0000000000000000000000000{n}").parse().unwrap();
            let status = Some(RunStatus::Succeeded);
            let as_of = ledger.version;
            let mut run = RunToErase { run_id, status, payloads, named: None, as_of };
            let mut named = vec![];
            for _ in 0..5 {
                let erase =
                    LedgerCommand::Erase { run: Arc::new(run.clone()), reason: reason.clone() };
                let decided = ask(&mut ledger, erase.clone(), LedgerEvent::encode);
                prop_assert_eq!(decided.is_err(), run.payloads.is_empty());
                let decided = decided.unwrap_or_default();
                if !decided.is_empty() {
                    let again = ask(&mut ledger, erase, LedgerEvent::encode);
                    prop_assert_eq!(again, Err(LedgerRefusal::ErasedMeanwhile(run.run_id.clone())));
                }
                for event in decided {
                    let LedgerEvent::DataErased(data, Some(_)) = event else { panic!("{event:?}") };
                    prop_assert!(!data.seqs.is_empty() && data.run_id == run.run_id);
                    run.is_named_by(&data);
                    named.extend(data.seqs);
                }
                run.as_of = ledger.version;
            }
            prop_assert_eq!(&named, &run.payloads);
        }
    }

    #[test]
    fn a_ledger_is_opened_once_and_before_anything_else(
        asks in prop::collection::vec(ledger_ask(), 0..24),
    ) {
        let (mut ledger, mut commits) = (Ledger::default(), vec![]);
        for asked in asks {
            let was_open = ledger.opened;
            let command = match asked {
                Ask::Open => LedgerCommand::Open { tenant: "t".parse().unwrap() },
                Ask::Seal(n) => LedgerCommand::Seal { reason: "x".repeat(n) },
                Ask::AcceptClockFault(n) => {
                    LedgerCommand::AcceptClockFault { reason: "x".repeat(n) }
                }
            };
            let decided = ask(&mut ledger, command, LedgerEvent::encode);
            match (was_open, asked) {
                (false, Ask::Open) => prop_assert!(ledger.opened),
                (true, Ask::Open) => prop_assert_eq!(&decided, &Ok(vec![])),
                (false, _) => prop_assert_eq!(&decided, &Err(LedgerRefusal::NotOpened)),
                (true, Ask::Seal(_)) => prop_assert!(decided.as_ref().is_ok_and(|e| e.len() == 1)),
                (true, Ask::AcceptClockFault(_)) => {
                    prop_assert_eq!(ledger.clock_fault_accepted_at, Some(ledger.version));
                }
            }
            let events = decided.unwrap_or_default();
            commits.push(events.iter().map(LedgerEvent::encode).collect());
        }
        let back = through_the_ledger("ledger/t", &commits);
        let opened = |event: &Event| matches!(event, Event::Ledger(LedgerEvent::LedgerOpened(_)));
        prop_assert!(back.first().is_none_or(opened), "it begins with its opening");
        prop_assert_eq!(back.iter().filter(|e| opened(e)).count(), usize::from(ledger.opened));
        let mut folded = Ledger::default();
        for event in back {
            let Event::Ledger(event) = event else { panic!("{event:?}") };
            folded.evolve(&event);
        }
        prop_assert_eq!(folded, ledger, "folding is deterministic");
    }
}
