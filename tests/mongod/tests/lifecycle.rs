//! Start, crash, restart, stop: what the crash-safety stories rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpStream},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mongodb::{
    Client, Collection,
    bson::{Document, doc},
    options::{Acknowledgment, WriteConcern},
};
use stella_mongod::{Error, Mongod, Options};

/// Set for the process that plays the owner in `the_server_dies_with_its_owner`.
const OWNER: &str = "STELLA_MONGOD_TEST_OWNER";
const LIMIT: Duration = Duration::from_secs(60);

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

async fn collection(mongod: &Mongod) -> Collection<Document> {
    let client = Client::with_uri_str(mongod.uri()).await.unwrap();
    client.database("lifecycle").collection("facts")
}

async fn insert(collection: &Collection<Document>, id: i32) {
    let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    collection.insert_one(doc! { "_id": id }).write_concern(durable).await.unwrap();
}

#[tokio::test]
async fn majority_writes_survive_a_kill_and_a_stop() {
    let mut mongod = Mongod::start(Options::default()).await.unwrap();
    let (port, first_id) = (mongod.port(), mongod.id());
    let facts = collection(&mongod).await;
    insert(&facts, 1).await;

    mongod.kill().await.unwrap();
    mongod.kill().await.unwrap(); // Safe to repeat.
    assert!(!listens(port));
    mongod.restart().await.unwrap();
    assert_eq!(mongod.port(), port);
    assert_ne!(mongod.id(), first_id);
    assert_eq!(facts.count_documents(doc! {}).await.unwrap(), 1, "the same client finds it again");
    insert(&facts, 2).await;

    mongod.stop().await.unwrap();
    mongod.stop().await.unwrap();
    assert!(!listens(port));
    let log = std::fs::read_to_string(mongod.log_path()).unwrap();
    assert!(log.contains("\"exitCode\":0"), "SIGTERM ends it in order");
    mongod.restart().await.unwrap();
    assert_eq!(collection(&mongod).await.count_documents(doc! {}).await.unwrap(), 2);

    let dir = mongod.dir().to_owned();
    drop(mongod);
    assert!(!listens(port) && !dir.exists(), "nothing stays behind");
}

#[tokio::test]
async fn a_given_directory_is_kept_and_can_be_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { dir: Some(dir.path().to_owned()), ..Options::default() };
    let mut mongod = Mongod::start(options.clone()).await.unwrap();
    insert(&collection(&mongod).await, 7).await;
    mongod.stop().await.unwrap();

    let port = Some(mongod.port());
    let mongod = Mongod::start(Options { port, ..options }).await.unwrap();
    assert_eq!(collection(&mongod).await.count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test]
async fn a_refused_argument_is_reported_with_what_the_server_said() {
    let args = vec!["--noSuchOption".into()];
    let error = Mongod::start(Options { args, ..Options::default() }).await.unwrap_err();
    assert!(matches!(error, Error::Died { .. }), "{error:?}");
    assert!(error.to_string().contains("noSuchOption"), "{error}");
}

#[tokio::test]
async fn a_missing_library_is_reported_with_its_package() {
    // A stand-in that ends as the dynamic loader does, missing the library of its last argument.
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unloadable-mongod.sh");
    for (library, remedy) in [
        ("libcurl.so.4", "apt-get install libcurl4"),
        ("libcrypto.so.3", "apt-get install libssl3"),
        ("libodd.so.9", "apt-file search libodd.so.9"),
    ] {
        let (binary, args) = (Some(binary.clone()), vec![library.into()]);
        let options = Options { binary, args, ..Options::default() };
        let message = Mongod::start(options).await.unwrap_err().to_string();
        assert!(message.contains(library) && message.contains(remedy), "{message}");
    }
}

/// Runs this test's other half in a process of its own and kills that.
#[cfg(target_os = "linux")]
#[test]
fn the_server_dies_with_its_owner() {
    if Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: setpriv (util-linux) is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_of_a_server", "--nocapture"])
        .env(OWNER, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port: u16 = lines
        .filter_map(|line| Some(line.split_once("port=")?.1.parse().unwrap()))
        .next()
        .expect("the owner started its server");
    assert!(listens(port));

    owner.kill().unwrap();
    assert_eq!(owner.wait().unwrap().signal(), Some(9));
    let deadline = Instant::now() + LIMIT;
    while listens(port) {
        assert!(Instant::now() < deadline, "mongod on port {port} outlived its owner");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The owner. As a test of its own, without the variable, it has nothing to do.
#[tokio::test]
async fn owner_of_a_server() {
    let Some(dir) = std::env::var_os(OWNER) else { return };
    let options = Options { dir: Some(dir.into()), ..Options::default() };
    let mongod = Mongod::start(options).await.unwrap();
    println!("\nport={}", mongod.port());
    tokio::time::sleep(LIMIT).await; // Killed long before; a limit in case the killer died first.
}
