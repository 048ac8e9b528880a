//! What is wrong with the papers: manifest, checkpoint, neighbours, proofs, files, the auditor's own.

use stella_domain::hash::Hash32;
use stella_verify::manifest::names;

use super::{
    bundle::{Bundle, checkpoint, key, set},
    case::{Case, pinned},
    good::{
        ACME, END, ERASED, FIRST, INCOMPLETE, OLDER, SIZE, TAMPERED, UNTRUSTED, case, good,
        incomplete, ledger, tampered, window, witnessed,
    },
    ledger::Ledger,
};
use crate::Failure;

pub(super) fn cases() -> Result<Vec<Case>, Failure> {
    let mut cases = files()?;
    cases.extend(manifests()?);
    cases.extend(neighbours()?);
    cases.extend(checkpoints()?);
    cases.extend(older_checkpoints()?);
    Ok(cases)
}

fn files() -> Result<Vec<Case>, Failure> {
    let of = |name| Case::new(name, INCOMPLETE, &good()?);
    let digest = |name, edit: &dyn Fn(&mut Bundle)| {
        let mut bundle = good()?;
        edit(&mut bundle);
        Case::new(name, TAMPERED, &bundle)
    };
    Ok(vec![
        of("no_manifest")?.without(names::MANIFEST),
        of("no_checkpoint")?.without(names::CHECKPOINT),
        of("no_boundary")?.without(names::BOUNDARY),
        of("no_erasures")?.without(names::ERASURES),
        of("no_events")?.without(names::EVENTS),
        digest("wrong_blake3", &|b| b.manifest.files.events.blake3 = Hash32::ZERO)?,
        digest("wrong_sha256", &|b| b.manifest.files.erasures.sha256 = Hash32::ZERO)?,
        digest("wrong_size", &|b| b.manifest.files.boundary.bytes += 1)?,
        digest("wrong_digest_of_the_checkpoint", &|b| {
            b.manifest.files.checkpoint.sha256 = Hash32::ZERO;
        })?,
    ])
}

fn manifests() -> Result<Vec<Case>, Failure> {
    let of = |name, expected| Case::new(name, expected, &good()?);
    Ok(vec![
        of("manifest_of_a_later_format", UNTRUSTED)?
            .manifest("\"format\":1,", "\"format\":2,\"further\":{},"),
        of("manifest_with_white_space", TAMPERED)?.manifest(":", ": "),
        of("manifest_with_another_member", TAMPERED)?
            .manifest("\"files\":", "\"extra\":null,\"files\":"),
        of("manifest_without_consistency", TAMPERED)?.manifest("\"consistency\":null,", ""),
        of("manifest_without_a_line_feed", TAMPERED)?.file(names::MANIFEST, |mut bytes| {
            bytes.pop();
            bytes
        }),
        of("manifest_of_two_lines", TAMPERED)?.file(names::MANIFEST, |bytes| bytes.repeat(2)),
        of("manifest_with_a_text_as_number", TAMPERED)?
            .manifest("\"events\":10,", "\"events\":\"10\","),
        of("manifest_with_a_fraction", TAMPERED)?.manifest("\"events\":10,", "\"events\":10.5,"),
        of("manifest_with_an_integer_too_large", TAMPERED)?
            .manifest("\"treeSize\":24,", "\"treeSize\":9007199254740992,"),
        of("manifest_with_another_last_seq", TAMPERED)?
            .manifest("\"lastSeq\":17,", "\"lastSeq\":18,"),
        of("manifest_with_another_ledger", TAMPERED)?.manifest(ACME, "stella.example/acme2"),
        of("manifest_upside_down", TAMPERED)?.manifest("\"from\":\"2026", "\"from\":\"2027"),
        case("manifest_with_another_last_hash", tampered(END - 1), |b| {
            b.manifest.last_hash = Hash32::ZERO;
        })?,
        case("manifest_with_another_prev", tampered(FIRST), |b| {
            b.manifest.prev = b.manifest.last_hash;
        })?,
    ])
}

