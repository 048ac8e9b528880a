//! The `stella` binary under test.

use std::{path::PathBuf, process::Output};

use tokio::process::Command;

use crate::PATIENCE;

/// Names the binary, where it is not the one that this workspace builds.
const VARIABLE: &str = "STELLA_BIN";

/// The binary: `STELLA_BIN`, else the one beside this test's own, which `cargo xtask test` has
/// built; built now where it is missing.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return path.into();
    }
    let own = std::env::current_exe().unwrap();
    // <target>/<profile>/deps/<test>
    let beside = own.parent().and_then(|deps| deps.parent()).unwrap().join("stella");
    if !beside.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = std::process::Command::new(cargo)
            .args(["build", "--package", "stella-cli", "--bin", "stella"])
            .status()
            .unwrap();
        assert!(built.success() && beside.exists(), "{} could not be built", beside.display());
    }
    beside
}

/// `stella orch` with these arguments, without what the environment says about a server.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("orch").args(args).kill_on_drop(true);
    for variable in [
        "STELLA_LEDGER",
        "STELLA_DATA_DIR",
        "STELLA_SERVER",
        "STELLA_TOKEN_FILE",
        "STELLA_SIGNING_KEY",
        "STELLA_ERASURE_LEDGER",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Run `stella orch ARGS`, and expect this exit code; answers what it printed.
#[track_caller]
pub fn run(args: &[&str], code: i32) -> impl Future<Output = String> {
    expect(command(args), code)
}

/// Run `stella orch ARGS`, and expect this exit code; answers what it said on standard error.
#[track_caller]
pub fn fails(args: &[&str], code: i32) -> impl Future<Output = String> {
    let ended = ended(command(args), code);
    async { ended.await.1 }
}

/// Run `command`, and expect this exit code; answers what it printed.
#[track_caller]
pub fn expect(command: Command, code: i32) -> impl Future<Output = String> {
    let ended = ended(command, code);
    async { ended.await.0 }
}

#[track_caller]
fn ended(mut command: Command, code: i32) -> impl Future<Output = (String, String)> {
    let at = std::panic::Location::caller();
    async move {
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("at {at}: {command:?} does not end"));
        let Output { status, stdout, stderr } = output.unwrap();
        let stdout = String::from_utf8(stdout).unwrap();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!(status.code(), Some(code), "at {at}: {command:?}\n{stdout}\n{stderr}");
        (stdout, stderr)
    }
}
