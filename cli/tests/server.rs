//! A server and the commands that talk to it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _};

use common::{Server, outcome, outcome_with, stella, until};

const HELLO: &str = include_str!("../../fixtures/dags/hello.yaml");
const RELEASE: &str = include_str!("../../fixtures/dags/release.yaml");
const SLOW: &str = r#"{"id":"slow","steps":[
    {"id":"wait","plugin":"core","action":"sleep","with":{"ms":600000},"timeout":"1h"}]}"#;
const FAILING: &str = r#"{"id":"failing","steps":[
    {"id":"break","plugin":"core","action":"fail","with":{"code":"BROKEN","message":"as told","retryable":false}}]}"#;

fn started(server: &Server, args: &[&str]) -> String {
    let started = server.run(&[&["run", "start"], args, &["-o", "json"]].concat());
    started.json()["runId"].as_str().unwrap().to_owned()
}

#[test]
fn a_run_from_start_to_proof() {
    let server = Server::start();
    server.apply(HELLO);
    let label = ["hello", "--input", "name=Ann", "--label", "team=x", "--token", "t"];
    let run = started(&server, &[&label[..], &["--wait"]].concat());
    server.run(&["run", "get", &run]).expect(0).says("succeeded").says("team=x");
    server.run(&["run", "list", "--label", "team=x", "--status", "succeeded"]).expect(0).says(&run);
    server.run(&["run", "list", "--label", "team=y"]).expect(0).says("no runs");
    let steps = server.run(&["run", "steps", &run, "-o", "json"]).expect(0).json();
    assert_eq!(steps[1]["outputs"]["text"], "hello Ann, and once more");
    let ends_itself = server.run(&["run", "stream", &run]).expect(0);
    assert_eq!(ends_itself.stdout.lines().count(), 8, "{ends_itself:#?}");
    ends_itself.says("checked: 8 events give their hashes; 7 links to the event before hold, with");
    let chain = ["run", "stream", &run, "--label", "team=x", "--status", "succeeded", "--chain"];
    let chain = server.run(&chain).expect(0).says("; 6 more by their headers; 7 links");
    assert_eq!(chain.stdout.lines().count(), 2, "{chain:#?}");
    let filtered = server.run(&["run", "stream", &run, "--type", "RunSucceeded", "-o", "json"]);
    assert_eq!(filtered.expect(0).json()["header"]["type"], "RunSucceeded");
    server.run(&["run", "ledger", &run]).expect(0).says("RunSucceeded");
    server
        .run(&["run", "start", "hello", "--input", "name=Ann", "--token", "t"])
        .expect(0)
        .says(&run);

    let other = started(&server, &["hello", "--input", "name=Bob", "--wait"]);
    let compared = server.run(&["run", "compare", &run, &other]).expect(0);
    compared.says("they first differ in inputsHash").says("/text: ");
    let compared = server.run(&["run", "compare", &run, &run, "-o", "json"]).expect(0).json();
    assert_eq!(compared["verdict"], "same");

    server.run(&["queue"]).expect(0).says("plugin core");
    server.run(&["health"]).expect(0).says("green");
    server.run(&["slo"]).expect(0).says("ends well").says("ends within 5 min 0 s");
    let doctor = server.run(&["doctor", "--thorough", "-o", "json"]).expect(0).json();
    let doctor = doctor.as_array().unwrap();
    assert!(doctor.iter().all(|check| check["status"] == "green"), "{doctor:#?}");
    assert!(doctor.len() >= 10, "{doctor:#?}");
    server.run(&["dag", "get", "hello"]).expect(0).says("${inputs.name}");
    let validate = ["dag", "validate", "-"];
    let valid = outcome_with(server.command(&validate), HELLO).expect(0);
    valid.says("hello is valid: 2 steps, b3:");
    let unknown = HELLO.replace("plugin: core", "plugin: corr");
    let wrong = outcome_with(server.command(&validate), &unknown).expect(1);
    wrong.says("steps[0].plugin").says("steps[1].plugin");
    let status = server.run(&["projections", "status", "-o", "json"]).expect(0).json();
    assert_eq!(status["version"], stella_projections::PROJECTION_VERSION);
    server.run(&["projections", "status"]).expect(0).says("events behind");
    server.run(&["ledger", "accept-clock-fault", "--reason", "test"]).expect(0);
    server.run(&["projections", "check"]).expect(0).says("identical");
    server.run(&["projections", "rebuild", "--online"]).expect(0).says("rebuilt from");
    server.run(&["ledger", "seal", "--reason", "test"]).expect(0);
    let file = server.dir.path().join("events.ndjson");
    server.run(&["ledger", "export", "--file", file.to_str().unwrap()]).expect(0);
    let exported = server.run(&["ledger", "export"]).expect(0).says("ClockFaultAccepted");
    assert_eq!(exported.stdout, fs::read_to_string(&file).unwrap());
    let file = file.to_str().unwrap();
    let verified = outcome(stella(&["ledger", "verify", file, "-o", "json"])).expect(0).json();
    assert_eq!(verified["events"], exported.stdout.lines().count());
    outcome(stella(&["replay", "show", &run, "--at", "5", "--file", file]))
        .expect(0)
        .says("next: seq 6 StepSucceeded");
    server.run(&["replay", "show", &run, "--at", "5"]).expect(0).says("next: seq 6 StepSucceeded");
}

