//! `projections rebuild`.

use std::sync::Arc;

use clap::Args;
use stella_api::types::{DivergenceView, RebuildReport};
use stella_ledger::feed::Feed;
use stella_projections::{Progress as Folded, ProjectionError, Projections};

use crate::{
    client::{Client, ServerArgs},
    commands::storage::{StorageArgs, open_existing},
    failure::Failure,
    output::{OutputArgs, Progress},
};

/// Fold the whole ledger afresh and put the outcome in the place of what is in use.
///
/// Without --online this opens the ledger and the data directory itself, so no server may be
/// running on them. With it, a running server does it while it goes on serving.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch projections rebuild
  stella orch projections rebuild --data-dir /var/lib/stella --ledger 'mongodb://127.0.0.1:27017/stella?replicaSet=rs0'
  stella orch projections rebuild --online")]
pub(crate) struct Rebuild {
    /// Let the running server do it.
    #[arg(long, conflicts_with_all = ["ledger", "tenant"])]
    online: bool,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Rebuild {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let report = if self.online {
            let client = Client::new(&self.server)?;
            let _bar = Progress::waiting("rebuilding");
            client.post_long("/admin/projections:rebuild").await?
        } else {
            offline(&self.storage).await?
        };
        self.output.print(&report, |report: &RebuildReport| {
            format!("rebuilt from {} events", report.position)
        })?;
        let Some(diverged) = report.diverged.first() else { return Ok(()) };
        let DivergenceView { model, equal_at, differs_at } = diverged;
        Err(Failure::not_verified(format!(
            "{model} came out another way than before, from an event between {equal_at} and \
             {differs_at} on"
        ))
        .try_this(
            "the read models were wrong before, or the ledger is another: check it with \
             `stella orch ledger verify`",
        ))
    }
}

async fn offline(storage: &StorageArgs) -> Result<RebuildReport, Failure> {
    let uri = storage.uri();
    let ledger = open_existing(&uri).await?;
    let feed = Feed::new(Arc::clone(&ledger));
    let projections =
        Projections::open(&storage.projections_dir(), ledger, feed).map_err(projection_failure)?;
    let bar = Progress::events("rebuilding", 0);
    let rebuilt = projections
        .rebuild(&storage.tenant, &|at: Folded| bar.set(at.next_seq, at.of.max(at.next_seq)))
        .await
        .map_err(projection_failure)?;
    projections.close().await;
    drop(bar);
    if rebuilt.next_seq == 0 {
        let what = format!("{uri} holds no ledger of tenant {}", storage.tenant);
        return Err(Failure::failed(what).try_this("name the right one with --tenant"));
    }
    let diverged = rebuilt.diverged.into_iter().map(|diverged| DivergenceView {
        model: diverged.model.to_string(),
        equal_at: diverged.equal_at,
        differs_at: diverged.differs_at,
    });
    Ok(RebuildReport { position: rebuilt.next_seq, diverged: diverged.collect() })
}

/// Read models that cannot be opened or folded.
fn projection_failure(error: ProjectionError) -> Failure {
    let what = error.to_string();
    match error {
        ProjectionError::InUse { .. } => Failure::failed(what)
            .try_this("let the running server do it: `stella orch projections rebuild --online`"),
        error if error.is_transient() => Failure::unavailable(what).try_this("try again later"),
        _ => Failure::failed(what),
    }
}
