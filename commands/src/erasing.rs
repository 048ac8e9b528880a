//! Recording that payloads of a run are erased. Blanking them is not the write side's part: it has
//! no means to.

use std::{collections::HashSet, sync::Arc};

use stella_domain::{
    aggregate::{ErasureReason, LedgerCommand, LedgerRefusal, RunToErase},
    chain::StoredPayload,
    ids::{Actor, RunId, StreamId, Tenant},
    limits::{ERASED_SEQS, ERASURES_AT_ONCE},
    time::Timestamp,
};
use stella_ledger::{
    erasure::{self, Erasures},
    recorded::Recorded,
};

use crate::{CommandError, Commands, engine::Command, refusal::Refusal};

/// Erasures by other nodes that may be recorded while one is decided.
const OTHERS_MEANWHILE: usize = 64;

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
    /// again. Erasures before the version `unfinished_from` of the ledger's own stream are known to be
    /// carried out: what they named is not there any more.
    ///
    /// # Errors
    /// [`CommandError`]; among the refusals are unknown runs, and those that have not ended.
    pub async fn erase_run(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        run_id: &RunId,
        reason: ErasureReason,
        unfinished_from: u64,
    ) -> Result<ErasedRun, CommandError> {
        // One at a time here: each is decided again when another one is recorded before it.
        let _alone = self.shared.erasing.lock().await;
        let StoredRun { mut run, last_seq, blanked } = self.stored_run(tenant, run_id).await?;
        let mut own = Erasures::of(&*self.ledger, tenant, unfinished_from);
        let (mut recorded, mut replayed, mut all_named) = (vec![], true, false);
        // As many commits as it takes to name all, and one more decision that finds nothing left.
        let commits = run.payloads.len() / (ERASED_SEQS * ERASURES_AT_ONCE) + 2;
        for _ in 0..commits + OTHERS_MEANWHILE {
            loop {
                let page = own.next().await.map_err(crate::read_error)?;
                if page.is_empty() {
                    break;
                }
                page.iter().for_each(|r| r.erasures().for_each(|(_, e)| run.is_named_by(e)));
                recorded.extend(page.into_iter().filter(|recorded| is_of(recorded, run_id)));
            }
            run.as_of = own.reached() - 1;
            let (run, reason) = (Arc::new(run.clone()), reason.clone());
            let command = LedgerCommand::Erase { run, reason };
            match self.ledger_command(tenant, actor, command).await {
                Ok(Some(_)) => replayed = false,
                Ok(None) => all_named = true,
                Err(error) => match ledger_refusal(&error) {
                    Some(LedgerRefusal::ErasedMeanwhile(_)) => {}
                    // It may be gone because it was erased before.
                    Some(LedgerRefusal::NothingToErase(_)) if blanked => all_named = true,
                    Some(_) | None => return Err(error),
                },
            }
            if all_named {
                break;
            }
        }
        if !all_named {
            let refusal = LedgerRefusal::ErasedMeanwhile(run_id.clone());
            return Err(CommandError::Refused(Refusal::Ledger(refusal)));
        }
        if blanked {
            let all = erasure::of_run(&*self.ledger, tenant, run_id, last_seq).await;
            recorded = all.map_err(crate::read_error)?;
        }
        let of_run = recorded.iter().flat_map(|recorded| recorded.erasures());
        let of_run = of_run.filter(|(_, erased)| erased.run_id == *run_id);
        let named: HashSet<u64> = of_run.flat_map(|(_, erased)| erased.seqs.clone()).collect();
        let Some(last) = recorded.last() else {
            let refusal = LedgerRefusal::NothingToErase(run_id.clone());
            return Err(CommandError::Refused(Refusal::Ledger(refusal)));
        };
        Ok(ErasedRun {
            seq: last.commit.last_seq(),
            recorded_at: last.commit.recorded_at,
            payloads: named.len() as u64,
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

    async fn stored_run(&self, tenant: &Tenant, run_id: &RunId) -> Result<StoredRun, CommandError> {
        let stream = [StreamId::Run(run_id.clone())];
        let commits = self.ledger.read_streams(tenant, &stream).await.map_err(crate::read_error)?;
        let decoded = commits.into_iter().map(Recorded::decode).collect::<Result<Vec<_>, _>>();
        let history = decoded.map_err(|error| crate::read_error(error.into()))?;
        let mut payloads =
            history.iter().flat_map(|r| &r.commit.events).map(|event| &event.payload);
        let blanked = payloads.any(|payload| matches!(payload, StoredPayload::Erased(_)));
        let last_seq = history.last().map_or(0, |recorded| recorded.commit.last_seq());
        let history = history.iter().map(|recorded| (&*recorded.commit, &*recorded.events));
        let run = RunToErase::read(run_id.clone(), history);
        Ok(StoredRun { run, last_seq, blanked })
    }
}

/// A run as it is stored.
struct StoredRun {
    run: RunToErase,
    /// `seq` of its last event.
    last_seq: u64,
    /// Whether payloads of it are gone.
    blanked: bool,
}

fn is_of(recorded: &Recorded, run_id: &RunId) -> bool {
    recorded.erasures().any(|(_, erased)| erased.run_id == *run_id)
}

fn ledger_refusal(error: &CommandError) -> Option<&LedgerRefusal> {
    match error {
        CommandError::Refused(Refusal::Ledger(refusal)) => Some(refusal),
        _ => None,
    }
}
