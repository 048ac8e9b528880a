//! Ledgers that went wrong, and what a signer says of them: on any storage.

use std::{path::Path, sync::Arc};

use stella_domain::{
    chain::Commit,
    checkpoint::SigningKey,
    ids::{LedgerId, Origin},
};
use stella_ledger::{
    checkpoints::{
        SignerError,
        gate::{Gate, GatedLedger},
        kept::Kept,
        keys::NodeKeys,
        proofs::Proofs,
        signer::{Opened, Signer, SignerConfig},
    },
    conformance::Samples,
    port::{AppendFailure, Ledger as _},
    snapshots::SnapshotFiles,
    uri::Storage,
};

pub(crate) fn id() -> LedgerId {
    "stella.test/acme".parse().unwrap()
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn proofs(storage: &Storage) -> Arc<Proofs> {
    let origin: Origin = "stella.test".parse().unwrap();
    Proofs::new(storage.clone(), origin)
}

/// How a node is set up: the directory that is its own, and its key.
pub(crate) fn config(dir: &Path, seed: u8) -> SignerConfig {
    SignerConfig {
        ledger: id(),
        keys: NodeKeys { given: key(seed), next: dir.join("next-key") },
        key_is_drawn: false,
        kept: Kept::new(vec![dir.join("kept"), dir.join("elsewhere/kept")]),
        seen: dir.join("seen"),
        cosigners: None,
        snapshots: Arc::new(SnapshotFiles::new(dir.join("snapshots"))),
    }
}

/// The same, with a key that nobody gave it.
pub(crate) fn drawn(dir: &Path, seed: u8) -> SignerConfig {
    SignerConfig { key_is_drawn: true, ..config(dir, seed) }
}

pub(crate) async fn open(
    config: SignerConfig,
    storage: &Storage,
) -> Result<(Arc<Signer>, Arc<Gate>), SignerError> {
    let gate = Arc::new(Gate::default());
    match Signer::open(config, storage.clone(), proofs(storage), Arc::clone(&gate)).await? {
        Opened::Signing(signer) => Ok((signer, gate)),
        Opened::Observing(observer) => panic!("it does not sign: {}", observer.why()),
    }
}

/// So many commits of one to three events each, the first of one.
pub(crate) fn commits(samples: &mut Samples, count: usize) -> Vec<Arc<Commit>> {
    let mut version = samples.head().next_seq + 1;
    let mut next = |n: usize| {
        let events = if samples.head().next_seq == 0 { 1 } else { 1 + n % 3 };
        let commit = samples.commit("dag/x", version, events, 1_000 + version as i64);
        version += events as u64;
        commit
    };
    (0..count).map(&mut next).collect()
}

/// A restored older backup, a chain that was written anew, and one that was cut while a node
/// runs: each is refused. `fresh` gives an empty storage.
pub(crate) async fn what_does_not_extend_is_refused(fresh: impl AsyncFn() -> Storage) {
    let dir = tempfile::tempdir().unwrap();
    let mut samples = Samples::new("acme");
    let (early, mut other) = (commits(&mut samples, 150), samples.fork());
    let late = commits(&mut samples, 200);

    let first = fresh().await;
    first.ledger.append(&early).await.unwrap();
    let (signer, gate) = open(config(dir.path(), 1), &first).await.unwrap();
    signer.sign_new().await.unwrap().unwrap();
    first.ledger.append(&late).await.unwrap();
    let signed = signer.sign_new().await.unwrap().unwrap().checkpoint;
    assert_eq!(signed.size, samples.head().next_seq);
    assert_eq!(gate.findings(), []);
    // The same node goes on with it.
    open(config(dir.path(), 1), &first).await.unwrap();

    // The database as it was after the first part, with the checkpoints that it had then.
    let backup = fresh().await;
    backup.ledger.append(&early).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (then, _) = open(config(elsewhere.path(), 1), &backup).await.unwrap();
    then.sign_new().await.unwrap().unwrap();
    let refused = open(config(dir.path(), 1), &backup).await.err();
    assert!(
        matches!(&refused, Some(SignerError::Shorter { size, .. }) if *size == signed.size),
        "{refused:?}"
    );

    // Written anew from there on, longer than before; even with checkpoints by the stolen key.
    let rewritten = fresh().await;
    rewritten.ledger.append(&early).await.unwrap();
    rewritten.ledger.append(&commits(&mut other, 300)).await.unwrap();
    let refused = open(config(dir.path(), 1), &rewritten).await.err();
    assert!(matches!(refused, Some(SignerError::Forked { .. })), "{refused:?}");
    let thief = tempfile::tempdir().unwrap();
    let (forger, _) = open(config(thief.path(), 1), &rewritten).await.unwrap();
    forger.sign_new().await.unwrap().unwrap();
    let refused = open(config(dir.path(), 1), &rewritten).await.err();
    assert!(matches!(refused, Some(SignerError::Forked { .. })), "{refused:?}");

    // Found while the node runs: its database is exchanged under it.
    for (exchanged, code) in
        [(&backup, "LEDGER_SHORTER_THAN_SIGNED"), (&rewritten, "LEDGER_DAMAGED")]
    {
        the_gate_closes(&first, exchanged, code).await;
    }
}

/// The same for a node that leaves the signing to another: it remembers what it saw.
pub(crate) async fn what_does_not_extend_what_was_seen_is_refused(
    fresh: impl AsyncFn() -> Storage,
) {
    let dirs: [_; 4] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [own, signers, elsewhere, thief] = dirs.each_ref().map(tempfile::TempDir::path);
    let mut samples = Samples::new("acme");
    let (early, mut other) = (commits(&mut samples, 150), samples.fork());
    let late = commits(&mut samples, 200);
    let observing = async |storage: &Storage| {
        let gate = Arc::new(Gate::default());
        let (storage, proofs) = (storage.clone(), proofs(storage));
        let opened = Signer::open(drawn(own, 2), storage, proofs, Arc::clone(&gate)).await?;
        let Opened::Observing(observer) = opened else { panic!("another node signs") };
        Ok::<_, SignerError>((observer, gate))
    };

    let first = fresh().await;
    first.ledger.append(&early).await.unwrap();
    let (signer, _) = open(config(signers, 1), &first).await.unwrap();
    signer.sign_new().await.unwrap().unwrap();
    let (observer, gate) = observing(&first).await.unwrap();
    first.ledger.append(&late).await.unwrap();
    let signed = signer.sign_new().await.unwrap().unwrap().checkpoint;
    observer.look().await.unwrap();
    assert_eq!(gate.findings(), []);
    observing(&first).await.unwrap();

    let backup = fresh().await;
    backup.ledger.append(&early).await.unwrap();
    let (then, _) = open(config(elsewhere, 1), &backup).await.unwrap();
    then.sign_new().await.unwrap().unwrap();
    let refused = observing(&backup).await.err();
    assert!(
        matches!(&refused, Some(SignerError::Shorter { size, .. }) if *size == signed.size),
        "{refused:?}"
    );

    // Written anew: without checkpoints, so that this node could sign, and with such by a stolen key.
    let rewritten = fresh().await;
    rewritten.ledger.append(&early).await.unwrap();
    rewritten.ledger.append(&commits(&mut other, 300)).await.unwrap();
    let refused = observing(&rewritten).await.err();
    assert!(matches!(refused, Some(SignerError::Proof(_))), "{refused:?}");
    let (forger, _) = open(config(thief, 1), &rewritten).await.unwrap();
    forger.sign_new().await.unwrap().unwrap();
    let refused = observing(&rewritten).await.err();
    assert!(matches!(refused, Some(SignerError::Forked { .. })), "{refused:?}");

    // Found while the node runs.
    let turning = turning::Ledger::new(&first, &backup);
    let storage = Storage { ledger: turning.clone(), checkpoints: Arc::clone(&first.checkpoints) };
    let (observer, gate) = observing(&storage).await.unwrap();
    turning.turn();
    assert!(observer.look().await.is_err());
    assert_eq!(gate.closed().expect("a closed gate").code, "LEDGER_SHORTER_THAN_SIGNED");
}

async fn the_gate_closes(sound: &Storage, exchanged: &Storage, code: &str) {
    let dir = tempfile::tempdir().unwrap();
    let turning = turning::Ledger::new(sound, exchanged);
    let storage = Storage { ledger: turning.clone(), checkpoints: Arc::clone(&sound.checkpoints) };
    let (signer, gate) = open(config(dir.path(), 1), &storage).await.unwrap();
    let gated = GatedLedger::new(Arc::clone(&storage.ledger), Arc::clone(&gate));
    signer.sign_new().await.unwrap();
    assert_eq!(gate.closed(), None);
    turning.turn();
    assert!(signer.sign_new().await.is_err());
    let finding = gate.closed().expect("a closed gate");
    assert_eq!((finding.code, finding.blocks_writes), (code, true));
    assert_eq!(gated.findings().await.unwrap()[0], finding);
    let refused = gated.append(&commits(&mut Samples::new("acme"), 1)).await.unwrap_err();
    assert!(matches!(&refused.cause, AppendFailure::Unavailable(why) if why.contains(code)));
    assert!(gated.head(&id().tenant).await.is_ok(), "reading goes on");
}

/// A ledger that becomes another one.
pub(crate) mod turning {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };

    use async_trait::async_trait;
    use stella_domain::{
        chain::{Commit, Head},
        ids::{StreamId, Tenant},
        time::Timestamp,
    };
    use stella_ledger::{
        port::{AppendError, Finding, Ledger as Port, LedgerError, Prepared},
        uri::Storage,
    };

    /// Also counts the events that it gives out.
    pub(crate) struct Ledger {
        before: Arc<dyn Port>,
        after: Arc<dyn Port>,
        turned: AtomicBool,
        pub(crate) events_read: AtomicU64,
    }

    impl Ledger {
        pub(crate) fn new(before: &Storage, after: &Storage) -> Arc<Self> {
            let (before, after) = (Arc::clone(&before.ledger), Arc::clone(&after.ledger));
            let (turned, events_read) = (AtomicBool::new(false), AtomicU64::new(0));
            Arc::new(Self { before, after, turned, events_read })
        }

        pub(crate) fn turn(&self) {
            self.turned.store(true, Ordering::SeqCst);
        }

        fn now(&self) -> &dyn Port {
            if self.turned.load(Ordering::SeqCst) { &*self.after } else { &*self.before }
        }

        fn counted(&self, commits: Vec<Commit>) -> Vec<Commit> {
            let events: usize = commits.iter().map(|commit| commit.events.len()).sum();
            self.events_read.fetch_add(events as u64, Ordering::SeqCst);
            commits
        }
    }

    #[async_trait]
    impl Port for Ledger {
        fn prepare(&self, commit: Arc<Commit>) -> Prepared {
            self.now().prepare(commit)
        }

        async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError> {
            self.now().append_prepared(commits).await
        }
        async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
            self.now().head(tenant).await
        }
        async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
            self.now().is_head(tenant, next_seq).await
        }
        async fn read(
            &self,
            tenant: &Tenant,
            from_seq: u64,
            limit: usize,
        ) -> Result<Vec<Commit>, LedgerError> {
            self.now().read(tenant, from_seq, limit).await.map(|commits| self.counted(commits))
        }
        async fn read_streams(
            &self,
            tenant: &Tenant,
            streams: &[StreamId],
        ) -> Result<Vec<Commit>, LedgerError> {
            let found = self.now().read_streams(tenant, streams).await;
            found.map(|commits| self.counted(commits))
        }
        async fn read_stream(
            &self,
            tenant: &Tenant,
            stream: &StreamId,
            from_version: u64,
            limit: usize,
        ) -> Result<Vec<Commit>, LedgerError> {
            let found = self.now().read_stream(tenant, stream, from_version, limit).await;
            found.map(|commits| self.counted(commits))
        }
        async fn first_at_or_after(
            &self,
            tenant: &Tenant,
            time: Timestamp,
        ) -> Result<Option<u64>, LedgerError> {
            self.now().first_at_or_after(tenant, time).await
        }
        async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
            self.now().tenants(limit).await
        }
        async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
            self.now().server_time().await
        }
        async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
            self.now().findings().await
        }
    }
}
