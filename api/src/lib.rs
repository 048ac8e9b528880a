//! HTTP: routes (one file a resource), authentication, streaming, OpenAPI.
//!
//! Nothing but this crate names axum, and nothing but [`problem`] names status codes of errors.

pub mod types;
