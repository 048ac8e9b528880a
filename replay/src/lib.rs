//! Reading history back: export of time windows, offline verification, state at any seq.
//!
//! Nothing here writes a ledger, and verification trusts nothing but the bytes it is given.

pub mod export;
pub mod time_travel;
pub mod verify;
