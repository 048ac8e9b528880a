//! Reading history back: export of time windows and the bundles that prove them, verification of
//! a live ledger, state at any seq, telemetry.
//!
//! Nothing here writes a ledger, and what is read is held to the rules of `stella_verify`.

pub mod bundle;
pub mod export;
mod stored;
pub mod telemetry;
pub mod time_travel;
pub mod verify;
