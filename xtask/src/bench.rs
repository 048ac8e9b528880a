//! `cargo xtask bench`: the benchmark, on release builds.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::process::Command;

use crate::{Failure, child};

/// Measure the orchestrator on this machine: a table, and JSON in target/bench.json.
///
/// Takes about a quarter of an hour. Nothing else should run meanwhile.
#[derive(Parser)]
pub(crate) struct Args {
    /// Passed on to the benchmark; `-- --help` lists what it takes.
    #[arg(last = true)]
    args: Vec<String>,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut build = Command::new(child::cargo());
    build.args(["build", "--release", "--package", "stella-cli", "--package", "stella-bench"]);
    let status = child::run(build).await?;
    if !status.success() {
        return Ok(child::exit_code(status));
    }
    let target: PathBuf =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let release = target.join("release");
    let mut bench = Command::new(release.join("stella-bench"));
    bench.arg("--stella").arg(release.join("stella")).args(args.args);
    Ok(child::exit_code(child::run(bench).await?))
}
