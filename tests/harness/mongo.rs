//! Databases of a test's own.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU32, Ordering},
};

use stella_mongod::{Mongod, Options};
use tokio::sync::Mutex;

/// Tests that run at the same time share a server; it ends with the last of them.
static SHARED: Mutex<Weak<Mongod>> = Mutex::const_new(Weak::new());

/// A database that nobody else uses. It is left behind on a server that was there before: a test
/// that failed can be looked into.
#[derive(Debug, Clone)]
pub struct Database {
    /// Connection string that names it.
    pub uri: String,
    /// Its name.
    pub name: String,
    _server: Option<Arc<Mongod>>,
}

impl Database {
    /// On the server of `MONGODB_URI` where that is set, else on one shared by this process.
    pub async fn new() -> Self {
        if let Ok(uri) = std::env::var("MONGODB_URI") {
            return Self::on(&uri, None);
        }
        let mut shared = SHARED.lock().await;
        let server = match shared.upgrade() {
            Some(server) => server,
            None => Arc::new(Mongod::start(Options::default()).await.unwrap()),
        };
        *shared = Arc::downgrade(&server);
        Self::on(&server.uri(), Some(server))
    }

    /// On a server that the test owns, to kill it.
    pub fn of(server: &Mongod) -> Self {
        Self::on(&server.uri(), None)
    }

    fn on(uri: &str, server: Option<Arc<Mongod>>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("stella_story_{}_{n}", std::process::id());
        Self { uri: with_database(uri, &name), name, _server: server }
    }
}

/// `mongodb://hosts/old?options` with another database.
fn with_database(uri: &str, name: &str) -> String {
    let (base, options) = match uri.split_once('?') {
        Some((base, options)) => (base, format!("?{options}")),
        None => (uri, String::new()),
    };
    let after_scheme = base.find("://").map_or(0, |at| at + 3);
    let hosts_end = base[after_scheme..].find('/').map_or(base.len(), |at| after_scheme + at);
    format!("{}/{name}{options}", &base[..hosts_end])
}
