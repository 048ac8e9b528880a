//! `ledger verify --artifacts`: whether what the events name is there, and is what they name.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::PathBuf,
};

use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use stella_artifacts::{ArtifactStore, ArtifactUri, Checked};
use stella_domain::{
    artifact::{self, Artifact},
    chain::Commit,
    ids::{LedgerId, RunId, StreamId, Tenant},
    json::CanonicalJson,
};
use stella_ledger::port::{Ledger, LedgerError};
use stella_verify::{Bundle, LINE_BYTES};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::{
    commands::storage::ledger_failure,
    failure::Failure,
    output::{OutputArgs, Progress, Table, details},
};

/// Artifacts that are read at once.
const AT_ONCE: usize = 8;
/// Of those that are wrong, so many are listed.
const LISTED: usize = 100;
/// Commits that are read from a ledger at a time.
const COMMITS: usize = 1_000;

/// An artifact that an event names.
struct Named {
    ledger: LedgerId,
    run_id: RunId,
    seq: u64,
    artifact: Artifact,
}

/// What became of the artifacts of verified events.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    /// Artifacts that the events name; one that is named twice counts twice.
    artifacts: u64,
    /// Bytes that they have.
    bytes: u64,
    missing: u64,
    changed: u64,
    /// The first that are missing or changed.
    wrong: Vec<Wrong>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wrong {
    seq: u64,
    run_id: RunId,
    digest: String,
    /// What is wrong.
    what: String,
}

/// The store at `uri`.
pub(super) fn open(uri: &ArtifactUri) -> Result<ArtifactStore, Failure> {
    ArtifactStore::existing(uri).map_err(|error| Failure::usage(error.to_string()))
}

/// Those of verified bundles.
pub(super) async fn of_bundles(
    store: ArtifactStore,
    bundles: Vec<Bundle>,
    output: OutputArgs,
) -> Result<(), Failure> {
    let (tell, told) = mpsc::channel(AT_ONCE);
    let read = tokio::task::spawn_blocking(move || {
        bundles.iter().try_for_each(|bundle| bundle.read_events(|file| lines(file, &tell)))
    });
    let found = check(&store, told).await?;
    read_all(read.await)?;
    report(&found, &store, output)
}

/// Those of verified exports.
pub(super) async fn of_exports(
    store: ArtifactStore,
    files: Vec<PathBuf>,
    output: OutputArgs,
) -> Result<(), Failure> {
    let (tell, told) = mpsc::channel(AT_ONCE);
    let read = tokio::task::spawn_blocking(move || {
        files.iter().try_for_each(|file| lines(&mut File::open(file)?, &tell))
    });
    let found = check(&store, told).await?;
    read_all(read.await)?;
    report(&found, &store, output)
}

/// Those of a verified ledger.
pub(super) async fn of_ledger(
    store: ArtifactStore,
    ledger: &dyn Ledger,
    tenant: &Tenant,
    output: OutputArgs,
) -> Result<(), Failure> {
    let (tell, told) = mpsc::channel(AT_ONCE);
    let read = async move {
        let mut from = 0;
        loop {
            let commits = ledger.read(tenant, from, COMMITS).await?;
            let Some(last) = commits.last() else { return Ok::<_, LedgerError>(()) };
            from = last.last_seq() + 1;
            for named in commits.iter().flat_map(of_commit) {
                // Nobody listens when the store does not answer, which is told there.
                let _ = tell.send(named).await;
            }
        }
    };
    let (found, read) = tokio::join!(check(&store, told), read);
    read.map_err(ledger_failure)?;
    report(&found?, &store, output)
}

fn read_all(read: Result<io::Result<()>, tokio::task::JoinError>) -> Result<(), Failure> {
    match read {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::failed(format!("reading the events again: {error}"))),
        Err(error) => Err(Failure::failed(format!("verifying was interrupted: {error}"))),
    }
}

fn of_commit(commit: &Commit) -> Vec<Named> {
    let StreamId::Run(run_id) = &commit.stream else { return vec![] };
    let named = (commit.seq..).zip(&commit.events).flat_map(|(seq, event)| {
        let payload = event.payload.json();
        payload
            .into_iter()
            .flat_map(artifact::named_in_payload)
            .map(move |named| (seq, named.artifact))
    });
    named
        .map(|(seq, artifact)| Named {
            ledger: LedgerId::clone(&commit.ledger),
            run_id: run_id.clone(),
            seq,
            artifact,
        })
        .collect()
}

