//! How the demo looks: headings and ticks, in colour only on a terminal that wants it.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _},
};

use crate::{failure::Failure, output};

/// Where the demo is told.
pub(super) struct Screen {
    colour: bool,
}

impl Screen {
    /// Stdout. See <https://no-color.org> for the variable.
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colour: wanted && io::stdout().is_terminal() }
    }

    /// What comes now.
    pub(super) fn heading(&self, text: &str) -> Result<(), Failure> {
        output::line("")?;
        output::line(self.styled("1", text))
    }

    /// Something that was checked.
    pub(super) fn tick(&self, text: impl Display) -> Result<(), Failure> {
        output::line(format_args!("  {} {text}", self.styled("32", "✓")))
    }

    /// Anything else.
    pub(super) fn line(&self, text: impl Display) -> Result<(), Failure> {
        output::line(format_args!("  {text}"))
    }

    /// A command to type.
    pub(super) fn command(&self, text: impl Display) -> Result<(), Failure> {
        output::line(format_args!("  $ {text}"))
    }

    /// In the style of this SGR code (ECMA-48, 8.3.117).
    fn styled(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
