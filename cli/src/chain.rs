//! Checking the chain while its events come in: what a reader of a stream can know without trust in
//! the server.
//!
//! Each event shows by itself that it is what its hash says. That nothing stands between two of
//! them shows where they are neighbours, or where links fill what was left out. That the whole is
//! what was signed, a stream does not show: exports and receipts do.

use serde::Deserialize;
use stella_api::types::{StreamItem, StreamMessage};
use stella_domain::{
    hash::{Hash32, Salt, data_hash, event_hash, payload_hash},
    json::CanonicalJson,
    time::Timestamp,
};

/// What of a header is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    actor: String,
    data_hash: Hash32,
    ledger: String,
    payload_hash: Hash32,
    prev: Hash32,
    recorded_at: Timestamp,
    seq: u64,
    stream: String,
    stream_version: u64,
    #[serde(rename = "type")]
    event_type: String,
}

/// The event that was seen last.
struct Last {
    seq: u64,
    hash: Hash32,
    ledger: String,
    recorded_at: Timestamp,
}

/// What was checked so far.
#[derive(Default)]
pub(crate) struct ChainCheck {
    last: Option<Last>,
    /// Events that are what their hashes say.
    events: u64,
    /// Events whose payload is not there, though there was one.
    erased: u64,
    /// Events left out, known by their headers.
    links: u64,
    /// Neighbours of which the later one names the hash of the earlier one.
    linked: u64,
    /// Places where events are left out.
    gaps: u64,
}

/// What does not hold, and at which event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} does not hold: {what}")]
pub(crate) struct Broken {
    seq: u64,
    what: &'static str,
}

impl ChainCheck {
    /// The next message of the stream.
    pub(crate) fn see(&mut self, item: &StreamItem) -> Result<(), Broken> {
        let seq = item.seq();
        let broken = |what| Broken { seq, what };
        let (hash, header) = match item {
            StreamItem::Event(message) => (&message.hash, &message.header),
            StreamItem::Link(link) => (&link.hash, &link.header),
        };
        let hash: Hash32 = hash.parse().map_err(|_| broken("its hash is none"))?;
        if event_hash(header.as_str()) != hash {
            return Err(broken("its header does not give its hash"));
        }
        let header: Header = serde_json::from_str(header.as_str())
            .map_err(|_| broken("its header has not the members of one"))?;
        if header.seq != seq {
            return Err(broken("its header is that of another event"));
        }
        match item {
            StreamItem::Event(message) => self.content(message, &header).map_err(broken)?,
            StreamItem::Link(_) => self.links += 1,
        }
        self.link(&header).map_err(broken)?;
        let Header { ledger, recorded_at, .. } = header;
        self.last = Some(Last { seq, hash, ledger, recorded_at });
        Ok(())
    }

    /// The message says what its header commits to.
    fn content(&mut self, message: &StreamMessage, header: &Header) -> Result<(), &'static str> {
        let repeated = message.event_type == header.event_type
            && message.actor.to_string() == header.actor
            && message.recorded_at == header.recorded_at
            && message.stream_version == header.stream_version
            && format!("run/{}", message.run_id) == header.stream;
        if !repeated {
            return Err("its members do not say what its header says");
        }
        if data_hash(message.data.as_str()) != header.data_hash {
            return Err("its data does not give the hash in its header");
        }
        match (&message.payload, &message.salt) {
            (Some(payload), Some(salt)) => {
                let salt = salt.parse().map_err(|_| "its salt is none")?;
                if !gives(payload, &salt, header.payload_hash) {
                    return Err("its payload does not give the hash in its header");
                }
            }
            (None, None) => self.erased += u64::from(header.payload_hash != Hash32::ZERO),
            (Some(_), None) | (None, Some(_)) => {
                return Err("its payload and its salt do not come together");
            }
        }
        self.events += 1;
        Ok(())
    }

    /// The header follows the one before it.
    fn link(&mut self, header: &Header) -> Result<(), &'static str> {
        let Some(last) = &self.last else { return Ok(()) };
        if header.ledger != last.ledger {
            return Err("it is of another ledger than the event before it");
        }
        if header.seq <= last.seq {
            return Err("it does not come after the event before it");
        }
        if header.recorded_at < last.recorded_at {
            return Err("it was recorded before the event before it");
        }
        if header.seq > last.seq + 1 {
            self.gaps += 1;
        } else if header.prev == last.hash {
            self.linked += 1;
        } else {
            return Err("it does not name the hash of the event before it");
        }
        Ok(())
    }

    /// The seq from which on a stream goes on after what was seen.
    pub(crate) fn next_seq(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.seq + 1)
    }

    /// What was checked, for people; nothing where nothing came.
    pub(crate) fn summary(&self) -> Option<String> {
        self.last.as_ref()?;
        let Self { events, erased, links, linked, gaps, .. } = self;
        let mut text = format!("checked: {events} events give their hashes");
        if *erased > 0 {
            text += &format!(", payloads of {erased} were erased");
        }
        if *links > 0 {
            text += &format!("; {links} more by their headers");
        }
        text += &format!("; {linked} links to the event before hold");
        text += match gaps {
            0 => ", with no gap",
            _ => "",
        };
        if *gaps > 0 {
            text +=
                &format!("; at {gaps} places others were left out, which --chain would check too");
        }
        Some(text)
    }
}

