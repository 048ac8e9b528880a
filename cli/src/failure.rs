//! Why a command did not do what it was asked for, and how people are told.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use stella_api::types::{Problem, SpecErrorView};

use crate::exit::Exit;

/// Why a command did not do what it was asked for: a line that says what was wrong, and one that
/// says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// What was wrong.
    pub(crate) what: String,
    /// What to do; empty where `what` says it already.
    pub(crate) next: String,
    /// Everything that is wrong with a spec or with inputs, each with its place.
    pub(crate) errors: Vec<SpecErrorView>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: String::new(), errors: vec![] }
    }

    /// Nothing to tell beyond what was printed, but an exit code that says something.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    pub(crate) fn unavailable(what: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, what)
    }

    pub(crate) fn not_verified(what: impl Into<String>) -> Self {
        Self::new(Exit::NotVerified, what)
    }

    /// What to do about it.
    pub(crate) fn try_this(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// Say which file it is about.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.what = format!("{}: {}", path.display(), self.what);
        self
    }

    /// What the server said.
    pub(crate) fn from_problem(problem: Problem) -> Self {
        let exit = if problem.status == 503 { Exit::Unavailable } else { Exit::Failed };
        let what = format!("{} ({})", problem.detail, problem.code);
        let next = match problem.code.as_str() {
            "WINDOW_OPEN" => {
                "close it first with --seal, if its end has passed; or choose an earlier --to"
            }
            "ERASURE_REFUSED" => {
                "give the server a user who may: `stella orch serve --help` says how"
            }
            "ERASURE_PENDING" => "nothing: the server goes on by itself; ask again to see it done",
            "OUTCOME_UNKNOWN" => "repeat it: commands are idempotent",
            _ if exit == Exit::Unavailable => "try again in a moment",
            _ => "",
        };
        Self { exit, what, next: next.to_owned(), errors: problem.errors }
    }

    /// The text for people, without a line feed at its end.
    fn text(&self) -> String {
        let mut text = format!("error: {}", self.what);
        for SpecErrorView { path, message } in &self.errors {
            let place = if path.is_empty() { "(whole)" } else { path };
            // Writing to a string does not fail.
            let _ = write!(text, "\n  {place}: {message}");
        }
        if !self.next.is_empty() {
            let _ = write!(text, "\n  try: {}", self.next);
        }
        text
    }
}

impl From<io::Error> for Failure {
    /// Of writing the command's own output. Whoever read it may have seen enough: `| head` is no
    /// failure.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Ok, ""),
            _ => Self::failed(format!("cannot write the output: {error}")),
        }
    }
}

/// Tell people what happened and the caller how the command ended.
pub(crate) fn report(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    if !failure.what.is_empty() {
        // There is nobody left to tell when stderr is closed.
        let _ = writeln!(io::stderr(), "{}", harmless(&failure.text()));
    }
    ExitCode::from(failure.exit.code())
}

/// What a server or a file says may hold anything: nothing in it may steer the terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_listed_with_its_place() {
        let view = |path: &str, message: &str| SpecErrorView {
            path: path.to_owned(),
            message: message.to_owned(),
        };
        let mut failure = Failure::failed("the spec is not valid").try_this("mend it");
        failure.errors = vec![view("steps[0].needs[1]", "no step b"), view("", "no steps")];
        assert_eq!(
            failure.text(),
            "error: the spec is not valid\n  steps[0].needs[1]: no step b\n  (whole): no steps\n  \
             try: mend it"
        );
    }

    #[test]
    fn nothing_in_a_message_steers_the_terminal() {
        assert_eq!(harmless("no \u{1b}[2J\u{7}\n  try: \tit"), "no  [2J \n  try:  it");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit, Exit::Ok);
    }
}
