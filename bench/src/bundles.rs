//! Rows (i) and (j): what a checkpoint costs on a long ledger, and a bundle exported and verified by
//! the programs that users have.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use stella_domain::ids::{LedgerId, Tenant};
use stella_ledger::{
    checkpoints::{
        gate::Gate,
        kept::Kept,
        keys::{self, NodeKeys},
        proofs::Proofs,
        signer::{Opened, Signer, SignerConfig},
    },
    snapshots::NoSnapshots,
    uri::LedgerUri,
};

use crate::{
    Failure, Place, appends, figures::Figures, process::peak_memory_mib, runs::percentile_ms,
    server::Server,
};

/// Checkpoints that are signed one after the other, each of some new events.
const CHECKPOINTS: usize = 100;

/// Row (i): on a ledger of this size, opened anew, checkpoints of a few new events each.
pub(crate) async fn checkpoints(
    place: &Place,
    tenant: &Tenant,
    size: &str,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let uri: LedgerUri = place.uri.parse()?;
    let storage = uri.connect().await?;
    let given = keys::read(&place.dir.path().join("signing-key"))?;
    let ledger = LedgerId { origin: "stella.local".parse()?, tenant: tenant.clone() };
    let config = || SignerConfig {
        ledger: ledger.clone(),
        keys: NodeKeys { given: given.clone(), next: place.dir.path().join("no-other-key") },
        key_is_drawn: false,
        kept: Kept::new(vec![place.dir.path().join("kept-by-bench")]),
        seen: place.dir.path().join("seen-by-bench"),
        cosigners: None,
        snapshots: Arc::new(NoSnapshots),
    };
    let open = async || {
        let proofs = Proofs::new(storage.clone(), ledger.origin.clone());
        match Signer::open(config(), storage.clone(), proofs, Arc::<Gate>::default()).await? {
            Opened::Signing(signer) => Ok::<_, Failure>(signer),
            Opened::Observing(observer) => Err(observer.why().into()),
        }
    };
    // What was added since the last one is signed first.
    open().await?.sign_new().await?;
    let started = Instant::now();
    let signer = open().await?;
    let opened = started.elapsed().as_secs_f64() * 1e3;
    figures.put(&format!("(i) signer opens, {size}"), "ms", place.name, opened);
    let mut latency = Histogram::<u64>::new(3)?;
    for _ in 0..CHECKPOINTS {
        appends::append(&place.ledger, tenant, 1, Duration::from_millis(2)).await?;
        let started = Instant::now();
        signer.sign_new().await?;
        latency.record(u64::try_from(started.elapsed().as_micros())?)?;
    }
    for (name, percentile) in [("p50", 50.0), ("p99", 99.0)] {
        let row = format!("(i) checkpoint {name}, {size}");
        figures.put(&row, "ms", place.name, percentile_ms(&latency, percentile));
    }
    Ok(())
}

/// Row (j): the whole ledger as a bundle, by `stella orch ledger export` and `verify`.
pub(crate) async fn bundle(
    stella: &Path,
    place: &Place,
    server: &Server,
    keep: Option<&Path>,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let events = place.ledger.head(&"bench".parse()?).await?.next_seq as f64;
    let bundle = keep.map_or_else(|| place.dir.path().join("bundle"), |dir| dir.join(place.name));
    let (stella, keeps) = (stella.to_owned(), keep.is_some());
    let (token, key) = (place.dir.path().join("token"), place.dir.path().join("signing-key"));
    let server = server.url();
    let timed = tokio::task::spawn_blocking(move || {
        let mut export = Command::new(&stella);
        export.args(["orch", "ledger", "export", "--seal", "--out"]).arg(&bundle);
        export.args(["--server", &server, "--token-file"]).arg(&token);
        let exported = timed(&mut export)?;
        let mut show = Command::new(&stella);
        show.args(["orch", "ledger", "key", "show", "--tenant", "bench", "--signing-key"]);
        let shown = show.arg(&key).output()?;
        let pinned = String::from_utf8(shown.stdout)?;
        let mut verify = Command::new(&stella);
        verify.args(["orch", "ledger", "verify"]).arg(&bundle).args(["--key", pinned.trim()]);
        // Once for the files to be in the cache.
        timed(&mut verify)?;
        let verified = timed(&mut verify)?;
        let bytes = std::fs::metadata(bundle.join("events.ndjson"))?.len();
        if keeps {
            std::fs::write(bundle.with_extension("key"), &pinned)?;
        } else {
            std::fs::remove_dir_all(&bundle)?;
        }
        Ok::<_, Failure>((exported, verified, bytes as f64))
    });
    let (exported, verified, bytes) = timed.await??;
    for (what, (elapsed, peak)) in [("export", exported), ("verify", verified)] {
        let seconds = elapsed.as_secs_f64();
        let mut put = |name: &str, unit, value| {
            figures.put(&format!("(j) {what} of a bundle{name}"), unit, place.name, value);
        };
        put("", "events/s", events / seconds);
        put(", bytes", "MB/s", bytes / 1e6 / seconds);
        put(", peak memory", "MiB", peak);
    }
    Ok(())
}

/// How long a command takes, and the memory that it takes at most.
fn timed(command: &mut Command) -> Result<(Duration, f64), Failure> {
    const LOOKED_AT_EVERY: Duration = Duration::from_millis(5);
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut peak: f64 = 0.0;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            // Gone between the two: then the last figure stands.
            None => peak = peak.max(peak_memory_mib(child.id()).unwrap_or(0.0)),
        }
        std::thread::sleep(LOOKED_AT_EVERY);
    };
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok((started.elapsed(), peak))
}
