//! `ledger export`: what is refused, and transfers that break off.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
};

use common::{Outcome, Server, outcome, repository, stella, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use stella_domain::{
    checkpoint::{Checkpoint, SigningKey},
    hash::Hash32,
};

const HELLO: &str = include_str!("../../fixtures/dags/hello.yaml");

fn run_hello(server: &Server, times: usize) {
    server.apply(HELLO);
    for _ in 0..times {
        server.run(&["run", "start", "hello", "--input", "name=Ann", "--wait"]).expect(0);
    }
}

fn size(server: &Server) -> u64 {
    server.run(&["ledger", "head", "-o", "json"]).expect(0).json()["size"].as_u64().unwrap()
}

fn export(server: &Server, args: &[&str]) -> Outcome {
    server.run(&[&["ledger", "export"], args].concat())
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn files_in(dir: &str) -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(dir);
    names_in(path)
        .into_iter()
        .map(|name| (name.clone(), fs::read(path.join(name)).unwrap()))
        .collect()
}

/// A note that nobody signed who may.
fn foreign_note(size: u64) -> String {
    let ledger = "stella.local/main".parse().unwrap();
    Checkpoint { ledger, size, root: Hash32::ZERO }.sign(&SigningKey::from_bytes(&[7; 32]))
}

#[test]
fn what_would_make_no_bundle_is_refused_and_records_nothing() {
    let server = Server::start();
    run_hello(&server, 1);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (name, text) in [
        ("garbage", "no checkpoint".to_owned()),
        ("larger", foreign_note(9_999)),
        ("rewritten", foreign_note(1)),
        ("taken", "mine".to_owned()),
    ] {
        fs::write(at(name), text).unwrap();
    }
    let foreign = repository().join("fixtures/tampered/good_since/since").display().to_string();
    let (out, now) = (at("out"), size(&server));
    let bundle = ["--out", &out];
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--out", &out, "--to", "2999-01-01"], 1, "with --seal"),
        (&["--out", &out, "--to", "2999-01-01", "--seal"], 2, "lies in the future"),
        (&["--out", &out, "--from", "2026-02-02", "--to", "2026-01-01"], 1, "swap them"),
        (&["--out", &out, "--from", "2999-02-02", "--to", "2999-01-01", "--seal"], 1, "swap them"),
        (&["--out", &at("taken"), "--seal"], 2, "exists already"),
        (&["--out", ".", "--seal"], 2, "exists already"),
        (&["--out", &at("missing/out"), "--seal"], 1, "No such file"),
        (&["--out", "", "--seal"], 2, "name a new directory"),
        (&["--out", "events.ndjson", "--seal"], 2, "with --file"),
        (&["--out", "november.tar.gz", "--seal"], 2, ".tar.zst"),
        (&["--out", &out, "--file", "x"], 2, "cannot be used with"),
        (&["--since", &foreign], 2, "--out"),
        (&[bundle[0], bundle[1], "--since", &at("none"), "--seal"], 2, "cannot read"),
        (&[bundle[0], bundle[1], "--since", &at("garbage"), "--seal"], 2, "ledger checkpoint"),
        (
            &[bundle[0], bundle[1], "--since", &foreign, "--seal"],
            2,
            "of ledger stella.example/acme",
        ),
        (&[bundle[0], bundle[1], "--since", &at("larger")], 1, "CHECKPOINT_BEYOND_LEDGER"),
        (&[bundle[0], bundle[1], "--since", &at("rewritten")], 4, "written anew"),
    ];
    for (args, code, text) in cases {
        export(&server, args).expect(*code).says(text);
    }
    assert_eq!(size(&server), now, "something was recorded");
    let mut left = names_in(dir.path());
    left.sort();
    assert_eq!(left, ["garbage", "larger", "rewritten", "taken"]);
    assert_eq!(fs::read_to_string(at("taken")).unwrap(), "mine");
}

