//! What was found, judged. Pure.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use stella_api::types::{
    CheckReport, ComponentHealth, HealthStatus, ObjectiveView, RunView, SloReport,
};
use stella_domain::aggregate::RunStatus;

use crate::{commands::slo::budget_left, failure::Failure};

/// Runs of one DAG that fail with one code before somebody should look.
const FAILS_OFTEN: usize = 3;
/// What stands for the code of a run whose time was over.
const TIMED_OUT: &str = "its timeout";

/// One check, and what to do where it is not green.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) status: HealthStatus,
    pub(super) found: String,
    /// Empty where nothing is to be done.
    pub(super) remedy: String,
}

fn green(name: &str, found: impl Into<String>) -> Check {
    let (name, found) = (name.to_owned(), found.into());
    Check { name, status: HealthStatus::Green, found, remedy: String::new() }
}

fn yellow(name: &str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { status: HealthStatus::Yellow, remedy: remedy.into(), ..green(name, found) }
}

/// Whether the server answers, and to us.
pub(super) fn server(answer: Result<(), Failure>) -> Check {
    match answer {
        Ok(()) => green("server", "answers"),
        Err(Failure { what, next, .. }) => {
            Check { status: HealthStatus::Red, remedy: next, ..green("server", what) }
        }
    }
}

/// What could not be found out.
pub(super) fn unknown(name: &str, failure: Failure) -> Check {
    let Failure { what, next, .. } = failure;
    let remedy = if next.is_empty() { "try again in a moment".to_owned() } else { next };
    yellow(name, format!("cannot be found out: {what}"), remedy)
}

/// Who else may read the access token.
pub(super) fn token_file(file: &Path, mode: u32) -> Check {
    let shown = file.display();
    match mode & 0o077 {
        0 => green("token file", "only its owner may read it"),
        _ => yellow(
            "token file",
            format!("{shown} has the mode {mode:o}: others may read the access token"),
            format!(
                "chmod 600 {shown}; if somebody may have read it, remove it and restart the server, \
                 which makes a new one"
            ),
        ),
    }
}

/// A part of the node, as it judges itself.
pub(super) fn component(part: &ComponentHealth) -> Check {
    let remedy = match (part.status, part.name.as_str()) {
        (HealthStatus::Green, _) => "",
        (_, "ledger") => {
            "see what is found above; is the database up? look the stored ledger over with \
             `stella orch ledger fsck`"
        }
        (_, "checkpoints") => {
            "nothing is signed here, or not all witnesses cosigned: see \
             \"Checkpoints\" in docs/operations.md"
        }
        (_, "clock") => {
            "set the clocks; if they were wrong before: `stella orch ledger accept-clock-fault`"
        }
        (_, "artifacts") => {
            "bring it back: until then steps with logs, files or large values wait or fail; see \
             docs/artifacts.md"
        }
        (_, "projections") => {
            "wait if the number falls; if it does not: `stella orch projections rebuild --online`"
        }
        (_, "queue") => {
            "see why each step waits: `stella orch queue list`; let it go on: `stella orch queue \
             resume [--plugin P]`, `stella orch dag resume DAG`; where workers do not keep up: start \
             more, or raise their --concurrency; of a step that is stuck: `stella orch run logs \
             RUN --step STEP`, `stella orch run cancel RUN`"
        }
        (_, "workers") => "start one that has it: `stella orch worker start --name NAME`",
        (_, "schedulers") => {
            "see why: `stella orch schedule get NAME`; then `stella orch dag resume DAG`, \
             `stella orch schedule resume-all`, or `stella orch schedule clear NAME`"
        }
        (_, _) => "see docs/operations.md",
    };
    let (name, found) = (part.name.clone(), part.message.clone());
    Check { name, status: part.status, found, remedy: remedy.to_owned() }
}

