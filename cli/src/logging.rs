//! The program's own log, on stderr.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::commands::Command;

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Log what `RUST_LOG` says; otherwise a server says what it does, and other commands only what
/// is wrong. Lines about runs are for those who collect them.
pub(crate) fn init(command: &Command) {
    let (level, format) = match command {
        Command::Serve(serve) => match serve.log_format() {
            LogFormat::Text => ("info,stella::run=off", LogFormat::Text),
            LogFormat::Json => ("info", LogFormat::Json),
        },
        _ => ("error", LogFormat::Text),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            log.with_ansi(colour).init();
        }
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).init(),
    }
}
