//! One execution, with the way to what it is given and leaves besides inputs and outputs.

use std::{io, path::Path};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use serde_json::Value;
use stella_domain::{
    artifact::{self, Artifact, ArtifactDigest},
    hash::ArtifactHasher,
    ids::WorkerId,
    json::{CanonicalJson, parse_i_json},
};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    error::StepError,
    lease::{Lease, LeaseError, LeaseSource},
    log::StepLog,
};

/// Bytes of artifacts that become part of a step's inputs at most.
pub const HYDRATED_BYTES: u64 = 32 * 1024 * 1024;
/// Artifacts that a step is given at most.
const GIVEN: usize = 1_000;
/// Transfers of one artifact that may break off, with growing pauses between them, three seconds in all:
/// a server that is restarted cuts one or two, bytes that are not what was recorded cut each.
const BROKEN_OFF: u32 = 6;

/// The bytes of an artifact as they come.
pub type ArtifactBytes = BoxStream<'static, io::Result<Bytes>>;

/// An execution.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// What is to be done.
    pub lease: &'a Lease,
    /// By whom.
    pub worker_id: &'a WorkerId,
    /// Where the lease is from.
    pub source: &'a dyn LeaseSource,
    /// Cancelled when it has to end.
    pub cancel: &'a CancellationToken,
    /// What is written about it.
    pub log: &'a StepLog,
}

impl Step<'_> {
    /// The inputs with artifacts in their place: a value becomes what it was, and of a file the path
    /// comes, if there is a `folder` to put it in.
    pub(crate) async fn inputs(&self, folder: Option<&Path>) -> Result<CanonicalJson, StepError> {
        let with = &self.lease.with;
        let given = artifact::named_in_text(with);
        if given.is_empty() {
            return Ok(with.clone());
        }
        let size: u64 = given.iter().filter(|a| a.name.is_none()).map(|a| a.size).sum();
        if size > HYDRATED_BYTES || given.len() > GIVEN {
            return Err(StepError::InputInvalid(format!(
                "its values have {size} bytes in {} artifacts, at most {HYDRATED_BYTES} in {GIVEN} \
                 can be taken in: hand over a file instead",
                given.len()
            )));
        }
        let mut values = Vec::with_capacity(given.len());
        for (i, artifact) in given.iter().enumerate() {
            let value = match (&artifact.name, folder) {
                (None, _) => self.value(artifact).await?,
                (Some(name), Some(folder)) => {
                    let file = folder.join(i.to_string()).join(&**name);
                    self.file(artifact, &file).await?;
                    Value::String(file.to_string_lossy().into_owned())
                }
                (Some(_), None) => artifact.to_value(),
            };
            values.push(value);
        }
        let mut values = values.into_iter();
        let mut inputs = with.to_value();
        artifact::replace(&mut inputs, &mut |artifact| {
            values.next().unwrap_or_else(|| artifact.to_value())
        });
        CanonicalJson::from_value(&inputs).map_err(|e| StepError::InputInvalid(e.to_string()))
    }

    async fn value(&self, artifact: &Artifact) -> Result<Value, StepError> {
        let bytes = self.fetch(artifact, |bytes| bytes.whole().boxed()).await?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|e| StepError::InputInvalid(e.to_string()))?;
        parse_i_json(&text).map_err(|e| StepError::InputInvalid(e.to_string()))
    }

    async fn file(&self, artifact: &Artifact, path: &Path) -> Result<(), StepError> {
        self.fetch(artifact, |bytes| bytes.into_file(path).boxed()).await
    }

    /// Have the bytes of an artifact taken, again where that breaks off.
    async fn fetch<'a, T>(
        &self,
        artifact: &Artifact,
        take: impl Fn(Checked) -> BoxFuture<'a, Result<T, LeaseError>> + Send + Sync,
    ) -> Result<T, StepError> {
        let (mut backoff, mut broken_off) = (Backoff::default(), 0);
        loop {
            let error = match self.checked(artifact).await {
                Ok(bytes) => match take(bytes).await {
                    Ok(taken) => return Ok(taken),
                    Err(LeaseError::Unavailable(reason)) if broken_off == BROKEN_OFF => {
                        return Err(StepError::Artifact(format!(
                            "artifact {} broke off {} times: {reason}; `stella orch ledger verify \
                             --artifacts` says whether it is damaged",
                            artifact.digest,
                            BROKEN_OFF + 1
                        )));
                    }
                    Err(error) => {
                        broken_off += 1;
                        error
                    }
                },
                Err(error) => error,
            };
            self.pause_after(error, &mut backoff).await?;
        }
    }

    /// Hand over a file that the step leaves.
    pub(crate) async fn leave(&self, name: &str, path: &Path) -> Result<Artifact, StepError> {
        let media_type = mime_guess::from_path(name).first_or_octet_stream();
        let (token, media_type) = (&self.lease.token, media_type.essence_str());
        let mut backoff = Backoff::default();
        loop {
            let put = self.source.put_artifact(self.worker_id, token, name, media_type, path);
            match put.await {
                Ok(artifact) => return Ok(artifact),
                Err(error) => self.pause_after(error, &mut backoff).await?,
            }
        }
    }

    async fn checked(&self, artifact: &Artifact) -> Result<Checked, LeaseError> {
        let bytes = self.source.get_artifact(&self.lease.run_id, artifact).await?;
        Ok(Checked { bytes, hasher: ArtifactHasher::default(), digest: artifact.digest })
    }

    /// Before another attempt, while the server is away and the lease is held.
    async fn pause_after(&self, error: LeaseError, backoff: &mut Backoff) -> Result<(), StepError> {
        let LeaseError::Unavailable(reason) = error else {
            return Err(StepError::Artifact(error.to_string()));
        };
        tracing::warn!(token = %self.lease.token, reason, "an artifact has to wait");
        tokio::select! {
            () = tokio::time::sleep(backoff.next_pause()) => Ok(()),
            () = self.cancel.cancelled() => Err(StepError::Cancelled),
        }
    }
}

/// Bytes that end in an error unless they are what was asked for.
struct Checked {
    bytes: ArtifactBytes,
    hasher: ArtifactHasher,
    digest: ArtifactDigest,
}

impl Checked {
    async fn whole(mut self) -> Result<Vec<u8>, LeaseError> {
        let mut whole = vec![];
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    async fn into_file(mut self, path: &Path) -> Result<(), LeaseError> {
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(local)?;
        }
        let mut file = tokio::fs::File::create(path).await.map_err(local)?;
        while let Some(piece) = self.next().await? {
            file.write_all(&piece).await.map_err(local)?;
        }
        file.flush().await.map_err(local)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, LeaseError> {
        match self.bytes.next().await {
            Some(Ok(piece)) => {
                self.hasher.update(&piece);
                Ok(Some(piece))
            }
            // It will be no other the next time.
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(LeaseError::Refused(error.to_string()))
            }
            Some(Err(error)) => Err(LeaseError::Unavailable(error.to_string())),
            None if ArtifactDigest::from(self.hasher.finish()) == self.digest => Ok(None),
            None => {
                let what = format!("what came as artifact {} is something else", self.digest);
                Err(LeaseError::Refused(what))
            }
        }
    }
}

fn local(error: io::Error) -> LeaseError {
    LeaseError::Refused(format!("a file of this worker: {error}"))
}
