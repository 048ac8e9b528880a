//! One mongod process that does not outlive its owner.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Error, binary::on_path};

/// How often a condition is looked at.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);
const KILL_LIMIT: Duration = Duration::from_secs(30);
const LOG_TAIL_BYTES: u64 = 4096;

/// A running process and its output. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    /// Where in the log this process's own output begins.
    log_start: u64,
    /// Lets the thread that started the child go.
    _guard: mpsc::Sender<()>,
}

impl Process {
    /// Start `program`; what it prints is appended to the file `log`.
    pub(crate) fn start(program: &Path, args: &[OsString], log: &Path) -> Result<Self, Error> {
        let output =
            File::options().create(true).append(true).open(log).map_err(Error::io("open", log))?;
        let log_start = output.metadata().map_err(Error::io("inspect", log))?.len();
        let errors = output.try_clone().map_err(Error::io("open", log))?;

        // The kernel sends the signal when the *thread* that started the child ends, not only the
        // process; a runtime's threads come and go. So the child gets a thread of its own.
        let mut command = match on_path("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(args).stdin(Stdio::null()).stdout(output).stderr(errors);
        // Ctrl-C in a terminal is for the tests; they then stop the server in order.
        command.process_group(0);
        let (guard, guarded) = mpsc::channel::<()>();
        let (started, child) = mpsc::channel();
        thread::Builder::new()
            .name("mongod".to_owned())
            .spawn(move || {
                let _ = started.send(command.spawn());
                // Ends when the sender is dropped, that is, when the child has been killed.
                let _ = guarded.recv();
            })
            .map_err(Error::io("start a thread for", program))?;
        let child = child
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the starting thread ended")))
            .map_err(Error::io("start", program))?;
        Ok(Self { child, log: log.to_owned(), log_start, _guard: guard })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it did.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::io("wait for the writer of", &self.log))
    }

    /// SIGTERM, then SIGKILL if it has not ended after `limit`.
    pub(crate) async fn stop(&mut self, limit: Duration) -> Result<(), Error> {
        if self.ended()?.is_none() {
            // Not reaped yet, so the id is still this process's. The cast is exact: ids fit i32.
            let pid = Pid::from_raw(self.child.id() as i32);
            kill(pid, Signal::SIGTERM)
                .map_err(|errno| Error::io("signal the writer of", &self.log)(errno.into()))?;
            if self.wait(limit).await? {
                return Ok(());
            }
        }
        self.kill().await
    }

    /// SIGKILL, and wait until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<(), Error> {
        self.child.kill().map_err(Error::io("kill the writer of", &self.log))?;
        if self.wait(KILL_LIMIT).await? {
            return Ok(());
        }
        Err(Error::Immortal { pid: self.child.id(), limit_secs: KILL_LIMIT.as_secs() })
    }

    async fn wait(&mut self, limit: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + limit;
        while self.ended()?.is_none() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(true)
    }

    /// All that this process has printed.
    pub(crate) fn output(&self) -> Result<String, Error> {
        read_from(&self.log, self.log_start).map_err(Error::io("read", &self.log))
    }

    /// The last of what it printed, for error messages; never fails.
    pub(crate) fn log_tail(&self) -> String {
        let length = fs::metadata(&self.log).map_or(0, |meta| meta.len());
        let from = self.log_start.max(length.saturating_sub(LOG_TAIL_BYTES));
        read_from(&self.log, from)
            .unwrap_or_else(|error| format!("(cannot read {}: {error})", self.log.display()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell; both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_from(path: &Path, offset: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
