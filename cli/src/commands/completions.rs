//! `completions`: what a shell needs to complete command lines.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::{args::Cli, failure::Failure, output};

/// Completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch completions bash > ~/.local/share/bash-completion/completions/stella
  stella orch completions zsh > ~/.zfunc/_stella
  stella orch completions fish > ~/.config/fish/completions/stella.fish")]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        // Into memory first: the generator panics when it cannot write.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "stella", &mut text);
        output::line(String::from_utf8_lossy(&text).trim_end())
    }
}
