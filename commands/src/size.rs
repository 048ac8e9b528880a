//! The format's limit on an event's parts, held before anything is staged.

use stella_domain::{
    event::{Event, RunEvent},
    limits::EVENT_PART_BYTES,
};

use crate::refusal::Refusal;

/// Refuse a run's events if one of them is too large.
pub(crate) fn checked(events: Vec<RunEvent>) -> Result<Vec<RunEvent>, Refusal> {
    for event in &events {
        // Only these carry what people and plugins wrote; all others are small by construction.
        if matches!(event, RunEvent::RunCreated(..) | RunEvent::StepSucceeded(..)) {
            check(&Event::Run(event.clone()))?;
        }
    }
    Ok(events)
}

/// Refuse an event that is too large.
pub(crate) fn check(event: &Event) -> Result<(), Refusal> {
    let encoded = event.encode();
    let event_type = encoded.event_type;
    let parts = [("data", Some(&encoded.data)), ("payload", encoded.payload.as_ref())];
    for (part, json) in parts {
        let bytes = json.map_or(0, |json| json.as_str().len());
        if bytes > EVENT_PART_BYTES {
            return Err(Refusal::TooLarge { event_type, part, bytes, limit: EVENT_PART_BYTES });
        }
    }
    Ok(())
}
