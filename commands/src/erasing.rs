//! Recording that payloads of a run are erased. Blanking them is not the write side's part: it has
//! no means to.

use std::sync::Arc;

use stella_domain::{
    aggregate::{ErasureReason, LedgerCommand, RunToErase},
    ids::{Actor, RunId, StreamId, Tenant},
    limits::{ERASED_SEQS, ERASURES_AT_ONCE},
    time::Timestamp,
};
use stella_ledger::{erasure, recorded::Recorded};

use crate::{CommandError, Commands, engine::Command, unreadable};

/// An erasure as the ledger has recorded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasedRun {
    /// `seq` of its last `DataErased`.
    pub seq: u64,
    /// When that was recorded.
    pub recorded_at: Timestamp,
    /// Payloads that its events name.
    pub payloads: u64,
    /// Whether all of it was recorded before.
    pub replayed: bool,
}

impl Commands {
    /// Record that every payload of a run is erased. Idempotent: what was named once is not named
    /// again.
    ///
    /// # Errors
    /// [`CommandError`]; among the refusals are unknown runs, and those that have not ended.
    pub async fn erase_run(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        run_id: &RunId,
        reason: ErasureReason,
    ) -> Result<ErasedRun, CommandError> {
        let run = Arc::new(self.run_to_erase(tenant, run_id).await?);
        let mut replayed = true;
        // As many commits as it takes to name all, and one more that finds nothing left.
        for _ in 0..run.payloads.len() / (ERASED_SEQS * ERASURES_AT_ONCE) + 2 {
            let command = LedgerCommand::Erase { run: Arc::clone(&run), reason: reason.clone() };
            // Nearly always the first names all.
            if self.ledger_command(tenant, actor, command).await?.is_none() {
                break;
            }
            replayed = false;
        }
        let recorded = erasure::of_run(&*self.ledger, tenant, run_id).await;
        let recorded = recorded.map_err(crate::read_error)?;
        let of_run = |recorded: &Recorded| -> u64 {
            let of_run = recorded.erasures().filter(|(_, erased)| erased.run_id == *run_id);
            of_run.map(|(_, erased)| erased.seqs.len() as u64).sum()
        };
        let last = recorded.last().ok_or_else(|| {
            unreadable(format!("the erasure of run {run_id} was recorded and is not there"))
        })?;
        Ok(ErasedRun {
            seq: last.commit.last_seq(),
            recorded_at: last.commit.recorded_at,
            payloads: recorded.iter().map(|recorded| of_run(recorded)).sum(),
            replayed,
        })
    }

    /// Drop what is kept in memory of a run whose payloads have been blanked.
    ///
    /// # Errors
    /// [`CommandError::Write`].
    pub async fn forget_run(&self, tenant: &Tenant, run_id: &RunId) -> Result<(), CommandError> {
        let command = Command::Forget { run_id: run_id.clone() };
        self.writer.execute(tenant, command).await?.answer?;
        Ok(())
    }

    async fn run_to_erase(
        &self,
        tenant: &Tenant,
        run_id: &RunId,
    ) -> Result<RunToErase, CommandError> {
        let stream = [StreamId::Run(run_id.clone())];
        let commits = self.ledger.read_streams(tenant, &stream).await.map_err(crate::read_error)?;
        let decoded = commits.into_iter().map(Recorded::decode).collect::<Result<Vec<_>, _>>();
        let history = decoded.map_err(|error| crate::read_error(error.into()))?;
        let history = history.iter().map(|recorded| (&*recorded.commit, &*recorded.events));
        Ok(RunToErase::read(run_id.clone(), history))
    }
}
