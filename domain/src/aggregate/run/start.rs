//! How a run begins, or is recognised as one that has begun.

use std::sync::Arc;

use super::{Run, RunRefusal, StartRun, advance::Advance};
use crate::{
    event::{Labels, RunCreated, RunEvent, RunRequest},
    hash,
    ids::DagId,
    limits::LABELS,
};

impl Run {
    pub(super) fn decide_start(&self, start: StartRun) -> Result<Vec<RunEvent>, RunRefusal> {
        let inputs_hash = hash::inputs_hash(&start.inputs);
        if let Some(have) = &self.created {
            let same = have.dag_id == *start.spec.id()
                && have.inputs_hash == inputs_hash
                && (!start.version_is_explicit || have.dag_version == start.dag_version);
            return if same { Ok(vec![]) } else { Err(token_conflict(have, &start, &inputs_hash)) };
        }
        check_labels(&start.labels)?;
        let given = start.given.as_ref().unwrap_or(&start.inputs);
        start.spec.check_inputs(given).map_err(|violations| RunRefusal::InputsInvalid {
            dag_id: start.spec.id().clone(),
            violations,
        })?;
        let dag_id = start.spec.id();
        let concurrency = start.spec.concurrency();
        let concurrency =
            concurrency.map(|concurrency| concurrency.of_run(dag_id, &start.inputs)).transpose();
        let concurrency = concurrency.map_err(|violation| RunRefusal::InputsInvalid {
            dag_id: dag_id.clone(),
            violations: violation.into(),
        })?;
        let created = RunCreated {
            attempt: start.attempt,
            concurrency,
            dag_digest: start.spec.digest().to_owned(),
            dag_id: start.spec.id().clone(),
            dag_version: start.dag_version,
            deadline: start.spec.timeout_ms().map(|ms| start.now.plus_ms(ms)),
            inputs_hash,
            priority: start.priority,
            rerun_of: start.rerun_of,
            schedule: start.schedule,
            spec: Some(Arc::clone(&start.spec)),
        };
        let request = RunRequest {
            inputs: start.inputs,
            labels: start.labels,
            reason: Some(start.reason).filter(|reason| !reason.is_empty()),
            run_token: start.run_token.map(|token| token.to_string()),
        };
        let created = RunEvent::RunCreated(Box::new(created), Some(Box::new(request)));
        let mut run = Self::default();
        run.fold(&created);
        let mut advance = Advance::new(&run, start.now)?;
        advance.push(created);
        run.ready.iter().for_each(|root| advance.reach(*root));
        Ok(advance.finish())
    }
}

/// Names stay within ASCII also because canonical JSON sorts members by UTF-16 units and a map of
/// Rust strings by bytes, which is the same order only there.
fn check_labels(labels: &Labels) -> Result<(), RunRefusal> {
    let fits = |name: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
        (1..=64).contains(&name.len()) && name.bytes().all(allowed)
    };
    let surplus = labels.keys().nth(LABELS);
    match labels.keys().find(|name| !fits(name)).or(surplus) {
        Some(name) => Err(RunRefusal::LabelRefused(name.chars().take(80).collect())),
        None => Ok(()),
    }
}

fn token_conflict(have: &RunCreated, start: &StartRun, inputs_hash: &str) -> RunRefusal {
    let say = |dag: &DagId, version: u32, inputs: &str| {
        format!("DAG {dag} version {version} with inputs {inputs}")
    };
    RunRefusal::TokenConflict {
        have: say(&have.dag_id, have.dag_version, &have.inputs_hash),
        asked: say(start.spec.id(), start.dag_version, inputs_hash),
    }
}