fn neighbours() -> Result<Vec<Case>, Failure> {
    let ledger = ledger()?;
    // Events 16 and 17 left out, and the first of them dated to the window's end.
    let forged = |bundle: &mut Bundle, at: usize, from: &str, to: &str| {
        let line = bundle.boundary[at].replacen(from, to, 1);
        let start = line.find("\"header\":").map_or(0, |at| at + "\"header\":".len());
        let end = line.rfind(",\"side\"").unwrap_or(0);
        let hash = stella_domain::hash::event_hash(&line[start..end]);
        bundle.boundary[at] = set(&line, "hash", &hash);
    };
    let mut dated = Bundle::range(&ledger, window(), 8, 16, SIZE)?;
    forged(&mut dated, 1, "09:00:10.000000Z", "09:00:11.000000Z");
    dated.digest();
    let alone = Bundle::of(&ledger, window(), usize::try_from(END)?)?;
    Ok(vec![
        Case::new("forged_right_neighbour", tampered(FIRST), &dated)?,
        case("forged_left_neighbour", tampered(FIRST - 1), |b| {
            forged(b, 0, "09:00:04.000000Z", "09:00:03.000000Z");
        })?,
        case("right_neighbour_of_another_place", tampered(END), |b| {
            forged(b, 1, "\"seq\":18", "\"seq\":19");
        })?,
        case("right_neighbour_of_another_ledger", tampered(END), |b| {
            forged(b, 1, ACME, "stella.example/other");
        })?,
        case("right_neighbour_within_a_commit", tampered(END), |b| {
            forged(b, 1, "\"commitSeq\":18", "\"commitSeq\":17");
        })?,
        case("neighbour_edited", TAMPERED, |b| {
            b.boundary[1] = b.boundary[1].replacen("user:ann", "user:eve", 1);
        })?,
        case("neighbours_out_of_order", TAMPERED, |b| b.boundary.swap(0, 1))?,
        case("neighbour_twice", TAMPERED, |b| b.boundary.push(b.boundary[1].clone()))?,
        case("neighbour_with_white_space", TAMPERED, |b| b.boundary[0].push(' '))?,
        case("neighbour_without_a_line_feed", TAMPERED, |_| {})?.file(
            names::BOUNDARY,
            |mut bytes| {
                bytes.pop();
                bytes
            },
        ),
        case("neighbour_huge", TAMPERED, |b| b.boundary[0] += &" ".repeat(20_000))?,
        case("no_right_neighbour", incomplete(END), |b| drop(b.boundary.pop()))?,
        case("no_left_neighbour", incomplete(FIRST - 1), |b| drop(b.boundary.remove(0)))?,
        case("no_neighbours", incomplete(FIRST - 1), |b| b.boundary.clear())?,
        Case::new("right_neighbour_not_in_the_tree", incomplete(END), &alone)?,
        case("range_proof_too_short", tampered(FIRST), |b| b.manifest.right.truncate(1))?,
        case("range_proof_too_long", tampered(FIRST), |b| b.manifest.left.push(Hash32::ZERO))?,
        case("range_proof_wrong", tampered(FIRST), |b| b.manifest.left[0] = Hash32::ZERO)?,
    ])
}

