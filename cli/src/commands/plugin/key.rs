//! `plugin key`.

use std::path::PathBuf;

use clap::Args;
use stella_domain::checkpoint::SigningKey;
use stella_ledger::checkpoints::keys;

use crate::{
    failure::Failure,
    output::{line, note},
};

/// Draw a key to sign bundles with into a new file, readable by its owner alone, and print its public
/// half.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch plugin key --out plugin-key")]
pub(crate) struct Key {
    /// The file, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Key {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let key = keys::create(&self.out).map_err(|error| Failure::usage(error.to_string()))?;
        line(public(&key))?;
        let file = self.out.display();
        note(format_args!("sign with it: stella orch plugin pack DIR --signing-key {file}"));
        Ok(())
    }
}

/// The public half as `--plugin-key` takes it: 64 hex digits.
pub(super) fn public(key: &SigningKey) -> String {
    hex::encode(key.verifying_key().as_bytes())
}
