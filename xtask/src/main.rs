//! Chores of this repository: `cargo xtask <chore>`. One file a chore.

mod bench;
mod child;
mod fuzz;
mod mongod;
mod tamper;
mod test;
mod with_mongod;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a chore can fail with: a message for the person at the terminal.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of this repository", version)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    Bench(bench::Args),
    Fuzz(fuzz::Args),
    Tamper(tamper::Args),
    Test(test::Args),
    WithMongod(with_mongod::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Bench(args) => bench::run(args).await,
        Chore::Fuzz(args) => fuzz::run(args).await,
        Chore::Tamper(args) => tamper::run(&args),
        Chore::Test(args) => test::run(args).await,
        Chore::WithMongod(args) => with_mongod::run(args).await,
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("xtask: {failure}");
        ExitCode::FAILURE
    })
}
