//! Command lines and files that are wrong: what is said, and the exit code.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use common::{outcome, outcome_with, stella};

#[test]
fn the_command_line_itself() {
    let nowhere = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&[], 2, "Usage"),
        (&["runs"], 2, "unrecognized subcommand"),
        (&["run", "start"], 2, "<DAG>"),
        (&["run", "start", "not an id"], 2, "not a valid dagId"),
        (&["run", "start", "x", "--input", "novalue"], 2, "KEY=VALUE"),
        (&["run", "start", "x", "--token", ""], 2, "1 to 256 characters"),
        (&["run", "start", "x", "--timeout", "5"], 2, "--wait"),
        (&["run", "start", "x", "--input", "n=9007199254740993"], 2, "beyond"),
        (&["run", "start", "x", "--inputs", "missing.json"], 2, "cannot read missing.json"),
        (&["run", "get", "short"], 2, "Crockford"),
        (&["run", "list", "--status", "odd"], 2, "possible values"),
        (&["run", "list", "--from", "yesterday"], 2, "is not a point in time"),
        (&["serve", "--listen", "0.0.0.0:0"], 2, "loopback"),
        (&["serve", "--listen", "here"], 2, "--listen"),
        (&["serve", "--ledger", "postgres://x"], 2, "write sqlite:PATH"),
        (&["serve", "--tenant", "Not_A_Tenant"], 2, "not a valid tenant"),
        (&["serve", "--plugin-key", "abc"], 2, "64 hex digits"),
        (&["serve", "--plugins", "missing"], 2, "cannot read missing"),
        (&["ledger", "verify"], 2, "BUNDLE"),
        (&["ledger", "verify", "missing.ndjson"], 2, "cannot read missing.ndjson"),
        (&["ledger", "verify", "--ledger", "sqlite:missing.db"], 1, "no ledger at missing.db"),
        (&["ledger", "copy", "--from", "sqlite:a", "--to", "sqlite:a"], 2, "same storage"),
        (&["projections", "rebuild"], 1, "there is no ledger at"),
        (&["replay", "show", "0RQ9CWTXP9BPJR3KTYEG0MB9FF"], 2, "--at"),
        (&["health", "--token-file", "missing"], 3, "stella orch serve"),
        (&["health", "--server", "https://example.org"], 2, "only http://"),
    ];
    for (args, code, text) in cases {
        let mut command = stella(args);
        command.current_dir(nowhere.path());
        outcome(command).expect(*code).says(text);
    }
    assert!(!nowhere.path().join("missing.db").exists(), "reading began a ledger");
}

#[test]
fn a_connection_string_with_a_password_is_not_repeated() {
    let mut command = stella(&["ledger", "init", "--help"]);
    command.env("STELLA_LEDGER", "mongodb://ann:s3cret@127.0.0.1:1/x");
    let help = outcome(command).expect(0);
    assert!(!help.stdout.contains("s3cret"), "{}", help.stdout);
    let uri =
        "mongodb://ann:s3cret@127.0.0.1:1/x?serverSelectionTimeoutMS=200&connectTimeoutMS=200";
    let said = outcome(stella(&["ledger", "init", "--ledger", uri])).expect(3);
    assert!(!said.stderr.contains("s3cret"), "{}", said.stderr);
}

#[test]
fn inputs_that_are_no_object() {
    let dir = tempfile::tempdir().unwrap();
    for (text, said) in [
        ("[1]", "a JSON object"),
        ("{\"a\":1,\"a\":2}", "duplicate member"),
        ("{\"a\":", "not acceptable JSON"),
        ("", "not acceptable JSON"),
    ] {
        let mut command = stella(&["run", "start", "x", "--inputs", "-"]);
        command.current_dir(dir.path());
        outcome_with(command, text).expect(2).says(said).says("stdin");
    }
    let file = dir.path().join("large.json");
    fs::write(&file, " ".repeat(1024 * 1024 + 1)).unwrap();
    let large = stella(&["run", "start", "x", "--inputs", file.to_str().unwrap()]);
    outcome(large).expect(2).says("larger than 1048576 bytes");
}

#[test]
fn exports_that_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.ndjson");
    for (text, said) in [("{}\n", "line 1"), ("\n", "the line is empty"), ("x", "line feed")] {
        fs::write(&file, text).unwrap();
        let verify = stella(&["ledger", "verify", file.to_str().unwrap()]);
        outcome(verify).expect(4).says(said).says("events.ndjson");
    }
}

#[test]
fn nobody_reads_the_output() {
    for args in [&["completions", "bash"][..], &["--help"], &["run", "--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = stella(args).stdout(writer).stderr(std::process::Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn the_exit_codes_are_in_the_help() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_stella")).arg("--help").output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    for code in (0..=6).chain(10..=13) {
        assert!(help.contains(&format!("\n  {code:<2} ")), "{help}");
    }
}
