//! The real binary, and servers of it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// Longest wait for a condition; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(45);
/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The repository, which holds a real Cargo.lock.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// `stella orch` with these arguments, in an environment that says nothing about servers.
pub(crate) fn stella(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
    for name in [
        "STELLA_SERVER",
        "STELLA_TOKEN_FILE",
        "STELLA_LEDGER",
        "STELLA_DATA_DIR",
        "STELLA_SIGNING_KEY",
    ] {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").arg("orch").args(args).stdin(Stdio::null());
    command
}

/// Look until there is something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(said, "nothing says {text:?}: {self:#?}");
        self
    }

    /// The one JSON document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// Run it to its end, with `input` on stdin.
pub(crate) fn outcome_with(mut command: Command, input: &str) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its stdin may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Run it to its end.
pub(crate) fn outcome(command: Command) -> Outcome {
    outcome_with(command, "")
}

/// A running `stella orch serve`, ended when it is dropped.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) url: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = stella(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(dir.path().join("data"));
        command.arg("--ready-file").arg(dir.path().join("ready"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { dir, url: String::new(), child, stdout };
        let mut line = String::new();
        server.stdout.read_line(&mut line).unwrap();
        server.url = line.trim().strip_prefix("listening on ").expect(&line).to_owned();
        // Written last, once it has printed everything.
        let ready = server.dir.path().join("ready");
        let ready = until("the server is ready", || {
            assert_eq!(server.child.try_wait().unwrap(), None, "the server has ended");
            fs::read_to_string(&ready).ok().filter(|text| !text.is_empty())
        });
        assert_eq!(format!("http://{ready}"), server.url);
        server
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A command that talks to this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = stella(args);
        self.point(&mut command);
        command
    }

    /// Make `command` talk to this server.
    pub(crate) fn point(&self, command: &mut Command) {
        command.env("STELLA_SERVER", &self.url);
        command.env("STELLA_TOKEN_FILE", self.data_dir().join("token"));
    }

    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        outcome(self.command(args))
    }

    /// Register a spec.
    pub(crate) fn apply(&self, spec: &str) {
        outcome_with(self.command(&["dag", "apply", "-"]), spec).expect(0);
    }

    /// End it as an operator does; the exit code.
    pub(crate) fn stop(mut self) -> i32 {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