#[test]
fn sealing_is_for_windows_that_are_open() {
    let server = Server::start();
    run_hello(&server, 1);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let before = size(&server);
    let told = export(&server, &["--seal", "--out", &at("first")]).expect(0).says("VERIFIED");
    assert_eq!(size(&server), before + 1);
    let manifest = fs::read_to_string(at("first/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!((&manifest["firstSeq"], &manifest["events"]), (&0.into(), &before.into()));
    // The command that it prints is the one that verifies.
    let command = told.stderr.lines().last().unwrap().strip_prefix("stella orch ").unwrap();
    let words: Vec<&str> = command.split(' ').collect();
    outcome(stella(&words)).expect(0).says("VERIFIED");

    let to = manifest["window"]["to"].as_str().unwrap();
    export(&server, &["--seal", "--to", to, "--out", &at("again")]).expect(0);
    assert_eq!(size(&server), before + 1, "it was closed already");
    assert_eq!(files_in(&at("again")), files_in(&at("first")));
    export(&server, &["--seal", "--file", &at("events")]).expect(0).says("sealed at seq");
    assert_eq!(size(&server), before + 2);
}

/// What happens to an answer of `/ledger/export`.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// The connection ends after so many bytes.
    Cut(usize),
    /// Nothing comes after so many bytes.
    Stall(usize),
}

/// Stands between client and server; each export's answer meets the next fate, and passes once
/// there is none.
struct Proxy {
    url: String,
    left: Arc<Mutex<Vec<Fate>>>,
}

impl Proxy {
    fn before(server: &Server, mut fates: Vec<Fate>) -> Self {
        fates.reverse();
        let left = Arc::new(Mutex::new(fates));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream: SocketAddr = server.url.strip_prefix("http://").unwrap().parse().unwrap();
        let fates = Arc::clone(&left);
        // Ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let fates = Arc::clone(&fates);
                thread::spawn(move || pass(client, upstream, &fates));
            }
        });
        Self { url, left }
    }

    fn fates_left(&self) -> usize {
        self.left.lock().unwrap().len()
    }
}

/// Pass on one connection. Clients send requests of one piece, and wait for the answer.
fn pass(mut client: TcpStream, upstream: SocketAddr, fates: &Mutex<Vec<Fate>>) {
    let mut server = TcpStream::connect(upstream).unwrap();
    let (mut from_server, mut to_client) =
        (server.try_clone().unwrap(), client.try_clone().unwrap());
    let fate: Arc<Mutex<Option<Fate>>> = Arc::default();
    let of_answer = Arc::clone(&fate);
    thread::spawn(move || {
        let mut buffer = vec![0; 4_096];
        while let Ok(read @ 1..) = from_server.read(&mut buffer) {
            let mut fate = of_answer.lock().unwrap();
            let passed = match &mut *fate {
                Some(Fate::Cut(left) | Fate::Stall(left)) => {
                    let passed = read.min(*left);
                    *left -= passed;
                    passed
                }
                None => read,
            };
            // A client that has gone hears nothing.
            let _ = to_client.write_all(&buffer[..passed]);
            if matches!(*fate, Some(Fate::Cut(0))) {
                let _ = to_client.shutdown(Shutdown::Both);
                return;
            }
        }
    });
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        if String::from_utf8_lossy(&buffer[..read]).contains("/ledger/export?") {
            *fate.lock().unwrap() = fates.lock().unwrap().pop();
        }
        if server.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

#[test]
fn a_transfer_that_breaks_off_is_taken_up_where_it_was() {
    let server = Server::start();
    run_hello(&server, 6);
    server.run(&["ledger", "seal"]).expect(0);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    export(&server, &["--out", &at("whole")]).expect(0);
    let whole = files_in(&at("whole"));
    assert!(whole["events.ndjson"].len() > 30_000, "too little to be cut");
    // Within lines, without any answer, and within the answer's head.
    let fates = [7_000, 0, 9_001, 1_000, 20].map(Fate::Cut).to_vec();
    let through = |out: &[&str]| {
        let proxy = Proxy::before(&server, fates.clone());
        let mut command = server.command(&[&["ledger", "export"], out].concat());
        command.env("STELLA_SERVER", &proxy.url);
        outcome(command).expect(0);
        assert_eq!(proxy.fates_left(), 0, "it was not cut as often as it should");
    };
    through(&["--out", &at("pieces")]);
    assert_eq!(files_in(&at("pieces")), whole);
    through(&["--file", &at("events")]);
    assert_eq!(fs::read(at("events")).unwrap(), whole["events.ndjson"]);
}

#[test]
fn one_that_is_given_up_leaves_nothing_behind() {
    let server = Server::start();
    run_hello(&server, 2);
    server.run(&["ledger", "seal"]).expect(0);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.tar.zst");
    let proxy = Proxy::before(&server, vec![Fate::Stall(3_000)]);
    let mut command = server.command(&["ledger", "export", "--out", out.to_str().unwrap()]);
    command.env("STELLA_SERVER", &proxy.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    until("the export has begun", || (!names_in(dir.path()).is_empty()).then_some(()));
    until("its events are asked for", || (proxy.fates_left() == 0).then_some(()));
    assert!(!out.exists());
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(names_in(dir.path()), [""; 0]);
}
