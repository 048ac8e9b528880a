//! Databases of a test's own.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use mongodb::{Client, bson::doc};
use stella_ledger::mongo::APPEND_ONLY_ROLE;
use stella_mongod::{Mongod, Options};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::stella;

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

/// The user of a server that may append and do nothing else.
pub const SERVER: &str = "server";

/// A MongoDB that asks for passwords, set up as operators are told to: a ledger's database with
/// the append-only role, and a user for the server who has just that.
pub struct Guarded {
    /// The database's name.
    pub name: String,
    /// Connection string of the server's user.
    pub server_uri: String,
    /// Connection string of one who may do everything.
    pub root_uri: String,
    /// Who may do everything.
    pub root: Client,
    _mongod: Mongod,
    _key: TempDir,
}

impl Guarded {
    /// Start it; `stella orch ledger init --role` does the set-up.
    pub async fn start() -> Self {
        let key = tempfile::tempdir().unwrap();
        let key_file = key.path().join("key");
        fs::write(&key_file, "c3RlbGxhIHN0b3J5IGtleQ").unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        let args = vec!["--auth".into(), "--keyFile".into(), key_file.into()];
        let mongod = Mongod::start(Options { args, ..Options::default() }).await.unwrap();
        let Database { uri, name, .. } = Database::of(&mongod);
        // The first user may be created without being one, from this machine.
        let nobody = Client::with_uri_str(mongod.uri()).await.unwrap();
        let root = doc! { "createUser": "root", "pwd": "root", "roles": ["root"] };
        nobody.database("admin").run_command(root).await.unwrap();
        let of = |user: &str| uri.replace("mongodb://", &format!("mongodb://{user}:{user}@"));
        let root_uri = format!("{}&authSource=admin", of("root"));
        stella::run(&["ledger", "init", "--role", "--ledger", &root_uri], 0).await;
        let root = Client::with_uri_str(&root_uri).await.unwrap();
        let user = doc! { "createUser": SERVER, "pwd": SERVER, "roles": [APPEND_ONLY_ROLE] };
        root.database(&name).run_command(user).await.unwrap();
        Self { name, server_uri: of(SERVER), root_uri, root, _mongod: mongod, _key: key }
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
