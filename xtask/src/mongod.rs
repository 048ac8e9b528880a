//! The MongoDB that a chore works against.

use std::env;

use stella_mongod::{Mongod, Options};

use crate::Failure;

/// Where callers and tests look for a replica set.
pub(crate) const URI_VARIABLE: &str = "MONGODB_URI";

/// A replica set that was found, or one that was started and is ours to stop.
pub(crate) enum Server {
    Found { uri: String },
    Started(Box<Mongod>),
}

impl Server {
    /// The one of `MONGODB_URI`, else a new and empty one with this cache size in GB.
    pub(crate) async fn find_or_start(cache_gb: f64) -> Result<Self, Failure> {
        if let Ok(uri) = env::var(URI_VARIABLE) {
            // Not printed: it may hold a password.
            eprintln!("MongoDB: the one of {URI_VARIABLE}");
            return Ok(Self::Found { uri });
        }
        let mongod = Mongod::start(Options { cache_gb, ..Options::default() }).await?;
        eprintln!("MongoDB: started process {} at {}", mongod.id(), mongod.uri());
        Ok(Self::Started(Box::new(mongod)))
    }

    pub(crate) fn uri(&self) -> String {
        match self {
            Self::Found { uri } => uri.clone(),
            Self::Started(mongod) => mongod.uri(),
        }
    }

    pub(crate) async fn stop(self) -> Result<(), Failure> {
        match self {
            Self::Found { .. } => Ok(()),
            Self::Started(mut mongod) => Ok(mongod.stop().await?),
        }
    }
}
