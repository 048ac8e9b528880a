//! The `stella` binary.

mod args;
mod chain;
mod client;
mod commands;
mod exit;
mod failure;
mod input;
mod logging;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

use self::{args::Cli, failure::Failure};

/// Many small allocations from many threads: markedly cheaper here than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args::Program::Orch(orch) = Cli::parse().program;
    if let commands::Command::PluginHost(plugin) = &orch.command {
        // The plugin's own process: it needs no runtime, and its stdout carries nothing else.
        return commands::plugin_host::run(plugin);
    }
    logging::init(&orch.command);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(orch.command)),
        Err(error) => Err(Failure::failed(format!("cannot start threads: {error}"))),
    };
    failure::report(outcome)
}
