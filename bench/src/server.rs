//! A server of the release build, as users start it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};

use crate::{Failure, http::Client};

pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
    token: String,
}

impl Server {
    /// Start `stella orch serve` on `ledger`, with so many steps at a time, and wait until it answers.
    pub(crate) async fn start(
        stella: &Path,
        ledger: &str,
        dir: &Path,
        concurrency: u32,
    ) -> Result<Self, Failure> {
        let ready: PathBuf = dir.join("ready");
        // A file of an earlier start would name an old address.
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log"))?;
        let child = Command::new(stella)
            .args(["orch", "serve", "--listen", "127.0.0.1:0"])
            .args(["--concurrency", &concurrency.to_string()])
            .args(["--tenant", "bench", "--ledger", ledger, "--data-dir"])
            .arg(dir)
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut server = Self { child, addr: ([127, 0, 0, 1], 0).into(), token: String::new() };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Ok(text) = std::fs::read_to_string(&ready)
                && let Ok(addr) = text.trim().trim_start_matches("http://").parse()
            {
                server.addr = addr;
                server.token = std::fs::read_to_string(dir.join("token"))?;
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
                return Err(format!("the server ended with {status}:\n{log}").into());
            }
            if Instant::now() > deadline {
                return Err("the server was not ready within 60 s".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Client::connect(self.addr, &self.token).await
    }

    /// Register a DAG of `steps` `core` noop steps, one after the other.
    pub(crate) async fn register_chain(&self, id: &str, steps: usize) -> Result<(), Failure> {
        let step = |i: usize| {
            let needs: Vec<String> = (i > 0).then(|| format!("s{}", i - 1)).into_iter().collect();
            serde_json::json!({
                "id": format!("s{i}"), "plugin": "core", "action": "noop", "needs": needs
            })
        };
        let steps: Vec<_> = (0..steps).map(step).collect();
        let body = serde_json::json!({"id": id, "steps": steps}).to_string();
        let (status, answer) = self.client().await?.call(Method::POST, "/dags", body).await?;
        if status == StatusCode::CREATED || status == StatusCode::OK {
            return Ok(());
        }
        Err(format!("registering the DAG: {status} {}", String::from_utf8_lossy(&answer)).into())
    }

    /// End it as an operator does.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        tokio::task::spawn_blocking(move || self.child.wait()).await??;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
