//! How a server signs checkpoints, for `serve`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use reqwest::Url;
use stella_api::node::{
    checkpoints::{CheckpointsConfig, KeySource},
    witnesses::WitnessAt,
};
use stella_domain::checkpoint::WitnessKey;
use stella_ledger::checkpoints::keys;

use crate::failure::Failure;

/// Holds a signing key itself, for those who keep no secrets in files.
const KEY_VARIABLE: &str = "STELLA_SIGNING_KEY";

/// How checkpoints are signed and kept.
#[derive(Debug, Args)]
pub(crate) struct SigningArgs {
    /// The key that signs checkpoints: a file with 64 hex digits, mode 0600. Else the key in
    /// STELLA_SIGNING_KEY, else `signing-key` in the data directory, drawn at the first start.
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    /// Where the key that may follow it is found, for `ledger key rotate`
    /// [default: <data-dir>/signing-key.next].
    #[arg(long, value_name = "FILE")]
    next_signing_key: Option<PathBuf>,
    /// Also keep the newest checkpoint in this file: on another disk than database and data
    /// directory, it shows when both were put back to an older state.
    #[arg(long, value_name = "FILE")]
    checkpoint_file: Option<PathBuf>,
    /// Seconds between checkpoints, when there are new events.
    #[arg(
        long,
        value_name = "S",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    checkpoint_every: u64,
    /// A witness that is asked to cosign each checkpoint (C2SP tlog-witness); may be given several
    /// times, each with its --witness-key. One that does not answer is left out and reported.
    #[arg(long, value_name = "URL")]
    witness: Vec<Url>,
    /// The key of that witness, as `stella orch witness` prints it, in the same order.
    #[arg(long, value_name = "VKEY")]
    witness_key: Vec<WitnessKey>,
}

/// A note has at most 64 signatures; each witness makes signing wait a little.
const WITNESSES: usize = 16;

impl SigningArgs {
    pub(crate) fn config(self) -> Result<CheckpointsConfig, Failure> {
        let key = match (self.signing_key, std::env::var(KEY_VARIABLE)) {
            (Some(path), _) => KeySource::File(path),
            (None, Ok(text)) => {
                let key = keys::parse(&text);
                let wrong = |error| Failure::usage(format!("{KEY_VARIABLE}: {error}"));
                KeySource::Given(key.map_err(wrong)?)
            }
            (None, Err(std::env::VarError::NotPresent)) => KeySource::DataDir,
            (None, Err(error)) => return Err(Failure::usage(format!("{KEY_VARIABLE}: {error}"))),
        };
        Ok(CheckpointsConfig {
            key,
            next_key: self.next_signing_key,
            every: Duration::from_secs(self.checkpoint_every),
            also_kept_in: self.checkpoint_file,
            witnesses: witnesses(self.witness, self.witness_key)?,
        })
    }
}

/// Each witness with its key.
fn witnesses(urls: Vec<Url>, keys: Vec<WitnessKey>) -> Result<Vec<WitnessAt>, Failure> {
    if urls.len() != keys.len() {
        let (urls, keys) = (urls.len(), keys.len());
        let what = format!("{urls} --witness and {keys} --witness-key: each witness has one key");
        return Err(Failure::usage(what).try_this(
            "give both for each, in the same order; the witness prints its key when it starts",
        ));
    }
    if urls.len() > WITNESSES {
        return Err(Failure::usage(format!("at most {WITNESSES} witnesses can be given")));
    }
    if let Some(url) = urls.iter().find(|url| !["http", "https"].contains(&url.scheme())) {
        let what = format!("--witness {url}: only http:// and https:// are spoken");
        return Err(Failure::usage(what));
    }
    for (nth, key) in keys.iter().enumerate() {
        if keys[..nth].contains(key) {
            return Err(Failure::usage(format!("--witness-key {key} is given twice")));
        }
    }
    let pairs = urls.into_iter().zip(keys);
    Ok(pairs.map(|(url, key)| WitnessAt { url, key }).collect())
}
