//! A witness: cosigns checkpoints of logs that others run, and remembers what it cosigned (C2SP
//! tlog-witness). What it decides is `stella_domain::witness`; here is what it remembers.
//!
//! *Invariant:* what is cosigned is on the disk before the cosignature leaves, and submissions for
//! one log are dealt with one after the other. So nobody ever gets cosignatures of two histories.

mod http;
mod store;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use stella_domain::{
    checkpoint::{CheckpointError, LogKey, SigningKey, WitnessKey},
    witness::{Seen, Submission, WitnessRefusal},
};
use stella_ledger::{
    checkpoints::keys::{self, KeyError},
    clock::{Clock, SystemClock},
};
use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::store::Store;
use crate::serve::serve_anyone;

/// How a witness is set up.
pub struct WitnessConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it remembers.
    pub data_dir: PathBuf,
    /// What it is called in notes.
    pub name: String,
    /// The file of its key; `None`: `witness-key` in the data directory, drawn at the first start.
    pub key_file: Option<PathBuf>,
    /// The logs that it watches: their keys, several of one log where that was rotated.
    pub logs: Vec<LogKey>,
}

/// Why a witness cannot run.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The key's file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The name cannot stand in a note.
    #[error("the name {name:?}: {reason}")]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        reason: CheckpointError,
    },
    /// The data directory cannot be used.
    #[error("{path}: {reason}")]
    DataDir {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// It cannot listen.
    #[error("cannot listen on {addr}: {reason}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What is wrong.
        reason: std::io::Error,
    },
}

/// Why a submission was not cosigned.
#[derive(Debug, thiserror::Error)]
enum NotCosigned {
    /// It is not to be.
    #[error("{refusal}{}", .evidence.as_ref().map(|file| format!(
        "; this witness keeps both checkpoints in {file}"
    )).unwrap_or_default())]
    Refused {
        refusal: WitnessRefusal,
        /// The file in the witness's data directory that holds both sides.
        evidence: Option<String>,
    },
    /// It cannot be remembered, so it must not be cosigned.
    #[error("this witness cannot remember the checkpoint, so it does not cosign it: {0}")]
    NotKept(String),
}

impl From<WitnessRefusal> for NotCosigned {
    fn from(refusal: WitnessRefusal) -> Self {
        Self::Refused { refusal, evidence: None }
    }
}

/// What decides and remembers.
struct Witness {
    name: String,
    key: SigningKey,
    clock: Arc<dyn Clock>,
    store: Store,
    logs: BTreeMap<String, Watched>,
}

/// A log, and what was cosigned of it. Whoever holds the lock may cosign.
struct Watched {
    keys: Vec<LogKey>,
    seen: Mutex<Seen>,
}

impl Witness {
    fn open(config: &WitnessConfig) -> Result<(Self, WitnessKey), WitnessError> {
        let store = Store::open(&config.data_dir)?;
        let path = config.key_file.clone().unwrap_or_else(|| store.key_file());
        let draws = config.key_file.is_none() && !path.exists();
        let key = if draws { keys::create(&path)? } else { keys::read(&path)? };
        let name = config.name.clone();
        let own = WitnessKey::new(&name, &key)
            .map_err(|reason| WitnessError::Name { name: name.clone(), reason })?;
        let mut by_log = BTreeMap::<String, Vec<LogKey>>::new();
        for log in &config.logs {
            by_log.entry(log.name().to_owned()).or_default().push(log.clone());
        }
        let mut logs = BTreeMap::new();
        for (origin, keys) in by_log {
            let seen = Mutex::new(store.seen(&origin, &own, &keys)?);
            logs.insert(origin, Watched { keys, seen });
        }
        let clock = Arc::new(SystemClock);
        Ok((Self { name, key, clock, store, logs }, own))
    }

    /// The line by which this witness cosigns the submitted checkpoint.
    async fn add_checkpoint(&self, text: &str) -> Result<String, NotCosigned> {
        let submission = Submission::parse(text)?;
        let origin = submission.origin()?;
        let unknown = || WitnessRefusal::UnknownLog(origin.to_owned());
        let watched = self.logs.get(origin).ok_or_else(unknown)?;
        let mut seen = watched.seen.lock().await;
        let approved = match submission.judge(&watched.keys, *seen) {
            Ok(approved) => approved,
            Err(refusal) => return Err(self.refused(&submission, origin, refusal).await),
        };
        let seconds = self.clock.now().as_micros().div_euclid(1_000_000);
        let line = approved
            .cosign(&self.name, u64::try_from(seconds).unwrap_or_default(), &self.key)
            .map_err(WitnessRefusal::Note)?;
        let kept = self.store.keep(origin, format!("{}{line}", approved.note)).await;
        kept.map_err(|error| {
            tracing::error!(%origin, "{error}");
            NotCosigned::NotKept(error.to_string())
        })?;
        *seen = approved.seen;
        tracing::info!(%origin, size = seen.size, "cosigned");
        Ok(line)
    }

    /// What shows two histories, or may, is kept.
    async fn refused(
        &self,
        submission: &Submission,
        origin: &str,
        refusal: WitnessRefusal,
    ) -> NotCosigned {
        let kind = match &refusal {
            WitnessRefusal::Fork { .. } => "fork",
            WitnessRefusal::NotConsistent { .. } => "unproven",
            _ => return refusal.into(),
        };
        match self.store.keep_evidence(kind, origin, submission, &refusal).await {
            Ok(file) => {
                tracing::error!(%origin, file = %file, "refused, and both sides kept: {refusal}");
                NotCosigned::Refused { refusal, evidence: Some(file) }
            }
            Err(error) => {
                // The last place that is left for it.
                let note = &submission.note;
                tracing::error!(%origin, note, "refused ({refusal}), and not kept: {error}");
                refusal.into()
            }
        }
    }
}

/// A witness that runs.
pub struct RunningWitness {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What its cosignatures are verified with.
    pub key: WitnessKey,
    stop: CancellationToken,
    http: JoinHandle<std::io::Result<()>>,
}

impl RunningWitness {
    /// Start it.
    ///
    /// # Errors
    /// [`WitnessError`]; also when a file of what it cosigned cannot be read: one that has
    /// forgotten must not cosign.
    pub async fn start(config: WitnessConfig) -> Result<Self, WitnessError> {
        let (witness, key) = Witness::open(&config)?;
        let failed = |reason| WitnessError::Listen { addr: config.listen, reason };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let stop = CancellationToken::new();
        let router = http::router(Arc::new(witness));
        let http = tokio::spawn(serve_anyone(listener, router, stop.clone().cancelled_owned()));
        Ok(Self { addr, key, stop, http })
    }

    /// End it: no new requests, those under way are answered.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.http.await;
    }
}