/// What is needed of a line.
#[derive(Deserialize)]
struct Line<'a> {
    header: Header,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Header {
    ledger: String,
    seq: u64,
    stream: String,
}

/// Artifacts of exported lines, which have been verified.
fn lines(reader: &mut dyn Read, tell: &Sender<Named>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1024 * 1024, reader);
    let mut line = vec![];
    loop {
        line.clear();
        let limit = LINE_BYTES as u64 + 1;
        if (&mut reader).take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // Most name none, and are not parsed.
        let text = std::str::from_utf8(&line).map_err(io::Error::other)?;
        if !text.contains("\"b3:") {
            continue;
        }
        let Line { header, payload } = serde_json::from_str(text).map_err(io::Error::other)?;
        let stream = header.stream.parse().map_err(io::Error::other)?;
        let ledger: LedgerId = header.ledger.parse().map_err(io::Error::other)?;
        let (StreamId::Run(run_id), Some(payload)) = (stream, payload) else { continue };
        let payload = CanonicalJson::parse(payload.get()).map_err(io::Error::other)?;
        for artifact::Named { artifact, .. } in artifact::named_in_payload(&payload) {
            let (ledger, run_id, seq) = (ledger.clone(), run_id.clone(), header.seq);
            if tell.blocking_send(Named { ledger, run_id, seq, artifact }).is_err() {
                // The store does not answer, which is told there.
                return Ok(());
            }
        }
    }
}

async fn check(store: &ArtifactStore, told: Receiver<Named>) -> Result<Found, Failure> {
    let progress = Progress::events("checking artifacts", 0);
    let named = stream::unfold(told, async |mut told| Some((told.recv().await?, told)));
    let checked = named.map(async |named: Named| {
        let checked = store.check(&named.ledger, &named.run_id, &named.artifact).await;
        (named, checked)
    });
    let mut checked = std::pin::pin!(checked.buffered(AT_ONCE));
    let mut found = Found::default();
    while let Some((named, checked)) = checked.next().await {
        found.artifacts += 1;
        found.bytes += named.artifact.size;
        progress.set(found.artifacts, found.artifacts);
        let checked = checked.map_err(|error| Failure::unavailable(error.to_string()))?;
        let what = match checked {
            Checked::Whole => continue,
            Checked::Missing => {
                found.missing += 1;
                "it is not there".to_owned()
            }
            Checked::Corrupt(what) => {
                found.changed += 1;
                what
            }
        };
        if found.wrong.len() < LISTED {
            let Named { run_id, seq, artifact, .. } = named;
            found.wrong.push(Wrong { seq, run_id, digest: artifact.digest.to_string(), what });
        }
    }
    Ok(found)
}

fn report(found: &Found, store: &ArtifactStore, output: OutputArgs) -> Result<(), Failure> {
    output.print(found, text)?;
    match found.missing + found.changed {
        0 => Ok(()),
        wrong => {
            let what = format!(
                "{wrong} of {} artifacts are not in {} as the events name them: {} missing, {} \
                 changed",
                found.artifacts,
                store.place(),
                found.missing,
                found.changed
            );
            Err(Failure::not_verified(what).try_this(
                "check that it is the whole store, of the same moment or later; what a run's erasure \
                 removed is not expected where the events show the erasure",
            ))
        }
    }
}

fn text(found: &Found) -> String {
    let rows = [
        ("artifacts", found.artifacts.to_string()),
        ("bytes", found.bytes.to_string()),
        ("missing", found.missing.to_string()),
        ("changed", found.changed.to_string()),
    ];
    let mut text = details(&rows);
    if !found.wrong.is_empty() {
        let mut table = Table::new(&["SEQ#", "RUN", "DIGEST", "WHAT IS WRONG"]);
        for wrong in &found.wrong {
            let Wrong { seq, run_id, digest, what } = wrong;
            table.row([seq.to_string(), run_id.to_string(), digest.clone(), what.clone()]);
        }
        text.push('\n');
        text.push_str(&table.text(""));
    }
    text
}
