//! The content-addressed store. An artifact is kept with its run, under its digest:
//! `<origin>/<tenant>/<runId>/<64 hex digits>`. That nothing is shared between runs is what makes
//! erasing one of them simple.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{
    ClientConfigKey, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
    path::Path,
};
use stella_domain::{
    artifact::{Artifact, ArtifactDigest},
    hash::ArtifactHasher,
    ids::{LedgerId, RunId},
};
use tokio::fs::File;

use crate::{
    digested::checked,
    stored::Stored,
    upload::{UploadError, upload},
    uri::ArtifactUri,
};

/// How long a bucket that fails is tried again by itself; whoever asked may try again after that.
const RETRY_WITHIN: Duration = Duration::from_secs(10);

/// How long a request to a bucket may take, its body and all, unless `AWS_TIMEOUT` says otherwise: the
/// largest artifact at half a megabyte a second.
const REQUEST_WITHIN: &str = "10 minutes";

/// Why an artifact cannot be had, or kept.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The store does not answer, or refuses.
    #[error("the artifact store {place} cannot be used: {reason}")]
    Unavailable {
        /// Which store.
        place: String,
        /// What it says.
        reason: String,
    },
    /// It is not there.
    #[error("artifact {digest} of run {run_id} is not in the artifact store")]
    Missing {
        /// Its run.
        run_id: RunId,
        /// Its digest.
        digest: ArtifactDigest,
    },
    /// What is there is something else.
    #[error(
        "artifact {digest} of run {run_id} is not what was recorded: {found}; it was changed or \
         damaged in the artifact store"
    )]
    Corrupt {
        /// Its run.
        run_id: RunId,
        /// Its digest.
        digest: ArtifactDigest,
        /// What is there.
        found: String,
    },
    /// It is too large for what was asked.
    #[error("artifact {digest} has {size} bytes, at most {limit} can be taken here")]
    TooLarge {
        /// Its digest.
        digest: ArtifactDigest,
        /// Its bytes.
        size: u64,
        /// How many may be.
        limit: u64,
    },
    /// A file of this node cannot be read or written.
    #[error("a file of this node: {0}")]
    File(#[from] io::Error),
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// It is there, and is what was recorded.
    Whole,
    /// It is not there.
    Missing,
    /// It is something else.
    Corrupt(String),
}

/// A store of artifacts; cheap to clone.
#[derive(Clone)]
pub struct ArtifactStore {
    store: Arc<dyn ObjectStore>,
    /// The same store, where it is a folder: what is put there is made durable.
    folder: Option<Arc<LocalFileSystem>>,
    place: Arc<str>,
    prefix: Path,
}

impl fmt::Debug for ArtifactStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArtifactStore({})", self.place)
    }
}

impl ArtifactStore {
    /// The store at `uri`. A folder is made unless it is there; a bucket is not asked yet. Keys and
    /// endpoint of a bucket come from the usual `AWS_…` variables of the environment.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`].
    pub fn open(uri: &ArtifactUri) -> Result<Self, ArtifactError> {
        if let ArtifactUri::Folder(folder) = uri {
            let failed = |reason| ArtifactError::Unavailable { place: uri.to_string(), reason };
            std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        Self::existing(uri)
    }

    /// The store at `uri`, which has to be there.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`].
    pub fn existing(uri: &ArtifactUri) -> Result<Self, ArtifactError> {
        let place: Arc<str> = uri.to_string().into();
        let failed = |error: object_store::Error| ArtifactError::Unavailable {
            place: uri.to_string(),
            reason: error.to_string(),
        };
        match uri {
            ArtifactUri::Folder(folder) => {
                let folder = Arc::new(LocalFileSystem::new_with_prefix(folder).map_err(failed)?);
                let store: Arc<dyn ObjectStore> = Arc::clone(&folder) as _;
                Ok(Self { store, folder: Some(folder), place, prefix: Path::default() })
            }
            ArtifactUri::S3 { bucket, prefix } => {
                let retry = RetryConfig {
                    max_retries: 3,
                    retry_timeout: RETRY_WITHIN,
                    ..RetryConfig::default()
                };
                let mut store =
                    AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
                let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
                if store.get_config_value(&timeout).is_none() {
                    store = store.with_config(timeout, REQUEST_WITHIN);
                }
                let store = Arc::new(store.build().map_err(failed)?);
                let prefix = Path::from(prefix.as_str());
                Ok(Self { store, folder: None, place, prefix })
            }
        }
    }

    /// Whether it answers. Costs a look at the ledgers that it has artifacts of.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`].
    pub async fn answers(&self) -> Result<(), ArtifactError> {
        self.folder_is_there().await?;
        let listed = self.store.list_with_delimiter(Some(&self.prefix)).await;
        listed.map(drop).map_err(|error| self.error(error))
    }

    /// A folder that is gone would be made anew by whatever is put there, and seem to be empty. A
    /// bucket that is gone takes nothing, but says of everything that it is not there: whoever
    /// would tell of that looks whether the store [answers](Self::answers) first.
    async fn folder_is_there(&self) -> Result<(), ArtifactError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let within = folder.path_to_filesystem(&Path::from("any"));
        let within = within.map_err(|error| self.unavailable(error.to_string()))?;
        let found = tokio::fs::metadata(within.parent().unwrap_or(&within)).await;
        found.map(drop).map_err(|error| self.unavailable(error.to_string()))
    }

