//! The report: findings in numbers for programs, and a text for people.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};

use super::ActionError;

/// Entries of each list that the text names.
const SHOWN: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    inventory: Inventory,
    duplicates: Found<Duplicate>,
    sources: Found<Elsewhere>,
    checksums: Found<Unchecked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inventory {
    lockfile_digest: String,
    packages: u64,
    crates: u64,
}

/// The outputs of a step that looks for something; `total` may be more than are listed.
#[derive(Deserialize)]
struct Found<T> {
    total: u64,
    crates: Vec<T>,
}

#[derive(Deserialize)]
struct Duplicate {
    name: String,
    versions: Vec<String>,
}

#[derive(Deserialize)]
struct Elsewhere {
    name: String,
    version: String,
    source: String,
}

#[derive(Deserialize)]
struct Unchecked {
    name: String,
    version: String,
}

/// Compose the outputs of the other actions.
pub(super) fn report(inputs: Value) -> Result<Value, ActionError> {
    let found: Inputs =
        serde_json::from_value(inputs).map_err(|e| ActionError::Inputs(e.to_string()))?;
    let text = text(&found);
    Ok(json!({
        "lockfileDigest": found.inventory.lockfile_digest,
        "packages": found.inventory.packages,
        "findings": {
            "duplicates": found.duplicates.total,
            "notFromRegistry": found.sources.total,
            "withoutChecksum": found.checksums.total,
        },
        // Several versions of one crate are a cost, not a danger.
        "trusted": found.sources.total == 0 && found.checksums.total == 0,
        "text": text,
    }))
}

fn text(found: &Inputs) -> String {
    let Inventory { packages, crates, lockfile_digest } = &found.inventory;
    let mut text = format!("{packages} packages of {crates} crates, lockfile {lockfile_digest}\n");
    section(&mut text, "crates in several versions", &found.duplicates, |d| {
        format!("{}: {}", d.name, d.versions.join(", "))
    });
    section(&mut text, "packages not from the registry", &found.sources, |s| {
        format!("{} {} from {}", s.name, s.version, s.source)
    });
    section(&mut text, "registry packages without a checksum", &found.checksums, |c| {
        format!("{} {}", c.name, c.version)
    });
    text
}

fn section<T>(text: &mut String, title: &str, found: &Found<T>, line: impl Fn(&T) -> String) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{} {title}", found.total);
    let mut shown = 0;
    for item in found.crates.iter().take(SHOWN) {
        let _ = writeln!(text, "  {}", line(item));
        shown += 1;
    }
    if found.total > shown {
        let _ = writeln!(text, "  and {} more", found.total - shown);
    }
}
