//! `plugin pack`.

use std::path::PathBuf;

use clap::Args;
use stella_ledger::checkpoints::keys;
use stella_worker::pack::pack;

use crate::{
    failure::Failure,
    output::{line, note},
};

/// Make a bundle of a directory.
///
/// Its plugin.json says what the plugin is (docs/plugins.md). This puts every file below the
/// directory into it, each with its digest; what begins with a dot is left out. Everything else
/// stays as it is. With a key the bundle is signed; without one, a signature that was there goes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch plugin pack greet
  stella orch plugin pack greet --signing-key plugin-key")]
pub(crate) struct Pack {
    /// The directory.
    dir: PathBuf,
    /// Sign it with the key in this file, as `plugin key` makes one.
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
}

impl Pack {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let key = self.signing_key.as_deref().map(keys::read).transpose();
        let key = key.map_err(|error| Failure::usage(error.to_string()))?;
        let bundle =
            pack(&self.dir, key.as_ref()).map_err(|error| Failure::failed(error.to_string()))?;
        line(super::text(&bundle).trim_end())?;
        note(match &key {
            None => "not signed: it is taken where no --plugin-key is given".to_owned(),
            Some(key) => {
                format!("signed; take it with --plugin-key {}", super::key::public(key))
            }
        });
        Ok(())
    }
}
