//! Test support: what every [`Eraser`] has to do on its ledger, as one suite that all
//! implementations run. A check that fails panics and says what was wrong.

use std::{collections::HashSet, sync::Arc};

use stella_domain::{
    chain::{Commit, StoredPayload},
    event::DataErased,
    ids::{RunId, Tenant},
};

use super::{Blanking, EraseError, Eraser, carry_out};
use crate::{
    conformance::Samples,
    port::{Ledger, READ_LIMIT},
};

/// The run whose payloads go.
const RUN: &str = "0RQ9CWTXP9BPJR3KTYEG0MB9FF";
/// One whose payloads stay.
const OTHER: &str = "165VHCWGZA4TBKT99ZAK4EP66V";

/// A ledger without commits, and the way to blank its payloads.
pub type Place = (Arc<dyn Ledger>, Arc<dyn Eraser>);

/// Run every check, each on a ledger of its own from `fresh`.
///
/// # Panics
/// When the eraser does not do what [`Eraser`] says.
pub async fn suite(fresh: impl AsyncFn() -> Place) {
    payloads_go_and_hashes_stay(fresh().await).await;
    only_what_is_named_of_the_run_goes(fresh().await).await;
    what_is_not_as_it_was_read_stays(fresh().await).await;
    a_large_commit_is_blanked(fresh().await).await;
    blanking_at_once_by_several_is_blanking(fresh().await).await;
}

#[track_caller]
#[allow(clippy::panic)] // Failing is what a check is for.
fn ok<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

#[allow(clippy::expect_used)] // The names stand in this file.
fn run_id() -> RunId {
    RUN.parse().expect("a run's id")
}

async fn everything(ledger: &dyn Ledger, tenant: &Tenant) -> Vec<Arc<Commit>> {
    ok(ledger.read(tenant, 0, READ_LIMIT).await).into_iter().map(Arc::new).collect()
}

/// The commit with its erased payloads.
fn blanked(commit: &Commit, seqs: &[u64]) -> Arc<Commit> {
    let seqs: HashSet<u64> = seqs.iter().copied().collect();
    #[allow(clippy::expect_used)] // A check that names no payload is a fault of its own.
    let blanking = Blanking::of(commit, &seqs).expect("a payload");
    Arc::new(blanking.after())
}

fn ndjson(commits: &[Arc<Commit>]) -> String {
    let mut text = String::new();
    commits.iter().for_each(|commit| commit.write_ndjson(&mut text));
    text
}

async fn payloads_go_and_hashes_stay((ledger, eraser): Place) {
    ok(eraser.may_blank().await);
    let mut acme = Samples::new("acme");
    // Every other event has a payload: seqs 1, 3, 5 and 6.
    let commits = [
        acme.commit("ledger/acme", 1, 1, 1),
        acme.commit(&format!("run/{RUN}"), 1, 5, 2),
        acme.commit(&format!("run/{RUN}"), 6, 1, 3),
    ];
    ok(ledger.append(&commits).await);
    let erased = DataErased { run_id: run_id(), seqs: vec![1, 3, 5, 6] };
    assert_eq!(ok(carry_out(&*ledger, &*eraser, acme.tenant(), &erased).await), 4);
    ok(eraser.scrub().await);
    let expected = [
        Arc::clone(&commits[0]),
        blanked(&commits[1], &erased.seqs),
        blanked(&commits[2], &erased.seqs),
    ];
    let found = everything(&*ledger, acme.tenant()).await;
    assert_eq!(found, expected);
    assert!(found[1].events.iter().all(|event| event.payload.json().is_none()));
    assert_eq!(ndjson(&found), ndjson(&expected));
    for (found, was) in found.iter().zip(&commits) {
        ok(found.verify());
        assert_eq!(found.head(), was.head());
        for i in 0..was.events.len() {
            assert_eq!(found.header(i), was.header(i), "headers commit to what is gone");
        }
    }
    // Asked again, as after a crash, there is nothing left to do.
    assert_eq!(ok(carry_out(&*ledger, &*eraser, acme.tenant(), &erased).await), 0);
    ok(ledger.append(&[acme.commit("dag/x", 1, 1, 4)]).await);
    assert_eq!(ok(ledger.head(acme.tenant()).await), acme.head());
}

