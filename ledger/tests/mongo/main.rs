//! The MongoDB ledger against real servers: `MONGODB_URI` where it is set, else one of our own;
//! always our own where a server is killed, halted, or asks for passwords.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod auth;
mod checkpoints;
#[path = "../writer/counter.rs"]
#[allow(dead_code)] // Shared with the tests of the writer.
mod counter;
mod crash;
mod damage;
#[path = "../writer/faulty.rs"]
#[allow(dead_code)]
mod faulty;
mod fsck;
#[path = "../common/histories.rs"]
mod histories;
#[path = "../common/looked_over.rs"]
mod looked_over;
#[path = "../writer/node.rs"]
#[allow(dead_code)]
mod node;
mod restored;
mod setup;

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU32, Ordering},
};

use mongodb::{Client, Collection, bson::Document};
use stella_ledger::{
    mongo::{COLLECTION, MongoLedger, MongoOptions},
    port::{AppendError, AppendFailure, Ledger},
};
use stella_mongod::{Mongod, Options};
use tokio::sync::Mutex;

/// Tests that run at the same time share a server; it ends with the last of them.
static SHARED: Mutex<Weak<Mongod>> = Mutex::const_new(Weak::new());

/// A database of its own for one test.
struct Place {
    uri: String,
    database: String,
    client: Client,
    _server: Option<Arc<Mongod>>,
}

impl Place {
    async fn new() -> Self {
        if let Ok(uri) = std::env::var("MONGODB_URI") {
            return Self::at(uri, None).await;
        }
        let mut shared = SHARED.lock().await;
        let server = match shared.upgrade() {
            Some(server) => server,
            None => Arc::new(Mongod::start(Options::default()).await.unwrap()),
        };
        *shared = Arc::downgrade(&server);
        Self::at(server.uri(), Some(server)).await
    }

    async fn at(uri: String, server: Option<Arc<Mongod>>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let database = format!("stella_test_{}_{n}", std::process::id());
        let client = Client::with_uri_str(&uri).await.unwrap();
        Self { uri, database, client, _server: server }
    }

    async fn ledger(&self, options: MongoOptions) -> MongoLedger {
        let options = MongoOptions { database: Some(self.database.clone()), ..options };
        MongoLedger::connect(&self.uri, options).await.unwrap()
    }

    async fn set_up(&self) -> MongoLedger {
        let ledger = self.ledger(MongoOptions::default()).await;
        ledger.setup().await.unwrap();
        ledger
    }

    /// The collection as somebody sees it who goes behind the ledger's back.
    fn raw(&self) -> Collection<Document> {
        self.client.database(&self.database).collection(COLLECTION)
    }

    async fn leave(self) {
        self.client.database(&self.database).drop().await.unwrap();
    }
}

fn is_unavailable(outcome: &Result<(), AppendError>) -> bool {
    matches!(outcome, Err(AppendError { landed: 0, cause: AppendFailure::Unavailable(_) }))
}

async fn codes(ledger: &MongoLedger) -> Vec<(&'static str, bool)> {
    let findings = ledger.findings().await.unwrap();
    findings.iter().map(|finding| (finding.code, finding.blocks_writes)).collect()
}
