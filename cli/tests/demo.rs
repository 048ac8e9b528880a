//! The demo, end to end on the embedded ledger, and the commands that it ends with.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, process::Command};

use common::{Server, outcome, repository, stella};

#[test]
fn it_shows_the_main_job_on_real_input() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("kept here");
    let mut command = stella(&["demo", "--out"]);
    command.arg(&out).current_dir(repository().join("cli/src"));
    let told = outcome(command).expect(0);
    for text in [
        "supply-chain-audit version 1",
        "report      succeeded",
        "crates in several versions",
        "nothing ran twice",
        "every hash and every link of the chain holds",
        "identical, folded from",
    ] {
        assert!(told.stdout.contains(text), "{text:?} is missing in:\n{}", told.stdout);
    }
    assert!(!told.stdout.contains('\u{1b}'), "colour although stdout is no terminal");

    // A server of ours takes the place of the one that the reader is told to start.
    let server = Server::start();
    let mut ran = 0;
    for line in told.stdout.lines().filter_map(|line| line.trim().strip_prefix("$ ")) {
        if line.ends_with(" orch serve") {
            continue;
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        server.point(&mut shell);
        outcome(shell).expect(0);
        ran += 1;
    }
    assert_eq!(ran, 5, "{}", told.stdout);

    let events = out.join("events.ndjson");
    let whole = fs::read_to_string(&events).unwrap();
    fs::write(&events, whole.replacen("supply-chain-audit", "supply-chain-audio", 1)).unwrap();
    let mut verify = stella(&["ledger", "verify"]);
    verify.arg(&events);
    outcome(verify).expect(4).says("line ").says("it was changed after it was recorded");
}

#[test]
fn without_a_lockfile_it_says_what_to_do() {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = stella(&["demo"]);
    command.current_dir(nowhere.path());
    outcome(command).expect(2).says("there is no Cargo.lock in").says("--lockfile FILE");
    let mut command = stella(&["demo", "--lockfile", "missing.lock"]);
    command.current_dir(nowhere.path());
    outcome(command).expect(2).says("missing.lock: No such file");
}

#[test]
fn a_run_that_fails_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let lockfile = dir.path().join("Cargo.lock");
    fs::write(&lockfile, "this is no lockfile").unwrap();
    let mut command = stella(&["demo", "--lockfile"]);
    command.arg(&lockfile);
    outcome(command).expect(5).says("inventory   failed: LOCKFILE_INVALID").says("not a valid");
}
