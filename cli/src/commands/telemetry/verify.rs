//! `telemetry verify`.

use std::path::PathBuf;

use clap::Args;
use stella_replay::telemetry::{CheckError, check};

use super::manifest_text;
use crate::{failure::Failure, output::OutputArgs};

/// Check that every file of an export is what its manifest says, to the byte.
///
/// No server is asked. Exit code 4 when something was changed, is missing or was added. Who can change the
/// files can write another manifest, too: compare its SHA-256 with the one that the export printed, or
/// export the window again, which gives the same bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch telemetry verify tonight
  stella orch telemetry verify tonight -o json")]
pub(crate) struct Verify {
    /// The directory that `telemetry export` wrote.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl Verify {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let manifest = check(&self.dir).map_err(|error| {
            let what = error.to_string();
            match error {
                CheckError::Io { source, .. } if source.kind() != std::io::ErrorKind::NotFound => {
                    Failure::failed(what)
                }
                _ => Failure::not_verified(what)
                    .try_this("export the window again: it gives the same bytes each time"),
            }
        })?;
        self.output.print(&manifest, |manifest| {
            format!("every file is as its manifest says\n{}", manifest_text(manifest))
        })
    }
}
