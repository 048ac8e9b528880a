//! The demo's plugin, over lockfiles of every version that is in use, and as a real process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, path::PathBuf};

use common::{execute, lease, write_script};
use rstest::rstest;
use serde_json::{Value, json};
use stella_worker::{Bundle, supply_chain};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn lockfile(version: u32) -> (TempDir, PathBuf) {
    let sum = "0".repeat(64);
    let mut text = format!("version = {version}\n");
    for (name, crate_version, source, checksum) in [
        ("app", "0.1.0", "", ""),
        ("dup", "1.0.0", REGISTRY, sum.as_str()),
        ("dup", "2.0.0", REGISTRY, &sum),
        ("elsewhere", "1.0.0", "registry+https://crates.example.com/index", &sum),
        ("forked", "0.3.0", "git+https://example.com/forked?branch=main#0123abcd", ""),
        ("unchecked", "1.2.3", REGISTRY, ""),
    ] {
        text += &format!("\n[[package]]\nname = \"{name}\"\nversion = \"{crate_version}\"\n");
        for (key, value) in [("source", source), ("checksum", checksum)] {
            if !value.is_empty() {
                text += &format!("{key} = \"{value}\"\n");
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Cargo.lock");
    fs::write(&path, text).unwrap();
    (dir, path)
}

#[rstest]
fn it_finds_what_is_there(#[values(3, 4)] version: u32) {
    let (_dir, path) = lockfile(version);
    let run = |action| supply_chain::run(action, json!({ "lockfile": path })).unwrap();
    let inventory = run("inventory");
    assert_eq!(inventory["packages"], 6);
    assert_eq!(inventory["lockfileVersion"], version);
    assert_eq!(
        inventory["bySource"],
        json!({ "git": 1, "otherRegistry": 1, "registry": 3, "workspace": 1 })
    );
    let duplicates = run("duplicates");
    assert_eq!(
        duplicates,
        json!({ "total": 1, "crates": [{ "name": "dup", "versions": ["1.0.0", "2.0.0"] }] })
    );
    let sources = run("sources");
    assert_eq!((&sources["total"], &sources["workspace"]["crates"]), (&json!(2), &json!(["app"])));
    assert_eq!(sources["crates"][0]["kind"], "otherRegistry");
    assert_eq!(sources["crates"][1]["name"], "forked");
    let checksums = run("checksums");
    assert_eq!((&checksums["total"], &checksums["checked"]), (&json!(1), &json!(4)));
    assert_eq!(checksums["crates"], json!([{ "name": "unchecked", "version": "1.2.3" }]));

    let report = supply_chain::run(
        "report",
        json!({
            "inventory": inventory, "duplicates": duplicates,
            "sources": sources, "checksums": checksums,
        }),
    )
    .unwrap();
    assert_eq!(
        report["findings"],
        json!({ "duplicates": 1, "notFromRegistry": 2, "withoutChecksum": 1 })
    );
    assert_eq!(report["trusted"], false);
    let text = report["text"].as_str().unwrap();
    assert!(text.contains("dup: 1.0.0, 2.0.0") && text.contains("unchecked 1.2.3"), "{text}");
}

#[test]
fn outputs_stay_small_whatever_the_lockfile() {
    let (_dir, path) = lockfile(4);
    let mut text = fs::read_to_string(&path).unwrap();
    for i in 0..20_000 {
        text += &format!("\n[[package]]\nname = \"crate-{}\"\nversion = \"{i}.0.0\"\n", i / 2);
        text += "source = \"git+https://example.com/x#0123\"\n";
    }
    fs::write(&path, text).unwrap();
    for (action, total) in [("duplicates", 10_001), ("sources", 20_002)] {
        let outputs = supply_chain::run(action, json!({ "lockfile": path })).unwrap();
        assert_eq!(outputs["total"], total);
        assert!(outputs.to_string().len() < 15_000);
    }
}

#[rstest]
#[case::missing(None, "LOCKFILE_UNREADABLE")]
#[case::not_text(Some(&b"\xff\xfe"[..]), "LOCKFILE_UNREADABLE")]
#[case::not_toml(Some(&b"<lock/>"[..]), "LOCKFILE_INVALID")]
#[case::other_toml(Some(&b"[package]\nname = 3"[..]), "LOCKFILE_INVALID")]
#[case::from_the_future(Some(&b"version = 99\n"[..]), "LOCKFILE_INVALID")]
fn a_bad_lockfile_is_a_clear_error(#[case] content: Option<&[u8]>, #[case] code: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Cargo.lock");
    if let Some(content) = content {
        fs::write(&path, content).unwrap();
    }
    for action in ["inventory", "duplicates", "sources", "checksums"] {
        let error = supply_chain::run(action, json!({ "lockfile": path })).expect_err(action);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains("Cargo.lock"), "{error}");
    }
}

#[rstest]
#[case::relative("inventory", json!({ "lockfile": "Cargo.lock" }), "LOCKFILE_UNREADABLE")]
#[case::a_directory("inventory", json!({ "lockfile": "/" }), "LOCKFILE_UNREADABLE")]
#[case::no_lockfile("inventory", json!({}), "INPUTS_INVALID")]
#[case::unknown_input("inventory", json!({ "lockfile": "/x", "y": 1 }), "INPUTS_INVALID")]
#[case::no_outputs("report", json!({}), "INPUTS_INVALID")]
#[case::unknown_action("guess", json!({}), "UNKNOWN_ACTION")]
fn wrong_inputs_are_a_clear_error(#[case] action: &str, #[case] inputs: Value, #[case] code: &str) {
    assert_eq!(supply_chain::run(action, inputs).unwrap_err().code(), code);
}

#[test]
fn a_lockfile_that_changes_under_the_run_is_noticed() {
    let (_dir, path) = lockfile(4);
    let digest = supply_chain::run("inventory", json!({ "lockfile": path })).unwrap();
    let inputs = json!({ "lockfile": path, "lockfileDigest": digest["lockfileDigest"] });
    assert!(supply_chain::run("sources", inputs.clone()).is_ok());
    fs::write(&path, "version = 4\n").unwrap();
    let error = supply_chain::run("sources", inputs).unwrap_err();
    assert_eq!(error.code(), "LOCKFILE_CHANGED");
}

/// Not a test of its own: the process that the next test's bundle runs.
#[test]
fn plugin_process() {
    if std::env::var_os("STELLA_STEP_ID").is_some() {
        supply_chain::main();
    }
}

#[tokio::test]
async fn the_bundle_runs_as_a_process() {
    let (dir, lockfile) = lockfile(4);
    // This test's own executable, behind a script that keeps the harness's chatter off stdout.
    let exe = dir.path().join("exe");
    let test = std::env::current_exe().unwrap();
    let lines = "--exact plugin_process --nocapture --test-threads=1";
    write_script(
        &exe,
        &format!("[ \"$1\" = go ] && {} {lines} | grep -o '{{.*}}'", test.display()),
    );
    let bundle_dir = dir.path().join("bundle");
    for _again in 0..2 {
        supply_chain::write_bundle(&bundle_dir, &exe, &["go"]).unwrap();
    }
    let bundle = Bundle::load(&bundle_dir, &[]).unwrap();
    assert_eq!(bundle.name().as_str(), supply_chain::PLUGIN);
    let run = async |with| {
        let lease = lease(1, "supply-chain", "inventory", with);
        execute(&bundle, &lease, &CancellationToken::new()).await
    };
    let done = run(json!({ "lockfile": lockfile })).await;
    assert_eq!(done.outputs.unwrap().to_value()["packages"], 6);
    let error = run(json!({ "lockfile": "/missing" })).await.outputs.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("LOCKFILE_UNREADABLE", false));
    let error = run(json!({})).await.outputs.unwrap_err();
    assert_eq!(error.code(), "PLUGIN_INPUT_INVALID");
}
