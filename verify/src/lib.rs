//! Offline verification: what bytes alone can show about a ledger, in the format of
//! `docs/ledger-format.md`.
//!
//! No network, no server, no configuration, no clock: whoever holds the bytes and a pinned key
//! needs nothing else, and can put this library into a program of their own.
//!
//! - [`ndjson`]: whether lines are an unbroken piece of one ledger (section 6). What a chain alone
//!   cannot show: that lines are missing at the very beginning or end, that the whole chain was
//!   rewritten, and whether an erasure was legal.
//! - [`verify_receipt`]: whether the events of one run stand in a signed tree (section 11).
//! - [`LedgerJudge`]: whether a whole ledger is what was signed (section 10.8).
//! - [`verify_bundle`]: whether a bundle shows a window that is complete and unchanged (section 10).
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use stella_verify::{Bundle, Trust, verify_bundle};
//!
//! let pinned = "stella.example/acme+a3438e79+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4".parse()?;
//! let bundle = Bundle::open("november.tar.zst")?;
//! let report = verify_bundle(&bundle, &Trust::new(vec![pinned]), &mut |_| {})?;
//! println!("{} {:?}", report.verdict.as_str(), report.reason);
//! # Ok(())
//! # }
//! ```

mod bundle;
mod chain;
mod digest;
mod erasure;
mod line;
mod lines;
pub mod manifest;
mod marks;
pub mod ndjson;
mod piece;
mod reason;
mod receipt;
mod scan;
mod signed;
mod source;
mod trust;
mod verdict;
mod whole;

pub use self::{
    bundle::{verify_bundle, verify_bundles},
    digest::Digesting,
    line::{HexHash, LINE_BYTES, Line, hash_of},
    reason::Reason,
    receipt::{ProvenRun, RECEIPT_BYTES, ReceiptFault, ReceiptReport, RunClaim, verify_receipt},
    scan::FormError,
    source::{Bundle, BundleError},
    trust::Trust,
    verdict::{Claim, Fault, Report, Reports, Signed, Verdict, Witness},
    whole::{LedgerFault, LedgerJudge, LedgerReport},
};
