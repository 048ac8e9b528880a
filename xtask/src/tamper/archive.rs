//! Bundles as one file, and what somebody did to the file itself.

use std::collections::BTreeMap;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use stella_verify::manifest::names;
use tar::{Builder, EntryType, Header};

use super::{
    case::{Case, Contents},
    good::{INCOMPLETE, TAMPERED, VERIFIED, erased, good, tampered},
};
use crate::Failure;

/// A tar in the making.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    /// These files of a bundle, in this order.
    fn of(contents: &Contents, order: &[&'static str]) -> Result<Self, Failure> {
        let mut tar = Self(Builder::new(vec![]));
        for name in order {
            tar.file(name, contents.get(name).ok_or("no such file")?)?;
        }
        Ok(tar)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        self.entry(EntryType::Regular, name, bytes)
    }

    fn entry(&mut self, kind: EntryType, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_path(name)?;
        header.set_cksum();
        Ok(self.0.append(&header, bytes)?)
    }

    fn compressed(self) -> Result<Vec<u8>, Failure> {
        Ok(compress_to_vec(&self.0.into_inner()?[..], CompressionLevel::Fastest))
    }
}

pub(super) fn cases() -> Result<Vec<Case>, Failure> {
    let contents = good()?.contents();
    let [_, most @ ..] = names::ALL;
    let (whole, mut reversed) = (|| Tar::of(&contents, &names::ALL), names::ALL);
    reversed.reverse();
    let packed = whole()?.compressed()?;
    // The checksum is the frame's last four bytes.
    let mut other_checksum = packed.clone();
    other_checksum.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
    let mut twice = whole()?;
    twice.file(names::EVENTS, &contents[names::EVENTS])?;
    let mut linked = Tar::of(&contents, &most)?;
    linked.entry(EntryType::Symlink, names::MANIFEST, b"")?;
    let mut extended = Tar(Builder::new(vec![]));
    extended.entry(EntryType::XHeader, "pax", b"16 path=somewhere\n")?;
    let mut among_others = whole()?;
    among_others.file("README", b"made by hand\n")?;
    let mut edited: BTreeMap<_, _> = contents.clone();
    let events =
        String::from_utf8_lossy(&contents[names::EVENTS]).replacen("as told", "as TOLD", 1);
    edited.insert(names::EVENTS, events.into_bytes());
    let more = compress_to_vec(&b"more"[..], CompressionLevel::Fastest);
    let archive = Case::archive;
    Ok(vec![
        archive("good_archive", VERIFIED, packed.clone())?,
        archive("good_archive_among_others", VERIFIED, among_others.compressed()?)?,
        archive(
            "good_archive_erased",
            ("VERIFIED_WITH_ERASURES", None),
            Tar::of(&erased()?.contents(), &names::ALL)?.compressed()?,
        )?,
        archive("good_archive_reversed", VERIFIED, Tar::of(&contents, &reversed)?.compressed()?)?,
        archive("archive_cut", INCOMPLETE, packed[..packed.len() / 2].to_vec())?,
        archive("archive_edited", tampered(8), Tar::of(&edited, &names::ALL)?.compressed()?)?,
        archive("archive_file_missing", INCOMPLETE, Tar::of(&contents, &most)?.compressed()?)?,
        archive("archive_file_twice", TAMPERED, twice.compressed()?)?,
        archive("archive_with_a_link", INCOMPLETE, linked.compressed()?)?,
        archive("archive_with_a_second_frame", TAMPERED, [&packed[..], &more].concat())?,
        archive("archive_with_an_extension", TAMPERED, extended.compressed()?)?,
        archive("archive_with_another_checksum", TAMPERED, other_checksum)?,
        archive("archive_with_more_behind", TAMPERED, [&packed[..], b"more"].concat())?,
    ])
}
