//! Shell-script plugins in temporary directories, and leases for them.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::HashMap, fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Mutex,
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use stella_domain::{
    artifact::{Artifact, ArtifactDigest},
    ids::{FencingToken, RunId, WorkerId},
    json::CanonicalJson,
};
use stella_worker::{
    ArtifactBytes, Bundle, Completed, HeartbeatAnswer, Lease, LeaseError, LeaseSource, Outcome,
    PollRequest, Step, StepError, StepLog, bundle::file_digest,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Longest wait for a condition; a test that reaches it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Write an executable shell script.
pub(crate) fn write_script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The manifest of a bundle in `dir` whose only file is `run.sh`.
pub(crate) fn manifest(dir: &Path) -> Value {
    json!({
        "name": "test",
        "version": "1.0.0",
        "runtime": "process",
        "entry": { "file": "run.sh" },
        "actions": { "go": {} },
        "files": { "run.sh": file_digest(&dir.join("run.sh")).unwrap() },
    })
}

/// Write a bundle whose entry is a shell script, its manifest changed by `change`.
pub(crate) fn bundle_dir(script: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_script(&dir.path().join("run.sh"), script);
    let mut manifest = manifest(dir.path());
    change(&mut manifest);
    fs::write(dir.path().join("plugin.json"), manifest.to_string()).unwrap();
    dir
}

/// A loaded bundle; the directory must be kept.
pub(crate) fn bundle(script: &str, change: impl FnOnce(&mut Value)) -> (TempDir, Bundle) {
    let dir = bundle_dir(script, change);
    let bundle = Bundle::load(dir.path(), &[]).unwrap();
    (dir, bundle)
}

/// A lease of `plugin.action`, the `n`th of one run.
pub(crate) fn lease(n: u64, plugin: &str, action: &str, with: Value) -> Lease {
    let run_id = "0RQ9CWTXP9BPJR3KTYEG0MB9FF";
    Lease {
        token: format!("{run_id}.{n}").parse().unwrap(),
        run_id: run_id.parse().unwrap(),
        step_id: format!("step-{n}").parse().unwrap(),
        attempt: 1,
        dag_id: "dag".parse().unwrap(),
        plugin: plugin.parse().unwrap(),
        action: action.into(),
        with: CanonicalJson::from_value(&with).unwrap(),
        lease_ttl_ms: 60_000,
        timeout_ms: 60_000,
    }
}

/// What came of an execution.
pub(crate) struct Execution {
    pub(crate) outputs: Result<CanonicalJson, StepError>,
    pub(crate) log: Vec<u8>,
}

/// Carry out `lease` with the plugin in `bundle`, with no server in sight.
pub(crate) async fn execute(
    bundle: &Bundle,
    lease: &Lease,
    cancel: &CancellationToken,
) -> Execution {
    execute_with(bundle, lease, cancel, &Shelf::default()).await
}

/// Carry out `lease` with the plugin in `bundle`, artifacts on `shelf`.
pub(crate) async fn execute_with(
    bundle: &Bundle,
    lease: &Lease,
    cancel: &CancellationToken,
    shelf: &Shelf,
) -> Execution {
    let (log, worker_id) = (StepLog::default(), "worker".parse().unwrap());
    let step = Step { lease, worker_id: &worker_id, source: shelf, cancel, log: &log };
    let outputs = stella_worker::process::execute(bundle, &step).await;
    log.end();
    let mut whole = vec![];
    loop {
        let (_, bytes) = log.unsent();
        if bytes.is_empty() {
            return Execution { outputs, log: whole };
        }
        log.sent(bytes.len());
        whole.extend(bytes);
    }
}

/// Artifacts in memory, and nothing else of a server.
#[derive(Default)]
pub(crate) struct Shelf(pub(crate) Mutex<HashMap<ArtifactDigest, Vec<u8>>>);

impl Shelf {
    pub(crate) fn put(&self, name: Option<&str>, media_type: &str, bytes: &[u8]) -> Artifact {
        let digest = ArtifactDigest::of(bytes);
        self.0.lock().unwrap().insert(digest, bytes.to_vec());
        let (media_type, name) = (media_type.into(), name.map(Into::into));
        Artifact { digest, media_type, name, size: bytes.len() as u64 }
    }
}

#[async_trait]
impl LeaseSource for Shelf {
    async fn poll(&self, _: PollRequest) -> Result<Vec<Lease>, LeaseError> {
        Ok(vec![])
    }

    async fn complete(
        &self,
        _: &WorkerId,
        _: &FencingToken,
        _: Outcome,
        _: Option<PollRequest>,
    ) -> Result<Completed, LeaseError> {
        Err(LeaseError::Stale)
    }

    async fn heartbeat(
        &self,
        _: &WorkerId,
        _: &[FencingToken],
    ) -> Result<Vec<HeartbeatAnswer>, LeaseError> {
        Ok(vec![])
    }

    async fn append_log(
        &self,
        _: &WorkerId,
        _: &FencingToken,
        _: u64,
        _: Vec<u8>,
    ) -> Result<(), LeaseError> {
        Ok(())
    }

    async fn put_artifact(
        &self,
        _: &WorkerId,
        _: &FencingToken,
        name: &str,
        media_type: &str,
        path: &Path,
    ) -> Result<Artifact, LeaseError> {
        Ok(self.put(Some(name), media_type, &fs::read(path).unwrap()))
    }

    async fn get_artifact(
        &self,
        _: &RunId,
        artifact: &Artifact,
    ) -> Result<ArtifactBytes, LeaseError> {
        let bytes = self.0.lock().unwrap().get(&artifact.digest).cloned();
        let bytes = bytes.ok_or_else(|| LeaseError::Refused("it is not there".into()))?;
        Ok(stream::iter(bytes.chunks(1000).map(|c| Ok(c.to_vec().into())).collect::<Vec<_>>())
            .boxed())
    }
}

/// Look at `condition` until it holds.
#[track_caller]
pub(crate) fn wait_until(
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let what = what.to_owned();
    async move {
        let look = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

/// Whether a process runs; a zombie, which only waits for its parent to ask, does not.
pub(crate) fn is_running(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the command name, which is in brackets.
    !stat.rsplit(") ").next().unwrap().starts_with(['Z', 'X'])
}

/// The process id in a file that a script wrote, once it is there.
pub(crate) async fn pid_in(path: &Path) -> i32 {
    let read = || fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok();
    wait_until("a script wrote its process id", || read().is_some()).await;
    read().unwrap()
}
