//! Reading history back: export of time windows and the bundles that prove them, verification of
//! a live ledger, state at any seq.
//!
//! Nothing here writes a ledger, and what is read is held to the rules of `stella_verify`.

pub mod bundle;
pub mod export;
pub mod time_travel;
pub mod verify;
