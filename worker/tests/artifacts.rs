//! Artifacts that a step takes in, from a source that breaks off.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use common::{PATIENCE, lease};
use futures::{StreamExt as _, stream};
use serde_json::json;
use stella_domain::{
    artifact::{Artifact, ArtifactDigest},
    ids::{FencingToken, RunId, WorkerId},
};
use stella_worker::{
    ArtifactBytes, Completed, HeartbeatAnswer, Lease, LeaseError, LeaseSource, Outcome, Plugins,
    PollRequest, Shelf, Verdict, Worker, WorkerConfig,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One lease, and an artifact whose first transfers break off in the middle.
struct Source {
    lease: Mutex<Option<Lease>>,
    bytes: &'static [u8],
    breaks: AtomicUsize,
    transfers: AtomicUsize,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

#[async_trait]
impl LeaseSource for Source {
    async fn poll(&self, _request: PollRequest) -> Result<Vec<Lease>, LeaseError> {
        let lease = self.lease.lock().unwrap().take();
        match lease {
            Some(lease) => Ok(vec![lease]),
            None => std::future::pending().await,
        }
    }

    async fn complete(
        &self,
        _worker: &WorkerId,
        _token: &FencingToken,
        outcome: Outcome,
        _and_poll: Option<PollRequest>,
    ) -> Result<Completed, LeaseError> {
        self.outcomes.send(outcome).unwrap();
        Ok(Completed::default())
    }

    async fn heartbeat(
        &self,
        _worker: &WorkerId,
        tokens: &[FencingToken],
    ) -> Result<Vec<HeartbeatAnswer>, LeaseError> {
        let go_on = |token: &FencingToken| HeartbeatAnswer {
            token: token.clone(),
            verdict: Verdict::Continue,
        };
        Ok(tokens.iter().map(go_on).collect())
    }

    async fn append_log(
        &self,
        _worker: &WorkerId,
        _token: &FencingToken,
        _offset: u64,
        _bytes: Vec<u8>,
    ) -> Result<(), LeaseError> {
        Ok(())
    }

    async fn put_artifact(
        &self,
        _worker: &WorkerId,
        _token: &FencingToken,
        _name: &str,
        _media_type: &str,
        _path: &Path,
    ) -> Result<Artifact, LeaseError> {
        Err(LeaseError::Refused("nothing is left here".into()))
    }

    async fn get_artifact(
        &self,
        _run_id: &RunId,
        _artifact: &Artifact,
    ) -> Result<ArtifactBytes, LeaseError> {
        self.transfers.fetch_add(1, SeqCst);
        let left = self.breaks.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        let (first, rest) = self.bytes.split_at(self.bytes.len() / 2);
        let rest = match left {
            Ok(_) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")),
            Err(_) => Ok(Bytes::from_static(rest)),
        };
        Ok(stream::iter([Ok(Bytes::from_static(first)), rest]).boxed())
    }
}

/// What comes of a step that takes in a value whose first transfers break off so often, and how
/// many transfers there were.
async fn taken_in(breaks: usize) -> (Outcome, usize) {
    let bytes = br#"{"text":"a value that is too large for an event"}"#;
    let artifact = Artifact {
        digest: ArtifactDigest::of(bytes),
        media_type: "application/json".into(),
        name: None,
        size: bytes.len() as u64,
    };
    let lease = lease(1, "core", "echo", json!({ "value": artifact.to_value() }));
    let (outcomes, mut told) = mpsc::unbounded_channel();
    let source = Arc::new(Source {
        lease: Mutex::new(Some(lease)),
        bytes,
        breaks: breaks.into(),
        transfers: 0.into(),
        outcomes,
    });
    let config = WorkerConfig::new("worker-1".parse().unwrap(), 1);
    let shelf = Arc::new(Shelf::new(Plugins::core(), vec![]));
    let shutdown = CancellationToken::new();
    let worker = tokio::spawn(Worker::new(config, source.clone(), shelf).run(shutdown.clone()));
    let outcome = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    shutdown.cancel();
    worker.await.unwrap();
    (outcome, source.transfers.load(SeqCst))
}

#[tokio::test]
async fn a_transfer_that_breaks_off_is_begun_again() {
    let (outcome, transfers) = taken_in(2).await;
    let Outcome::Succeeded { outputs } = outcome else { panic!("{outcome:?}") };
    assert!(outputs.as_str().contains("too large for an event"), "{outputs}");
    assert_eq!(transfers, 3);
}

#[tokio::test]
async fn one_that_breaks_off_each_time_fails_its_step() {
    let (outcome, transfers) = taken_in(usize::MAX).await;
    let Outcome::Failed { code, message, retryable } = outcome else { panic!("{outcome:?}") };
    assert_eq!((code.as_str(), retryable), ("ARTIFACT_FAILED", true));
    assert!(message.contains("broke off 7 times: the connection was closed"), "{message}");
    assert_eq!(transfers, 7);
}
