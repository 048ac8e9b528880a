//! Test support: what every [`Ledger`] has to do, as one suite that all implementations run, and
//! the sample commits that it runs on.
//!
//! Each check gets a ledger without commits. A check that fails panics and says what was wrong.

use std::sync::Arc;

use stella_domain::{
    chain::{Commit, Draft, Head},
    event::EncodedEvent,
    hash::Salt,
    ids::{Actor, LedgerId, StreamId, Tenant},
    json::CanonicalJson,
    time::Timestamp,
};

use crate::port::{AppendFailure, Ledger, LedgerError, READ_LIMIT};

/// Run every check, each on a ledger of its own from `fresh`.
///
/// # Panics
/// When the ledger does not do what [`Ledger`] says.
pub async fn suite(fresh: impl AsyncFn() -> Arc<dyn Ledger>) {
    an_empty_ledger_has_nothing(&*fresh().await).await;
    what_is_appended_is_read(&*fresh().await).await;
    reads_begin_with_the_commit_that_holds_the_seq(&*fresh().await).await;
    every_commit_keeps_its_bytes(&*fresh().await).await;
    a_taken_seq_is_a_conflict(&*fresh().await).await;
    a_taken_stream_version_is_a_conflict(&*fresh().await).await;
    what_comes_before_a_conflict_lands(&*fresh().await).await;
    a_large_batch_stops_at_its_conflict(&*fresh().await).await;
    streams_are_read_in_order_of_seq(&*fresh().await).await;
    a_time_is_found(&*fresh().await).await;
    tenants_are_listed_by_name(&*fresh().await).await;
    one_of_many_appends_wins(fresh().await).await;
}

/// A ledger in the making: seals sample commits, each after the one before it.
pub struct Samples {
    ledger: Arc<LedgerId>,
    head: Head,
    sealed: u8,
}

impl Samples {
    /// An empty ledger of `tenant` with the origin `stella.test`.
    pub fn new(tenant: &str) -> Self {
        let ledger = valid(&format!("stella.test/{tenant}"));
        Self { ledger: Arc::new(ledger), head: Head::EMPTY, sealed: 0 }
    }

    /// Whose ledger it is.
    pub fn tenant(&self) -> &Tenant {
        &self.ledger.tenant
    }

    /// Where it ends.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The next commit: so many events of `stream` from `stream_version` on, recorded `at_micros`.
    /// Every other event has a payload.
    ///
    /// # Panics
    /// When `stream` is none, or `events` is 0.
    pub fn commit(
        &mut self,
        stream: &str,
        stream_version: u64,
        events: usize,
        at_micros: i64,
    ) -> Arc<Commit> {
        self.sealed = self.sealed.wrapping_add(1);
        let salt = Salt::from([self.sealed; 16]);
        let draft = Draft {
            stream: valid(stream),
            stream_version,
            actor: valid::<Actor>("user:a|b@c.d"),
            events: (0..events).map(|n| (sample_event(n, stream_version), salt)).collect(),
        };
        let at = Timestamp::from_micros(at_micros);
        #[allow(clippy::expect_used)] // A sample without events is a fault of the test itself.
        let commit = Commit::seal(&self.ledger, &self.head, at, draft).expect("a sample");
        self.head = commit.head();
        Arc::new(commit)
    }

    /// The same ledger, for the history of another writer that parts from this one here.
    pub fn fork(&self) -> Self {
        let ledger = Arc::clone(&self.ledger);
        Self { ledger, head: self.head, sealed: self.sealed.wrapping_add(100) }
    }
}

fn sample_event(n: usize, stream_version: u64) -> EncodedEvent {
    let text = format!(r#"{{"n":{n},"of":{stream_version},"text":"€ 😀 \u0001 \" \\ ' $.a"}}"#);
    let payload = r#"{"":[1e21,0.1,-0,null,true,{"$oid":"x"}],"long":"LONG"}"#;
    let payload = payload.replace("LONG", &"x".repeat(97 * n));
    EncodedEvent {
        event_type: if n.is_multiple_of(2) { "StepStarted" } else { "SomethingOfALaterRelease" },
        schema: 1 + n as u32,
        data: json(&text),
        payload: n.is_multiple_of(2).then(|| json(&payload)),
    }
}

#[allow(clippy::expect_used)] // The samples' texts stand in this file.
fn json(text: &str) -> CanonicalJson {
    CanonicalJson::parse(text).expect("a sample's JSON")
}

#[allow(clippy::expect_used)] // The samples' names stand in this file and in tests.
fn valid<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a sample's name")
}

