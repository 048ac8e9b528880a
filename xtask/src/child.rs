//! Running commands: shown before they start, waited for, their exit codes passed on.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use crate::Failure;

/// The cargo that runs this chore.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Run `command` to its end; no time limit, since only its caller knows one.
///
/// Ctrl-C and SIGTERM end the command and not this process, so that what the chore has started
/// besides (a server) is stopped in order; that is a failure, so that the chore goes no further.
pub(crate) async fn run(mut command: Command) -> Result<ExitStatus, Failure> {
    let shown = show(&command);
    for variable in set_by_cargo_run() {
        command.env_remove(variable);
    }
    eprintln!("$ {shown}");
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = command.spawn().map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    let mut interrupted = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            // A terminal sends Ctrl-C to the command, too: it is in the same process group.
            _ = interrupt.recv() => interrupted = true,
            _ = terminate.recv() => {
                interrupted = true;
                end(&child)?;
            }
        }
    };
    if interrupted {
        return Err(format!("interrupted; `{shown}` ended with {status}").into());
    }
    Ok(status)
}

/// What `cargo run` tells this process about its package. A cargo started with it believes that
/// the inputs of some build scripts have changed, and rebuilds ring, rustls and mongodb each time.
fn set_by_cargo_run() -> impl Iterator<Item = OsString> {
    let own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    env::vars_os().map(|(name, _)| name).filter(move |name| name.to_str().is_some_and(own))
}

fn end(child: &Child) -> Result<(), Failure> {
    match child.id().and_then(|id| i32::try_from(id).ok()) {
        Some(id) => Ok(kill(Pid::from_raw(id), Signal::SIGTERM)?),
        None => Ok(()), // It has ended already.
    }
}

/// As a shell would say it: a signal is 128 and its number.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn show(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
