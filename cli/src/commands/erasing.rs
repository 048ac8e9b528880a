//! What a server may erase payloads with, for `serve`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use clap::Args;
use stella_ledger::uri::LedgerUri;

use crate::failure::Failure;

/// Holds the URI itself, for those who keep no secrets in files.
const URI_VARIABLE: &str = "STELLA_ERASURE_LEDGER";

/// What payloads are erased with.
#[derive(Debug, Args)]
pub(crate) struct ErasingArgs {
    /// A file, mode 0600, with the URI of the same ledger and a user who may update it: what
    /// `ledger erase` is carried out with. Else the URI in STELLA_ERASURE_LEDGER. Without either a
    /// MongoDB ledger erases nothing; a SQLite ledger needs neither.
    #[arg(long, value_name = "FILE")]
    erasure_ledger_file: Option<PathBuf>,
}

impl ErasingArgs {
    /// The credential; nothing of it is ever printed. A file of SQLite can be written to by whoever
    /// has it: there is no other credential to ask for.
    pub(crate) fn config(self, ledger: &LedgerUri) -> Result<Option<LedgerUri>, Failure> {
        let (text, named) = match (self.erasure_ledger_file, std::env::var(URI_VARIABLE)) {
            (Some(path), _) => (read_private(&path)?, path.display().to_string()),
            (None, Ok(text)) => (text, URI_VARIABLE.to_owned()),
            (None, Err(std::env::VarError::NotPresent)) => {
                let own = matches!(ledger, LedgerUri::Sqlite(_)).then(|| ledger.clone());
                return Ok(own);
            }
            (None, Err(_)) => return Err(Failure::usage(format!("{URI_VARIABLE} is not text"))),
        };
        // The parser's own message would show what was given.
        let uri: LedgerUri = text.trim().parse().map_err(|_| {
            let what = format!("{named} does not hold the URI of a ledger");
            Failure::usage(what).try_this(
                "write one line: mongodb://USER:PASSWORD@HOST[,HOST]/DATABASE?replicaSet=NAME",
            )
        })?;
        let same_kind = matches!(
            (&uri, ledger),
            (LedgerUri::Sqlite(_), LedgerUri::Sqlite(_))
                | (LedgerUri::Mongo(_), LedgerUri::Mongo(_))
        );
        if same_kind {
            return Ok(Some(uri));
        }
        Err(Failure::usage(format!("{named} names another kind of storage than the ledger's")))
    }
}

fn read_private(path: &std::path::Path) -> Result<String, Failure> {
    let unusable = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let mode = fs::metadata(path).map_err(|e| unusable(e.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        let what = "it holds a password, and others can read it".to_owned();
        return Err(unusable(what).try_this(format!("chmod 600 {}", path.display())));
    }
    fs::read_to_string(path).map_err(|e| unusable(e.to_string()))
}
