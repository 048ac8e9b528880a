//! A `stella orch serve` of a test's own.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{client::Client, mongo::Database, stella, until};

/// Where a ledger is kept. What is said of one has to hold on the other.
#[derive(Debug, Clone, Copy)]
pub enum On {
    /// A file of the server's own.
    Sqlite,
    /// A database of the test's own.
    MongoDb,
}

/// How to start a server.
#[derive(Debug, Clone)]
pub struct Builder {
    ledger: Option<String>,
    _database: Option<Database>,
    plugins: Vec<PathBuf>,
    lease_ttl_ms: u64,
    concurrency: u32,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    erasing: Option<PathBuf>,
}

/// A server. Dropping it kills it and removes its data.
pub struct TestServer {
    builder: Builder,
    child: Option<Child>,
    dir: TempDir,
    /// Presents the token; stays valid over restarts.
    pub client: Client,
}

impl Builder {
    /// On this ledger instead of the embedded one.
    pub fn ledger(mut self, uri: &str) -> Self {
        self.ledger = Some(uri.to_owned());
        self
    }

    /// On this database, which is kept for as long as the server.
    pub fn database(self, database: Database) -> Self {
        Self { _database: Some(database.clone()), ..self.ledger(&database.uri) }
    }

    /// With the plugin bundle in this directory.
    pub fn plugin(mut self, dir: &Path) -> Self {
        self.plugins.push(dir.to_owned());
        self
    }

    /// With so many steps at a time; 0: no worker at all.
    pub fn concurrency(mut self, steps: u32) -> Self {
        self.concurrency = steps;
        self
    }

    /// With leases that hold so many milliseconds without a heartbeat.
    pub fn lease_ttl(mut self, ms: u64) -> Self {
        self.lease_ttl_ms = ms;
        self
    }

    /// With more of the arguments of `serve`.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// With this in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Start it, and wait until it answers.
    pub async fn start(self) -> TestServer {
        let dir = tempfile::Builder::new().prefix("stella-story-").tempdir().unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = Client::new(nowhere, "");
        let mut server = TestServer { builder: self, child: None, dir, client };
        let addr = server.spawn().await;
        let token = fs::read_to_string(server.data_dir().join("token")).unwrap();
        server.client = Client::new(addr, token.trim());
        server
    }
}

impl TestServer {
    /// On the embedded ledger, with the built-in plugins, unless said otherwise.
    pub fn builder() -> Builder {
        Builder {
            ledger: None,
            _database: None,
            plugins: vec![],
            lease_ttl_ms: 2_000,
            concurrency: 4,
            args: vec![],
            environment: vec![],
            erasing: None,
        }
    }

    /// On a ledger of this kind, with the built-in plugins.
    pub async fn on(on: On) -> Builder {
        match on {
            On::Sqlite => Self::builder(),
            On::MongoDb => Self::builder().database(Database::new().await),
        }
    }

    /// On the embedded ledger.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Where its ledger is.
    pub fn ledger(&self) -> String {
        let embedded = || format!("sqlite:{}", self.data_dir().join("ledger.db").display());
        self.builder.ledger.clone().unwrap_or_else(embedded)
    }

    /// Its `--data-dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A path for a file that goes away with the server.
    pub fn scratch(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// What it has printed, over all starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Every event of its ledger up to now, as the export has them.
    pub async fn events(&self) -> Vec<Value> {
        let seal = self.client.post("/ledger:seal", &json!({"reason": "to look at it"})).await.ok();
        let window = format!("/ledger/export?to={}", seal["recordedAt"].as_str().unwrap());
        let lines = self.client.get(&window).await;
        assert_eq!(lines.status, 200, "{lines:?}");
        lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What operators did, in this order: type of event, actor and reason.
    pub async fn deeds(&self, types: &[&str]) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = self.events().await.into_iter().map(|event| {
            let (header, payload) = (&event["header"], &event["payload"]);
            (text(&header["type"]), text(&header["actor"]), text(&payload["reason"]))
        });
        events.filter(|(event_type, ..)| types.contains(&&**event_type)).collect()
    }

    async fn spawn(&mut self) -> SocketAddr {
        self.spawn_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    async fn spawn_at(&mut self, listen: SocketAddr) -> SocketAddr {
        let ready = self.dir.path().join("ready");
        // A file of an earlier start would name an old address.
        let _ = fs::remove_file(&ready);
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.unwrap();
        let mut command = std::process::Command::new(stella::binary());
        command
            .args(["orch", "serve", "--listen", &listen.to_string(), "--ledger", &self.ledger()])
            .args(["--lease-ttl", &self.builder.lease_ttl_ms.to_string()])
            .args(["--concurrency", &self.builder.concurrency.to_string()])
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--ready-file")
            .arg(&ready)
            .args(&self.builder.args)
            .envs(self.builder.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        for plugin in &self.builder.plugins {
            command.arg("--plugins").arg(plugin);
        }
        if let Some(file) = &self.builder.erasing {
            command.arg("--erasure-ledger-file").arg(file);
        }
        self.child = Some(command.spawn().unwrap());
        until("the server is ready", async || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            fs::read_to_string(&ready).ok()?.trim().parse().ok()
        })
        .await
    }

    /// End it as a crash would: `kill -9`. Safe to repeat.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// End it as an operator does: SIGTERM. It has to end well.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("a server that runs");
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let status = until("the server has stopped", async || child.try_wait().unwrap()).await;
        assert!(status.success(), "it ended with {status}:\n{}", self.log());
    }

    /// Wait until it ends by itself; answers its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a server that runs");
        until("the server has ended", async || child.try_wait().unwrap()).await.code()
    }

    /// Start it again on the same data; one that still runs is killed.
    pub async fn restart(&mut self) {
        self.kill();
        let addr = self.spawn().await;
        self.client.moved(addr);
    }

    /// The same at the address that it had, for clients that were told no other.
    pub async fn restart_in_place(&mut self) {
        self.kill();
        let listen = self.client.server();
        self.spawn_at(listen).await;
    }

    /// From its next start on, erase payloads with what this file says.
    pub fn erase_with(&mut self, file: &Path) {
        self.builder.erasing = Some(file.to_owned());
    }

    /// Run `stella orch ARGS` against it, and expect this exit code; answers what it printed.
    pub async fn stella(&self, args: &[&str], code: i32) -> String {
        let mut command = stella::command(args);
        command
            .env("STELLA_SERVER", format!("http://{}", self.client.server()))
            .env("STELLA_TOKEN_FILE", self.data_dir().join("token"));
        stella::expect(command, code).await
    }
}

impl TestServer {
    /// What `stella orch ARGS` answers in JSON.
    pub async fn said(&self, args: &[&str]) -> Value {
        let text = self.stella(&[args, &["-o", "json"]].concat(), 0).await;
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // The test has failed: what the server said may say why.
            eprintln!("--- the server's log ---\n{}", self.log());
        }
    }
}
