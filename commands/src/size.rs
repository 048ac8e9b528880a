//! The format's limit on an event's parts, held before anything is staged.

use stella_domain::{
    event::{Event, Labels, RunEvent},
    limits::EVENT_PART_BYTES,
};

use crate::refusal::Refusal;

/// Room for what stands in an event beside what people and plugins wrote.
const MARGIN: usize = 4 * 1024;
/// A character takes at most this many times its bytes in canonical JSON: `\u0001`.
const ESCAPED: usize = 6;

/// Refuse a run's events if one of them is too large.
pub(crate) fn checked(events: Vec<RunEvent>) -> Result<Vec<RunEvent>, Refusal> {
    for event in &events {
        // Estimated from above, so that only what comes near the limit is written out to see.
        if estimate(event) + MARGIN > EVENT_PART_BYTES {
            check(&Event::Run(event.clone()))?;
        }
    }
    Ok(events)
}

/// At least the bytes that people and plugins contributed; other events are small by construction.
fn estimate(event: &RunEvent) -> usize {
    match event {
        RunEvent::RunCreated(_, Some(request)) => {
            let token = request.run_token.as_ref().map_or(0, String::len);
            let reason = request.reason.as_ref().map_or(0, String::len);
            let free = labels(&request.labels) + token + reason;
            request.inputs.as_str().len() + ESCAPED * free
        }
        RunEvent::StepSucceeded(_, Some(payload)) => payload.outputs.as_str().len(),
        RunEvent::RunCancelRequested(_, Some(payload))
        | RunEvent::StepApproved(_, Some(payload))
        | RunEvent::StepRejected(_, Some(payload)) => ESCAPED * payload.reason.len(),
        RunEvent::StepFailed(_, Some(payload)) => ESCAPED * payload.message.len(),
        _ => 0,
    }
}

fn labels(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.len() + value.len()).sum()
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
