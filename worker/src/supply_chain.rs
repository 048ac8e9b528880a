//! The demo's plugin `supply-chain`: what a `Cargo.lock` says about where a build comes from.
//!
//! It runs as a process like any other plugin: [`write_bundle`] makes a bundle of an executable
//! that calls [`main`].

mod bundle;
mod lockfile;
mod report;

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use serde_json::Value;
use stella_domain::json;

pub use self::bundle::{WriteError, write_bundle};
use crate::protocol::{Answer, ErrorAnswer, Request};

/// The plugin's name.
pub const PLUGIN: &str = "supply-chain";

/// Bytes that a request may have: inputs are at most an event's payload, 64 KiB.
const MAX_REQUEST_BYTES: u64 = 1024 * 1024;

/// Why an action failed. Another attempt with the same inputs fails as well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// There is no such action.
    #[error("supply-chain has no action {0:?}")]
    UnknownAction(String),
    /// The inputs do not fit the action.
    #[error("the inputs do not fit the action: {0}")]
    Inputs(String),
    /// The lockfile cannot be read.
    #[error("cannot read the lockfile {path:?}: {reason}")]
    LockfileUnreadable {
        /// As given in the inputs.
        path: String,
        /// Why.
        reason: String,
    },
    /// The file is no lockfile.
    #[error("{path:?} is not a valid Cargo.lock: {reason}")]
    LockfileInvalid {
        /// As given in the inputs.
        path: String,
        /// Why.
        reason: String,
    },
    /// The lockfile is not the one that an earlier step looked at.
    #[error("{path:?} has changed since the inventory: it has digest {found}, it had {expected}")]
    LockfileChanged {
        /// As given in the inputs.
        path: String,
        /// What the inputs say.
        expected: String,
        /// What the file has.
        found: String,
    },
}

impl ActionError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownAction(_) => "UNKNOWN_ACTION",
            Self::Inputs(_) => "INPUTS_INVALID",
            Self::LockfileUnreadable { .. } => "LOCKFILE_UNREADABLE",
            Self::LockfileInvalid { .. } => "LOCKFILE_INVALID",
            Self::LockfileChanged { .. } => "LOCKFILE_CHANGED",
        }
    }
}

/// Carry out `action`: `inventory`, `duplicates`, `sources` and `checksums` over
/// `{lockfile, lockfileDigest?}`, `report` over the outputs of those four.
///
/// # Errors
/// [`ActionError`].
pub fn run(action: &str, inputs: Value) -> Result<Value, ActionError> {
    match action {
        "inventory" => Ok(lockfile::read(inputs)?.inventory()),
        "duplicates" => Ok(lockfile::read(inputs)?.duplicates()),
        "sources" => Ok(lockfile::read(inputs)?.sources()),
        "checksums" => Ok(lockfile::read(inputs)?.checksums()),
        "report" => report::report(inputs),
        other => Err(ActionError::UnknownAction(other.to_owned())),
    }
}

/// The plugin's process: one request on stdin, one answer on stdout.
pub fn main() -> ExitCode {
    match answer().and_then(|answer| {
        let mut line = serde_json::to_vec(&answer).map_err(io::Error::other)?;
        line.push(b'\n');
        io::stdout().write_all(&line)
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Stderr is the step's log.
            let _ = writeln!(io::stderr(), "supply-chain: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> io::Result<Answer> {
    let mut text = String::new();
    io::stdin().take(MAX_REQUEST_BYTES).read_to_string(&mut text)?;
    json::parse_i_json(&text).map_err(io::Error::other)?;
    let request: Request = serde_json::from_str(&text).map_err(io::Error::other)?;
    let _ = writeln!(io::stderr(), "supply-chain: {} begins", request.action);
    Ok(match run(&request.action, request.inputs.to_value()) {
        Ok(outputs) => Answer::Outputs(outputs),
        Err(error) => Answer::Error(ErrorAnswer {
            code: error.code().into(),
            message: error.to_string(),
            retryable: false,
        }),
    })
}
