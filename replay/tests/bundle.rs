//! Bundles: whole and the same each time, judged by the verifier, which shares no code with them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{Story, a_run_that_succeeds, retries_and_a_cancel, tenant};
use stella_domain::{
    chain::{Commit, Draft, StoredPayload},
    checkpoint::{Checkpoint, PinnedKey, SigningKey, VerifierKey},
    event::EncodedEvent,
    hash::{Hash32, Salt},
    ids::{LedgerId, StreamId},
    json::CanonicalJson,
    merkle::root,
    time::Timestamp,
};
use stella_ledger::{
    checkpoints::{cosigners::Quorum, proofs::Proofs},
    sqlite::SqliteLedger,
    uri::Storage,
};
use stella_replay::{
    bundle::{BundleWriter, Destination, Proof, ProveError, WriteError, prove},
    export::{Window, write_window},
};
use stella_verify::{
    Bundle, Report, Trust, Verdict,
    manifest::{Manifest, names},
    verify_bundle,
};
use tempfile::TempDir;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn id() -> LedgerId {
    "stella.example/acme".parse().unwrap()
}

fn trust() -> Trust {
    Trust::new(vec![PinnedKey::always(VerifierKey::new(id(), &key()))])
}

/// A stored ledger, and what was signed of it.
struct Stored {
    dir: TempDir,
    storage: Storage,
    proofs: Arc<Proofs>,
    hashes: Vec<Hash32>,
    times: Vec<Timestamp>,
}

impl Stored {
    async fn of(commits: &[Arc<Commit>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::of(SqliteLedger::open(dir.path().join("ledger.db")).await.unwrap());
        storage.ledger.append(commits).await.unwrap();
        let proofs = Proofs::new(storage.clone(), id().origin);
        let events =
            || commits.iter().flat_map(|c| c.events.iter().map(|e| (c.recorded_at, e.hash)));
        let (hashes, times) = (events().map(|e| e.1).collect(), events().map(|e| e.0).collect());
        Self { dir, storage, proofs, hashes, times }
    }

    async fn sign(&self, size: usize) -> String {
        let root = root(&self.hashes[..size]);
        let note = Checkpoint { ledger: id(), size: size as u64, root }.sign(&key());
        self.storage.checkpoints.insert_note(&tenant(), size as u64, &note).await.unwrap();
        note
    }

    async fn window(&self, from: Timestamp, to: Timestamp) -> Window {
        Window::resolve(&*self.storage.ledger, &tenant(), from, to).await.unwrap()
    }

    async fn prove(&self, window: Window, since: Option<u64>) -> Result<Proof, ProveError> {
        prove(&*self.storage.ledger, &self.proofs, &tenant(), window, since, &Quorum::default())
            .await
    }

    async fn lines(&self, window: Window) -> Vec<u8> {
        let (ledger, mut lines) = (self.storage.ledger.clone(), vec![]);
        let at = window.first_seq;
        write_window(ledger, tenant(), window, at, &mut lines, &mut |_| {}).await.unwrap();
        lines
    }

    /// A bundle of this name; where it is, and its manifest.
    async fn bundle(&self, name: &str, window: Window, proof: &Proof) -> (PathBuf, Manifest) {
        let path = self.dir.path().join(name);
        let mut writer = BundleWriter::create(Destination::new(&path), window.first_seq).unwrap();
        writer.events(&self.lines(window).await).unwrap();
        let manifest = writer.finish(proof, &mut |_| true).unwrap();
        (path, manifest)
    }

    /// What is here beside the ledger.
    fn left_behind(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("part")).collect()
    }
}

fn judged(path: &Path, trust: &Trust) -> Report {
    verify_bundle(&Bundle::open(path).unwrap(), trust, &mut |_| {}).unwrap()
}

fn files_in(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

/// The entries of an archive, in order, as another reader of tar sees them.
fn entries_of(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut tar = vec![];
    let mut frame = ruzstd::decoding::StreamingDecoder::new(archive).unwrap();
    frame.read_to_end(&mut tar).unwrap();
    assert!(frame.into_inner().is_empty(), "more than one frame");
    let mut archive = tar::Archive::new(&tar[..]);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert!(header.as_ustar().is_some() && header.entry_type().is_file());
        assert_eq!((header.mode().unwrap(), header.mtime().unwrap()), (0o644, 0));
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        let mut bytes = vec![];
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    });
    entries.collect()
}

