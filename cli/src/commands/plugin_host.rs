//! `plugin-host`: the processes of plugins that are part of this program. Bundles name it; people
//! need not.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

/// Be a plugin: one JSON request on stdin, one JSON answer on stdout.
#[derive(Debug, Args)]
pub(crate) struct PluginHost {
    plugin: HostedPlugin,
}

/// The plugins that are part of this program and run as processes.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum HostedPlugin {
    /// What a Cargo.lock says about where a build comes from.
    SupplyChain,
}

/// The arguments that a bundle calls this executable with.
pub(crate) const SUPPLY_CHAIN_ARGS: [&str; 3] = ["orch", "plugin-host", "supply-chain"];

/// Be that plugin.
pub(crate) fn run(plugin: &PluginHost) -> ExitCode {
    match plugin.plugin {
        HostedPlugin::SupplyChain => stella_worker::supply_chain::main(),
    }
}