/// What must not fail here.
#[track_caller]
#[allow(clippy::panic)] // Failing is what a check is for.
fn ok<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

async fn everything(ledger: &dyn Ledger, tenant: &Tenant) -> Vec<Arc<Commit>> {
    ok(ledger.read(tenant, 0, READ_LIMIT).await).into_iter().map(Arc::new).collect()
}

async fn an_empty_ledger_has_nothing(ledger: &dyn Ledger) {
    let tenant: Tenant = valid("acme");
    assert_eq!(ok(ledger.head(&tenant).await), Head::EMPTY);
    assert!(ok(ledger.is_head(&tenant, 0).await));
    assert!(ok(ledger.read(&tenant, 0, 10).await).is_empty());
    assert!(ok(ledger.read_streams(&tenant, &[valid("dag/x")]).await).is_empty());
    assert_eq!(ok(ledger.first_at_or_after(&tenant, Timestamp::ZERO).await), None);
    assert!(ok(ledger.tenants(10).await).is_empty());
    assert!(ok(ledger.findings().await).is_empty(), "a fresh ledger has its indexes");
    ok(ledger.append(&[]).await);
}

async fn what_is_appended_is_read(ledger: &dyn Ledger) {
    let mut acme = Samples::new("acme");
    let mut other = Samples::new("other");
    let first = acme.commit("ledger/acme", 1, 1, 1_000);
    let second = acme.commit("dag/x", 1, 3, 2_000);
    let elsewhere = other.commit("dag/x", 1, 2, 1_500);
    ok(ledger.append(&[Arc::clone(&first), elsewhere, Arc::clone(&second)]).await);
    assert_eq!(everything(ledger, acme.tenant()).await, [first, second]);
    assert_eq!(ok(ledger.head(acme.tenant()).await), acme.head());
    assert_eq!(ok(ledger.head(other.tenant()).await), other.head());
    assert!(ok(ledger.is_head(acme.tenant(), 4).await));
    assert!(!ok(ledger.is_head(acme.tenant(), 1).await));
    let third = acme.commit("dag/x", 4, 1, 2_000);
    ok(ledger.append(&[third]).await);
    assert!(!ok(ledger.is_head(acme.tenant(), 4).await));
    assert_eq!(ok(ledger.head(acme.tenant()).await), acme.head());
}

async fn reads_begin_with_the_commit_that_holds_the_seq(ledger: &dyn Ledger) {
    let mut acme = Samples::new("acme");
    let commits: Vec<_> = (0..5).map(|n| acme.commit("dag/x", 1 + 3 * n, 3, 1)).collect();
    ok(ledger.append(&commits).await);
    for from_seq in 0..20 {
        for limit in [0, 1, 2, 100, usize::MAX] {
            let expected: Vec<u64> = commits
                .iter()
                .map(|commit| commit.seq)
                .filter(|seq| seq + 2 >= from_seq)
                .take(limit)
                .collect();
            let found = ok(ledger.read(acme.tenant(), from_seq, limit).await);
            let found: Vec<u64> = found.iter().map(|commit| commit.seq).collect();
            assert_eq!(found, expected, "from {from_seq}, at most {limit}");
        }
    }
    assert!(ok(ledger.read(acme.tenant(), u64::MAX, 1).await).is_empty());
}

/// The export's lines are the same, whatever stores them.
async fn every_commit_keeps_its_bytes(ledger: &dyn Ledger) {
    let mut acme = Samples::new("acme");
    let mut commits = vec![];
    for (n, stream) in
        ["ledger/acme", "dag/A.b_c-1", "run/0RQ9CWTXP9BPJR3KTYEG0MB9FF", "schedule/s", "plugin/p"]
            .into_iter()
            .enumerate()
    {
        commits.push(acme.commit(stream, 1, 1 + 3 * n, 253_402_300_799_000_000 + n as i64));
    }
    ok(ledger.append(&commits).await);
    let text = |commits: &[Arc<Commit>]| {
        commits.iter().fold(String::new(), |mut out, commit| {
            commit.write_ndjson(&mut out);
            out
        })
    };
    let found = everything(ledger, acme.tenant()).await;
    assert_eq!(text(&found), text(&commits));
    assert_eq!(found, commits);
}