#[tokio::test]
async fn every_window_is_proven_from_every_checkpoint_that_can() {
    let story = retries_and_a_cancel();
    let stored = Stored::of(&story.commits).await;
    let mut edges = stored.times.clone();
    edges.dedup();
    edges.insert(0, Timestamp::ZERO);
    let last = stored.hashes.len();
    // From few to all: the oldest one that reaches far enough is taken.
    let sizes = [last, last - 1, 9, 3, 1];
    let mut seen = [0, 0, 0];
    for (round, size) in sizes.into_iter().enumerate() {
        stored.sign(size).await;
        for (i, from) in edges.iter().enumerate().step_by(2 * round + 1) {
            for to in &edges[i..] {
                let window = stored.window(*from, *to).await;
                let proof = stored.prove(window, None).await.unwrap();
                let covering = sizes[..=round].iter().rev().find(|s| **s as u64 > window.end_seq);
                assert_eq!(proof.tree_size, *covering.unwrap() as u64, "{window:?}");
                let name = format!("{round}-{}-{}", from.as_micros(), to.as_micros());
                let (path, manifest) = stored.bundle(&name, window, &proof).await;
                let report = judged(&path, &trust());
                assert_eq!(report.verdict, Verdict::Verified, "{window:?}: {report:?}");
                assert_eq!(manifest.events, window.events());
                fs::remove_dir_all(path).unwrap();
                seen[0] += usize::from(window.events() == 0);
                seen[1] += usize::from(window.first_seq == 0);
                seen[2] += 1;
            }
        }
    }
    assert!(seen[0] > 20 && seen[1] > 20 && seen[2] > 150, "{seen:?}");
}

#[tokio::test]
async fn the_same_window_is_the_same_bytes_in_both_forms() {
    let story = a_run_that_succeeds();
    let stored = Stored::of(&story.commits).await;
    let size = stored.hashes.len();
    let window = stored.window(stored.times[3], stored.times[size - 3]).await;
    let note = stored.sign(window.end_seq as usize + 1).await;
    let proof = stored.prove(window, None).await.unwrap();
    let (first, manifest) = stored.bundle("first", window, &proof).await;
    let (packed, _) = stored.bundle("first.tar.zst", window, &proof).await;
    let files = files_in(&first);
    assert_eq!(files.len(), names::ALL.len());
    assert_eq!(files[names::CHECKPOINT], note.as_bytes());
    assert_eq!(files[names::MANIFEST], manifest.to_text().as_bytes());
    assert_eq!(files[names::EVENTS], stored.lines(window).await);
    assert!(files[names::ERASURES].is_empty());

    let archive = fs::read(&packed).unwrap();
    let entries = entries_of(&archive);
    let order: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(order, names::ALL);
    assert_eq!(entries.into_iter().collect::<BTreeMap<_, _>>(), files);
    assert!(archive.len() < files.values().map(Vec::len).sum(), "it is not compressed");
    assert_eq!(judged(&packed, &trust()).verdict, Verdict::Verified);

    // Once more, when more checkpoints are stored, from another process's point of view.
    stored.sign(size).await;
    let proofs = Proofs::new(stored.storage.clone(), id().origin);
    let again =
        prove(&*stored.storage.ledger, &proofs, &tenant(), window, None, &Quorum::default())
            .await
            .unwrap();
    assert_eq!(again, proof);
    let (second, _) = stored.bundle("second", window, &again).await;
    assert_eq!(files_in(&second), files);
    let (packed, _) = stored.bundle("second.tar.zst", window, &again).await;
    assert_eq!(fs::read(packed).unwrap(), archive);
    assert_eq!(stored.left_behind(), [""; 0]);
}

