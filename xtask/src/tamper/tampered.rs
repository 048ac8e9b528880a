//! What somebody did to the events, to the files that hold them, or to the ledger behind them.

use stella_domain::{hash::Hash32, time::Timestamp};
use stella_verify::manifest::names;

use super::{
    bundle::{Bundle, checkpoint, key},
    case::Case,
    good::{
        ACME, END, ERASED, FIRST, INCOMPLETE, SIZE, TAMPERED, UNTRUSTED, case, erased, good,
        incomplete, ledger, tampered, window,
    },
    ledger::{Ledger, time},
};
use crate::Failure;

pub(super) fn cases() -> Result<Vec<Case>, Failure> {
    let mut cases = events()?;
    cases.extend(forms()?);
    cases.extend(ends()?);
    cases.extend(histories()?);
    cases.extend(erasures()?);
    Ok(cases)
}

/// One event changed, gone, moved or new.
fn events() -> Result<Vec<Case>, Failure> {
    Ok(vec![
        case("edited_data", tampered(10), |b| b.edit(2, "30000", "30001"))?,
        case("edited_data_with_its_hash", tampered(11), |b| {
            b.edit(2, "30000", "30001");
            b.rehash(2);
        })?,
        case("edited_payload", tampered(8), |b| b.edit(0, "as told", "as TOLD"))?,
        case("edited_salt", tampered(8), |b| b.edit(0, "\"salt\":\"0", "\"salt\":\"1"))?,
        case("edited_header", tampered(9), |b| b.edit(1, "user:bob", "user:eve"))?,
        case("edited_last_event_with_its_hash", tampered(END - 1), |b| {
            b.edit(9, "worker:w-1", "worker:w-2");
            b.rehash(9);
        })?,
        case("deleted_event", tampered(12), |b| drop(b.events.remove(4)))?,
        case("swapped_events", tampered(10), |b| b.events.swap(2, 3))?,
        case("inserted_event", tampered(11), |b| {
            b.events.insert(2, b.events[2].clone());
            b.edit(2, "30000", "1");
            b.rehash(2);
        })?,
        case("duplicate_line", tampered(13), |b| b.events.insert(5, b.events[4].clone()))?,
        case("cut_commit", tampered(FIRST), |b| {
            b.edit(0, "\"commitSeq\":8", "\"commitSeq\":7");
            b.rehash(0);
        })?,
        case("back_in_time", tampered(13), |b| {
            b.edit(5, "2026-11-23T09:00:0", "2026-11-23T08:00:0");
            b.rehash(5);
        })?,
        case("another_tenants_event", tampered(10), |b| {
            b.edit(2, ACME, "stella.example/other");
            b.rehash(2);
        })?,
    ])
}

