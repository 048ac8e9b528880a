//! Workers in processes of their own.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{server::TestServer, stella, until};

/// A process that is killed when it is dropped.
pub struct Process(Child);

impl Process {
    /// What `command` starts.
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Send it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl TestServer {
    /// Start `stella orch worker start` with the built-in plugins, one step at a time, and wait
    /// until it works.
    pub async fn worker(&self, name: &str) -> Process {
        self.worker_with(name, &["--concurrency", "1"]).await
    }

    /// The same with the plugin in this directory.
    pub async fn worker_of(&self, name: &str, plugin: &Path) -> Process {
        let plugin = plugin.to_str().unwrap();
        self.worker_with(name, &["--concurrency", "1", "--plugins", plugin]).await
    }

    /// The same with these arguments.
    pub async fn worker_with(&self, name: &str, args: &[&str]) -> Process {
        let ready = self.scratch(&format!("{name}.ready"));
        let mut command = Command::new(stella::binary());
        command
            .args(["orch", "worker", "start", "--name", name, "--ready-file", &ready])
            .args(["--server", &format!("http://{}", self.client.server()), "--token-file"])
            .arg(self.data_dir().join("token"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Process::spawn(&mut command);
        until("the worker works", async || std::fs::read_to_string(&ready).ok()).await;
        process
    }
}
