//! A window as a bundle.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use stella_api::types::{SigningKeys, WindowProof};
use stella_domain::checkpoint::{Checkpoint, Note, PinnedKey};
use stella_replay::bundle::{BundleWriter, Destination, Proof, WriteError};
use stella_verify::{Trust, manifest::Manifest};

use super::{Window, events::download};
use crate::{
    client::Client,
    commands::ledger::verify_bundle::{bundle_text, judge, verdict},
    failure::Failure,
    input,
    output::{Progress, line, note, quoted},
};

/// An older checkpoint that the caller holds.
pub(crate) struct Since {
    path: PathBuf,
    note: String,
    checkpoint: Checkpoint,
}

impl Since {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let note = input::text(path)?;
        let checkpoint = match Note::parse(&note) {
            Ok(note) => note.checkpoint().clone(),
            Err(error) => {
                return Err(Failure::usage(error.to_string()).in_file(path).try_this(
                    "give the note that `stella orch ledger checkpoint` printed, or the file \
                     `checkpoint` of an older bundle",
                ));
            }
        };
        Ok(Self { path: path.to_owned(), note, checkpoint })
    }

    pub(super) fn check_ledger(&self, ledger: &str) -> Result<(), Failure> {
        let other = &self.checkpoint.ledger;
        if other.to_string() == ledger {
            return Ok(());
        }
        let what = format!("a checkpoint of ledger {other}, and the server's is {ledger}");
        Err(Failure::usage(what).in_file(&self.path))
    }

    /// That the ledger leads to this checkpoint's root still.
    fn check_root(&self, proof: &Proof) -> Result<(), Failure> {
        let Checkpoint { size, root, .. } = &self.checkpoint;
        match &proof.extends {
            Some(extends) if extends.size == *size && extends.root == *root => Ok(()),
            Some(extends) => Err(Failure::not_verified(format!(
                "the server's first {size} events do not lead to the root {root} of this \
                 checkpoint, but to {}: the ledger was written anew after it was signed",
                extends.root
            ))
            .in_file(&self.path)
            .try_this("keep this checkpoint and the server's: together they are the evidence")),
            None => Err(Failure::failed("the server did not prove what its checkpoint extends")
                .try_this("use the same release on both sides: `stella --version`")),
        }
    }
}

/// What a bundle is to prove beside its window.
#[derive(Clone, Copy, Default)]
pub(crate) struct Asked<'a> {
    /// That its checkpoint extends this one.
    pub(super) since: Option<&'a Since>,
    /// That so many of the server's witnesses have cosigned it.
    pub(super) witnesses_needed: Option<usize>,
}

/// Write the window's bundle to `out`, where it appears when it is whole.
pub(crate) async fn export(
    client: &Client,
    window: Window,
    asked: Asked<'_>,
    out: Destination,
) -> Result<Manifest, Failure> {
    // What would refuse the bundle refuses it before its events are sent.
    let mut proof = prove(client, window, asked).await?;
    let first_seq = proof.window.first_seq;
    let mut writer = BundleWriter::create(out, first_seq).map_err(write_failure)?;
    let progress = Progress::events("exporting", proof.window.events());
    download(client, window, &mut |lines| {
        writer.events(lines).map_err(write_failure)?;
        progress.set(writer.next_seq() - first_seq, proof.window.events());
        Ok(())
    })
    .await?;
    drop(progress);
    if writer.erased() > 0 {
        // What was erased meanwhile has to be explained too.
        proof = prove(client, window, asked).await?;
    }
    let stop = StopWhenDropped::default();
    let stopped = Arc::clone(&stop.0);
    let finished = tokio::task::spawn_blocking(move || {
        let progress = Progress::bytes("finishing", writer.bytes());
        let total = writer.bytes();
        writer.finish(&proof, &mut |bytes| {
            progress.set(bytes, total.max(bytes));
            !stopped.load(Ordering::Relaxed)
        })
    });
    match finished.await {
        Ok(finished) => finished.map_err(write_failure),
        Err(error) => Err(Failure::failed(format!("writing was interrupted: {error}"))),
    }
}

/// Ends what a thread does for somebody who waits for it no longer.
#[derive(Default)]
struct StopWhenDropped(Arc<AtomicBool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn prove(client: &Client, window: Window, asked: Asked<'_>) -> Result<Proof, Failure> {
    let Asked { since, witnesses_needed } = asked;
    let mut query = window.query();
    query.extend(witnesses_needed.map(|needed| ("witnessesNeeded", needed.to_string())));
    query.extend(since.map(|since| ("since", since.checkpoint.size.to_string())));
    let proof: WindowProof = client.get("/ledger/proofs/window", &query).await?;
    let proof = Proof::from(proof);
    if let Some(since) = since {
        since.check_root(&proof)?;
    }
    Ok(proof)
}

/// The keys that the server says it signs with, as auditors pin them.
pub(crate) async fn pins(client: &Client) -> Result<Vec<PinnedKey>, Failure> {
    let keys: SigningKeys = client.get("/ledger/keys", &[]).await?;
    let parsed = keys.pins.iter().map(|pin| pin.parse()).collect::<Result<Vec<_>, _>>();
    parsed.map_err(|error| Failure::failed(format!("the server names no key: {error}")))
}

/// Verify the bundle that was written, as its reader will: with the keys that the server names, for
/// want of others. So it shows at once if something was lost on the way, or is not as signed.
pub(super) async fn verify(
    client: &Client,
    path: &Path,
    since: Option<&Since>,
) -> Result<(), Failure> {
    let keys = match pins(client).await {
        Ok(keys) => keys,
        Err(failure) => {
            line(format_args!("{}: written", path.display()))?;
            note(format_args!("not verified here: {failure}"));
            note(command(path, &[], since));
            return Ok(());
        }
    };
    let mut trust = Trust::new(keys.clone());
    if let Some(since) = since {
        trust = trust.since(&since.note);
    }
    let paths = [path.to_owned()];
    let reports = judge(&paths, trust).await?;
    if let [report] = &reports.bundles[..] {
        line(bundle_text(report, path).trim_end())?;
    }
    if !reports.verdict.is_good() {
        return verdict(&reports);
    }
    note(
        "this was verified with the key that the server names; with one that you have from elsewhere:",
    );
    note(command(path, &keys, since));
    Ok(())
}

fn command(path: &Path, keys: &[PinnedKey], since: Option<&Since>) -> String {
    let word = |path: &Path| quoted(&path.to_string_lossy());
    let mut command = format!("stella orch ledger verify {}", word(path));
    match keys {
        [] => command.push_str(" --key VKEY"),
        keys => keys.iter().for_each(|key| command.push_str(&format!(" --key {key}"))),
    }
    if let Some(since) = since {
        command.push_str(&format!(" --since {}", word(&since.path)));
    }
    command
}

/// Why there is no bundle.
pub(crate) fn write_failure(error: WriteError) -> Failure {
    let what = error.to_string();
    match error {
        WriteError::Exists { .. } => Failure::usage(what),
        WriteError::Io { .. } | WriteError::TooLargeForArchive => Failure::failed(what),
        WriteError::NotTheEvent { .. }
        | WriteError::OtherEvents { .. }
        | WriteError::Proof(_) => Failure::not_verified(what).try_this(
            "see whether the ledger holds where it is stored: `stella orch ledger verify --ledger`",
        ),
    }
}
