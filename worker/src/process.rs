//! The `process` runtime: one process group an execution, bounded in time, memory and output.
//!
//! A plugin that starts a session of its own (`setsid`) leaves its group and is not ended with it;
//! to hold hostile plugins takes a container around the worker.

use std::{
    io,
    path::{Path, PathBuf},
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{
    FutureExt as _,
    future::{FusedFuture, try_join3},
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Map, Value};
use stella_domain::{json::CanonicalJson, time::Timestamp};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};

use crate::{
    bundle::{Action, Bundle},
    error::StepError,
    files,
    lease::Lease,
    log::StepLog,
    manifest::MAX_OUTPUT_KB,
    protocol::{Answer, Request},
    step::Step,
};

/// Bytes that a plugin may print before it is ended.
pub const MAX_STDOUT_BYTES: usize = 1024 * 1024;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long to wait for a killed process to be gone, and for its pipes to close.
const KILL_WAIT: Duration = Duration::from_secs(2);
/// Starts tried while the entry file is open for writing elsewhere (`ETXTBSY`): a process that
/// another thread is just forking holds every file open for an instant.
const SPAWN_TRIES: u32 = 10;
const SPAWN_PAUSE: Duration = Duration::from_millis(20);

/// Carry out a step with the plugin in `bundle`.
///
/// When it returns, the plugin's process group and its directories are gone; when it is dropped,
/// they go too.
///
/// # Errors
/// [`StepError`].
pub async fn execute(bundle: &Bundle, step: &Step<'_>) -> Result<CanonicalJson, StepError> {
    let lease = step.lease;
    let action = bundle.action(&lease.action).ok_or_else(|| {
        StepError::NotFound(format!(
            "plugin {} {} has no action {:?}",
            lease.plugin,
            bundle.manifest().version,
            lease.action
        ))
    })?;
    let spawn_error = |e: io::Error| StepError::Spawn(e.to_string());
    let place = Place::make().map_err(spawn_error)?;
    let inputs = step.inputs(Some(&place.inputs)).await?;
    if let Some(schema) = &action.inputs {
        schema.check(&inputs.to_value()).map_err(StepError::InputInvalid)?;
    }
    let request = request_line(lease, inputs).map_err(spawn_error)?;
    let child = spawn(bundle, lease, &place).await?;
    let end = supervise(child, &request, step).await?;
    let outputs = match judge(end, action, bundle, step) {
        Ok(outputs) => with_files(outputs, &place.artifacts, step).await,
        Err(error) => Err(error),
    };
    // A tree of unknown size; what remains of it is the operating system's to clean up.
    let removed = tokio::task::spawn_blocking(move || place.dir.close()).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, step = %lease.step_id, "a step's working directory remains");
    }
    outputs
}

/// The directories of one execution.
struct Place {
    dir: TempDir,
    /// Where the plugin starts, empty.
    work: PathBuf,
    /// Files that it is given.
    inputs: PathBuf,
    /// Where it leaves files.
    artifacts: PathBuf,
}

impl Place {
    fn make() -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("stella-step-").tempdir()?;
        let [work, inputs, artifacts] = ["work", "inputs", "artifacts"].map(|n| dir.path().join(n));
        std::fs::create_dir(&work)?;
        std::fs::create_dir(&artifacts)?;
        Ok(Self { dir, work, inputs, artifacts })
    }
}

/// The outputs, and in their member `artifacts` what the plugin left in its folder.
async fn with_files(
    outputs: CanonicalJson,
    folder: &Path,
    step: &Step<'_>,
) -> Result<CanonicalJson, StepError> {
    let left = files::in_folder(folder).map_err(StepError::OutputInvalid)?;
    if left.is_empty() {
        return Ok(outputs);
    }
    let mut named = Map::new();
    for (name, path) in left {
        let artifact = step.leave(&name, &path).await?;
        named.insert(name, artifact.to_value());
    }
    let Value::Object(mut outputs) = outputs.to_value() else { return Ok(outputs) };
    if outputs.insert(files::MEMBER.to_owned(), Value::Object(named)).is_some() {
        return Err(StepError::OutputInvalid(format!(
            "outputs has a member {:?}, which is for the files that the plugin left: name it \
             otherwise",
            files::MEMBER
        )));
    }
    CanonicalJson::from_value(&Value::Object(outputs))
        .map_err(|e| StepError::OutputInvalid(e.to_string()))
}

