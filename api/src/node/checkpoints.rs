//! Signing, as part of a node: which key, what is kept where, and the task.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use stella_domain::{
    checkpoint::{Note, SigningKey, WitnessKey},
    ids::LedgerId,
};
use stella_ledger::{
    checkpoints::{
        SignerError,
        cosigners::Quorum,
        gate::Gate,
        kept::Kept,
        keys::{self, NodeKeys},
        observer::Observer,
        proofs::{Noted, Proofs},
        signer::{Opened, Signer, SignerConfig},
    },
    snapshots::Snapshots,
    uri::Storage,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    NodeConfig,
    data_dir::DataDir,
    witnesses::{WitnessAt, Witnesses},
};

/// How often new events are signed, unless said otherwise.
pub const SIGN_EVERY: Duration = Duration::from_secs(10);

/// How checkpoints are signed and kept.
#[derive(Debug, Clone)]
pub struct CheckpointsConfig {
    /// The key that signs.
    pub key: KeySource,
    /// The file of the key that may follow it; `None`: `signing-key.next` in the data directory.
    pub next_key: Option<PathBuf>,
    /// How often new events are signed.
    pub every: Duration,
    /// Where else the newest checkpoint is kept, besides the data directory.
    pub also_kept_in: Option<PathBuf>,
    /// Who is asked to cosign.
    pub witnesses: Vec<WitnessAt>,
}

impl Default for CheckpointsConfig {
    fn default() -> Self {
        Self {
            key: KeySource::DataDir,
            next_key: None,
            every: SIGN_EVERY,
            also_kept_in: None,
            witnesses: vec![],
        }
    }
}

/// Where the key that signs comes from.
#[derive(Clone)]
pub enum KeySource {
    /// `signing-key` in the data directory, drawn at the first start.
    DataDir,
    /// A file.
    File(PathBuf),
    /// The key itself, as from the environment.
    Given(SigningKey),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir => f.write_str("DataDir"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Given(_) => f.write_str("Given(…)"),
        }
    }
}

/// What was signed of the node's ledger, and proofs; cheap to clone.
#[derive(Clone)]
pub struct Checkpoints {
    /// Makes proofs from what is stored.
    pub proofs: Arc<Proofs>,
    /// Who is asked to cosign.
    pub witnesses: Arc<[WitnessKey]>,
    signing: Signing,
}

/// More cosignatures are asked for than there are witnesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{needed} cosignatures are asked for, and this server has {known} witnesses: give it more with \
     `--witness URL --witness-key VKEY`, or ask for fewer"
)]
pub struct TooFewWitnesses {
    needed: usize,
    known: usize,
}

#[derive(Clone)]
enum Signing {
    Here(Arc<Signer>),
    /// By another node.
    Elsewhere(Arc<Observer>),
}

impl Checkpoints {
    /// Check the ledger against what was signed.
    pub(super) async fn open(
        config: &NodeConfig,
        (data_dir, snapshots): (&DataDir, Arc<dyn Snapshots>),
        storage: Storage,
        gate: Arc<Gate>,
    ) -> Result<Self, SignerError> {
        let CheckpointsConfig { key, next_key, also_kept_in, witnesses, .. } = &config.checkpoints;
        let given = match key {
            KeySource::Given(key) => key.clone(),
            KeySource::File(path) => keys::read(path)?,
            KeySource::DataDir => {
                let path = data_dir.signing_key();
                if path.exists() { keys::read(&path)? } else { keys::create(&path)? }
            }
        };
        let next = next_key.clone().unwrap_or_else(|| data_dir.next_signing_key());
        let kept = [Some(data_dir.checkpoint(&config.tenant)), also_kept_in.clone()];
        let (origin, tenant) = (config.origin.clone(), config.tenant.clone());
        let signer_config = SignerConfig {
            ledger: LedgerId { origin: origin.clone(), tenant },
            keys: NodeKeys { given, next },
            key_is_drawn: matches!(key, KeySource::DataDir),
            kept: Kept::new(kept.into_iter().flatten().collect()),
            seen: data_dir.seen_checkpoint(&config.tenant),
            cosigners: Witnesses::ask(witnesses),
            snapshots,
        };
        let proofs = Proofs::new(storage.clone(), origin);
        let opened = Signer::open(signer_config, storage, Arc::clone(&proofs), gate).await?;
        let signing = match opened {
            Opened::Signing(signer) => Signing::Here(signer),
            Opened::Observing(observer) => {
                tracing::warn!("this node does not sign checkpoints: {}", observer.why());
                Signing::Elsewhere(observer)
            }
        };
        let witnesses = witnesses.iter().map(|witness| witness.key.clone()).collect();
        Ok(Self { proofs, witnesses, signing })
    }

    /// The signer, where this node signs.
    ///
    /// # Errors
    /// Why it does not.
    pub fn signer(&self) -> Result<&Arc<Signer>, &str> {
        match &self.signing {
            Signing::Here(signer) => Ok(signer),
            Signing::Elsewhere(observer) => Err(observer.why()),
        }
    }

    /// What has to be cosigned by so many of the witnesses.
    ///
    /// # Errors
    /// [`TooFewWitnesses`]: there are not so many.
    pub fn quorum(&self, needed: usize) -> Result<Quorum, TooFewWitnesses> {
        let witnesses = Arc::clone(&self.witnesses);
        let known = witnesses.len();
        if needed > known {
            return Err(TooFewWitnesses { needed, known });
        }
        Ok(Quorum { witnesses, needed })
    }

    /// How many of the witnesses have cosigned it.
    pub fn cosigned_by(&self, noted: &Noted) -> usize {
        let cosigned = Note::parse(&noted.note).and_then(|note| note.cosigned_by(&self.witnesses));
        cosigned.map_or(0, |cosigned| cosigned.len())
    }

    /// Sign now, and every so often until `stop`; or look at what another node signs.
    pub(super) fn start(&self, every: Duration, stop: &CancellationToken) -> SigningTask {
        let (signing, stopped) = (self.signing.clone(), stop.clone().cancelled_owned());
        let task = tokio::spawn(async move {
            match signing {
                Signing::Here(signer) => signer.run(every, stopped).await,
                Signing::Elsewhere(observer) => observer.run(every, stopped).await,
            }
        });
        SigningTask { signing: self.signing.clone(), task }
    }
}

/// The task that signs, or looks at what is signed.
pub(super) struct SigningTask {
    signing: Signing,
    task: JoinHandle<()>,
}

impl SigningTask {
    /// Once nothing is written any more: nothing stays unsigned.
    pub(super) async fn end(self) {
        let _ = self.task.await;
        if let Signing::Here(signer) = self.signing {
            // What went wrong was logged, and is tried again at the next start.
            let _ = signer.sign_new().await;
        }
    }
}
