//! The ledger that the corpus is made of: three dozen events, on a fixed clock with fixed salts.

use std::sync::Arc;

use stella_domain::{
    chain::{Commit, Draft, Head},
    event::EncodedEvent,
    hash::{Hash32, Salt},
    ids::LedgerId,
    json::CanonicalJson,
    time::Timestamp,
};

use crate::Failure;

/// 2026-11-23T09:00:00Z in microseconds.
const START: i64 = 1_795_424_400_000_000;
/// Between two commits.
const STEP_MICROS: i64 = 1_000_000;

/// A whole ledger, as the lines of its export.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) id: LedgerId,
    pub(crate) lines: Vec<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) hashes: Vec<Hash32>,
    pub(crate) times: Vec<Timestamp>,
    /// Seqs of `DataErased` events.
    pub(crate) erasures: Vec<usize>,
}

/// When the commit with this number was recorded.
pub(crate) fn time(commit: i64) -> Timestamp {
    Timestamp::from_micros(START + commit * STEP_MICROS)
}

impl Ledger {
    /// The ledger of `id`; `note` is what somebody said at the start of every run, so that two notes
    /// make two histories. Payloads of `erased` are blanked, and a `DataErased` names `named`.
    pub(crate) fn of(id: &str, note: &str, erased: &[u64], named: &[u64]) -> Result<Self, Failure> {
        let mut story = Story {
            id: Arc::new(id.parse()?),
            head: Head::EMPTY,
            commits: vec![],
            versions: std::collections::BTreeMap::new(),
            salts: 0,
        };
        let tenant = story.id.tenant.to_string();
        let own = format!("ledger/{tenant}");
        let opened = format!(r#"{{"format":1,"tenant":"{tenant}"}}"#);
        story.record(&own, "system:ledger", &[("LedgerOpened", &opened, None)])?;
        let spec = r#"{"dagId":"scan","digest":"b3:00","spec":{"steps":[]},"version":1}"#;
        let activated = ("DagVersionActivated", r#"{"version":1}"#, None);
        story.record("dag/scan", "user:ann", &[("DagVersionRegistered", spec, None), activated])?;
        for run in 0..3 {
            story.run(run, note)?;
        }
        let list = named.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let data = format!(r#"{{"runId":"01KAR5T0000000000000000001","seqs":[{list}]}}"#);
        let reason = r#"{"reason":"asked for by the person concerned"}"#;
        story.record(&own, "user:ann", &[("DataErased", &data, Some(reason))])?;
        for run in 3..5 {
            story.run(run, note)?;
        }
        story.record(&own, "user:ann", &[("LedgerSealed", "{}", Some(r#"{"reason":""}"#))])?;
        story.finish(erased)
    }
}

struct Story {
    id: Arc<LedgerId>,
    head: Head,
    commits: Vec<Commit>,
    versions: std::collections::BTreeMap<String, u64>,
    salts: u8,
}

type Told<'a> = (&'static str, &'a str, Option<&'a str>);

impl Story {
    fn record(&mut self, stream: &str, actor: &str, events: &[Told<'_>]) -> Result<(), Failure> {
        let version = self.versions.entry(stream.to_owned()).or_insert(0);
        let stream_version = *version + 1;
        *version += events.len() as u64;
        let mut encoded = vec![];
        for (event_type, data, payload) in events {
            self.salts = self.salts.wrapping_add(1);
            let payload = payload.map(CanonicalJson::parse).transpose()?;
            let data = CanonicalJson::parse(data)?;
            let event = EncodedEvent { event_type, schema: 1, data, payload };
            encoded.push((event, Salt::from([self.salts; 16])));
        }
        let stream = stream.parse()?;
        let draft = Draft { stream, stream_version, actor: actor.parse()?, events: encoded };
        let at = time(i64::try_from(self.commits.len())?);
        let commit = Commit::seal(&self.id, &self.head, at, draft)?;
        self.head = commit.head();
        self.commits.push(commit);
        Ok(())
    }

    /// Six events in three commits.
    fn run(&mut self, number: u8, note: &str) -> Result<(), Failure> {
        let stream = format!("run/01KAR5T000000000000000000{number}");
        let created = r#"{"attempt":0,"dagDigest":"b3:00","dagId":"scan","dagVersion":1,"inputsHash":"b3:00","priority":0}"#;
        let inputs = format!(r#"{{"inputs":{{"n":{number},"note":"{note}"}},"labels":{{}}}}"#);
        let queued = r#"{"attempt":1,"plugin":"core","priority":0,"stepId":"only"}"#;
        let started = r#"{"attempt":1,"leaseMs":30000,"stepId":"only","workerId":"w-1"}"#;
        let done = r#"{"attempt":1,"stepId":"only"}"#;
        let outputs = format!(r#"{{"outputs":{{"share":0.1,"text":"naïve – “{number}” €"}}}}"#);
        self.record(
            &stream,
            "user:bob",
            &[("RunCreated", created, Some(&inputs)), ("StepQueued", queued, None)],
        )?;
        self.record(&stream, "worker:w-1", &[("StepStarted", started, None)])?;
        self.record(
            &stream,
            "worker:w-1",
            &[("StepSucceeded", done, Some(&outputs)), ("RunSucceeded", "{}", None)],
        )
    }

    fn finish(self, erased: &[u64]) -> Result<Ledger, Failure> {
        let mut ledger = Ledger {
            id: (*self.id).clone(),
            lines: vec![],
            headers: vec![],
            hashes: vec![],
            times: vec![],
            erasures: vec![],
        };
        for commit in &self.commits {
            let mut text = String::new();
            commit.write_ndjson(&mut text);
            ledger.lines.extend(text.lines().map(str::to_owned));
            for (i, event) in commit.events.iter().enumerate() {
                if event.event_type == "DataErased" {
                    ledger.erasures.push(ledger.hashes.len());
                }
                ledger.headers.push(commit.header(i));
                ledger.hashes.push(event.hash);
                ledger.times.push(commit.recorded_at);
            }
        }
        for seq in erased {
            let line = ledger.lines.get_mut(usize::try_from(*seq)?).ok_or("no such seq")?;
            let end = line.rfind(",\"payload\":").ok_or("no payload")?;
            line.replace_range(end.., ",\"payload\":null,\"salt\":null}");
        }
        Ok(ledger)
    }
}