    fn unavailable(&self, reason: String) -> ArtifactError {
        ArtifactError::Unavailable { place: self.place.to_string(), reason }
    }

    /// Where it is.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Keep these bytes, which are `artifact`'s, unless they are kept already.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`].
    pub async fn put(
        &self,
        ledger: &LedgerId,
        run_id: &RunId,
        artifact: &Artifact,
        bytes: Bytes,
    ) -> Result<(), ArtifactError> {
        let path = self.path(ledger, run_id, &artifact.digest);
        if !self.is_kept(&path, artifact.size).await? {
            self.store.put(&path, bytes.into()).await.map_err(|e| self.error(e))?;
            self.make_durable(&path).await?;
        }
        Ok(())
    }

    /// Keep what follows in `from`, whose bytes are `artifact`'s, unless they are kept already.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`]; [`ArtifactError::File`], also where these are other bytes: nothing is
    /// kept then.
    pub async fn put_file(
        &self,
        ledger: &LedgerId,
        run_id: &RunId,
        artifact: &Artifact,
        mut from: File,
    ) -> Result<(), ArtifactError> {
        let path = self.path(ledger, run_id, &artifact.digest);
        if self.is_kept(&path, artifact.size).await? {
            return Ok(());
        }
        match upload(&*self.store, &path, &mut from, artifact.digest).await {
            Ok(()) => self.make_durable(&path).await,
            Err(UploadError::File(error)) => Err(error.into()),
            Err(UploadError::Store(error)) => Err(self.error(error)),
        }
    }

    /// The bytes that are kept with a run under this digest, as they come. They end in an error when
    /// they turn out to be something else.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`], [`ArtifactError::Unavailable`].
    pub async fn get(
        &self,
        ledger: &LedgerId,
        run_id: &RunId,
        digest: &ArtifactDigest,
    ) -> Result<Stored, ArtifactError> {
        let got = self.store.get(&self.path(ledger, run_id, digest)).await;
        if matches!(got, Err(object_store::Error::NotFound { .. })) {
            self.answers().await?;
        }
        let got = got.map_err(|error| self.missing_or(error, run_id, digest))?;
        let size = got.meta.size;
        let wrong = ArtifactError::Corrupt {
            run_id: run_id.clone(),
            digest: *digest,
            found: "its digest is another".to_owned(),
        };
        let bytes = checked(got.into_stream().map_err(io::Error::other).boxed(), *digest, wrong);
        let (digest, place) = (*digest, Arc::clone(&self.place));
        Ok(Stored { digest, place, size, bytes: bytes.boxed() })
    }

    /// The bytes of an artifact, which are what was recorded.
    ///
    /// # Errors
    /// [`ArtifactError`].
    pub async fn read(
        &self,
        ledger: &LedgerId,
        run_id: &RunId,
        artifact: &Artifact,
    ) -> Result<Bytes, ArtifactError> {
        let Artifact { digest, size, .. } = *artifact;
        let stored = self.get(ledger, run_id, &digest).await?;
        if stored.size != size {
            let found = format!("it has {} bytes instead of {size}", stored.size);
            return Err(ArtifactError::Corrupt { run_id: run_id.clone(), digest, found });
        }
        stored.whole().await
    }

