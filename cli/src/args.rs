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

    /// Any keys of a ledger and of a witness.
    const VKEY: &str = "stella.local/main+1e72588c+ATxTBp8bmHmAYqYCQxPfjVbiqG3xiDQkdzF0Fp0shrzv";
    const WITNESS: &str =
        "witness.example.org/w1+24fbcac4+BBNQ+cN7eZ99OsbvTt6/5lrijWokh7IAl/efgPPPNi8n";

    /// What the documents tell people to type. What is in [brackets], or has a … in it, stands for
    /// more than one command.
    #[test]
    fn every_command_of_the_documents_parses() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let documents =
            std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let documents = documents.filter(|path| path.extension().is_some_and(|ext| ext == "md"));
        let (mut commands, mut wrong) = (0, vec![]);
        for path in documents.chain([root.join("README.md")]) {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.replace("\\\n", " ");
            let lines = text.lines().map(str::trim).filter(|line| line.starts_with("stella orch "));
            for line in lines.filter(|line| !line.contains(['…', '['])) {
                let line = line.split(['>', '<', '#', '|', ';', '&']).next().unwrap().trim();
                let words = words(line).into_iter().map(|word| match word.trim_matches('"') {
                    "RUN" | "A" | "B" | "$RUN" => "0RQ9CWTXP9BPJR3KTYEG0MB9FF".to_owned(),
                    "N" => "1".to_owned(),
                    "$FROM" => "2026-11-01".to_owned(),
                    "VKEY" | "$KEY" => VKEY.to_owned(),
                    "WITNESS-VKEY" | "$W1" | "$W2" | "$W3" => WITNESS.to_owned(),
                    word => word.to_owned(),
                });
                let result = Cli::try_parse_from(words);
                let told = result.err().filter(|error| error.exit_code() != 0);
                wrong.extend(told.map(|told| format!("{}: {line}\n{told}", path.display())));
                commands += 1;
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(commands > 100, "only {commands} commands found");
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
