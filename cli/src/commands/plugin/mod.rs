//! `plugin`: making bundles.

mod check;
mod key;
mod pack;

use clap::Subcommand;
use stella_worker::Bundle;

use crate::{failure::Failure, output::details};

/// Make plugin bundles, sign and check them. No server is asked.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stella orch plugin pack greet
  stella orch plugin check greet")]
pub(crate) enum Plugin {
    /// Put the digests of a plugin's files into its plugin.json, and sign it.
    Pack(pack::Pack),
    /// Whether a bundle would be loaded.
    Check(check::Check),
    /// Draw a key to sign bundles with.
    Key(key::Key),
}

impl Plugin {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Pack(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Key(command) => command.run(),
        }
    }
}

/// What a bundle is.
fn text(bundle: &Bundle) -> String {
    let manifest = bundle.manifest();
    let actions: Vec<&str> = manifest.actions.keys().map(String::as_str).collect();
    details(&[
        ("plugin", format!("{} {}", manifest.name, manifest.version)),
        ("actions", actions.join(", ")),
        ("files", manifest.files.len().to_string()),
        ("digest", bundle.digest().to_owned()),
    ])
}
