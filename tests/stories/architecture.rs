//! What may know what, and the rules of tidiness that a reviewer would otherwise have to hold.

use std::{collections::BTreeMap, fs, path::PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use harness::sources::{Source, root, rust, text};

/// What each crate of the product may see of the others: the layering of ARCHITECTURE.md.
const MAY_SEE: &[(&str, &[&str])] = &[
    ("stella-domain", &[]),
    ("stella-verify", &["domain"]),
    ("stella-ledger", &["domain"]),
    ("stella-commands", &["domain", "ledger"]),
    ("stella-projections", &["domain", "ledger"]),
    ("stella-replay", &["domain", "ledger", "verify"]),
    ("stella-artifacts", &["domain"]),
    ("stella-worker", &["domain"]),
    (
        "stella-api",
        &["domain", "ledger", "commands", "projections", "replay", "artifacts", "worker"],
    ),
    (
        "stella-cli",
        &[
            "domain",
            "verify",
            "ledger",
            "commands",
            "projections",
            "replay",
            "artifacts",
            "worker",
            "api",
        ],
    ),
];

/// Crates that only test, measure or do chores: nothing of the product is built on them.
const SUPPORT: &[&str] = &["stella-mongod", "stella-tests", "stella-bench", "xtask"];

/// Who may name an outside crate; support crates that may are listed with it.
const NAMED_BY: &[(&str, &[&str])] = &[
    ("mongodb", &["stella-ledger", "stella-mongod", "stella-tests", "stella-bench"]),
    ("sqlx", &["stella-ledger", "stella-projections"]),
    ("axum", &["stella-api"]),
    ("object_store", &["stella-artifacts"]),
    ("cqrs-es", &["stella-domain", "stella-commands"]),
    ("clap", &["stella-cli", "stella-bench", "xtask"]),
];

/// The pure core names nothing that knows of time, chance, or the world outside.
const NOT_IN_DOMAIN: &[&str] =
    &["tokio", "getrandom", "rand", "ulid", "uuid", "reqwest", "hyper", "tempfile", "nix"];

/// Files over the limit, each with what would be lost by cutting it.
const LONG_FILES: &[(&str, &str)] = &[];
const LINES: usize = 450;

/// Names of package registries' hosts, where they are data that a program has to recognise.
const REGISTRY_AS_DATA: &[(&str, &str)] =
    &[("worker/tests/supply_chain.rs", "what Cargo.lock itself says of where a crate comes from")];

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap()
}

fn normal(package: &Package) -> impl Iterator<Item = &str> {
    let kept = |kind| matches!(kind, DependencyKind::Normal | DependencyKind::Build);
    package.dependencies.iter().filter(move |d| kept(d.kind)).map(|d| d.name.as_str())
}

