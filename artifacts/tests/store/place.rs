//! The two kinds of stores, and a look at what is in them past the store itself.

use std::{
    env, fs, io,
    net::TcpListener,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::Command,
    thread,
};

use bytes::Bytes;
use stella_artifacts::{ArtifactError, ArtifactStore, ArtifactUri};
use stella_domain::{
    artifact::{Artifact, ArtifactDigest},
    ids::{LedgerId, RunId},
};
use tempfile::TempDir;
use tokio::fs::File;

use crate::bucket::{self, Bucket};

pub(crate) const RUN: &str = "0RQ9CWTXP9BPJR3KTYEG0MB9FF";
pub(crate) const OTHER: &str = "0RQ9CWTXP9BPJR3KTYEG0MB9FG";

/// Set where standard input is what the bucket listens on.
const LISTENS: &str = "STELLA_TEST_BUCKET_LISTENS";

/// Where a test's artifacts are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum On {
    Folder,
    Bucket,
}

pub(crate) struct Place {
    pub(crate) dir: TempDir,
    bucket: Option<Bucket>,
    pub(crate) store: ArtifactStore,
    pub(crate) ledger: LedgerId,
    pub(crate) run: RunId,
}

pub(crate) fn artifact(bytes: &[u8]) -> Artifact {
    let digest = ArtifactDigest::of(bytes);
    Artifact { digest, media_type: "text/plain".into(), name: None, size: bytes.len() as u64 }
}

/// More than goes into one request: two parts of an upload, and what is left.
pub(crate) fn large() -> Vec<u8> {
    let megabytes: Vec<_> = (0..21).map(|i| vec![i; 1024 * 1024]).collect();
    megabytes.concat()
}

pub(crate) fn is_unavailable<T>(result: &Result<T, ArtifactError>) -> bool {
    matches!(result, Err(ArtifactError::Unavailable { .. }))
}

impl Place {
    /// A store without anything in it. `None` where there is nothing left to do: the test has
    /// passed with a bucket, in a process of its own.
    pub(crate) fn on(on: On) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (uri, bucket) = match on {
            On::Folder => (ArtifactUri::Folder(dir.path().join("a")), None),
            On::Bucket if env::var_os(LISTENS).is_some() => {
                let listener = io::stdin().as_fd().try_clone_to_owned().unwrap();
                let bucket = Bucket::serve(TcpListener::from(listener));
                (format!("s3://{}/prod", bucket::NAME).parse().unwrap(), Some(bucket))
            }
            On::Bucket => {
                run_with_a_bucket();
                return None;
            }
        };
        let store = ArtifactStore::open(&uri).unwrap();
        let ledger = "stella.test/main".parse().unwrap();
        Some(Self { dir, bucket, store, ledger, run: RUN.parse().unwrap() })
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        self.bucket.as_ref().unwrap()
    }

    fn key(artifact: &Artifact) -> String {
        let name = artifact.digest.to_string();
        format!("stella.test/main/{RUN}/{}", name.strip_prefix("b3:").unwrap())
    }

    fn file(&self, artifact: &Artifact) -> PathBuf {
        self.dir.path().join("a").join(Self::key(artifact))
    }

    /// What is where the format says that this artifact of the run is.
    pub(crate) fn kept(&self, artifact: &Artifact) -> Option<Bytes> {
        match &self.bucket {
            Some(bucket) => bucket.object(&format!("prod/{}", Self::key(artifact))),
            None => fs::read(self.file(artifact)).ok().map(Bytes::from),
        }
    }

    /// Put something else there, or nothing.
    pub(crate) fn change(&self, artifact: &Artifact, bytes: Option<&[u8]>) {
        match (&self.bucket, bytes) {
            (Some(bucket), _) => bucket.change(&format!("prod/{}", Self::key(artifact)), bytes),
            (None, Some(bytes)) => fs::write(self.file(artifact), bytes).unwrap(),
            (None, None) => fs::remove_file(self.file(artifact)).unwrap(),
        }
    }

    /// Nobody reaches the store from here on.
    pub(crate) fn vanish(&self) {
        match &self.bucket {
            Some(bucket) => bucket.vanish(),
            None => fs::rename(self.dir.path().join("a"), self.dir.path().join("b")).unwrap(),
        }
    }

    pub(crate) async fn put(&self, bytes: &'static [u8]) -> Artifact {
        let artifact = artifact(bytes);
        self.store.put(&self.ledger, &self.run, &artifact, Bytes::from(bytes)).await.unwrap();
        artifact
    }

    /// Put a file of these bytes as `artifact`.
    pub(crate) async fn put_file(
        &self,
        artifact: &Artifact,
        bytes: &[u8],
    ) -> Result<(), ArtifactError> {
        let file = self.dir.path().join("file");
        fs::write(&file, bytes).unwrap();
        let file = File::open(&file).await.unwrap();
        self.store.put_file(&self.ledger, &self.run, artifact, file).await
    }
}

/// Run this thread's test once more, in a process whose environment says where a bucket is: this
/// one's cannot be changed any more. The bucket is served there, on a port that it inherits.
fn run_with_a_bucket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut test = Command::new(env::current_exe().unwrap());
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        test.env_remove(name);
    }
    let ended = test
        .args(["--exact", thread::current().name().unwrap(), "--nocapture"])
        .env(LISTENS, "1")
        .env("AWS_ACCESS_KEY_ID", bucket::KEY)
        .env("AWS_SECRET_ACCESS_KEY", "a-secret")
        .env("AWS_ENDPOINT", endpoint)
        .env("AWS_REGION", "eu-1")
        .env("AWS_ALLOW_HTTP", "true")
        .env("NO_PROXY", "127.0.0.1")
        .stdin(OwnedFd::from(listener))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    // Of another name it would be none.
    let passed = ended.status.success() && said.contains("1 passed");
    assert!(passed, "with a bucket: {said}\n{}", String::from_utf8_lossy(&ended.stderr));
}