fn request_line(lease: &Lease, inputs: CanonicalJson) -> io::Result<Vec<u8>> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX));
    let request = Request::new(lease, inputs, now);
    let mut line = serde_json::to_vec(&request).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

async fn spawn(bundle: &Bundle, lease: &Lease, place: &Place) -> Result<Child, StepError> {
    let mut command = command(bundle, lease, place);
    for _ in 1..SPAWN_TRIES {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => sleep(SPAWN_PAUSE).await,
            spawned => return spawned.map_err(|e| cannot_spawn(bundle, &e)),
        }
    }
    command.spawn().map_err(|e| cannot_spawn(bundle, &e))
}

fn cannot_spawn(bundle: &Bundle, error: &io::Error) -> StepError {
    let entry = bundle.entry();
    match error.kind() {
        io::ErrorKind::NotFound => StepError::NotFound(format!(
            "{} does not exist any more, or the interpreter that it names does not: {error}",
            entry.display()
        )),
        _ => StepError::Spawn(format!("{}: {error}", entry.display())),
    }
}

fn command(bundle: &Bundle, lease: &Lease, place: &Place) -> Command {
    let manifest = bundle.manifest();
    let mut command = match manifest.limits.memory_mb {
        None => Command::new(bundle.entry()),
        // Limits are inherited through exec, and setting them here would take unsafe code between
        // fork and exec. POSIX has no `ulimit -v`, but every shell that is /bin/sh has it.
        Some(mb) => {
            let mut shell = Command::new("/bin/sh");
            shell.args([
                "-c",
                r#"ulimit -v "$0" && exec "$@""#,
                &(u64::from(mb) * 1024).to_string(),
            ]);
            shell.arg(bundle.entry());
            shell
        }
    };
    command
        .args(&manifest.entry.args)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("STELLA_RUN_ID", lease.run_id.as_str())
        .env("STELLA_STEP_ID", lease.step_id.as_str())
        .env("STELLA_ATTEMPT", lease.attempt.to_string())
        .env("STELLA_ARTIFACTS", &place.artifacts)
        // A bundle holds what it lists, and stays so: compiled modules would be left beside it.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(&place.work)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// How an execution ended.
struct End {
    why: Why,
    printed: Vec<u8>,
}

enum Why {
    Exited(ExitStatus),
    PrintedTooMuch,
    TimedOut,
    Cancelled,
}

struct PrintedTooMuch;

/// Feed and watch the process until it and its whole group have ended.
async fn supervise(mut child: Child, request: &[u8], step: &Step<'_>) -> Result<End, StepError> {
    let mut group = Group::of(&child);
    let broken = || StepError::Spawn("the process has no pipes".into());
    let stdin = child.stdin.take().ok_or_else(broken)?;
    let stdout = child.stdout.take().ok_or_else(broken)?;
    let stderr = child.stderr.take().ok_or_else(broken)?;
    let printed = Mutex::new(Vec::new());
    let why = {
        let mut streams = pin!(
            try_join3(
                write_request(stdin, request),
                read_output(stdout, &printed),
                read_log(stderr, step.log),
            )
            .fuse()
        );
        let mut why = tokio::select! {
            status = child.wait() => Why::Exited(status.map_err(|e| StepError::Spawn(e.to_string()))?),
            Err(PrintedTooMuch) = &mut streams => Why::PrintedTooMuch,
            () = sleep(Duration::from_millis(step.lease.timeout_ms)) => Why::TimedOut,
            () = step.cancel.cancelled() => Why::Cancelled,
        };
        if matches!(why, Why::TimedOut | Why::Cancelled) {
            group.signal(Signal::SIGTERM);
            // The pipes are read meanwhile, or a last word to stderr might block its end.
            tokio::select! {
                _ = child.wait() => {}
                Err(PrintedTooMuch) = &mut streams => {}
                () = sleep(GRACE) => {}
            }
        }
        group.end();
        // Bounded, as a process in an uninterruptible system call does not even take a SIGKILL.
        let _ = timeout(KILL_WAIT, child.wait()).await;
        // What was printed last may still be in the pipes; a process that left its group may hold
        // them open for ever.
        if !streams.is_terminated()
            && let Ok(Err(PrintedTooMuch)) = timeout(KILL_WAIT, &mut streams).await
            && matches!(why, Why::Exited(_))
        {
            why = Why::PrintedTooMuch;
        }
        why
    };
    Ok(End { why, printed: printed.into_inner().unwrap_or_else(PoisonError::into_inner) })
}

/// A plugin may well end, or answer, without reading its request.
async fn write_request(mut stdin: ChildStdin, request: &[u8]) -> Result<(), PrintedTooMuch> {
    if let Err(error) = stdin.write_all(request).await {
        tracing::trace!(%error, "the plugin did not read its request");
    }
    Ok(())
}

async fn read_output(
    mut stdout: impl AsyncRead + Unpin,
    printed: &Mutex<Vec<u8>>,
) -> Result<(), PrintedTooMuch> {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = stdout.read(&mut chunk).await {
        let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        if printed.len() + n > MAX_STDOUT_BYTES {
            return Err(PrintedTooMuch);
        }
        printed.extend_from_slice(&chunk[..n]);
    }
    Ok(())
}

async fn read_log(mut stderr: impl AsyncRead + Unpin, log: &StepLog) -> Result<(), PrintedTooMuch> {
    let mut chunk = vec![0; 8 * 1024];
    while let Ok(n @ 1..) = stderr.read(&mut chunk).await {
        log.push(&chunk[..n]);
        if tracing::enabled!(tracing::Level::DEBUG) {
            // A line across two reads shows as two: this is for watching, the log keeps the bytes.
            for line in String::from_utf8_lossy(&chunk[..n]).lines() {
                tracing::debug!(target: "stella_worker::step", "{line}");
            }
        }
    }
    Ok(())
}

/// What the end of the process means for the step.
fn judge(
    end: End,
    action: &Action,
    bundle: &Bundle,
    step: &Step<'_>,
) -> Result<CanonicalJson, StepError> {
    let status = match end.why {
        Why::Exited(status) => status,
        Why::PrintedTooMuch => {
            return Err(StepError::OutputTooLarge(format!(
                "the plugin printed more than {MAX_STDOUT_BYTES} bytes on stdout and was ended"
            )));
        }
        Why::TimedOut => return Err(StepError::TimedOut { timeout_ms: step.lease.timeout_ms }),
        Why::Cancelled => return Err(StepError::Cancelled),
    };
    let answer = Answer::parse(&end.printed);
    if !status.success() && !matches!(answer, Ok(Answer::Error(_))) {
        let last = step.log.last_line().map(|line| format!("; its log ends: {line}"));
        return Err(StepError::Exit(format!(
            "the plugin ended with {status}{}",
            last.unwrap_or_default()
        )));
    }
    let max_kb = bundle.manifest().limits.output_kb.unwrap_or(MAX_OUTPUT_KB);
    let max_bytes = max_kb as usize * 1024;
    answer.map_err(StepError::OutputInvalid)?.into_outputs(action.outputs.as_ref(), max_bytes)
}

/// The process group of a plugin; whoever is still in it is killed at the latest on drop.
struct Group(Option<Pid>);

impl Group {
    /// The group that `child` leads.
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // An error says that nobody is left in it.
            let _ = killpg(pid, signal);
        }
    }

    /// Kill whoever is left. Once only and right after the leader's end: while anybody is in the
    /// group its number stays taken, afterwards it might become another's.
    fn end(&mut self) {
        self.signal(Signal::SIGKILL);
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}
