//! The command line as a whole. Each command's own arguments stand beside what it does.

use clap::{Args, Parser, Subcommand};

use crate::{commands::Command, exit::EXIT_CODES_HELP};

/// An event-sourced DAG orchestrator: the ledger is the system of record.
#[derive(Debug, Parser)]
#[command(name = "stella", version, after_help = EXIT_CODES_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) program: Program,
}

/// The parts of Stella that this binary holds.
#[derive(Debug, Subcommand)]
pub(crate) enum Program {
    /// The orchestrator: run DAGs on a hash-chained ledger.
    Orch(Orch),
}

/// The orchestrator.
#[derive(Debug, Args)]
#[command(after_help = ORCH_HELP)]
pub(crate) struct Orch {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const ORCH_HELP: &str = "\
Begin here:
  stella orch demo     the main job, end to end, in a few seconds
  stella orch serve    a server on this machine; the other commands talk to it

`stella --help` lists the exit codes.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use clap::{CommandFactory as _, Parser as _};

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every command and every group of them shows at least one example, and each of them is accepted.
    #[test]
    fn every_example_parses() {
        let mut examples = 0;
        visit(&Cli::command(), &mut vec![], &mut |path, command| {
            // The program and the orchestrator themselves say where to begin.
            if path.len() <= 2 || command.is_hide_set() {
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let prefix = format!("{} ", path.join(" "));
            let parts = help.lines().flat_map(|line| line.split('|'));
            let mut shown = 0;
            for line in parts.filter(|part| part.trim().starts_with("stella ")) {
                let line = line.trim().split(['>', '<', '#']).next().unwrap().trim();
                let result = Cli::try_parse_from(words(line));
                assert!(result.is_ok(), "{path:?}: {line}\n{}", result.unwrap_err());
                if format!("{line} ").starts_with(&prefix) {
                    shown += 1;
                }
            }
            assert!(shown > 0, "{path:?} has no example of itself");
            examples += shown;
        });
        assert!(examples > 20, "only {examples} examples found");
    }

    fn visit(
        command: &clap::Command,
        path: &mut Vec<String>,
        each: &mut impl FnMut(&[String], &clap::Command),
    ) {
        path.push(command.get_name().to_owned());
        each(path, command);
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            visit(sub, path, each);
        }
        path.pop();
    }

    /// The words of a line as a shell splits it, as far as examples need: single quotes.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (vec![], String::new(), false);
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => {
                    words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)))
                }
                c => word.push(c),
            }
        }
        words.push(word);
        words
    }
}
