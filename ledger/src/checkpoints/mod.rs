//! Signed checkpoints over a ledger: signing, keeping, proving.
//!
//! - [`store`] is the port to what is stored beside the ledger: signed notes, and the roots of
//!   whole tiles of the Merkle tree. `conformance` is the suite of its implementations.
//! - [`proofs`] reads the tree: every hash that it hands out was authenticated against the root
//!   of the checkpoint asked about. A stored hash that does not fit is computed from events again.
//! - [`signer`] extends and signs. [`kept`] keeps its newest note outside the database.
//! - [`observer`] does for a node that does not sign what can be done without a key.
//! - [`cosigners`] is the port to witnesses, who are asked before a note is stored.
//! - [`gate`] stands between the writer and a ledger that does not extend what was signed.
//!
//! *Invariant:* nothing stored here is trusted. Notes bear signatures; tiles are checked against
//! the root in a note each time that they are read; what is signed is computed from events.

pub mod conformance;
pub mod cosigners;
mod error;
mod events;
pub mod gate;
pub mod kept;
pub mod keys;
pub mod observer;
pub mod proofs;
pub mod receipt;
pub mod signer;
pub mod store;

pub use self::error::{ProofError, SignerError};