async fn only_what_is_named_of_the_run_goes((ledger, eraser): Place) {
    let (mut acme, mut other) = (Samples::new("acme"), Samples::new("other"));
    let commits = [
        acme.commit("ledger/acme", 1, 1, 1),
        acme.commit("dag/x", 1, 1, 1),
        acme.commit(&format!("run/{RUN}"), 1, 3, 1),
        acme.commit(&format!("run/{OTHER}"), 1, 3, 1),
        acme.commit(&format!("run/{RUN}"), 4, 3, 1),
    ];
    let elsewhere = other.commit(&format!("run/{RUN}"), 1, 9, 1);
    ok(ledger.append(&commits).await);
    ok(ledger.append(std::slice::from_ref(&elsewhere)).await);
    // Of all these, only 2 is a payload of the run.
    let erased = DataErased { run_id: run_id(), seqs: vec![0, 1, 2, 5, 7, 99] };
    assert_eq!(ok(carry_out(&*ledger, &*eraser, acme.tenant(), &erased).await), 1);
    let mut expected = commits.to_vec();
    expected[2] = blanked(&commits[2], &[2]);
    assert_eq!(everything(&*ledger, acme.tenant()).await, expected);
    assert_eq!(everything(&*ledger, other.tenant()).await, [elsewhere]);
}

async fn what_is_not_as_it_was_read_stays((ledger, eraser): Place) {
    let mut acme = Samples::new("acme");
    let mut rival = acme.fork();
    let stream = format!("run/{RUN}");
    let stored = acme.commit(&stream, 1, 3, 1);
    ok(ledger.append(&[Arc::clone(&stored)]).await);
    let never_stored = acme.commit(&stream, 4, 1, 1);
    // Another history: the same place, the same payloads, other salts and hashes.
    for read in [rival.commit(&stream, 1, 3, 1), never_stored] {
        let seqs = (0..9).collect();
        #[allow(clippy::expect_used)] // The samples have payloads.
        let blanking = Blanking::of(&read, &seqs).expect("a payload");
        let refused = eraser.blank(&blanking).await;
        assert!(matches!(refused, Err(EraseError::NotThere { .. })), "{refused:?}");
    }
    assert_eq!(everything(&*ledger, acme.tenant()).await, [stored]);
}

async fn a_large_commit_is_blanked((ledger, eraser): Place) {
    let mut acme = Samples::new("acme");
    let stored = acme.commit(&format!("run/{RUN}"), 1, 230, 1);
    ok(ledger.append(&[Arc::clone(&stored)]).await);
    let erased = DataErased { run_id: run_id(), seqs: (0..230).collect() };
    assert_eq!(ok(carry_out(&*ledger, &*eraser, acme.tenant(), &erased).await), 115);
    assert_eq!(everything(&*ledger, acme.tenant()).await, [blanked(&stored, &erased.seqs)]);
}

async fn blanking_at_once_by_several_is_blanking((ledger, eraser): Place) {
    let mut acme = Samples::new("acme");
    let commits: Vec<_> =
        (0..4).map(|n| acme.commit(&format!("run/{RUN}"), 1 + 3 * n, 3, 1)).collect();
    ok(ledger.append(&commits).await);
    let erased = DataErased { run_id: run_id(), seqs: (0..12).collect() };
    let (tenant, several) = (acme.tenant(), [(); 4]);
    let several = several.map(|()| carry_out(&*ledger, &*eraser, tenant, &erased));
    futures::future::join_all(several).await.into_iter().for_each(|outcome| {
        ok(outcome);
    });
    let is_present = |commit: &Arc<Commit>| {
        commit.events.iter().any(|e| matches!(e.payload, StoredPayload::Present { .. }))
    };
    assert!(!everything(&*ledger, tenant).await.iter().any(is_present));
}
