//! Rows (e) and (f): an export verified, projections rebuilt.

use std::{path::Path, sync::Arc, time::Instant};

use stella_domain::{ids::Tenant, time::Timestamp};
use stella_ledger::{feed::Feed, port::Ledger};
use stella_projections::Projections;
use stella_replay::export::{Window, write_window};
use stella_verify::ndjson::verify_files;

use crate::{Failure, Place, figures::Figures};

/// Row (f).
pub(crate) async fn rebuild(
    place: &Place,
    tenant: &Tenant,
    size: &str,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let feed = Feed::new(Arc::clone(&place.ledger));
    let dir = place.dir.path().join("rebuild");
    let projections = Projections::open(&dir, Arc::clone(&place.ledger), feed)?;
    let started = Instant::now();
    let rebuilt = projections.rebuild(tenant, &|_| {}).await?;
    let rate = rebuilt.next_seq as f64 / started.elapsed().as_secs_f64();
    let name = format!("(f) projection rebuild, {size}");
    figures.put(&name, "events/s", place.name, rate);
    projections.close().await;
    drop(projections);
    // The next one begins with nothing, too.
    Ok(std::fs::remove_dir_all(&dir)?)
}

/// Row (e), on one core.
pub(crate) async fn verify(
    ledger: &Arc<dyn Ledger>,
    tenant: &Tenant,
    dir: &Path,
    name: &str,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let path = dir.join("events.ndjson");
    let to = ledger.head(tenant).await?.recorded_at;
    let window = Window::resolve(&**ledger, tenant, Timestamp::ZERO, to).await?;
    let started = Instant::now();
    let mut file = tokio::fs::File::create(&path).await?;
    let (ledger, tenant) = (Arc::clone(ledger), tenant.clone());
    let first_seq = window.first_seq;
    write_window(ledger, tenant, window, first_seq, &mut file, &mut |_| {}).await?;
    let rate = window.events() as f64 / started.elapsed().as_secs_f64();
    figures.put("    export to NDJSON", "events/s", name, rate);
    let file = path.clone();
    let report = tokio::task::spawn_blocking(move || {
        // Once for the file to be in the cache.
        std::fs::read(&file)?;
        let started = Instant::now();
        let report = verify_files(&[file], &mut |_| {})?;
        Ok::<_, Failure>((report, started.elapsed()))
    });
    let (report, elapsed) = report.await??;
    let rate = report.events as f64 / elapsed.as_secs_f64();
    figures.put("(e) verify of an NDJSON export, one core", "events/s", name, rate);
    let mib = std::fs::metadata(&path)?.len() as f64 / 1_048_576.0;
    figures.put(
        "    bytes of NDJSON an event",
        "bytes",
        name,
        mib * 1_048_576.0 / report.events as f64,
    );
    Ok(())
}
