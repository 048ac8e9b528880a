//! A case of the corpus: bundles or a receipt, what the auditor brings along, and the verdict.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::json;
use stella_domain::checkpoint::{VerifierKey, WitnessKey};
use stella_verify::manifest::names;

use super::bundle::{Bundle, key};
use crate::Failure;

const ARCHIVE: &str = "bundle.tar.zst";
const RECEIPT: &str = "run.receipt";

/// A case under construction.
#[derive(Debug)]
pub(crate) struct Case {
    name: &'static str,
    verdict: &'static str,
    seq: Option<u64>,
    subject: Subject,
    keys: Vec<String>,
    since: Option<Vec<u8>>,
    witnesses: Vec<String>,
    witnesses_needed: usize,
}

/// What the verdict is about.
#[derive(Debug)]
enum Subject {
    Folders(Vec<Contents>),
    Archive(Vec<u8>),
    Receipt(Vec<u8>),
}

/// The files of a bundle.
pub(super) type Contents = BTreeMap<&'static str, Vec<u8>>;

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
        Self::about(name, (verdict, seq), Subject::Folders(vec![bundle.contents()]))
    }

    /// Of a bundle as one file.
    pub(crate) fn archive(
        name: &'static str,
        expected: (&'static str, Option<u64>),
        archive: Vec<u8>,
    ) -> Result<Self, Failure> {
        Self::about(name, expected, Subject::Archive(archive))
    }

    /// Of a run's receipt.
    pub(crate) fn receipt(
        name: &'static str,
        expected: (&'static str, Option<u64>),
        receipt: impl Into<Vec<u8>>,
    ) -> Result<Self, Failure> {
        Self::about(name, expected, Subject::Receipt(receipt.into()))
    }

    fn about(
        name: &'static str,
        (verdict, seq): (&'static str, Option<u64>),
        subject: Subject,
    ) -> Result<Self, Failure> {
        Ok(Self {
            name,
            verdict,
            seq,
            subject,
            keys: vec![pinned()?.to_string()],
            since: None,
            witnesses: vec![],
            witnesses_needed: 0,
        })
    }

    /// The bundles that are folders.
    fn folders(&mut self) -> &mut Vec<Contents> {
        match &mut self.subject {
            Subject::Folders(folders) => folders,
            Subject::Archive(_) | Subject::Receipt(_) => panic!("{} has no folder", self.name),
        }
    }

    /// A further bundle that continues the one before.
    pub(crate) fn and(mut self, bundle: &Bundle) -> Self {
        self.folders().push(bundle.contents());
        self
    }

    /// Change the bytes of a file of the first bundle.
    pub(crate) fn file(
        mut self,
        name: &'static str,
        edit: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) -> Self {
        let bundle = &mut self.folders()[0];
        if let Some(bytes) = bundle.remove(name) {
            bundle.insert(name, edit(bytes));
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
        self.folders()[0].remove(name);
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
        let mut files = BTreeMap::new();
        let (bundles, receipt) = match self.subject {
            Subject::Folders(folders) => {
                let many = folders.len() > 1;
                let name = |i| if many { format!("bundle-{}", i + 1) } else { "bundle".to_owned() };
                let named = |(i, folder)| (name(i), folder);
                let folders: BTreeMap<_, Contents> =
                    folders.into_iter().enumerate().map(named).collect();
                let names = folders.keys().cloned().collect();
                for (folder, contents) in folders {
                    let of_folder = contents.into_iter();
                    files.extend(
                        of_folder.map(|(name, bytes)| (case.join(&folder).join(name), bytes)),
                    );
                }
                (names, None)
            }
            Subject::Archive(bytes) => {
                files.insert(case.join(ARCHIVE), bytes);
                (vec![ARCHIVE.to_owned()], None)
            }
            Subject::Receipt(bytes) => {
                files.insert(case.join(RECEIPT), bytes);
                (vec![], Some(RECEIPT))
            }
        };
        let expected = json!({
            "bundles": bundles,
            "keys": self.keys,
            "receipt": receipt,
            "seq": self.seq,
            "since": self.since.as_ref().map(|_| "since"),
            "verdict": self.verdict,
            "witnesses": self.witnesses,
            "witnessesNeeded": self.witnesses_needed,
        });
        files.insert(case.join("expected.json"), format!("{expected:#}\n").into_bytes());
        if let Some(since) = self.since {
            files.insert(case.join("since"), since);
        }
        files
    }
}
