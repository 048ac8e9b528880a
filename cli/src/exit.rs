//! What the exit code says. Scripts rely on these numbers: they are never given a new meaning.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what it was asked for.
    Ok = 0,
    /// It was refused, or failed.
    Failed = 1,
    /// The command line, or a file that it names, is wrong. Clap uses this number too.
    Usage = 2,
    /// The server or the storage does not answer, or says that it cannot now.
    Unavailable = 3,
    /// What was verified or compared is not as it should be.
    NotVerified = 4,
    /// The run that was waited for ended, and not by success.
    RunFailed = 5,
    /// The run that was waited for has not ended in time; it goes on.
    StillRunning = 6,
    /// A bundle holds, and payloads were erased by the rules.
    VerifiedWithErasures = 10,
    /// A bundle lacks something that would show that its window is whole.
    Incomplete = 11,
    /// A bundle contradicts what was signed, hashed or written in its manifest.
    Tampered = 12,
    /// No key that was pinned speaks for a bundle.
    Untrusted = 13,
}

/// The numbers as `stella --help` lists them.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  it did what it was asked for
  1  it was refused, or failed
  2  the command line, or a file that it names, is wrong
  3  the server or the storage does not answer, or cannot serve now: try again later
  4  what was verified or compared is not as it should be
  5  the run that was waited for failed or was cancelled
  6  the run that was waited for has not ended in time; it goes on
  10 a bundle is VERIFIED_WITH_ERASURES: whole, and each erased payload is explained
  11 a bundle is INCOMPLETE: something is missing that would show that it is whole
  12 a bundle is TAMPERED: something contradicts what was signed or hashed
  13 a bundle is UNTRUSTED: no pinned key speaks for it";

impl Exit {
    /// The number that the process ends with.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        use Exit::*;
        let ends = [Ok, Failed, Usage, Unavailable, NotVerified, RunFailed, StillRunning];
        let verdicts = [VerifiedWithErasures, Incomplete, Tampered, Untrusted];
        for exit in ends.into_iter().chain(verdicts) {
            let line = format!("\n  {:<2} ", exit.code());
            assert!(EXIT_CODES_HELP.contains(&line), "{exit:?}");
        }
    }
}
