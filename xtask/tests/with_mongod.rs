//! `cargo xtask with-mongod` as scripts use it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn with_mongod(script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["with-mongod", "--", "sh", "-c", script]).env_remove("MONGODB_URI");
    command
}

/// Whether the server of this connection string accepts connections.
fn listens(uri: &str) -> bool {
    let address = uri.strip_prefix("mongodb://").unwrap().split('/').next().unwrap();
    TcpStream::connect(address).is_ok()
}

#[test]
fn starts_a_server_passes_the_exit_code_on_and_stops_the_server() {
    let output = with_mongod("echo \"$MONGODB_URI\"; exit 7").output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let uri = String::from_utf8(output.stdout).unwrap();
    assert!(uri.trim().ends_with("/?replicaSet=rs0"), "{uri}");
    assert!(!listens(uri.trim()));
}

#[test]
fn takes_the_server_that_is_there() {
    let given = "mongodb://name:secret@db.invalid/";
    let output = with_mongod("echo \"$MONGODB_URI\"").env("MONGODB_URI", given).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), given);
    assert!(!String::from_utf8(output.stderr).unwrap().contains("secret"));
}

#[test]
fn a_termination_ends_the_command_and_the_server() {
    let mut chore = with_mongod("echo \"$MONGODB_URI\"; exec sleep 600")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut uri = String::new();
    BufReader::new(chore.stdout.take().unwrap()).read_line(&mut uri).unwrap();
    assert!(listens(uri.trim()));

    kill(Pid::from_raw(chore.id() as i32), Signal::SIGTERM).unwrap();
    assert!(!chore.wait().unwrap().success());
    assert!(!listens(uri.trim()));
    let mut message = String::new();
    chore.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert!(message.contains("xtask: interrupted"), "{message}");
}
