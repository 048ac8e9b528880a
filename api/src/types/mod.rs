//! What goes over the wire: the bodies of requests and answers, shared by server and clients.
//!
//! JSON, camelCase. Identifiers and times are the domain's own types, so that a client's answer
//! parses or fails as a whole. Bodies of requests refuse members that they do not know.

mod admin;
mod approval;
mod artifact;
mod checkpoint;
mod compare;
mod control;
mod dag;
mod event;
mod lease;
mod ledger;
mod page;
mod problem;
mod queue;
mod run;
mod schedule;
mod slo;
mod step;
mod warm;
mod window;

pub use self::{
    admin::*, approval::*, artifact::*, checkpoint::*, compare::*, control::*, dag::*, event::*,
    lease::*, ledger::*, page::*, problem::*, queue::*, run::*, schedule::*, slo::*, step::*,
    warm::*, window::*,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use stella_domain::limits::REASON_BYTES;

/// A reason in somebody's words: it is shown in lists, and recorded for good.
pub(crate) fn reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.len() {
        0..=REASON_BYTES => Ok(text),
        bytes => Err(D::Error::custom(format_args!(
            "a reason has at most {REASON_BYTES} bytes, this one has {bytes}: name where more is \
             written"
        ))),
    }
}
