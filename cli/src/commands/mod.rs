//! The commands, one file each: its arguments, its examples, what it does.

mod completions;
mod dag;
mod demo;
mod doctor;
mod erasing;
mod health;
mod ledger;
mod plugin;
pub(crate) mod plugin_host;
mod projections;
mod queue;
mod replay;
mod run;
mod schedule;
mod serve;
mod signing;
mod slo;
mod storage;
mod telemetry;
mod witness;
mod worker;

use clap::{Args, Subcommand};

use crate::{
    client::{Client, ServerArgs},
    failure::Failure,
    output::OutputArgs,
};

/// What `stella orch` can be told.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the main job, end to end, on real input.
    Demo(demo::Demo),
    /// Run a server on this machine.
    Serve(Box<serve::Serve>),
    /// Start, watch, cancel and compare runs.
    #[command(subcommand)]
    Run(run::Run),
    /// Register and look up DAGs.
    #[command(subcommand)]
    Dag(dag::Dag),
    /// Start runs at set times.
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    /// What waits for workers and why; hold it back.
    Queue(queue::Queue),
    /// The record: its head, exports, verification.
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// The read models, which are folded from the ledger.
    #[command(subcommand)]
    Projections(projections::Projections),
    /// Look at the past.
    #[command(subcommand)]
    Replay(replay::Replay),
    /// Logs, counters and traces as they follow from the ledger.
    #[command(subcommand)]
    Telemetry(telemetry::Telemetry),
    /// Make plugin bundles.
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Work off steps in a process of its own.
    #[command(subcommand)]
    Worker(worker::Worker),
    /// Cosign checkpoints of ledgers that others run.
    Witness(witness::Witness),
    /// How well the server is.
    Health(health::Health),
    /// How the objectives for runs stand.
    Slo(slo::Slo),
    /// Quick checks, each green or with what to do.
    Doctor(doctor::Doctor),
    /// Completions for a shell.
    Completions(completions::Completions),
    /// The process of a plugin that is part of this program.
    #[command(hide = true)]
    PluginHost(plugin_host::PluginHost),
}

/// What every command that talks to a server takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApiArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ApiArgs {
    fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.server)
    }
}

/// Do what was asked for.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(demo) => demo.run().await,
        Command::Serve(serve) => serve.run().await,
        Command::Run(command) => command.run().await,
        Command::Dag(command) => command.run().await,
        Command::Schedule(command) => command.run().await,
        Command::Queue(queue) => queue.run().await,
        Command::Ledger(command) => command.run().await,
        Command::Projections(command) => command.run().await,
        Command::Replay(command) => command.run().await,
        Command::Telemetry(command) => command.run().await,
        Command::Plugin(command) => command.run(),
        Command::Worker(command) => command.run().await,
        Command::Witness(witness) => witness.run().await,
        Command::Health(health) => health.run().await,
        Command::Slo(slo) => slo.run().await,
        Command::Doctor(doctor) => doctor.run().await,
        Command::Completions(completions) => completions.run(),
        // Taken care of before there is a runtime.
        Command::PluginHost(_) => Ok(()),
    }
}
