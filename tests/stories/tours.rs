//! Documents that lead through something, as they stand: their commands are run, and what these print
//! has the shape that is shown.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use harness::{PATIENCE, sources, stella, until};

/// Where the tour's server listens; here it gets a port of its own.
const ADDRESS: &str = "http://127.0.0.1:7787";
/// Blocks that begin so are commands. All others show what the block before printed.
const COMMANDS: [&str; 10] =
    ["stella ", "RUN=", "KEY=", "FROM=", "cp ", "sed ", "wc ", "curl ", "python3 ", "cargo "];
/// Blocks of this language are not run: they need what is not there.
const NOT_RUN: &str = "sh";
/// Before each block's output stands this, and after it this with the exit code.
const MARK: &str = "@@@";
/// What the tour asks `jq`, for machines that have none.
const STAND_IN_FOR_JQ: &str = "#!/bin/sh\nsed -n 's/.*\"runId\": *\"\\([^\"]*\\)\".*/\\1/p'\n";

/// Commands, and what the document shows of what they print.
struct Stop {
    commands: String,
    shown: Option<String>,
}

struct Tour {
    hello_yaml: String,
    stops: Vec<Stop>,
}

/// The part of a document that begins and ends with these headings.
fn tour(document: &str, from: &str, to: &str) -> Tour {
    let document = fs::read_to_string(sources::root().join(document)).unwrap();
    let after = document.split_once(from).expect("the tour's heading").1;
    let section = after.split_once(to).expect("the heading after it").0;
    let (mut hello_yaml, mut stops) = (String::new(), Vec::<Stop>::new());
    // Every other piece between fences is a block; its first line names its language.
    for block in section.split("\n```").skip(1).step_by(2) {
        let (language, text) = block.split_once('\n').unwrap();
        if language == NOT_RUN {
            continue;
        }
        if language == "yaml" {
            text.clone_into(&mut hello_yaml);
        } else if COMMANDS.iter().any(|command| text.starts_with(command)) {
            stops.push(Stop { commands: text.to_owned(), shown: None });
        } else {
            let stop = stops.last_mut().expect("commands before what they print");
            assert!(stop.shown.is_none(), "two outputs of {}", stop.commands);
            stop.shown = Some(text.to_owned());
        }
    }
    Tour { hello_yaml, stops }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `stella orch serve` in `dir`; answers where it listens, too.
async fn serve(dir: &Path) -> (Server, String) {
    let printed = fs::File::create(dir.join("served")).unwrap();
    let mut command = Command::new(stella::binary());
    command.args(["orch", "serve", "--listen", "127.0.0.1:0", "--ready-file", "ready"]);
    command.current_dir(dir).stdin(Stdio::null()).stdout(printed).stderr(Stdio::null());
    let server = Server(command.spawn().unwrap());
    let ready = async || fs::read_to_string(dir.join("ready")).ok();
    let address = until("the tour's server is ready", ready).await;
    (server, format!("http://{}", address.trim()))
}

/// Run all commands in one shell, as a reader does; answers what each stop printed, and the code
/// with which its last command ended.
async fn walk(dir: &Path, address: &str, stops: &[Stop]) -> Vec<(String, i32)> {
    let mut script = String::new();
    for stop in stops {
        let commands = stop.commands.replace(ADDRESS, address);
        script.push_str(&format!("{commands}\necho \"{MARK}$?\"\n"));
    }
    fs::write(dir.join("tour.sh"), script).unwrap();
    let fallback = dir.join("bin");
    fs::create_dir(&fallback).unwrap();
    let jq = fallback.join("jq");
    fs::write(&jq, STAND_IN_FOR_JQ).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&jq, mode).unwrap();
    std::os::unix::fs::symlink(sources::root().join("tools"), dir.join("tools")).unwrap();
    let (built, path) = (stella::binary(), std::env::var("PATH").unwrap());
    let built = built.parent().unwrap().display();
    let mut command = tokio::process::Command::new("bash");
    command
        .args(["-c", "exec bash tour.sh 2>&1"])
        .current_dir(dir)
        .env("PATH", format!("{built}:{path}:{}", fallback.display()))
        .env("STELLA_SERVER", address)
        .env_remove("STELLA_LEDGER")
        .env_remove("STELLA_DATA_DIR")
        .env_remove("STELLA_TOKEN_FILE")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("the tour ends").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut pieces = text.split(MARK);
    let mut printed = pieces.next().unwrap().to_owned();
    let mut walked = vec![];
    for piece in pieces {
        let (code, next) = piece.split_once('\n').unwrap();
        let ended = std::mem::replace(&mut printed, next.to_owned());
        walked.push((ended, code.parse().unwrap()));
    }
    walked
}

