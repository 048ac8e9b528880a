//! `plugin check`.

use std::path::PathBuf;

use clap::Args;
use ed25519_dalek::VerifyingKey;
use stella_worker::Bundle;

use crate::{commands::serve::verifying_key, failure::Failure, output::line};

/// Whether a server or a worker would load a bundle, and what it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch plugin check greet
  stella orch plugin check greet --plugin-key 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29")]
pub(crate) struct Check {
    /// The bundle's directory.
    dir: PathBuf,
    /// It has to be signed by this Ed25519 key, 64 hex digits; or by another, if there are several.
    #[arg(long, value_name = "HEX", value_parser = verifying_key)]
    plugin_key: Vec<VerifyingKey>,
}

impl Check {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let bundle = Bundle::load(&self.dir, &self.plugin_key);
        let bundle = bundle.map_err(|error| Failure::failed(error.to_string()))?;
        line(super::text(&bundle).trim_end())
    }
}
