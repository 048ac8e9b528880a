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