#[tokio::test]
async fn it_extends_an_older_checkpoint_or_says_why_not() {
    let story = retries_and_a_cancel();
    let stored = Stored::of(&story.commits).await;
    let window = stored.window(Timestamp::ZERO, stored.times[4]).await;
    let early = stored.prove(window, None).await;
    let needed = window.end_seq + 1;
    assert!(matches!(early, Err(ProveError::NotSigned { size }) if size == needed), "{early:?}");
    let older: Vec<String> = vec![stored.sign(2).await, stored.sign(12).await];
    stored.sign(stored.hashes.len()).await;
    for (i, (size, note)) in [2, 12].into_iter().zip(&older).enumerate() {
        let proof = stored.prove(window, Some(size)).await.unwrap();
        // Not smaller than what it is to extend.
        assert_eq!(proof.tree_size, 12);
        let root = root(&stored.hashes[..size as usize]);
        assert_eq!(proof.extends.as_ref().map(|extends| extends.root), Some(root));
        let (path, _) = stored.bundle(&format!("since-{i}"), window, &proof).await;
        let report = judged(&path, &trust().since(note));
        assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    }
    let without = stored.prove(window, None).await.unwrap();
    let (path, _) = stored.bundle("without", window, &without).await;
    assert_eq!(judged(&path, &trust().since(&older[0])).verdict, Verdict::Incomplete);
    let beyond = stored.prove(window, Some(999)).await;
    assert!(matches!(beyond, Err(ProveError::SinceBeyond { since: 999, .. })), "{beyond:?}");
}