/// The right content in another form.
fn forms() -> Result<Vec<Case>, Failure> {
    let form = |name, at: usize, from: &str, to: &str| {
        case(name, tampered(FIRST + at as u64), |b| {
            b.edit(at, from, to);
            b.rehash(at);
        })
    };
    let crlf = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\n', "\r\n").into_bytes();
    let bom = |bytes: Vec<u8>| [&b"\xef\xbb\xbf"[..], &bytes].concat();
    let digests = |case: Case| case.file(names::EVENTS, |bytes| bytes);
    Ok(vec![
        form("key_order", 2, r#""attempt":1,"leaseMs":30000"#, r#""leaseMs":30000,"attempt":1"#)?,
        form("duplicate_member", 2, r#""attempt":1,"#, r#""attempt":1,"attempt":1,"#)?,
        form("white_space", 2, r#""attempt":1,"#, r#""attempt": 1,"#)?,
        form("white_space_between_members", 2, r#","hash""#, r#", "hash""#)?,
        form("number_with_a_fraction", 2, "30000", "30000.0")?,
        form("number_with_an_exponent", 2, "30000", "3e4")?,
        form("number_with_a_zero_too_many", 3, "0.1", "0.10")?,
        form("negative_zero", 3, "0.1", "-0")?,
        form("needless_escape", 2, "only", r"\u006fnly")?,
        form("escaped_slash", 0, "as told", r"as\/told")?,
        form("escaped_nul", 0, "as told", r"as\u0000told")?,
        form("escape_in_capitals", 0, "as told", r"as\u001Btold")?,
        form("lone_surrogate", 0, "as told", r"as\ud800told")?,
        form("extra_member", 2, r#","hash""#, r#","extra":1,"hash""#)?,
        form("hash_in_capitals", 2, r#""prev":""#, r#""prev":"A"#)?,
        form("upside_down_version", 2, r#""v":1}"#, r#""v":2}"#)?,
        form("seq_with_a_zero", 2, r#""seq":10,"#, r#""seq":010,"#)?,
        form("no_such_day", 2, "2026-11-23T", "2026-11-31T")?,
        form("no_such_stream", 2, r#""stream":"run/"#, r#""stream":"walk/"#)?,
        form("no_such_actor", 2, "worker:w-1", "root:w-1")?,
        digests(case("empty_line", tampered(10), |b| b.events.insert(2, vec![]))?),
        case("not_utf8", tampered(10), |b| {
            let at = b.line(2).find("only").unwrap_or(0);
            b.events[2][at] = 0xff;
        })?,
        case("huge_line", tampered(10), |b| {
            let long = "x".repeat(140_000);
            b.edit(2, "only", &long);
            b.rehash(2);
        })?,
        case("trailing_text_in_a_line", tampered(10), |b| b.events[2].extend(b" "))?,
        case("crlf", tampered(FIRST), |_| {})?.file(names::EVENTS, crlf),
        case("byte_order_mark", tampered(FIRST), |_| {})?.file(names::EVENTS, bom),
    ])
}

/// Beginning and end of the events.
fn ends() -> Result<Vec<Case>, Failure> {
    let ledger = ledger()?;
    let (from, to) = window();
    let range = |first, end| Bundle::range(&ledger, (from, to), first, end, SIZE);
    let empty = Bundle::range(&ledger, (from, to), 8, 8, SIZE)?;
    let earlier = (from, time(9));
    let later = (from, Timestamp::from_micros(time(11).as_micros() + 1));
    let since_later = (Timestamp::from_micros(time(5).as_micros() + 1), to);
    let since_earlier = (time(4), to);
    // What is missing before the first line counts before what is wrong with its time.
    let mut late = Bundle::range(&ledger, (from, time(6)), 8, 18, SIZE)?;
    late.events.drain(..2);
    late.digest();
    Ok(vec![
        case("cut_tail", incomplete(END - 2), |b| b.events.truncate(8))?,
        case("cut_everything", incomplete(FIRST), |b| b.events.clear())?,
        case("cut_within_a_line", incomplete(END - 1), |b| {
            b.tail = b.events.pop().unwrap_or_default()[..100].to_vec();
        })?,
        case("no_last_line_feed", incomplete(END - 1), |b| {
            b.tail = b.events.pop().unwrap_or_default();
        })?,
        case("first_event_missing", incomplete(FIRST), |b| drop(b.events.remove(0)))?,
        Case::new("first_events_missing_and_the_next_outside", incomplete(FIRST), &late)?,
        case("trailing_garbage", tampered(END), |b| b.tail = b"garbage\n".to_vec())?,
        case("trailing_garbage_without_a_line_feed", tampered(END), |b| b.tail = b"{".to_vec())?,
        case("one_event_too_many", tampered(END), |b| {
            b.tail = [ledger.lines[18].as_bytes(), b"\n"].concat();
        })?,
        Case::new("left_edge_omitted", incomplete(9), &range(10, 18)?)?,
        Case::new("right_edge_omitted", incomplete(16), &range(8, 16)?)?,
        Case::new("empty_window_that_was_not_empty", incomplete(8), &empty)?,
        Case::new(
            "window_ends_earlier",
            tampered(15),
            &Bundle::range(&ledger, earlier, 8, 18, SIZE)?,
        )?,
        Case::new(
            "window_ends_later",
            incomplete(18),
            &Bundle::range(&ledger, later, 8, 18, SIZE)?,
        )?,
        Case::new(
            "window_begins_later",
            tampered(8),
            &Bundle::range(&ledger, since_later, 8, 18, SIZE)?,
        )?,
        Case::new(
            "window_begins_earlier",
            incomplete(7),
            &Bundle::range(&ledger, since_earlier, 8, 18, SIZE)?,
        )?,
    ])
}

/// Another history than the one that was signed.
fn histories() -> Result<Vec<Case>, Failure> {
    let own = ledger()?;
    let forged = Ledger::of(ACME, "as never told", &[], &ERASED)?;
    let other = Ledger::of("stella.example/other", "as told", &[], &ERASED)?;
    let elsewhere = Ledger::of("stella.other/acme", "as told", &[], &ERASED)?;
    let signed = |ledger: &Ledger, seed| checkpoint(ledger, SIZE).sign(&key(seed));
    let with = |mut bundle: Bundle, checkpoint: String| {
        bundle.checkpoint = checkpoint;
        bundle.digest();
        bundle
    };
    let of = |ledger: &Ledger| Bundle::of(ledger, window(), SIZE);
    let mut renamed = with(of(&other)?, signed(&own, 1));
    renamed.manifest.ledger = own.id.clone();
    let claims = {
        // The own key's line with a signature over another root.
        let (note, foreign) = (signed(&own, 1), signed(&forged, 1));
        let body = &note[..note.find('—').unwrap_or(0)];
        format!("{body}{}", &foreign[foreign.find('—').unwrap_or(0)..])
    };
    let unproven = |name, verdict, bundle: &Bundle| Case::new(name, verdict, bundle);
    let next = |ledger: &Ledger| Bundle::of(ledger, (time(11), time(12)), SIZE);
    let later = Bundle::of(&own, (time(12), time(14)), SIZE)?;
    Ok(vec![
        unproven("whole_chain_recomputed", tampered(8), &with(of(&forged)?, signed(&own, 1)))?,
        unproven(
            "whole_chain_recomputed_and_signed",
            UNTRUSTED,
            &with(of(&forged)?, signed(&forged, 2)),
        )?,
        unproven("other_key", UNTRUSTED, &with(good()?, signed(&own, 2)))?,
        unproven("wrong_signature", UNTRUSTED, &with(good()?, claims))?,
        unproven("other_tenants_bundle", UNTRUSTED, &of(&other)?)?,
        unproven("other_origins_bundle", UNTRUSTED, &of(&elsewhere)?)?,
        unproven("other_tenants_events", tampered(8), &renamed)?,
        unproven("checkpoint_of_another_tree", tampered(8), &with(good()?, signed(&forged, 1)))?,
        unproven(
            "checkpoint_of_another_size",
            TAMPERED,
            &with(good()?, checkpoint(&own, SIZE - 1).sign(&key(1))),
        )?,
        unproven("several_out_of_order", INCOMPLETE, &next(&own)?)?.and(&good()?),
        unproven("several_with_a_gap", INCOMPLETE, &good()?)?.and(&later),
        unproven("several_of_two_histories", tampered(18), &good()?)?.and(&next(&forged)?),
        unproven("several_one_tampered", TAMPERED, &good()?)?
            .and(&next(&own)?)
            .file(names::BOUNDARY, |bytes| [bytes, b"\n".to_vec()].concat()),
        case("whole_chain_of_zeros", TAMPERED, |b| b.manifest.prev = Hash32::ZERO)?,
    ])
}

/// Payloads that are gone.
fn erasures() -> Result<Vec<Case>, Failure> {
    let blanked = Ledger::of(ACME, "as told", &ERASED, &ERASED)?;
    let names_one = Ledger::of(ACME, "as told", &ERASED, &ERASED[..1])?;
    let erasure = |name, expected, edit: &dyn Fn(&mut Bundle)| {
        let mut bundle = erased()?;
        edit(&mut bundle);
        bundle.digest();
        Case::new(name, expected, &bundle)
    };
    let forged = |bundle: &mut Bundle, from: &str, to: &str| {
        let line = bundle.erasures[0].clone();
        let end = line.rfind(",\"proof\":").unwrap_or(0);
        let event = line["{\"event\":".len()..end].replacen(from, to, 1);
        let event = super::bundle::rehashed(&event);
        bundle.erasures[0] = format!("{{\"event\":{event}{}", &line[end..]);
    };
    let mut without = Bundle::of(&blanked, window(), SIZE)?;
    without.erasures.clear();
    without.digest();
    Ok(vec![
        Case::new("unlogged_erasure", tampered(8), &without)?,
        Case::new(
            "erasure_of_another_event",
            tampered(11),
            &Bundle::of(&names_one, window(), SIZE)?,
        )?,
        erasure("erasure_that_was_never_logged", tampered(18), &|b| {
            forged(b, "[8,11]", "[8,11,12]")
        })?,
        erasure("erasure_proof_wrong", tampered(18), &|b| {
            let at = b.erasures[0].rfind("\"]}").unwrap_or(0);
            let digit = if b.erasures[0].as_bytes()[at - 1] == b'0' { "1" } else { "0" };
            b.erasures[0].replace_range(at - 1..at, digit);
        })?,
        erasure("erasure_proof_too_short", tampered(18), &|b| {
            let at = b.erasures[0].rfind(",\"").unwrap_or(0);
            b.erasures[0].replace_range(at.., "]}");
        })?,
        erasure("erasure_of_another_type", tampered(18), &|b| forged(b, "DataErased", "DataKept"))?,
        erasure("erasure_of_another_stream", tampered(18), &|b| {
            forged(b, "ledger/acme", "control/acme");
        })?,
        erasure("erasure_seqs_out_of_order", tampered(18), &|b| forged(b, "[8,11]", "[11,8]"))?,
        erasure("erasure_edited", tampered(18), &|b| {
            b.erasures[0] = b.erasures[0].replacen("[8,11]", "[8,12]", 1);
        })?,
        erasure("erasure_twice", tampered(18), &|b| b.erasures.push(b.erasures[0].clone()))?,
        erasure("erasure_with_white_space", TAMPERED, &|b| b.erasures[0].push(' '))?,
        erasure("erased_count_wrong", TAMPERED, &|b| b.manifest.erased = 1)?,
        erasure("erased_payload_put_back", TAMPERED, &|b| {
            b.events[0] = ledger().map(|l| l.lines[8].clone().into_bytes()).unwrap_or_default();
        })?,
    ])
}
