//! What is too large for an event. Finished artifacts are in a content-addressed [`store`] beside the
//! ledger, a folder or an S3-compatible bucket, each with its run; the logs of steps that run are
//! [`live`] files of the node until their steps end.

mod digested;
pub mod live;
pub mod store;
mod stored;
mod upload;
mod uri;

pub use self::{
    digested::digest_of,
    live::{LiveLogs, LogError},
    store::{ArtifactError, ArtifactStore, Checked},
    stored::Stored,
    uri::ArtifactUri,
};