/// Whether runs fail again and again: by DAG and code.
pub(super) fn failures(runs: &[RunView], hours: u64) -> Check {
    let mut counts = BTreeMap::<_, usize>::new();
    for run in runs {
        // A run that takes too long has no code.
        let code = match run.status {
            RunStatus::TimedOut => TIMED_OUT.to_owned(),
            _ => run.error_code.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        *counts.entry((run.dag_id.to_string(), code)).or_default() += 1;
    }
    let found = format!("{} runs failed within {hours} h", runs.len());
    let most = counts.iter().max_by_key(|(_, count)| **count);
    match most {
        Some(((dag, code), count)) if *count >= FAILS_OFTEN => yellow(
            "failures",
            format!("{found}, {count} of {dag} with {code}"),
            format!(
                "see them: `stella orch run list {}`; \
                 compare one with one that worked: `stella orch run compare A B`; if an \
                 older version worked, go back: `stella orch dag rollback {dag}`",
                match code.as_str() {
                    TIMED_OUT => format!("--status timedOut --dag {dag}"),
                    code => format!("--status failed --dag {dag} --error-code {code}"),
                }
            ),
        ),
        _ => green("failures", found),
    }
}

/// Whether the objectives for runs are met.
pub(super) fn objectives(report: &SloReport) -> Check {
    let said = |objective: &ObjectiveView| {
        format!("{} has {}", objective.name, budget_left(objective.budget_left))
    };
    let found: Vec<_> = report.objectives.iter().map(said).collect();
    let found = format!("{} of {} days", found.join(", "), report.period_days);
    let worst = report.objectives.iter().map(|objective| objective.status).max();
    match worst {
        None | Some(HealthStatus::Green) => green("objectives", found),
        // The server works: what is missed are people's objectives.
        Some(_) => yellow(
            "objectives",
            found,
            "see how fast: `stella orch slo`; which runs: `stella orch run list --status failed`",
        ),
    }
}

/// Whether the read models are what the ledger gives.
pub(super) fn projections(report: &CheckReport) -> Check {
    let found = format!("compared with a fresh fold of {} events", report.position);
    if report.identical {
        return green("read models", format!("identical, {found}"));
    }
    let differing = report.models.iter().filter(|model| !model.identical);
    let names: Vec<_> = differing.map(|model| model.model.as_str()).collect();
    let remedy = "see what differs: `stella orch projections check`; then \
                  `stella orch projections rebuild --online`";
    let found = format!("{found}: {} differ", names.join(", "));
    Check { status: HealthStatus::Red, ..yellow("read models", found, remedy) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn one_failure_is_no_pattern() {
        let run = |dag: &str, code: &str| -> RunView {
            serde_json::from_value(json!({
                "runId": "00000000000000000000000000", "dagId": dag, "dagVersion": 1,
                "dagDigest": "b3:0", "status": "failed", "attempt": 0, "priority": 0,
                "startedBy": "user:ann",
                "inputsHash": "b3:0", "labels": {}, "createdAt": "2026-01-01T00:00:00.000000Z",
                "createdSeq": 1, "lastSeq": 2, "errorCode": code, "stepsSucceeded": 0,
                "stepsFailed": 1, "stepsCancelled": 0, "retries": 0, "leaseExpiries": 0,
            }))
            .unwrap()
        };
        let mixed = [run("a", "X"), run("a", "Y"), run("b", "X")];
        assert_eq!(failures(&mixed, 24).status, HealthStatus::Green);
        let often = failures(&[&mixed[..], &[run("a", "X"), run("a", "X")]].concat(), 24);
        assert!(often.found.contains("3 of a with X"), "{often:?}");
        assert!(often.remedy.contains("--dag a --error-code X"), "{often:?}");
        // A run whose time was over has failed, too, and has no code to ask for.
        let late = RunView { status: RunStatus::TimedOut, error_code: None, ..run("a", "X") };
        let late = failures(&[late.clone(), late.clone(), late], 24);
        assert!(late.found.contains("3 of a with its timeout"), "{late:?}");
        assert!(late.remedy.contains("run list --status timedOut --dag a`"), "{late:?}");
    }

    #[test]
    fn whatever_is_not_green_has_a_remedy() {
        let parts = [
            "ledger",
            "checkpoints",
            "clock",
            "artifacts",
            "projections",
            "queue",
            "workers",
            "schedulers",
            "other",
        ];
        for name in parts {
            for status in [HealthStatus::Yellow, HealthStatus::Red] {
                let (name, message) = (name.to_owned(), "m".to_owned());
                let check = component(&ComponentHealth { name, status, message });
                assert!(!check.remedy.is_empty(), "{check:?}");
            }
        }
        assert_eq!(token_file(Path::new("t"), 0o600).status, HealthStatus::Green);
        assert!(token_file(Path::new("t"), 0o644).remedy.contains("chmod 600 t"));
        let away = server(Err(Failure::unavailable("away").try_this("start it")));
        assert_eq!((away.status, &*away.remedy), (HealthStatus::Red, "start it"));
    }
}
