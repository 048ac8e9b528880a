//! `ledger key`: the keys that sign checkpoints.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use stella_api::types::{RotateKeyBody, SigningKeys};
use stella_domain::{
    checkpoint::{PinnedKey, SigningKey, VerifierKey, WitnessKey},
    ids::{LedgerId, Origin, Tenant},
};
use stella_ledger::checkpoints::keys::{self, KeyError};

use crate::{
    commands::ApiArgs,
    failure::Failure,
    output::{line, note},
};

/// The keys that sign checkpoints. A verifier key is what auditors pin; give it to them by a way
/// of its own. The signing key itself never leaves the machine that signs.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stella orch ledger key generate --out signing-key
  stella orch ledger key show")]
pub(crate) enum Key {
    /// Draw a signing key into a file, and print its verifier key.
    Generate(Generate),
    /// The verifier keys of the server's ledger, or the one of a key file.
    Show(Show),
    /// Have another key sign from here on.
    Rotate(Rotate),
}

/// Draw a signing key into a new file, readable by its owner alone, and print its verifier key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger key generate --out signing-key
  stella orch ledger key generate --out signing-key --origin example.org --tenant acme
  stella orch ledger key generate --out witness-key --witness witness.example.org/w1")]
pub(crate) struct Generate {
    /// The file, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    name: LedgerName,
}

/// The verifier keys that auditors pin. Of a key file, without a server; else those of the
/// server's ledger, each with the sizes of tree that it may sign.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger key show
  stella orch ledger key show --signing-key /etc/stella/signing-key --tenant acme
  stella orch ledger key show --signing-key witness-key --witness witness.example.org/w1")]
pub(crate) struct Show {
    /// The key file.
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    #[command(flatten)]
    name: LedgerName,
    #[command(flatten)]
    api: ApiArgs,
}

/// Have another key sign the checkpoints from here on. It is recorded in the ledger, signed by the
/// old key and by the new one.
///
/// No key goes over the wire: put the new one where the server looks for it
/// (`serve --next-signing-key`, or `signing-key.next` in its data directory); this command tells
/// the server which key you mean. Afterwards give the server the new file as --signing-key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger key rotate --new stella-data/signing-key.next")]
pub(crate) struct Rotate {
    /// The new key's file.
    #[arg(long, value_name = "FILE")]
    new: PathBuf,
    #[command(flatten)]
    api: ApiArgs,
}

/// Which ledger a key is for: its name is part of the verifier key.
#[derive(Debug, Args)]
struct LedgerName {
    /// Who runs the installation.
    #[arg(long, value_name = "NAME", default_value = "stella.local")]
    origin: Origin,
    /// Whose ledger.
    #[arg(long, value_name = "NAME", default_value = "main")]
    tenant: Tenant,
    /// Not for a ledger: for a witness of this name, which cosigns.
    #[arg(
        long,
        value_name = "NAME",
        value_parser = witness_name,
        conflicts_with_all = ["origin", "tenant"]
    )]
    witness: Option<String>,
}

/// A name that can stand in a note.
pub(crate) fn witness_name(name: &str) -> Result<String, String> {
    // Any key will do to find out.
    let named = WitnessKey::new(name, &SigningKey::from_bytes(&[1; 32]));
    named.map(|key| key.name().to_owned()).map_err(|error| error.to_string())
}

impl LedgerName {
    /// The public half of `key` under this name.
    fn verifier(self, key: &SigningKey) -> Result<String, Failure> {
        match self.witness {
            Some(name) => match WitnessKey::new(&name, key) {
                Ok(witness) => Ok(witness.to_string()),
                Err(error) => Err(Failure::usage(format!("--witness {name:?}: {error}"))),
            },
            None => {
                let ledger = LedgerId { origin: self.origin, tenant: self.tenant };
                Ok(VerifierKey::new(ledger, key).to_string())
            }
        }
    }
}

impl Key {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Generate(command) => command.run(),
            Self::Show(command) => command.run().await,
            Self::Rotate(command) => command.run().await,
        }
    }
}

impl Generate {
    fn run(self) -> Result<(), Failure> {
        let key = keys::create(&self.out).map_err(key_failure)?;
        let (file, name) = (self.out.display(), self.name.witness.clone());
        line(self.name.verifier(&key)?)?;
        match name {
            None => note(format_args!("sign with it: stella orch serve --signing-key {file}")),
            Some(name) => note(format_args!(
                "cosign with it: stella orch witness --name {name} --key-file {file}"
            )),
        }
        Ok(())
    }
}

impl Show {
    async fn run(self) -> Result<(), Failure> {
        if let Some(path) = &self.signing_key {
            return line(self.name.verifier(&read(path)?)?);
        }
        let keys: SigningKeys = self.api.client()?.get("/ledger/keys", &[]).await?;
        self.api.output.print(&keys, |keys| keys.pins.join("\n"))
    }
}

impl Rotate {
    async fn run(self) -> Result<(), Failure> {
        let new = read(&self.new)?;
        let client = self.api.client()?;
        let keys: SigningKeys = client.get("/ledger/keys", &[]).await?;
        let in_use = keys.pins.last().and_then(|pin| pin.parse::<PinnedKey>().ok());
        let in_use = in_use.ok_or_else(|| Failure::failed("the server names no signing key"))?;
        let new_key = VerifierKey::new(in_use.key.ledger().clone(), &new);
        let body = RotateKeyBody { new_key };
        let answer = client.post("/ledger:rotateKey", &[], &body).await?;
        self.api.output.print(&answer.body, |keys: &SigningKeys| keys.pins.join("\n"))?;
        note("give auditors these keys, and the server the new file as --signing-key");
        Ok(())
    }
}

fn read(path: &Path) -> Result<SigningKey, Failure> {
    keys::read(path).map_err(key_failure)
}

/// A key's file is part of what was asked for.
fn key_failure(error: KeyError) -> Failure {
    Failure::usage(error.to_string())
}
