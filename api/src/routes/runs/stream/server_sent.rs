//! A stream as Server-Sent Events.
//!
//! The connection asks for the next event when it has room for it: a client that does not read is
//! not read for either. How long it may take nothing is a matter of the listener.

use std::{convert::Infallible, time::Duration, vec};

use axum::response::{
    IntoResponse as _, Response,
    sse::{Event, Sse},
};
use futures::stream;
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::{SIGN_OF_LIFE_EVERY, Source};
use crate::types::StreamItem;

/// How long clients are asked to wait before they connect again.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// The answer whose body is the stream.
pub(super) fn response(source: Source, closing: CancellationToken) -> Response {
    let mut alive = interval_at(Instant::now() + SIGN_OF_LIFE_EVERY, SIGN_OF_LIFE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // At once, so that the client sees that it is connected.
    let hello = vec![Event::default().retry(RECONNECT_AFTER).comment("")];
    let body = Body { source, closing, alive, waiting: hello.into_iter(), ended: false };
    Sse::new(stream::unfold(body, Body::next)).into_response()
}

struct Body {
    source: Source,
    closing: CancellationToken,
    alive: Interval,
    /// Of the commit that was looked at last.
    waiting: vec::IntoIter<Event>,
    ended: bool,
}

impl Body {
    /// The next event, and the body after it; `None` at its end.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.waiting.next() {
                return Some((Ok(event), self));
            }
            if self.ended {
                return None;
            }
            let events = tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                items = self.source.next() => match items {
                    Ok(items) => items.iter().map(event).collect(),
                    Err(error) => {
                        self.ended = true;
                        let code = json!({"code": error.code()}).to_string();
                        vec![Event::default().event("end").data(code)]
                    }
                },
                _ = self.alive.tick() => vec![self.sign_of_life()],
            };
            self.waiting = events.into_iter();
        }
    }

    /// Clients take an `id` without data as the place to go on from, and tell nobody.
    fn sign_of_life(&self) -> Event {
        match self.source.looked_at() {
            Some(seq) => Event::default().id(seq.to_string()).comment(""),
            None => Event::default().comment(""),
        }
    }
}

fn event(item: &StreamItem) -> Event {
    let event = Event::default().id(item.seq().to_string());
    let event = match item {
        StreamItem::Event(_) => event,
        StreamItem::Link(_) => event.event("link"),
    };
    // A struct of strings, integers and JSON text: serialising it cannot fail, and writes one line.
    event.data(serde_json::to_string(item).unwrap_or_default())
}
