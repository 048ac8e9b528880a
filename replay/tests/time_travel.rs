//! A run's state at any seq, from a live ledger and from files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, path::PathBuf};

use common::{CANCELLED, RETRIES, SUCCEEDS, fixture, golden, retries_and_a_cancel, tenant};
use stella_domain::aggregate::{RunStatus, StepPhase};
use stella_replay::time_travel::{RunView, ShowError, show, show_in_files};

fn file(name: &str) -> [PathBuf; 1] {
    [fixture(&format!("ledgers/{name}.ndjson"))]
}

fn at(name: &str, run: &str, seq: u64) -> Result<RunView, ShowError> {
    show_in_files(&file(name), &run.parse().unwrap(), seq)
}

fn phases(view: &RunView) -> Vec<(&str, StepPhase)> {
    view.steps.iter().map(|step| (step.step_id.as_str(), step.phase)).collect()
}

/// `seq` of the first event of this type.
fn seq_of(name: &str, event_type: &str) -> u64 {
    let needle = format!("\"type\":\"{event_type}\"");
    golden(name).lines().position(|line| line.contains(&needle)).unwrap() as u64
}

#[test]
fn a_run_is_shown_as_it_stood() {
    use StepPhase::{Queued, Succeeded, Waiting};
    let name = "a_run_that_succeeds";
    let succeeded = seq_of(name, "StepSucceeded");
    let before = at(name, SUCCEEDS, succeeded - 1).unwrap();
    assert_eq!(before.status, Some(RunStatus::Running));
    assert_eq!(before.steps[0].phase, StepPhase::Running);
    let next = before.next.unwrap();
    assert_eq!((next.seq, next.event_type.as_str()), (succeeded, "StepSucceeded"));
    assert!(next.payload.unwrap().as_str().contains("1e+21"));

    let view = at(name, SUCCEEDS, succeeded + 2).unwrap();
    assert!(view.spec_known);
    assert_eq!(phases(&view), [("a", Succeeded), ("b", Queued), ("c", Queued), ("d", Waiting)]);
    assert!(view.steps[0].outputs.as_ref().unwrap().as_str().starts_with("{\"echo\""));
    assert_eq!(view.steps[0].lease.as_ref().unwrap().worker_id.as_str(), "w-1");

    let end = at(name, SUCCEEDS, seq_of(name, "LedgerSealed")).unwrap();
    assert_eq!((end.status, &end.next), (Some(RunStatus::Succeeded), &None));
    assert_eq!(end.last_seq, Some(seq_of(name, "RunSucceeded")));
    let json: serde_json::Value = serde_json::to_value(&end).unwrap();
    assert_eq!(json["status"], "succeeded");
    assert_eq!(json["inputs"]["text"].as_str().unwrap().chars().next_back(), Some('😀'));
}

#[test]
fn live_and_exported_show_the_same_at_every_seq() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let story = retries_and_a_cancel();
        let ledger = story.in_sqlite(directory.path()).await;
        for run in [RETRIES, CANCELLED] {
            for seq in 0..=story.next_seq() {
                let live = show(&*ledger, &tenant(), &run.parse().unwrap(), seq).await;
                let exported = at("retries_and_a_cancel", run, seq);
                match (live, exported) {
                    (Ok(live), Ok(exported)) => assert_eq!(live, exported),
                    (live, exported) => {
                        assert_eq!(live.unwrap_err().to_string(), exported.unwrap_err().to_string())
                    }
                }
            }
        }
    });
}

#[test]
fn a_spec_before_the_window_leaves_what_the_events_say() {
    let text = golden("a_run_that_succeeds");
    let created = seq_of("a_run_that_succeeds", "RunCreated");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("window.ndjson");
    let window: String = text.split_inclusive('\n').skip(created as usize).collect();
    fs::write(&file, window).unwrap();
    let show = |seq| show_in_files(&[&file], &SUCCEEDS.parse().unwrap(), seq);
    let early = show(created + 1).unwrap();
    assert!(!early.spec_known);
    assert_eq!(phases(&early), [("a", StepPhase::Queued)]);
    let end = seq_of("a_run_that_succeeds", "RunSucceeded");
    let (cut, whole) = (show(end).unwrap(), at("a_run_that_succeeds", SUCCEEDS, end).unwrap());
    assert_eq!(cut.status, Some(RunStatus::Succeeded));
    assert_eq!(cut.steps, whole.steps);
    assert_eq!(cut.dag_digest, whole.dag_digest);
}

#[test]
fn what_is_not_there_is_said() {
    let name = "retries_and_a_cancel";
    let said = |result: Result<RunView, ShowError>| result.unwrap_err().to_string();
    let last = golden(name).lines().count() as u64 - 1;
    assert_eq!(
        said(at(name, SUCCEEDS, 3)),
        format!("no event of run {SUCCEEDS} is in seq 0 to {last}, which is all there is")
    );
    assert!(said(at(name, RETRIES, last + 1)).contains("is not there: the events go from 0 to"));
    assert!(said(at(name, CANCELLED, 6)).contains("did not exist at seq 6"));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("window.ndjson");
    let started = seq_of(name, "StepStarted");
    let window: String = golden(name).split_inclusive('\n').skip(started as usize).collect();
    fs::write(&file, &window).unwrap();
    let run = RETRIES.parse().unwrap();
    assert!(said(show_in_files(&[&file], &run, last)).contains("began before seq"));
    fs::write(&file, window.replacen("w-1", "w-2", 1)).unwrap();
    assert!(said(show_in_files(&[&file], &run, last)).contains("line 1: the content gives"));
    fs::write(&file, "").unwrap();
    assert_eq!(said(show_in_files(&[&file], &run, 0)), "there are no events");
}