fn checkpoints() -> Result<Vec<Case>, Failure> {
    let (witnessed, witnesses) = witnessed()?;
    let edited = |name, expected, edit: &dyn Fn(&str) -> String| {
        case(name, expected, |b| b.checkpoint = edit(&b.checkpoint))
    };
    let ranged = |name, range: &str| {
        Ok::<_, Failure>(
            Case::new(name, UNTRUSTED, &good()?)?.keys(&[format!("{}@{range}", pinned()?)]),
        )
    };
    // The second witness's line with the first one's signature and time.
    let mut swapped = witnessed.clone();
    swapped.checkpoint = {
        let note = &witnessed.checkpoint;
        let mut lines: Vec<String> = note.lines().map(str::to_owned).collect();
        let own = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
        let (first, second) = (own(&lines[5]), own(&lines[6]));
        // Four bytes of key id are six characters of base64, the last of which is shared.
        lines[6] = lines[6].replace(&second[6..], &first[6..]);
        lines.join("\n") + "\n"
    };
    swapped.digest();
    let mut twice = witnessed.clone();
    let line = witnessed.checkpoint.lines().nth(5).unwrap_or_default().to_owned();
    twice.checkpoint = checkpoint(&ledger()?, SIZE).sign(&key(1)) + &format!("{line}\n{line}\n");
    twice.digest();
    Ok(vec![
        edited("checkpoint_with_an_extension", TAMPERED, &|text| {
            text.replacen("\n\n", "\next\n\n", 1)
        })?,
        edited("checkpoint_with_crlf", TAMPERED, &|text| text.replace('\n', "\r\n"))?,
        edited("checkpoint_with_a_zero", TAMPERED, &|text| text.replacen("\n24\n", "\n024\n", 1))?,
        edited("checkpoint_cut", TAMPERED, &|text| text[..text.len() - 1].to_owned())?,
        edited("checkpoint_edited", UNTRUSTED, &|text| text.replacen("\n24\n", "\n25\n", 1))?,
        edited("checkpoint_unsigned", UNTRUSTED, &|text| {
            format!("{}— someone AAAAAAE=\n", &text[..text.find('—').unwrap_or(0)])
        })?,
        case("checkpoint_empty", TAMPERED, |b| b.checkpoint.clear())?,
        case("checkpoint_not_utf8", TAMPERED, |_| {})?
            .file(names::CHECKPOINT, |bytes| [bytes, vec![0xff]].concat()),
        ranged("key_out_of_range", "0-23")?,
        ranged("key_not_yet_in_range", "25-")?,
        Case::new("witness_missing", UNTRUSTED, &witnessed)?.witnesses(&witnesses, 3),
        Case::new("witnesses_missing", UNTRUSTED, &good()?)?.witnesses(&witnesses, 1),
        Case::new("witness_wrong", UNTRUSTED, &swapped)?.witnesses(&witnesses, 1),
        Case::new("witness_twice", UNTRUSTED, &twice)?.witnesses(&witnesses, 2),
    ])
}

fn older_checkpoints() -> Result<Vec<Case>, Failure> {
    let ledger = ledger()?;
    let forged = Ledger::of(ACME, "as never told", &[], &ERASED)?;
    let other = Ledger::of("stella.example/other", "as told", &[], &ERASED)?;
    let signed = |ledger: &Ledger, size| checkpoint(ledger, size).sign(&key(1));
    let of = |name, expected| Case::new(name, expected, &good()?.consistent_with(&ledger, OLDER)?);
    let unsigned = checkpoint(&ledger, OLDER).sign(&key(2));
    let other_keys = [pinned()?.to_string(), {
        let key = stella_domain::checkpoint::VerifierKey::new(other.id.clone(), &key(1));
        key.to_string()
    }];
    let mut broken = good()?.consistent_with(&ledger, OLDER)?;
    if let Some(consistency) = &mut broken.manifest.consistency {
        consistency.proof.pop();
    }
    Ok(vec![
        of("since_a_fork", TAMPERED)?.since(signed(&forged, SIZE)),
        of("since_an_older_fork", TAMPERED)?.since(signed(&forged, OLDER)),
        of("since_a_newer_one", INCOMPLETE)?.since(signed(&ledger, SIZE + 1)),
        of("since_another_size", INCOMPLETE)?.since(signed(&ledger, OLDER - 1)),
        Case::new("since_without_a_proof", INCOMPLETE, &good()?)?.since(signed(&ledger, OLDER)),
        Case::new("since_with_a_proof_too_short", TAMPERED, &broken)?.since(signed(&ledger, OLDER)),
        of("since_by_another_key", UNTRUSTED)?.since(unsigned),
        of("since_of_another_ledger", UNTRUSTED)?.since(signed(&other, OLDER)).keys(&other_keys),
        of("since_no_note", UNTRUSTED)?.since("stella.example/acme\n11\n"),
    ])
}
