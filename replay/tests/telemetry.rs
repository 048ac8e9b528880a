//! Telemetry: the same bytes for the same events, and what they say of runs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use common::{CANCELLED, RETRIES, golden};
use serde_json::Value;
use stella_replay::telemetry::{Manifest, TelemetryError, TelemetryWriter, check};
use stella_verify::manifest::WindowTimes;

const LEDGER: &str = "stella.example/acme";

fn window() -> WindowTimes {
    let time = |text: &str| text.parse().unwrap();
    WindowTimes {
        from: time("2026-11-23T09:00:00.000000Z"),
        to: time("2026-11-23T10:00:00.000000Z"),
    }
}

fn write(out: &Path, pieces: &[&str], payloads: bool) -> Result<Manifest, TelemetryError> {
    let ledger = LEDGER.parse().unwrap();
    let mut writer = TelemetryWriter::create(out.to_owned(), ledger, window(), payloads)?;
    pieces.iter().try_for_each(|piece| writer.events(piece.as_bytes()))?;
    writer.finish()
}

fn records(dir: &Path, file: &str, levels: [&str; 3]) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(file)).unwrap();
    let mut records = vec![];
    for line in text.lines() {
        let request: Value = serde_json::from_str(line).unwrap();
        for resource in request[levels[0]].as_array().unwrap() {
            for scope in resource[levels[1]].as_array().unwrap() {
                records.extend(scope[levels[2]].as_array().unwrap().iter().cloned());
            }
        }
    }
    records
}

fn spans(dir: &Path) -> Vec<Value> {
    records(dir, "traces.ndjson", ["resourceSpans", "scopeSpans", "spans"])
}

fn logs(dir: &Path) -> Vec<Value> {
    records(dir, "logs.ndjson", ["resourceLogs", "scopeLogs", "logRecords"])
}

/// An attribute of a record, whatever its type.
fn attribute(record: &Value, name: &str) -> Option<String> {
    let all = record["attributes"].as_array().unwrap();
    let value = &all.iter().find(|attribute| attribute["key"] == name)?["value"];
    let value = value.as_object().unwrap().values().next().unwrap();
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn nanos(span: &Value, name: &str) -> u64 {
    span[name].as_str().unwrap().parse().unwrap()
}

#[test]
fn the_same_events_give_the_same_bytes_in_whatever_pieces_they_come() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a_run_that_succeeds", "retries_and_a_cancel"] {
        let text = golden(name);
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let (whole, apart) = (dir.path().join(name), dir.path().join(format!("{name}-apart")));
        let manifest = write(&whole, &[&text], false).unwrap();
        assert_eq!(write(&apart, &lines, false).unwrap(), manifest);
        assert_eq!(check(&whole).unwrap(), manifest);
        assert_eq!(manifest.events, lines.len() as u64);
        assert_eq!(manifest.files.logs.records, manifest.events);
        assert!(matches!(write(&whole, &[&text], false), Err(TelemetryError::Exists { .. })));
    }
}

#[test]
fn attempts_are_spans_of_their_run() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("t");
    write(&out, &[&golden("retries_and_a_cancel")], false).unwrap();
    let spans = spans(&out);
    let of = |run: &str| -> Vec<&Value> {
        spans.iter().filter(|s| attribute(s, "runId").as_deref() == Some(run)).collect()
    };
    for (run, status, attempts) in [
        (RETRIES, "failed", vec!["failed", "leaseExpired", "timedOut"]),
        (CANCELLED, "cancelled", vec!["cancelled"]),
    ] {
        let (own, below): (Vec<_>, Vec<_>) =
            of(run).into_iter().partition(|span| span.get("parentSpanId").is_none());
        assert_eq!(own.len(), 1, "{own:?}");
        assert_eq!(own[0]["name"], "flaky");
        assert_eq!(attribute(own[0], "status").as_deref(), Some(status));
        assert_eq!(own[0]["status"].get("code").is_some(), status == "failed", "{own:?}");
        let statuses: Vec<_> = below.iter().filter_map(|span| attribute(span, "status")).collect();
        assert_eq!(statuses, attempts);
        for span in below {
            assert_eq!(span["traceId"], own[0]["traceId"]);
            assert_eq!(span["parentSpanId"], own[0]["spanId"]);
            assert!(nanos(span, "startTimeUnixNano") >= nanos(own[0], "startTimeUnixNano"));
            assert!(nanos(span, "endTimeUnixNano") <= nanos(own[0], "endTimeUnixNano"));
            assert!(attribute(span, "begunBefore").is_none(), "{span}");
        }
    }
    let ids: BTreeSet<_> = spans.iter().map(|span| span["spanId"].to_string()).collect();
    assert_eq!(ids.len(), spans.len());
    let traces: BTreeSet<_> = spans.iter().map(|span| span["traceId"].to_string()).collect();
    assert_eq!(traces.len(), 2);
}

