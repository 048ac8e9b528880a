//! `cargo xtask with-mongod -- CMD ARGS…`: run a command beside a MongoDB replica set.

use std::{ffi::OsString, process::ExitCode};

use tokio::process::Command;

use crate::{
    Failure, child,
    mongod::{Server, URI_VARIABLE},
};

/// Run a command with MONGODB_URI set: to what it is already, or to a server started for it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Size of the started server's cache in GB.
    #[arg(long, default_value_t = 0.25)]
    cache_gb: f64,
    /// The command and its arguments. It ends with the command's exit code.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Failure> {
    let Some((program, rest)) = args.command.split_first() else {
        return Err("no command given".into());
    };
    let server = Server::find_or_start(args.cache_gb).await?;
    let mut command = Command::new(program);
    command.args(rest).env(URI_VARIABLE, server.uri());
    let status = child::run(command).await;
    server.stop().await?;
    Ok(child::exit_code(status?))
}
