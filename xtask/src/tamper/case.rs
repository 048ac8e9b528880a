//! A case of the corpus: bundles, what the auditor brings along, and the verdict.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::json;
use stella_domain::checkpoint::{VerifierKey, WitnessKey};
use stella_verify::manifest::names;

use super::bundle::{Bundle, key};
use crate::Failure;

/// A case under construction.
#[derive(Debug)]
pub(crate) struct Case {
    name: &'static str,
    verdict: &'static str,
    seq: Option<u64>,
    bundles: Vec<BTreeMap<&'static str, Vec<u8>>>,
    keys: Vec<String>,
    since: Option<Vec<u8>>,
    witnesses: Vec<String>,
    witnesses_needed: usize,
}

/// The verifier key that every auditor of the corpus pins unless the case says otherwise.
pub(crate) fn pinned() -> Result<VerifierKey, Failure> {
    Ok(VerifierKey::new("stella.example/acme".parse()?, &key(1)))
}

impl Case {
    pub(crate) fn new(
        name: &'static str,
        (verdict, seq): (&'static str, Option<u64>),
        bundle: &Bundle,
    ) -> Result<Self, Failure> {
        Ok(Self {
            name,
            verdict,
            seq,
            bundles: vec![bundle.contents()],
            keys: vec![pinned()?.to_string()],
            since: None,
            witnesses: vec![],
            witnesses_needed: 0,
        })
    }

    /// A further bundle that continues the one before.
    pub(crate) fn and(mut self, bundle: &Bundle) -> Self {
        self.bundles.push(bundle.contents());
        self
    }

    /// Change the bytes of a file of the first bundle.
    pub(crate) fn file(
        mut self,
        name: &'static str,
        edit: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) -> Self {
        if let Some(bytes) = self.bundles[0].remove(name) {
            self.bundles[0].insert(name, edit(bytes));
        }
        self
    }

    /// Change the text of the first bundle's manifest.
    pub(crate) fn manifest(self, from: &str, to: &str) -> Self {
        self.file(names::MANIFEST, |bytes| {
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.contains(from), "nothing to edit: {from} in {text}");
            text.replacen(from, to, 1).into_bytes()
        })
    }

    pub(crate) fn without(mut self, name: &'static str) -> Self {
        self.bundles[0].remove(name);
        self
    }

    pub(crate) fn keys(mut self, keys: &[String]) -> Self {
        self.keys = keys.to_vec();
        self
    }

    pub(crate) fn since(mut self, note: impl Into<Vec<u8>>) -> Self {
        self.since = Some(note.into());
        self
    }

    pub(crate) fn witnesses(mut self, witnesses: &[WitnessKey], needed: usize) -> Self {
        self.witnesses = witnesses.iter().map(ToString::to_string).collect();
        self.witnesses_needed = needed;
        self
    }

    /// Every file, by its path below the corpus.
    pub(crate) fn files(self) -> BTreeMap<PathBuf, Vec<u8>> {
        let case = PathBuf::from(self.name);
        let many = self.bundles.len() > 1;
        let folder =
            |i: usize| if many { format!("bundle-{}", i + 1) } else { "bundle".to_owned() };
        let expected = json!({
            "bundles": (0..self.bundles.len()).map(folder).collect::<Vec<_>>(),
            "keys": self.keys,
            "seq": self.seq,
            "since": self.since.as_ref().map(|_| "since"),
            "verdict": self.verdict,
            "witnesses": self.witnesses,
            "witnessesNeeded": self.witnesses_needed,
        });
        let mut files = BTreeMap::new();
        files.insert(case.join("expected.json"), format!("{expected:#}\n").into_bytes());
        if let Some(since) = self.since {
            files.insert(case.join("since"), since);
        }
        for (i, bundle) in self.bundles.into_iter().enumerate() {
            let files_of = bundle.into_iter();
            files.extend(files_of.map(|(name, bytes)| (case.join(folder(i)).join(name), bytes)));
        }
        files
    }
}
