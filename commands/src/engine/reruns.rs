//! Running again what has ended: attempt *n* + 1 of the same run, so that asking twice starts nothing
//! twice.

use stella_domain::{
    aggregate::{Run, RunRefusal},
    hash,
    ids::{Actor, RunId, Tenant},
    time::Timestamp,
};

use super::{Engine, NewRun, Outcome, refused};
use crate::refusal::Refusal;

/// The id that the rerun of a run has; `None` where the run does not exist.
pub(super) fn rerun_id(tenant: &Tenant, run_id: &RunId, run: &Run) -> Option<RunId> {
    let created = run.created.as_ref()?;
    let token = run.request.as_ref().and_then(|request| request.run_token.as_deref());
    let first = created.rerun_of.as_ref().unwrap_or(run_id);
    Some(hash::rerun_id(tenant, first, token, created.attempt + 1))
}

impl Engine {
    pub(super) fn rerun(
        &mut self,
        tenant: &Tenant,
        actor: &Actor,
        run_id: &RunId,
        dag_version: Option<u32>,
        reason: &str,
        at: Timestamp,
    ) -> Outcome {
        let cache = self.caches.tenant(tenant);
        let new = cache.run(run_id).ok_or(RunRefusal::Unknown).and_then(|run| {
            let created = run.created.as_ref().ok_or(RunRefusal::Unknown)?;
            if !run.status().is_some_and(|status| status.is_ended()) {
                return Err(RunRefusal::NotEnded);
            }
            let request = run.request.as_ref().ok_or(RunRefusal::InputsErased)?;
            let of = created.rerun_of.clone().unwrap_or_else(|| run_id.clone());
            let token = request.run_token.as_ref().and_then(|token| token.parse().ok());
            Ok(NewRun {
                run_id: rerun_id(tenant, run_id, run).ok_or(RunRefusal::Unknown)?,
                dag_id: created.dag_id.clone(),
                dag_version,
                inputs: request.inputs.clone(),
                given: None,
                labels: request.labels.clone(),
                priority: created.priority,
                run_token: token,
                attempt: created.attempt + 1,
                rerun_of: Some(of),
                reason: reason.to_owned(),
                // What its schedule fired for was the first run.
                schedule: None,
            })
        });
        match new {
            Ok(new) => self.start_run(tenant, actor, &new, at),
            Err(refusal) => refused(Refusal::Run(refusal)),
        }
    }
}
