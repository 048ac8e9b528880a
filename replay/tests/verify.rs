//! Ledgers as they are written and stored, held to the rules of the verifier.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, sync::Arc};

use common::{a_run_that_succeeds, fixture, golden, retries_and_a_cancel, tenant};
use stella_domain::{
    chain::{Commit, Head},
    hash::Hash32,
    ids::{StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::{
    port::{AppendError, Finding, Ledger, LedgerError, Prepared},
    sqlite::SqliteLedger,
};
use stella_replay::verify::{LiveError, verify_ledger};
use stella_verify::{
    Reason,
    ndjson::{VerifyError, verify_reader},
};

/// `UPDATE_GOLDEN=1` rewrites the files.
#[test]
fn golden_ledgers_are_what_the_domain_writes_and_verify() {
    for (name, story) in [
        ("a_run_that_succeeds", a_run_that_succeeds()),
        ("retries_and_a_cancel", retries_and_a_cancel()),
    ] {
        let text = story.ndjson();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(fixture(&format!("ledgers/{name}.ndjson")), &text).unwrap();
        }
        assert_eq!(golden(name), text, "{name}: the format is fixed; this changed it");
        let report =
            verify_reader(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let span = report.span.unwrap();
        let last = story.commits.last().unwrap();
        assert_eq!(report.events, story.next_seq());
        assert_eq!(report.bytes, text.len() as u64);
        assert_eq!((span.first_seq, span.last_seq, span.prev), (0, last.seq, Hash32::ZERO));
        assert_eq!(span.head, last.head().hash);
        assert_eq!(span.ledger, "stella.example/acme");
        assert_eq!(span.first_recorded_at, story.commits[0].recorded_at);
        assert_eq!(span.last_recorded_at, last.recorded_at);
    }
}

#[test]
fn a_live_ledger_is_held_to_the_same_rules() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let story = retries_and_a_cancel();
        let ledger = story.in_sqlite(directory.path()).await;
        let report = verify_ledger(&*ledger, &tenant(), &mut |_| {}).await.unwrap();
        assert_eq!(report.span, verify_reader(story.ndjson().as_bytes()).unwrap().span);
        let nobody = "nobody".parse().unwrap();
        assert_eq!(verify_ledger(&*ledger, &nobody, &mut |_| {}).await.unwrap().events, 0);

        match verify_ledger(&Headless(ledger), &tenant(), &mut |_| {}).await {
            Err(LiveError::Verify(VerifyError::Broken(broken))) => {
                assert_eq!(broken.reason, Reason::Seq { expected: 0, found: 1 });
            }
            other => panic!("{other:?}"),
        }
    });
}

/// A ledger whose first commit somebody deleted.
struct Headless(Arc<SqliteLedger>);

#[async_trait::async_trait]
impl Ledger for Headless {
    async fn read(
        &self,
        tenant: &Tenant,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        self.0.read(tenant, from_seq.max(1), limit).await
    }
    fn prepare(&self, commit: Arc<Commit>) -> Prepared {
        self.0.prepare(commit)
    }

    async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError> {
        self.0.append_prepared(commits).await
    }
    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
        self.0.head(tenant).await
    }
    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        self.0.is_head(tenant, next_seq).await
    }
    async fn read_streams(&self, t: &Tenant, of: &[StreamId]) -> Result<Vec<Commit>, LedgerError> {
        self.0.read_streams(t, of).await
    }
    async fn first_at_or_after(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        self.0.first_at_or_after(tenant, time).await
    }
    async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
        self.0.tenants(limit).await
    }
    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.0.server_time().await
    }
    async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
        self.0.findings().await
    }
}
