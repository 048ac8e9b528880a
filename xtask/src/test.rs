//! `cargo xtask test [-- FILTER]`: all tests of the workspace against a real MongoDB.

use std::{
    ffi::OsString,
    process::{ExitCode, Stdio},
};

use tokio::process::Command;

use crate::{
    Failure, child,
    mongod::{Server, URI_VARIABLE},
};

/// Memory is no concern of tests, and neighbours share the machine.
const CACHE_GB: f64 = 0.25;
const NEXTEST: &[&str] = &["nextest", "run", "--workspace", "--no-fail-fast"];

/// Run all tests against the replica set of MONGODB_URI, or one started for the run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to pass on to `cargo nextest run` (or `cargo test`), such as a part of a test's name.
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<OsString>,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Failure> {
    // First, because tests start the `stella` binary, and because it needs no server.
    let built = child::run(cargo(&["build", "--workspace", "--all-targets"])).await?;
    if !built.success() {
        return Ok(child::exit_code(built));
    }
    let server = Server::find_or_start(CACHE_GB).await?;
    let outcome = run_tests(&args.filter, &server.uri()).await;
    server.stop().await?;
    outcome
}

async fn run_tests(filter: &[OsString], uri: &str) -> Result<ExitCode, Failure> {
    let parts: &[&[&str]] = match (has_nextest().await, filter.is_empty()) {
        (true, true) => &[NEXTEST, &["test", "--doc", "--workspace", "--no-fail-fast"]],
        // A filter in nextest's language means nothing to the doc tests, which it does not run.
        (true, false) => &[NEXTEST],
        (false, _) => &[&["test", "--workspace", "--no-fail-fast"]],
    };
    // Everything runs even if the first part fails: one run shows all that is broken.
    let mut first_failure = None;
    for part in parts {
        let mut command = cargo(part);
        command.args(filter).env(URI_VARIABLE, uri);
        let status = child::run(command).await?;
        if !status.success() {
            first_failure.get_or_insert(status);
        }
    }
    Ok(first_failure.map_or(ExitCode::SUCCESS, child::exit_code))
}

/// cargo-nextest runs tests of all crates side by side; `cargo test` one crate after the other.
async fn has_nextest() -> bool {
    let mut command = cargo(&["nextest", "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(child::cargo());
    command.args(args);
    command
}