fn gives(payload: &CanonicalJson, salt: &Salt, hash: Hash32) -> bool {
    payload_hash(salt, payload.as_str()) == hash
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    /// Events of a run as a server sends them, two of them left out.
    fn items() -> Vec<Value> {
        let mut prev = Hash32::ZERO;
        let run = "00000000000000000000000000";
        (0..5)
            .map(|seq| {
                let (data, payload) = (json!({"n": seq}), json!({"text": "t"}));
                let salt = "00112233445566778899aabbccddeeff";
                let text = |value: &Value| CanonicalJson::from_value(value).unwrap();
                let hashed = payload_hash(&salt.parse().unwrap(), text(&payload).as_str());
                let header = text(&json!({
                    "actor": "user:ann", "commitSeq": seq, "ledger": "a.test/b", "prev": prev,
                    "dataHash": data_hash(text(&data).as_str()), "payloadHash": hashed,
                    "recordedAt": format!("2026-01-01T00:00:00.00000{seq}Z"), "schema": 1,
                    "seq": seq, "stream": format!("run/{run}"), "streamVersion": seq + 1,
                    "type": "StepQueued", "v": 1,
                }));
                prev = event_hash(header.as_str());
                json!({
                    "seq": seq, "hash": prev, "type": "StepQueued", "runId": run,
                    "streamVersion": seq + 1, "actor": "user:ann", "data": data,
                    "recordedAt": format!("2026-01-01T00:00:00.00000{seq}Z"),
                    "payload": payload, "salt": salt, "header": header,
                })
            })
            .collect()
    }

    fn link(event: &Value) -> Value {
        json!({"seq": event["seq"], "hash": event["hash"], "header": event["header"]})
    }

    fn check(items: &[Value]) -> Result<ChainCheck, Broken> {
        let mut check = ChainCheck::default();
        for item in items {
            check.see(&StreamItem::parse(&item.to_string()).unwrap())?;
        }
        Ok(check)
    }

    #[test]
    fn what_was_checked_is_counted() {
        let all = items();
        let whole = check(&all).unwrap().summary().unwrap();
        assert!(whole.contains("5 events") && whole.contains("4 links"), "{whole}");
        assert!(whole.ends_with("with no gap"), "{whole}");

        let mut some = all.clone();
        some.drain(1..3);
        some[0].as_object_mut().unwrap().remove("payload");
        some[0].as_object_mut().unwrap().remove("salt");
        let some = check(&some).unwrap().summary().unwrap();
        assert!(some.contains("1 links") && some.contains("at 1 places"), "{some}");
        assert!(some.contains("payloads of 1 were erased"), "{some}");

        let mut chained = all.clone();
        (chained[1], chained[2]) = (link(&all[1]), link(&all[2]));
        let chained = check(&chained).unwrap();
        assert_eq!((chained.events, chained.links, chained.linked), (3, 2, 4));
        assert_eq!((chained.gaps, chained.next_seq()), (0, Some(5)));
        assert_eq!(ChainCheck::default().summary(), None);
    }

    #[test]
    fn whatever_is_changed_is_found() {
        let all = items();
        type Change = fn(&mut Vec<Value>);
        let changes: [(Change, &str); 9] = [
            (|all| all[2]["data"] = json!({"n": 9}), "data does not give"),
            (|all| all[2]["payload"] = json!({"text": "u"}), "payload does not give"),
            (|all| all[2]["salt"] = Value::Null, "do not come together"),
            (|all| all[2]["header"]["type"] = json!("StepFailed"), "header does not give"),
            (|all| all[2]["type"] = json!("StepFailed"), "members do not say"),
            (|all| all[2]["seq"] = json!(1), "another event"),
            (|all| all[2]["hash"] = json!("0".repeat(64)), "header does not give"),
            (|all| all.insert(2, all[1].clone()), "does not come after"),
            (|all| all.swap(3, 4), "does not come after"),
        ];
        for (change, expected) in changes {
            let mut changed = all.clone();
            change(&mut changed);
            let broken = check(&changed).err().unwrap().to_string();
            assert!(broken.contains(expected), "{expected}: {broken}");
        }
        // Another history from event 2 on, whole in itself.
        let mut forked = all[..2].to_vec();
        let mut other = items();
        let header = other[2]["header"].to_string().replace("StepQueued", "StepFailed");
        other[2]["header"] = serde_json::from_str(&header).unwrap();
        other[2]["type"] = json!("StepFailed");
        other[2]["hash"] = json!(event_hash(&header));
        forked.extend([other[2].clone(), all[3].clone()]);
        let broken = check(&forked).err().unwrap();
        assert_eq!((broken.seq, broken.what.contains("name the hash")), (3, true));
    }
}