#[test]
fn each_layer_sees_only_those_below() {
    let metadata = metadata();
    let may_see: BTreeMap<&str, &[&str]> = MAY_SEE.iter().copied().collect();
    let mut wrong = vec![];
    for package in &metadata.packages {
        let name = package.name.as_str();
        if SUPPORT.contains(&name) {
            continue;
        }
        let Some(below) = may_see.get(name) else {
            wrong.push(format!("{name} has no place in the layering: give it one here"));
            continue;
        };
        for seen in normal(package) {
            let ours = metadata.packages.iter().any(|other| other.name.as_str() == seen);
            let allowed = seen.strip_prefix("stella-").is_some_and(|seen| below.contains(&seen));
            if ours && !allowed {
                wrong.push(format!("{name} must not see {seen}"));
            }
        }
    }
    assert!(may_see.keys().all(|name| metadata.packages.iter().any(|p| p.name.as_str() == *name)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn storage_and_transport_are_named_in_one_place_each() {
    let mut wrong = vec![];
    for package in &metadata().packages {
        // Tests of a crate, too: what they name is what the crate cannot hide.
        for dependency in &package.dependencies {
            let named_by = NAMED_BY.iter().find(|(name, _)| *name == dependency.name);
            if named_by.is_some_and(|(_, by)| !by.contains(&package.name.as_str())) {
                wrong.push(format!("{} must not name {}", package.name, dependency.name));
            }
        }
        if package.name.as_str() == "stella-domain" {
            let impure = normal(package).filter(|name| NOT_IN_DOMAIN.contains(name));
            wrong.extend(impure.map(|name| format!("domain is pure and must not name {name}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Complain about every line of `sources` that `is_wrong`.
#[track_caller]
fn no_line(sources: &[Source], rule: &str, is_wrong: impl Fn(&str) -> bool) {
    assert!(sources.len() > 20, "only {} files found", sources.len());
    let wrong: Vec<String> = sources
        .iter()
        .flat_map(|source| {
            let lines = source.text.lines().enumerate().filter(|(_, line)| is_wrong(line));
            lines.map(|(i, line)| format!("{}:{}: {}", source.path, i + 1, line.trim()))
        })
        .collect();
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn no_source_file_is_too_long() {
    let long: Vec<(String, usize)> = rust()
        .into_iter()
        .map(|source| (source.path, source.text.lines().count()))
        .filter(|(path, lines)| path.contains("/src/") && *lines > LINES)
        .collect();
    for (path, lines) in &long {
        let excused = LONG_FILES.iter().any(|(excused, _)| excused == path);
        assert!(excused, "{path} has {lines} lines, {LINES} are allowed: cut it, or say why not");
    }
    for (path, why) in LONG_FILES {
        assert!(long.iter().any(|(long, _)| long == path), "{path} ({why}) needs no excuse now");
    }
}

#[test]
fn nothing_is_left_half_done() {
    // Put together here, so that this file does not accuse itself.
    let words = [["to", "do!("], ["db", "g!("], ["FIX", "ME"], ["unimpl", "emented!("]];
    no_line(&rust(), "left half done", |line| words.iter().any(|w| line.contains(&w.concat())));
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    let paths = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["C:", "\\"]];
    let named = |line: &str, names: &[[&str; 2]]| names.iter().any(|n| line.contains(&n.concat()));
    no_line(&text(), "a path of one machine", |line| named(line, &paths));
    let hosts = [["crates", ".io"], ["py", "pi.org"], ["python", "hosted.org"], ["npm", "js.org"]];
    let excused = |path: &str| REGISTRY_AS_DATA.iter().any(|(excused, _)| *excused == path);
    let sources: Vec<Source> = text().into_iter().filter(|s| !excused(&s.path)).collect();
    no_line(&sources, "a package registry's host", |line| named(line, &hosts));
}

/// Whether the line lifts the ban on panicking shortcuts.
fn lifts_the_ban(line: &str) -> bool {
    (line.contains("[allow(") || line.contains("[expect("))
        && ["unwrap_used", "expect_used", "panic)"].iter().any(|lint| line.contains(lint))
}

#[test]
fn shortcuts_that_may_panic_say_why() {
    let mut wrong = vec![];
    for source in rust().iter().filter(|source| !source.is_test()) {
        let lines: Vec<&str> = source.text.lines().collect();
        let tests = lines.iter().position(|line| line.trim() == "#[cfg(test)]");
        for i in (0..tests.unwrap_or(lines.len())).filter(|i| lifts_the_ban(lines[*i])) {
            let said = lines[i].contains("//")
                || lines[i].contains("reason")
                || i > 0 && lines[i - 1].trim_start().starts_with("//");
            if !said {
                wrong.push(format!(
                    "{}:{}: say in a comment why it cannot fail",
                    source.path,
                    i + 1
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_crate_of_the_product_keeps_the_workspace_lints() {
    for package in &metadata().packages {
        let manifest = PathBuf::from(&package.manifest_path);
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{} has no lints", package.name);
    }
}
