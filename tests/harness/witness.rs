//! A `stella orch witness` of a test's own.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Stdio},
};

use stella_domain::checkpoint::WitnessKey;
use tempfile::TempDir;

use crate::{stella, until};

/// What it is called.
pub const NAME: &str = "witness.example/w1";

/// A witness. Dropping it kills it and removes what it remembers.
pub struct TestWitness {
    child: Option<Child>,
    dir: TempDir,
    logs: Vec<String>,
    addr: SocketAddr,
    /// What its cosignatures are verified with.
    pub key: WitnessKey,
}

impl TestWitness {
    /// Start one that watches these logs, and wait until it answers.
    pub async fn start(logs: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("stella-witness-").tempdir().unwrap();
        let file = dir.path().join("key");
        let key = ["ledger", "key", "generate", "--witness", NAME, "--out", file.to_str().unwrap()];
        let key = stella::run(&key, 0).await.trim().parse().unwrap();
        let logs = logs.iter().map(ToString::to_string).collect();
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut witness = Self { child: None, dir, logs, addr, key };
        witness.spawn().await;
        witness
    }

    /// Where it is, as servers are told.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What a server has to be told to ask it.
    pub fn serve_args(&self) -> [String; 4] {
        ["--witness".into(), self.url(), "--witness-key".into(), self.key.to_string()]
    }

    /// Its `--data-dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What it has printed, over all starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The arguments that it is started with.
    pub fn args(&self) -> Vec<String> {
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let mut args = vec!["witness".into(), "--name".into(), NAME.into()];
        args.extend(["--listen".into(), self.addr.to_string()]);
        args.extend(["--key-file".into(), path("key"), "--data-dir".into(), path("data")]);
        for log in &self.logs {
            args.extend(["--log".into(), log.clone()]);
        }
        args
    }

    async fn spawn(&mut self) {
        let ready = self.dir.path().join("ready");
        let _ = fs::remove_file(&ready);
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.unwrap();
        let mut command = std::process::Command::new(stella::binary());
        command
            .arg("orch")
            .args(self.args())
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
        self.addr = until("the witness is ready", async || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the witness ended with {status}:\n{}", self.log());
            }
            fs::read_to_string(&ready).ok()?.trim().parse().ok()
        })
        .await;
    }

    /// End it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Start it again where it was, with what it remembers.
    pub async fn restart(&mut self) {
        self.kill();
        self.spawn().await;
    }
}

impl Drop for TestWitness {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the witness's log ---\n{}", self.log());
        }
    }
}