/// A commit of the ledger's own that says that these payloads were erased.
fn data_erased(commits: &[Arc<Commit>], seqs: &[u64]) -> Arc<Commit> {
    let last = commits.last().unwrap();
    let stream = StreamId::Ledger(tenant());
    let own = commits.iter().filter(|commit| commit.stream == stream);
    let version: usize = own.map(|commit| commit.events.len()).sum();
    let data = serde_json::json!({"runId": common::SUCCEEDS, "seqs": seqs}).to_string();
    let event = EncodedEvent {
        event_type: "DataErased",
        schema: 1,
        data: CanonicalJson::parse(&data).unwrap(),
        payload: Some(CanonicalJson::parse(r#"{"reason":"asked for"}"#).unwrap()),
    };
    let draft = Draft {
        stream,
        stream_version: version as u64 + 1,
        actor: "user:dpo".parse().unwrap(),
        events: vec![(event, Salt::from([9; 16]))],
    };
    let at = Timestamp::from_micros(last.recorded_at.as_micros() + 1);
    Arc::new(Commit::seal(&last.ledger, &last.head(), at, draft).unwrap())
}

/// Take the payloads of these events away, as erasing does.
fn blank(commits: &mut [Arc<Commit>], seqs: &[u64]) {
    for commit in commits {
        let commit = Arc::make_mut(commit);
        for (seq, event) in (commit.seq..).zip(&mut commit.events) {
            if seqs.contains(&seq) {
                let hash = event.payload.hash();
                assert_ne!(hash, Hash32::ZERO, "{seq} has no payload");
                event.payload = StoredPayload::Erased(hash);
            }
        }
    }
}

/// Seqs of runs' events that have a payload.
fn with_payload(story: &Story) -> Vec<u64> {
    let runs = story.commits.iter().filter(|commit| matches!(commit.stream, StreamId::Run(_)));
    let events = runs.flat_map(|commit| (commit.seq..).zip(&commit.events));
    events.filter(|(_, event)| event.payload.json().is_some()).map(|(seq, _)| seq).collect()
}

#[tokio::test]
async fn what_is_erased_is_explained_by_the_events_that_name_it() {
    let story = a_run_that_succeeds();
    let erasable = with_payload(&story);
    let (first, second, other) = (erasable[0], erasable[1], *erasable.last().unwrap());
    let mut commits = story.commits.clone();
    let end = commits.last().unwrap().recorded_at;
    blank(&mut commits, &[first, second, other]);
    for seqs in [&[first][..], &[other], &[first, second]] {
        let event = data_erased(&commits, seqs);
        commits.push(event);
    }
    let size = commits.last().unwrap().last_seq() as usize + 1;
    let stored = Stored::of(&commits).await;
    stored.sign(size - 3).await;
    let to = Timestamp::from_micros(stored.times[second as usize].as_micros() + 1);
    let window = stored.window(Timestamp::ZERO, to).await;
    assert!(window.end_seq <= other, "the last one is not of the window");
    let early = stored.prove(window, None).await;
    assert!(matches!(early, Err(ProveError::NotSigned { size: n }) if n == size as u64));
    stored.sign(size).await;
    let proof = stored.prove(window, None).await.unwrap();
    assert_eq!(proof.erasures.lines().count(), 2, "those that name a seq of the window");
    for name in ["erased", "erased.tar.zst"] {
        let (path, manifest) = stored.bundle(name, window, &proof).await;
        let report = judged(&path, &trust());
        assert_eq!(report.verdict, Verdict::VerifiedWithErasures, "{report:?}");
        assert_eq!((manifest.erased, report.erased_seqs), (2, vec![first, second]));
    }
    // One that nobody explains is told as it is; hiding it would be no better.
    let unexplained = Proof { erasures: String::new(), ..proof };
    let (path, _) = stored.bundle("unexplained", window, &unexplained).await;
    let report = judged(&path, &trust());
    assert_eq!((report.verdict, report.seq), (Verdict::Tampered, Some(first)));

    // A window of which nothing is named does not wait for what explains others.
    let empty = stored.window(end, end).await;
    assert_eq!(stored.prove(empty, None).await.unwrap().tree_size, size as u64 - 3);
}

#[tokio::test]
async fn what_was_recorded_as_erased_and_is_there_still_explains_nothing() {
    let story = a_run_that_succeeds();
    let mut commits = story.commits.clone();
    commits.push(data_erased(&commits, &with_payload(&story)));
    let stored = Stored::of(&commits).await;
    stored.sign(stored.hashes.len()).await;
    let window = stored.window(Timestamp::ZERO, *stored.times.last().unwrap()).await;
    let proof = stored.prove(window, None).await.unwrap();
    assert_eq!(proof.erasures.lines().count(), 1);
    let (path, manifest) = stored.bundle("there", window, &proof).await;
    assert_eq!((manifest.erased, manifest.files.erasures.bytes), (0, 0));
    assert_eq!(judged(&path, &trust()).verdict, Verdict::Verified);
}

#[tokio::test]
async fn what_is_not_whole_gets_no_name_and_leaves_nothing_behind() {
    let story = a_run_that_succeeds();
    let stored = Stored::of(&story.commits).await;
    stored.sign(stored.hashes.len()).await;
    let window = stored.window(Timestamp::ZERO, *stored.times.last().unwrap()).await;
    let proof = stored.prove(window, None).await.unwrap();
    let lines = stored.lines(window).await;
    let all: Vec<&[u8]> = lines.split_inclusive(|byte| *byte == b'\n').collect();
    for name in ["new", "new.tar.zst"] {
        let path = stored.dir.path().join(name);
        let create = || BundleWriter::create(Destination::new(&path), 0).unwrap();
        let mut too_few = create();
        too_few.events(&all[..4].concat()).unwrap();
        assert!(!path.exists());
        let too_few = too_few.finish(&proof, &mut |_| true);
        assert!(matches!(too_few, Err(WriteError::OtherEvents { found: 4, .. })), "{too_few:?}");

        let mut jumps = create();
        jumps.events(&all[..2].concat()).unwrap();
        let jumps = jumps.events(all[3]);
        assert!(matches!(jumps, Err(WriteError::NotTheEvent { seq: 2, .. })), "{jumps:?}");
        let half = create().events(&all[0][..20]);
        assert!(matches!(half, Err(WriteError::NotTheEvent { seq: 0, .. })), "{half:?}");

        let mut contradicting = create();
        contradicting.events(&lines).unwrap();
        let wrong = Proof { prev: proof.last_hash, ..proof.clone() };
        let wrong = contradicting.finish(&wrong, &mut |_| true);
        assert!(matches!(wrong, Err(WriteError::Proof(_))), "{wrong:?}");

        // Something that comes while it is written stays as it is.
        let mut late = create();
        late.events(&lines).unwrap();
        fs::write(&path, "mine").unwrap();
        let late = late.finish(&proof, &mut |_| true);
        assert!(matches!(late, Err(WriteError::Exists { .. })), "{late:?}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let taken = BundleWriter::create(Destination::new(&path), 0).err();
        assert!(matches!(taken, Some(WriteError::Exists { .. })), "{taken:?}");
    }
    let path = stored.dir.path().join("stopped.tar.zst");
    let mut stopped = BundleWriter::create(Destination::new(&path), 0).unwrap();
    stopped.events(&lines).unwrap();
    assert!(stopped.finish(&proof, &mut |_| false).is_err());
    assert!(!path.exists());
    assert_eq!(stored.left_behind(), [""; 0]);
    let nowhere = Destination::new(stored.dir.path().join("missing/new"));
    assert!(matches!(BundleWriter::create(nowhere, 0).err(), Some(WriteError::Io { .. })));
}
