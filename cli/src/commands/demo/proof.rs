//! The proof: exported, verified offline, and folded again to the same state.

use stella_api::types::{CheckReport, LedgerHead, ReasonBody, RebuildReport, ReceiptView, RunView};
use stella_domain::{checkpoint::PinnedKey, time::Timestamp};
use stella_replay::bundle::Destination;
use stella_verify::Trust;

use super::{Stage, live::DemoRun};
use crate::{
    client::{Answer, path},
    commands::ledger::{Asked, Window, export_bundle, judge, verdict},
    failure::Failure,
    output::{Table, elapsed},
};

impl Stage {
    /// Seal the ledger, export everything before that as a bundle, and verify it with nothing but
    /// the bundle and the key that was pinned before.
    pub(super) async fn export_and_verify(
        &self,
        pinned: &[PinnedKey],
    ) -> Result<ReceiptView, Failure> {
        let Self { client, screen, bundle, .. } = self;
        screen.heading("Export the ledger, and verify it with no trust in the server")?;
        let head: LedgerHead = client.get("/ledger/head", &[]).await?;
        let reason = ReasonBody { reason: "end of the demo".to_owned() };
        let sealed: Answer<ReceiptView> = client.post("/ledger:seal", &[], &reason).await?;
        let sealed = sealed.body;
        let window = Window { from: Timestamp::ZERO, to: sealed.recorded_at };
        let out = Destination::directory(bundle);
        let manifest = export_bundle(client, window, Asked::default(), out).await?;
        let place = if self.kept { format!(" to {}", bundle.display()) } else { String::new() };
        screen.tick(format_args!("sealed at seq {}, exported{place}", sealed.seq))?;

        let reports = judge(std::slice::from_ref(bundle), Trust::new(pinned.to_vec())).await?;
        if !reports.verdict.is_good() {
            return verdict(&reports).map(|()| sealed);
        }
        let whole = manifest.first_seq == 0
            && manifest.events == sealed.seq
            && manifest.last_hash.to_string() == head.hash;
        if !whole {
            let what = format!(
                "the bundle has {} events from seq {} and ends with {}; the ledger was sealed at \
                 seq {} after {}",
                manifest.events, manifest.first_seq, manifest.last_hash, sealed.seq, head.hash
            );
            return Err(Failure::not_verified(what));
        }
        let took = reports.bundles.iter().map(|report| report.elapsed).sum();
        screen.tick(format_args!(
            "{} events, {} bytes: every hash and every link of the chain holds ({})",
            manifest.events,
            manifest.files.events.bytes,
            elapsed(took)
        ))?;
        screen.tick(format_args!(
            "{}: complete and unchanged, by a checkpoint of {} events with a pinned key",
            reports.verdict.as_str(),
            manifest.tree_size
        ))?;
        screen.tick(format_args!("ledger {}, head {}", manifest.ledger, manifest.last_hash))?;
        Ok(sealed)
    }

    /// Rebuild the read models from the ledger and compare them with those that were in use.
    pub(super) async fn rebuild(&self, run: &DemoRun, sealed: &ReceiptView) -> Result<(), Failure> {
        let Self { client, screen, .. } = self;
        screen.heading("Throw the projections away and fold them again from the ledger")?;
        // Once they have seen the seal, both sides are folded from the same events.
        let min_seq = [("minSeq", sealed.seq.to_string())];
        let _: RunView = client.get(&path("runs", &run.run_id, ""), &min_seq).await?;
        let before: CheckReport = client.post_long("/admin/projections:check").await?;
        let rebuilt: RebuildReport = client.post_long("/admin/projections:rebuild").await?;
        let after: CheckReport = client.post_long("/admin/projections:check").await?;

        let mut table = Table::new(&["", "ROWS#", "BEFORE", "REBUILT"]);
        let mut same = before.identical && after.identical && rebuilt.diverged.is_empty();
        for (old, new) in before.models.iter().zip(&after.models) {
            same &= old.model == new.model && old.live == new.live;
            table.row([
                old.model.clone(),
                old.rows.to_string(),
                shortened(&old.live),
                shortened(&new.live),
            ]);
        }
        table.text("").lines().try_for_each(|line| screen.line(line))?;
        if !same || before.models.is_empty() || before.models.len() != after.models.len() {
            return Err(Failure::not_verified("the rebuilt projections are not the same"));
        }
        screen.tick(format_args!("identical, folded from {} events", rebuilt.position))
    }
}

/// The beginning of a digest.
fn shortened(digest: &str) -> String {
    digest.get(..24).unwrap_or(digest).to_owned()
}
