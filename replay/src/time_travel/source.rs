//! Where a run's events come from: a live ledger, or exported files.

use std::path::Path;

use stella_domain::{
    chain::Commit,
    event::RunCreated,
    ids::{RunId, StreamId, Tenant},
};
use stella_ledger::port::Ledger;
use stella_verify::{
    Line,
    ndjson::{Verifier, VerifyError},
};

use super::{Fact, History, ShowError};
use crate::stored::stored_of;

pub(super) async fn history_of(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    run_id: &RunId,
) -> Result<History, ShowError> {
    let last_seq = ledger.head(tenant).await?.next_seq.checked_sub(1).ok_or(ShowError::Empty)?;
    let stream = StreamId::Run(run_id.clone());
    let commits = ledger.read_streams(tenant, std::slice::from_ref(&stream)).await?;
    let facts = commits.iter().flat_map(facts_of).collect();
    Ok(History { run_id: run_id.clone(), first_seq: 0, last_seq, facts })
}

pub(super) async fn dag_of(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    created: &RunCreated,
) -> Result<Vec<Fact>, ShowError> {
    let stream = StreamId::Dag(created.dag_id.clone());
    let commits = ledger.read_streams(tenant, std::slice::from_ref(&stream)).await?;
    Ok(commits.iter().flat_map(facts_of).collect())
}

pub(super) fn history_in_files(
    files: &[impl AsRef<Path>],
    run_id: &RunId,
) -> Result<History, ShowError> {
    let stream = StreamId::Run(run_id.clone()).to_string();
    let mut facts = vec![];
    let mut first_seq = None;
    let mut last_seq = 0;
    each_line(files, |line| {
        first_seq = first_seq.or(Some(line.seq));
        last_seq = line.seq;
        if line.stream == stream {
            facts.push(fact_of(line));
        }
    })?;
    let first_seq = first_seq.ok_or(ShowError::Empty)?;
    Ok(History { run_id: run_id.clone(), first_seq, last_seq, facts })
}

/// The registrations of the run's DAG before the run. A second pass over the files, because only
/// the run says which DAG it is, and keeping every spec from the first would take memory for all.
pub(super) fn dag_in_files(
    files: &[impl AsRef<Path>],
    created: &RunCreated,
    created_seq: u64,
) -> Result<Vec<Fact>, ShowError> {
    let stream = StreamId::Dag(created.dag_id.clone()).to_string();
    let mut facts = vec![];
    each_line(files, |line| {
        if line.seq < created_seq && line.stream == stream {
            facts.push(fact_of(line));
        }
    })?;
    Ok(facts)
}

/// Every line of the files, verified.
fn each_line(
    files: &[impl AsRef<Path>],
    mut visit: impl FnMut(&Line<'_>),
) -> Result<(), VerifyError> {
    let mut verifier = Verifier::new();
    for file in files {
        verifier.read_file(file.as_ref(), |_, line| visit(line))?;
    }
    Ok(())
}

fn facts_of(commit: &Commit) -> impl Iterator<Item = Fact> {
    commit.events.iter().zip(0..).map(|(stored, i)| Fact {
        seq: commit.seq + i,
        stream_version: commit.stream_version + i,
        recorded_at: commit.recorded_at,
        stored: stored.clone(),
    })
}

fn fact_of(line: &Line<'_>) -> Fact {
    Fact {
        seq: line.seq,
        stream_version: line.stream_version,
        recorded_at: line.recorded_at.parse().unwrap_or_default(),
        stored: stored_of(line),
    }
}