    /// Whether an artifact is there, and is what was recorded.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`]: nothing is known then.
    pub async fn check(
        &self,
        ledger: &LedgerId,
        run_id: &RunId,
        artifact: &Artifact,
    ) -> Result<Checked, ArtifactError> {
        let path = self.path(ledger, run_id, &artifact.digest);
        let got = match self.store.get(&path).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => {
                return self.answers().await.map(|()| Checked::Missing);
            }
            Err(error) => return Err(self.error(error)),
        };
        let (mut stream, mut hasher, mut size) = (got.into_stream(), ArtifactHasher::default(), 0);
        while let Some(chunk) = stream.try_next().await.map_err(|error| self.error(error))? {
            hasher.update(&chunk);
            size += chunk.len() as u64;
        }
        let found = ArtifactDigest::from(hasher.finish());
        Ok(if size != artifact.size {
            Checked::Corrupt(format!("it has {size} bytes instead of {}", artifact.size))
        } else if found != artifact.digest {
            Checked::Corrupt(format!("its digest is {found}"))
        } else {
            Checked::Whole
        })
    }

    /// Whether something of this digest is kept with the run.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`].
    pub async fn has(
        &self,
        ledger: &LedgerId,
        run_id: &RunId,
        artifact: &Artifact,
    ) -> Result<bool, ArtifactError> {
        let path = self.path(ledger, run_id, &artifact.digest);
        let kept = self.is_kept(&path, artifact.size).await?;
        if !kept {
            self.answers().await?;
        }
        Ok(kept)
    }

    /// Keep with another run what is kept with this one.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`], [`ArtifactError::Unavailable`].
    pub async fn copy(
        &self,
        ledger: &LedgerId,
        from: &RunId,
        to: &RunId,
        artifact: &Artifact,
    ) -> Result<(), ArtifactError> {
        let digest = &artifact.digest;
        let path = self.path(ledger, to, digest);
        if self.is_kept(&path, artifact.size).await? {
            return Ok(());
        }
        let copied = self.store.copy(&self.path(ledger, from, digest), &path).await;
        if matches!(copied, Err(object_store::Error::NotFound { .. })) {
            self.answers().await?;
        }
        copied.map_err(|error| self.missing_or(error, from, digest))?;
        self.make_durable(&path).await
    }

    /// Remove all that is kept with a run. Answers how many artifacts that were.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`], [`ArtifactError::File`]; some may be gone by then.
    pub async fn erase(&self, ledger: &LedgerId, run_id: &RunId) -> Result<usize, ArtifactError> {
        // Else there would be nothing, and it would seem to be erased.
        self.folder_is_there().await?;
        let folder = self.folder_of(ledger, run_id);
        let kept: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(|e| self.error(e))?;
        for object in &kept {
            match self.store.delete(&object.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.error(error)),
            }
        }
        self.erase_staged(&folder).await?;
        Ok(kept.len())
    }

    /// What a kill in the middle of a write has left in a folder is in no list.
    async fn erase_staged(&self, of_run: &Path) -> Result<(), ArtifactError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let folder = folder.path_to_filesystem(of_run).map_err(|error| self.error(error))?;
        match tokio::fs::remove_dir_all(folder).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn folder_of(&self, ledger: &LedgerId, run_id: &RunId) -> Path {
        let path = self.prefix.clone().join(ledger.origin.as_str());
        path.join(ledger.tenant.as_str()).join(run_id.as_str())
    }

    fn path(&self, ledger: &LedgerId, run_id: &RunId, digest: &ArtifactDigest) -> Path {
        self.folder_of(ledger, run_id).join(digest.hash().to_string())
    }

    async fn is_kept(&self, path: &Path, size: u64) -> Result<bool, ArtifactError> {
        match self.store.head(path).await {
            Ok(found) => Ok(found.size == size),
            Err(object_store::Error::NotFound { .. }) => {
                self.folder_is_there().await.map(|()| false)
            }
            Err(error) => Err(self.error(error)),
        }
    }

    /// A folder's file, and its name, survive the end of the machine from here on.
    async fn make_durable(&self, path: &Path) -> Result<(), ArtifactError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let file = folder.path_to_filesystem(path).map_err(|e| self.error(e))?;
        let synced = tokio::task::spawn_blocking(move || {
            // The file, its folder, and the tenant's, which may have got the folder just now.
            file.ancestors().take(3).try_for_each(|path| std::fs::File::open(path)?.sync_all())
        });
        Ok(synced.await.map_err(io::Error::other)??)
    }

    fn missing_or(
        &self,
        error: object_store::Error,
        run_id: &RunId,
        digest: &ArtifactDigest,
    ) -> ArtifactError {
        match error {
            object_store::Error::NotFound { .. } => {
                ArtifactError::Missing { run_id: run_id.clone(), digest: *digest }
            }
            error => self.error(error),
        }
    }

    fn error(&self, error: object_store::Error) -> ArtifactError {
        ArtifactError::Unavailable { place: self.place.to_string(), reason: error.to_string() }
    }
}