#[allow(clippy::panic)] // Failing is what a check is for.
async fn assert_conflict(ledger: &dyn Ledger, commits: &[Arc<Commit>], landed: usize) {
    match ledger.append(commits).await {
        Err(error) => {
            assert!(matches!(error.cause, AppendFailure::Conflict), "{error}");
            assert_eq!(error.landed, landed, "{error}");
        }
        Ok(()) => panic!("a commit landed although its place was taken"),
    }
}

async fn a_taken_seq_is_a_conflict(ledger: &dyn Ledger) {
    let mut acme = Samples::new("acme");
    let mut rival = acme.fork();
    let first = acme.commit("dag/x", 1, 1, 1);
    ok(ledger.append(&[Arc::clone(&first)]).await);
    assert_conflict(ledger, &[rival.commit("dag/y", 1, 2, 1)], 0).await;
    // The same bytes again are a conflict too: comparing is the caller's part.
    assert_conflict(ledger, &[Arc::clone(&first)], 0).await;
    assert_eq!(everything(ledger, acme.tenant()).await, [first]);
}

async fn a_taken_stream_version_is_a_conflict(ledger: &dyn Ledger) {
    let mut acme = Samples::new("acme");
    let first = acme.commit("dag/x", 1, 1, 1);
    let again = acme.fork().commit("dag/x", 1, 1, 1);
    ok(ledger.append(&[Arc::clone(&first)]).await);
    assert_conflict(ledger, &[again], 0).await;
    assert_eq!(everything(ledger, acme.tenant()).await, [first]);
    // Streams of the same name of two tenants have nothing to do with each other.
    ok(ledger.append(&[Samples::new("other").commit("dag/x", 1, 1, 1)]).await);
}

async fn what_comes_before_a_conflict_lands(ledger: &dyn Ledger) {
    let (mut a, mut b) = (Samples::new("a"), Samples::new("b"));
    let mut rival = b.fork();
    let taken = rival.commit("dag/x", 1, 1, 1);
    ok(ledger.append(&[Arc::clone(&taken)]).await);
    let [a0, a1, a2] = [1, 2, 3].map(|version| a.commit("dag/x", version, 1, 1));
    let b0 = b.commit("dag/y", 1, 1, 1);
    assert_conflict(ledger, &[Arc::clone(&a0), Arc::clone(&a1), b0, Arc::clone(&a2)], 2).await;
    assert_eq!(everything(ledger, a.tenant()).await, [a0, a1]);
    assert_eq!(everything(ledger, b.tenant()).await, [taken]);
    ok(ledger.append(&[a2]).await);
}

async fn a_large_batch_stops_at_its_conflict(ledger: &dyn Ledger) {
    let (mut a, mut b) = (Samples::new("a"), Samples::new("b"));
    ok(ledger.append(&[b.fork().commit("dag/y", 1, 1, 1)]).await);
    let mut batch: Vec<_> = (0..1_000).map(|n| a.commit("dag/x", 1 + n, 1, 1)).collect();
    batch.insert(777, b.commit("dag/x", 1, 1, 1));
    assert_conflict(ledger, &batch, 777).await;
    batch.remove(777);
    assert_eq!(everything(ledger, a.tenant()).await, batch[..777]);
    ok(ledger.append(&batch[777..]).await);
    assert_eq!(everything(ledger, a.tenant()).await, batch);
}

