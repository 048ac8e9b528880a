//! `witness`: cosigns checkpoints of ledgers that others run.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use stella_api::witness::{RunningWitness, WitnessConfig, WitnessError};
use stella_domain::checkpoint::LogKey;

use super::{
    ledger::witness_name,
    serve::{Stop, write_atomically},
};
use crate::{failure::Failure, output};

/// Cosign checkpoints of ledgers that others run, once it is proven that each extends the last one.
///
/// Run it on a machine of somebody who is not the ledger's operator: then a ledger with two
/// histories, one for each auditor, never gets both cosigned. It speaks C2SP tlog-witness, so it
/// serves any log of that family. A checkpoint of another history is refused, and both are kept
/// in <data-dir>/evidence.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch witness --name witness.example.org/w1 --log 'stella.local/main+c0138297+AVFafrEGlqv49YpmR2Z5tc4Hrbp+VLfuILZP/B6FbQWV'
  stella orch witness --name witness.example.org/w1 --key-file /etc/stella/witness-key --data-dir /var/lib/stella-witness --listen 0.0.0.0:7788 --log 'stella.local/main+c0138297+AVFafrEGlqv49YpmR2Z5tc4Hrbp+VLfuILZP/B6FbQWV'

The ledger's operator then starts the server with what this command prints:
  stella orch serve --witness http://HOST:7788 --witness-key 'witness.example.org/w1+24fbcac4+BBNQ+cN7eZ99OsbvTt6/5lrijWokh7IAl/efgPPPNi8n'")]
pub(crate) struct Witness {
    /// What it is called in checkpoints, such as the name of its host and a path. It is part of its
    /// key: never change it.
    #[arg(long, value_name = "NAME", value_parser = witness_name)]
    name: String,
    /// A key of a ledger, or another log, that it watches: VKEY, or VKEY@FROM-TO for the sizes that
    /// the key may sign, as `ledger key show` prints them; may be given several times.
    #[arg(long, value_name = "VKEY", required = true)]
    log: Vec<LogKey>,
    /// Where to listen; it asks nobody who they are. Port 0 takes any free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7788")]
    listen: SocketAddr,
    /// Where it remembers what it cosigned. One that forgets could cosign two histories: never
    /// put back an older copy.
    #[arg(long, value_name = "DIR", default_value = "./stella-witness")]
    data_dir: PathBuf,
    /// Its key: a file with 64 hex digits, mode 0600, as `ledger key generate` draws it
    /// [default: <data-dir>/witness-key, drawn at the first start].
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Write ADDR:PORT to this file once it answers.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl Witness {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut stop = Stop::listen()?;
        let mut watched: Vec<String> = self.log.iter().map(|log| log.name().to_owned()).collect();
        watched.sort_unstable();
        watched.dedup();
        let config = WitnessConfig {
            listen: self.listen,
            data_dir: self.data_dir,
            name: self.name,
            key_file: self.key_file,
            logs: self.log,
        };
        let witness = RunningWitness::start(config).await.map_err(failure)?;
        // Whoever reads this may have gone, the witness stays.
        let _ = output::line(format_args!(
            "listening on http://{}\nwatching {}\ncosigns as {}",
            witness.addr,
            watched.join(", "),
            witness.key,
        ));
        if let Some(path) = &self.ready_file {
            write_atomically(path, &witness.addr.to_string())?;
        }
        stop.requested().await;
        tracing::info!("stopping; a second signal ends it at once");
        tokio::select! {
            () = witness.stop() => Ok(()),
            () = stop.requested() => Err(Failure::failed("stopped before everything had ended")),
        }
    }
}

fn failure(error: WitnessError) -> Failure {
    let what = error.to_string();
    match error {
        WitnessError::Key(_) | WitnessError::Name { .. } => Failure::usage(what),
        WitnessError::Listen { .. } => {
            Failure::failed(what).try_this("choose another address with --listen ADDR:PORT")
        }
        WitnessError::DataDir { .. } => Failure::failed(what),
    }
}
