//! HTTP: routes (one file a resource), authentication, streaming, OpenAPI; and the node that they
//! are the door of. [`witness`] is a service of its own, for other people's machines.
//!
//! *Invariants:* nothing but this crate names axum; nothing but `problem` names status codes of
//! errors (a witness's are those of its protocol); every body passes the door for I-JSON; no route but the probes and the OpenAPI document
//! answers without the access token.

pub mod app;
pub mod auth;
pub mod catalog;
mod extract;
mod guard;
mod health;
pub mod node;
mod openapi;
mod page;
mod problem;
mod router;
mod routes;
mod serve;
pub mod slo;
mod state;
pub mod types;
pub mod warmth;
pub mod witness;

pub use self::{
    router::{document, router},
    serve::serve,
};