async fn streams_are_read_in_order_of_seq(ledger: &dyn Ledger) {
    let mut acme = Samples::new("acme");
    let [z1, y1, z2, x1, y2] = [("z", 1), ("y", 1), ("z", 3), ("x", 1), ("y", 3)]
        .map(|(name, version)| acme.commit(&format!("dag/{name}"), version, 2, 1));
    let batch = [&z1, &y1, &z2, &x1, &y2].map(Arc::clone);
    ok(ledger.append(&batch).await);
    let streams = ["dag/y", "dag/z", "dag/none", "dag/y"].map(valid::<StreamId>);
    let found = ok(ledger.read_streams(acme.tenant(), &streams).await);
    assert_eq!(found, [&z1, &y1, &z2, &y2].map(|commit| (**commit).clone()));
    assert!(ok(ledger.read_streams(acme.tenant(), &[]).await).is_empty());
    // One stream of two commits with two events each, a page at a time.
    for (from_version, limit, expected) in [
        (0, 9, &[&z1, &z2][..]),
        (1, 9, &[&z1, &z2]),
        (2, 9, &[&z1, &z2]),
        (2, 1, &[&z1]),
        (3, 9, &[&z2]),
        (4, 1, &[&z2]),
        (5, 9, &[]),
        (u64::MAX, 9, &[]),
        (1, 0, &[]),
    ] {
        let stream = valid::<StreamId>("dag/z");
        let found = ok(ledger.read_stream(acme.tenant(), &stream, from_version, limit).await);
        let expected: Vec<Commit> = expected.iter().map(|commit| (***commit).clone()).collect();
        assert_eq!(found, expected, "{limit} from {from_version} on");
    }
}

async fn a_time_is_found(ledger: &dyn Ledger) {
    let mut acme = Samples::new("acme");
    // Runs of equal times, gaps, commits of every small size; the same at each run of the test.
    let mut commits = vec![];
    let (mut random, mut at, mut version) = (7_u64, 100_i64, 1);
    for _ in 0..120 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        at += [0, 0, 1, 5][(random >> 40) as usize % 4];
        let events = 1 + (random >> 50) as usize % 4;
        commits.push(acme.commit("dag/x", version, events, at));
        version += events as u64;
    }
    ok(ledger.append(&commits).await);
    for time in 95..at + 5 {
        let time = Timestamp::from_micros(time);
        let expected = commits.iter().find(|c| c.recorded_at >= time).map(|c| c.seq);
        let found = ok(ledger.first_at_or_after(acme.tenant(), time).await);
        assert_eq!(found, expected, "at {time}");
    }
}

async fn tenants_are_listed_by_name(ledger: &dyn Ledger) {
    for tenant in ["b", "a-b", "a0", "a", "c"] {
        let mut samples = Samples::new(tenant);
        ok(ledger.append(&[samples.commit("dag/x", 1, 1, 1)]).await);
        ok(ledger.append(&[samples.commit("dag/x", 2, 1, 1)]).await);
    }
    let tenants = async |limit| -> Vec<String> {
        ok(ledger.tenants(limit).await).iter().map(ToString::to_string).collect()
    };
    assert_eq!(tenants(100).await, ["a", "a-b", "a0", "b", "c"]);
    assert_eq!(tenants(2).await, ["a", "a-b"]);
    assert!(tenants(0).await.is_empty());
}

async fn one_of_many_appends_wins(ledger: Arc<dyn Ledger>) {
    let acme = Samples::new("acme");
    let attempts = (0..8).map(|n| {
        let commit = acme.fork().commit(&format!("dag/{n}"), 1, 1, 1);
        let ledger = Arc::clone(&ledger);
        async move { ledger.append(&[commit]).await.is_ok() }
    });
    let outcomes = futures::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|won| **won).count(), 1, "{outcomes:?}");
    assert_eq!(everything(&*ledger, acme.tenant()).await.len(), 1);
}

/// Check that content changed behind the ledger's back is noticed. `ledger` has no commits;
/// `damage` changes, in the stored data of event 0 of tenant `acme`, the text `"n":0` to `"n":9`.
///
/// # Panics
/// When a read returns the changed content.
pub async fn damage_is_noticed(ledger: &dyn Ledger, damage: impl AsyncFnOnce()) {
    let mut acme = Samples::new("acme");
    let (first, second) = (acme.commit("dag/x", 1, 2, 1), acme.commit("dag/y", 1, 2, 1));
    ok(ledger.append(&[first, second]).await);
    damage().await;
    let damaged = |outcome: Result<Vec<Commit>, LedgerError>| {
        let found = outcome.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(found.contains("acme is damaged: event 0"), "{found:?}");
    };
    damaged(ledger.read(acme.tenant(), 0, 10).await);
    damaged(ledger.read_streams(acme.tenant(), &[valid("dag/x")]).await);
    assert_eq!(ok(ledger.read(acme.tenant(), 2, 10).await).len(), 1, "the rest is sound");
}