#[test]
fn a_log_record_says_where_its_run_stands() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("t");
    let text = golden("retries_and_a_cancel");
    write(&out, &[&text], false).unwrap();
    let (logs, spans) = (logs(&out), spans(&out));
    let known: BTreeSet<_> = spans.iter().map(|span| span["spanId"].to_string()).collect();
    for (log, line) in logs.iter().zip(text.lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(log["eventName"], line["header"]["type"]);
        assert_eq!(attribute(log, "tenant").as_deref(), Some("acme"));
        assert_eq!(attribute(log, "seq"), Some(line["header"]["seq"].to_string()));
        assert_eq!(attribute(log, "hash").as_deref(), line["hash"].as_str());
        let is_of_run = line["header"]["stream"].as_str().unwrap().starts_with("run/");
        assert_eq!(attribute(log, "runId").is_some(), is_of_run, "{log}");
        if is_of_run {
            assert_eq!(attribute(log, "dagId").as_deref(), Some("flaky"));
            assert!(attribute(log, "status").is_some(), "{log}");
            // All runs have ended, so that each span that is named is there.
            assert!(known.contains(&log["spanId"].to_string()), "{log}");
        }
    }
    let count = |severity: &str| logs.iter().filter(|log| log["severityText"] == severity).count();
    // The attempts that failed, and the run that did.
    assert_eq!((count("WARN"), count("ERROR")), (3, 1));
}

#[test]
fn what_began_before_the_window_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let text = golden("a_run_that_succeeds");
    // From the commit on in which step d succeeds.
    let from = text.lines().position(|line| line.contains("\"seq\":15,")).unwrap();
    let tail: String = text.split_inclusive('\n').skip(from).collect();
    let header: Value = serde_json::from_str(tail.lines().next().unwrap()).unwrap();
    assert_eq!(header["header"]["commitSeq"], header["header"]["seq"], "a commit's first event");
    let out = dir.path().join("t");
    let manifest = write(&out, &[&tail], false).unwrap();
    assert_eq!(manifest.first_seq, Some(15));
    let spans = spans(&out);
    assert!(!spans.is_empty());
    for span in &spans {
        assert_eq!(attribute(span, "begunBefore").as_deref(), Some("true"), "{span}");
        assert!(nanos(span, "startTimeUnixNano") <= nanos(span, "endTimeUnixNano"));
    }
}

#[test]
fn counters_are_those_of_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("t");
    write(&out, &[&golden("retries_and_a_cancel")], false).unwrap();
    let metrics = records(&out, "metrics.ndjson", ["resourceMetrics", "scopeMetrics", "metrics"]);
    let mut newest = BTreeMap::new();
    for metric in &metrics {
        let kind = if metric.get("sum").is_some() { "sum" } else { "gauge" };
        for point in metric[kind]["dataPoints"].as_array().into_iter().flatten() {
            let name = metric["name"].as_str().unwrap().to_owned();
            let status = attribute(point, "status").unwrap_or_default();
            newest.insert((name, status), point["asInt"].as_str().unwrap().to_owned());
        }
    }
    let value = |name: &str, status: &str| newest[&(name.to_owned(), status.to_owned())].as_str();
    assert_eq!(value("orchestrator.runs.started", ""), "2");
    assert_eq!(value("orchestrator.runs", "failed"), "1");
    assert_eq!(value("orchestrator.runs", "cancelled"), "1");
    assert_eq!(value("orchestrator.step.retries", ""), "1");
    assert_eq!(value("orchestrator.lease.expiries", ""), "1");
    assert_eq!(value("orchestrator.ledger.events", ""), "25");
}

#[test]
fn payloads_are_there_only_if_they_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let text = golden("retries_and_a_cancel");
    for (payloads, name) in [(false, "without"), (true, "with")] {
        let out = dir.path().join(name);
        write(&out, &[&text], payloads).unwrap();
        for file in ["logs.ndjson", "traces.ndjson", "metrics.ndjson"] {
            let text = fs::read_to_string(out.join(file)).unwrap();
            let expected = payloads && file == "logs.ndjson";
            assert_eq!(text.contains("exit status 2"), expected, "{file}");
        }
    }
}

#[test]
fn whatever_is_changed_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let text = golden("a_run_that_succeeds");
    let tampered = |name: &str, change: &dyn Fn(&Path)| {
        let out = dir.path().join(name);
        write(&out, &[&text], false).unwrap();
        assert!(check(&out).is_ok());
        change(&out);
        check(&out).expect_err(name).to_string()
    };
    for file in ["logs.ndjson", "metrics.ndjson", "traces.ndjson"] {
        let said = tampered(&format!("digit in {file}"), &|out| {
            let text = fs::read_to_string(out.join(file)).unwrap();
            fs::write(out.join(file), text.replacen("UnixNano\":\"1", "UnixNano\":\"2", 1))
                .unwrap();
        });
        assert!(said.contains(file) && said.contains("BLAKE3"), "{said}");
        let said = tampered(&format!("no {file}"), &|out| fs::remove_file(out.join(file)).unwrap());
        assert!(said.contains(file), "{said}");
        let said = tampered(&format!("end of {file}"), &|out| {
            let text = fs::read_to_string(out.join(file)).unwrap();
            fs::write(out.join(file), &text[..text.len() - 1]).unwrap();
        });
        assert!(said.contains("bytes"), "{said}");
    }
    let said = tampered("more", &|out| fs::write(out.join("notes"), "x").unwrap());
    assert!(said.contains("notes"), "{said}");
    let said = tampered("manifest", &|out| {
        let file = out.join("manifest.json");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen("\"records\":18", "\"records\":17", 1)).unwrap();
    });
    assert!(said.contains("records"), "{said}");
}

#[test]
fn what_is_no_ledger_gives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("t");
    let text = golden("a_run_that_succeeds");
    assert!(write(&out, &[&text.replacen("diamond", "emerald", 1)], false).is_err());
    let other = "stella.example/other".parse().unwrap();
    let mut writer = TelemetryWriter::create(out.clone(), other, window(), false).unwrap();
    let error = writer.events(text.as_bytes()).unwrap_err();
    assert!(matches!(error, TelemetryError::OtherLedger { .. }), "{error}");
    drop(writer);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}
