//! What commands print: aligned tables for people, JSON for programs.

mod progress;
mod shell;
mod table;

use std::{
    io::{self, Write as _},
    path::Path,
};

use clap::{Args, ValueEnum};
use serde::Serialize;

pub(crate) use self::{
    progress::Progress,
    shell::quoted,
    table::{Table, by, details, duration, elapsed, time, time_or_dash},
};
use crate::failure::Failure;

/// How the answer is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON document, or one a line where there is no end.
    Json,
}

/// How the answer is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// How to print the answer.
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

impl OutputArgs {
    /// Print `answer` as JSON, or the text that `table` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        answer: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => json(answer),
            Format::Table => line(table(answer).trim_end()),
        }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }
}

/// A line on stdout.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// An answer whose bytes are what counts: to `file`, else to stdout.
pub(crate) fn write_answer(file: Option<&Path>, text: &str) -> Result<(), Failure> {
    match file {
        Some(file) => std::fs::write(file, text)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display()))),
        None => Ok(io::stdout().write_all(text.as_bytes())?),
    }
}

/// A line about the answer that is no part of it, on stderr.
pub(crate) fn note(text: impl std::fmt::Display) {
    // Nobody reads it when stderr is closed; the answer still goes out.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A JSON document on a line.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("cannot write the answer as JSON: {error}")))?;
    line(text)
}