/// Every member of a DAG spec: retries, a condition, a tolerated failure, a list, an approval, and
/// what the run gives.
#[test]
fn a_release_is_checked_part_by_part_and_shipped_when_somebody_says_so() {
    let server = Server::start();
    server.apply(RELEASE);
    let inputs = r#"{"parts":["door","wheel","lamp"]}"#;
    let start = ["run", "start", "release", "--inputs", "-", "-o", "json"];
    let start = outcome_with(server.command(&start), inputs).expect(0).json();
    let run = start["runId"].as_str().unwrap();
    let asks = until("an approval is asked for", || {
        let steps = server.run(&["run", "steps", run]).expect(0);
        steps.stdout.contains("awaitingApproval").then_some(steps)
    });
    asks.says("Ship it all the same?").says("NO_ADVISORIES").says("skipped").says("check.2");
    server.run(&["run", "approve", run, "ship"]).expect(1).says("waits for no operator");
    server.run(&["run", "approve", run, "confirm", "--reason", "as agreed"]).expect(0);
    server.run(&["run", "approve", run, "confirm"]).expect(0);
    server.run(&["run", "reject", run, "confirm"]).expect(1).says("approved already");
    server
        .run(&["run", "get", run, "--wait"])
        .expect(0)
        .says(r#""checked":[{"part":"door","place":0},"#)
        .says(r#""lint":null"#)
        .says("shipped door and what came with it")
        .says("1 failed, 0 cancelled, 1 skipped; 1 retries");
    let who = server.run(&["run", "ledger", run, "-o", "json"]).expect(0);
    let approved = who.stdout.lines().find(|line| line.contains("\"StepApproved\"")).unwrap();
    assert!(approved.contains("\"actor\":\"user:"), "{approved}");
    assert!(approved.contains("as agreed"), "{approved}");
    server.run(&["projections", "check"]).expect(0).says("identical");
    server.run(&["ledger", "erase", run, "--reason", "somebody asked", "--yes"]).expect(0);
    let gone = server.run(&["run", "get", run]).expect(0).says("erased");
    assert!(!gone.stdout.contains("door"), "{gone:#?}");
}

/// What somebody on call types to look, each with something of what it has to say.
#[test]
fn everything_that_shows_something_shows_it() {
    let server = Server::start();
    server.apply(RELEASE);
    server.apply(HELLO);
    server
        .run(&[
            "schedule",
            "create",
            "daily",
            "--dag",
            "hello",
            "--cron",
            "0 3 * * *",
            "--input",
            "name=Bea",
        ])
        .expect(0);
    let start = ["run", "start", "release", "--inputs", "-", "-o", "json"];
    let start = outcome_with(server.command(&start), r#"{"parts":["door"]}"#).expect(0).json();
    let run = start["runId"].as_str().unwrap();
    until("an approval is asked for", || {
        let asked = server.run(&["run", "approvals"]).expect(0);
        asked.stdout.contains(run).then_some(())
    });
    server.run(&["queue", "pause", "--reason", "to look"]).expect(0);
    server.run(&["run", "start", "hello", "--input", "name=Ann"]).expect(0);
    for (command, says) in [
        (&["queue", "why", run][..], "APPROVAL"),
        (&["queue"], "dag hello"),
        (&["queue", "list"], "to look"),
        (&["schedule", "list"], "0 3 * * * UTC"),
        (&["schedule", "get", "daily"], "catch up"),
        (&["worker", "list"], "core"),
        (&["worker", "warm", "--reason", "to see"], "asked:"),
        (&["dag", "versions", "hello"], "active"),
        (&["dag", "activate", "hello", "--dag-version", "1"], "nothing to change"),
        (&["run", "artifacts", run], "name no artifacts"),
        (&["slo"], "ends well"),
        (&["health"], "to look"),
        (&["doctor"], "objectives"),
        (&["run", "ledger", run], "ApprovalRequested"),
        (&["run", "receipt", run], "checkpoint"),
        (&["ledger", "head"], "hash"),
    ] {
        server.run(command).expect(0).says(says);
    }
}

#[test]
fn what_was_waited_for_decides_the_exit_code() {
    let server = Server::start();
    server.apply(SLOW);
    server.apply(FAILING);
    server.run(&["run", "start", "failing", "--wait"]).expect(5).says("BROKEN in step break");
    let run = started(&server, &["slow"]);
    server.run(&["run", "get", &run, "--wait", "--timeout", "1"]).expect(6).says("has not ended");
    server.run(&["run", "cancel", &run, "--reason", "enough"]).expect(0);
    server.run(&["run", "get", &run, "--wait"]).expect(5).says("cancelled");
}

#[test]
fn refusals_say_what_was_wrong_and_where() {
    let server = Server::start();
    server.apply(HELLO);
    server.run(&["run", "start", "hello", "--input", "name=A", "--token", "t"]).expect(0);
    server
        .run(&["run", "start", "hello", "--input", "name=B", "--token", "t"])
        .expect(1)
        .says("RUN_TOKEN_CONFLICT");
    let wrong = ["run", "start", "hello", "--input", "name=5", "--input", "more=x"];
    server.run(&wrong).expect(1).says("INPUTS_INVALID").says("\n  name: ").says("more");
    server.run(&["run", "start", "nothing"]).expect(1).says("DAG_NOT_FOUND").says("dag apply");
    server.run(&["run", "start", "hello", "--dag-version", "9"]).expect(1).says("version");
    server.run(&["run", "get", "0RQ9CWTXP9BPJR3KTYEG0MB9FF"]).expect(1).says("there is no run");
    server.run(&["ledger", "export", "--to", "2999-01-01"]).expect(1).says("WINDOW_OPEN");
    server
        .run(&["ledger", "export", "--from", "2026-02-02", "--to", "2026-01-01"])
        .expect(1)
        .says("swap them");
    let spec = "id: x\nsteps: [{id: a, plugin: core, action: noop, needs: [b]}, {id: a}]\nmore: 1";
    outcome_with(server.command(&["dag", "apply", "-"]), spec)
        .expect(1)
        .says("\n  steps[0].needs[0]: ")
        .says("\n  more: ");
    server.run(&["dag", "list"]).expect(0).says("hello");
    let data_dir = server.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    outcome(stella(&["projections", "rebuild", "--data-dir", data_dir])).expect(1).says("--online");
    outcome(stella(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir]))
        .expect(1)
        .says("another server runs on it");
    let mut stranger = server.command(&["health"]);
    let token = server.dir.path().join("other-token");
    fs::write(&token, "0".repeat(64)).unwrap();
    stranger.env("STELLA_TOKEN_FILE", &token);
    outcome(stranger).expect(1).says("--token-file");
}

#[test]
fn a_server_ends_in_good_order_and_goes_on_where_it_was() {
    let server = Server::start();
    let token = fs::metadata(server.data_dir().join("token")).unwrap();
    assert_eq!(token.permissions().mode() & 0o777, 0o600);
    server.apply(HELLO);
    let ready = server.dir.path().join("ready");
    let data_dir = server.data_dir();
    let kept = tempfile::tempdir().unwrap();
    let (url, ledger) = (server.url.clone(), kept.path().join("ledger.db"));
    let sqlite = |path: &std::path::Path| format!("sqlite:{}", path.display());
    let copy = ["ledger", "copy", "--from", &sqlite(&data_dir.join("ledger.db")), "--to"];
    outcome(stella(&[&copy[..], &[&sqlite(&ledger)]].concat())).expect(0).says("main");
    assert!(ready.exists());
    assert_eq!(server.stop(), 0);

    outcome(stella(&["ledger", "verify", "--ledger", &sqlite(&ledger)])).expect(0).says("holds");
    let rebuilt = ["projections", "rebuild", "--data-dir", kept.path().to_str().unwrap()];
    outcome(stella(&rebuilt)).expect(0).says("rebuilt from 3 events");
    let mut gone = stella(&["health", "--server", &url]);
    gone.env("STELLA_TOKEN_FILE", kept.path().join("token"));
    fs::write(kept.path().join("token"), "0".repeat(64)).unwrap();
    outcome(gone).expect(3).says("cannot reach the server").says("stella orch serve");
    fs::set_permissions(kept.path().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut gone = stella(&["doctor", "--server", &url]);
    gone.env("STELLA_TOKEN_FILE", kept.path().join("token"));
    outcome(gone).expect(3).says("red").says("stella orch serve").says("chmod 600");
}