/// Words, without what is another each time: ids, hashes, times, numbers, units of time.
fn shape(text: &str) -> Vec<String> {
    let units = ["s", "ms", "µs"];
    let varies = |word: &str| word.contains(|c: char| c.is_ascii_digit()) || units.contains(&word);
    let words = text.split_whitespace();
    words.map(|word| if varies(word) { "_" } else { word }.to_owned()).collect()
}

/// Types of events, in no order: which of two steps ends first is left to chance.
fn event_types(text: &str) -> Vec<&str> {
    let is_type = |word: &&str| word.starts_with("Run") || word.starts_with("Step");
    let mut types: Vec<&str> = text.split_whitespace().filter(is_type).collect();
    types.sort_unstable();
    types
}

/// Check that what is shown was printed, word by word and in order; more may stand between.
fn check(stop: &Stop, printed: &str) {
    let Some(shown) = &stop.shown else { return };
    let commands = &stop.commands;
    if commands.contains("run stream") {
        assert_eq!(event_types(shown), event_types(printed), "{commands}\n{printed}");
        return;
    }
    let mut words = shape(printed).into_iter();
    for word in shape(shown) {
        let found = words.any(|printed| printed == word);
        assert!(found, "{commands} does not print {word:?} where it is shown:\n{printed}");
    }
}

/// The code with which the last of these commands ends: that of the verdict that is shown.
fn expected_code(stop: &Stop) -> i32 {
    // The one that was tampered with.
    if stop.commands.contains("changed.ndjson") {
        return 4;
    }
    let says =
        |of: &str| stop.shown.as_ref().is_some_and(|shown| shown.contains(&format!(": {of}")));
    match () {
        () if says("VERIFIED_WITH_ERASURES") => 10,
        () if says("INCOMPLETE") => 11,
        () if says("TAMPERED") => 12,
        () => 0,
    }
}

/// Walk it, beside a server in the same directory.
async fn holds(dir: &Path, address: &str, stops: &[Stop]) {
    assert!(stops.len() >= 10, "only {} stops", stops.len());
    let walked = walk(dir, address, stops).await;
    assert_eq!(walked.len(), stops.len());
    for (stop, (printed, code)) in stops.iter().zip(&walked) {
        assert_eq!(*code, expected_code(stop), "{}:\n{printed}", stop.commands);
        check(stop, printed);
    }
}

fn readme() -> Tour {
    tour("README.md", "\n## Five minutes\n", "\n## ")
}

#[tokio::test]
async fn the_five_minute_tour_is_as_the_readme_shows_it() {
    let Tour { hello_yaml, mut stops } = readme();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hello.yaml"), hello_yaml).unwrap();
    // The binary is built, and the server has a terminal of its own.
    stops.retain(|stop| !stop.commands.starts_with("cargo build"));
    let serving = stops.remove(0);
    assert_eq!(serving.commands, "stella orch serve");
    let (_server, address) = serve(dir.path()).await;
    check(&serving, &fs::read_to_string(dir.path().join("served")).unwrap());
    if Command::new("curl").arg("--version").output().is_err() {
        stops.retain(|stop| !stop.commands.starts_with("curl "));
    }
    holds(dir.path(), &address, &stops).await;
}

#[tokio::test]
async fn an_audit_goes_as_its_document_shows_it() {
    let Tour { stops, .. } =
        tour("docs/auditing.md", "\n## A walk through an audit\n", "\n## Retention\n");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hello.yaml"), readme().hello_yaml).unwrap();
    let (_server, address) = serve(dir.path()).await;
    holds(dir.path(), &address, &stops).await;
}
