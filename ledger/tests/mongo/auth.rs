//! A server that asks for passwords, and users that may do little.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use mongodb::{Client, bson::doc};
use stella_ledger::{
    conformance::{Samples, suite},
    mongo::{COLLECTION, MongoLedger, MongoOptions},
    port::Ledger,
};
use stella_mongod::{Mongod, Options};

use super::{Place, codes, is_unavailable};

/// A server that asks for passwords.
async fn server_with_auth() -> (Mongod, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key");
    fs::write(&key_file, "c3RlbGxhIHRlc3Qga2V5").unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    let args = vec!["--auth".into(), "--keyFile".into(), key_file.into()];
    let mongod = Mongod::start(Options { args, ..Options::default() }).await.unwrap();
    // The first user may be created without being one, from this machine.
    let client = Client::with_uri_str(mongod.uri()).await.unwrap();
    let root = doc! { "createUser": "root", "pwd": "root", "roles": ["root"] };
    client.database("admin").run_command(root).await.unwrap();
    (mongod, dir)
}

/// A place on `mongod`, and the URI of a user who may do no more there than `actions`.
async fn place_with_user(mongod: &Mongod, actions: &[&str]) -> (Place, String) {
    let as_user = |user: &str| {
        let uri = mongod.uri().replace("mongodb://", &format!("mongodb://{user}:{user}@"));
        format!("{uri}&authSource=admin")
    };
    let place = Place::at(as_user("root"), None).await;
    let name = place.database.as_str();
    let admin = place.client.database("admin");
    let privileges = vec![
        doc! { "resource": { "db": name, "collection": COLLECTION }, "actions": actions },
        doc! { "resource": { "db": name, "collection": "" }, "actions": ["listCollections"] },
    ];
    let role = doc! { "createRole": name, "privileges": privileges, "roles": [] };
    admin.run_command(role).await.unwrap();
    let user = doc! { "createUser": name, "pwd": name, "roles": [name] };
    admin.run_command(user).await.unwrap();
    let uri = as_user(name);
    (place, uri)
}

#[tokio::test]
async fn it_conforms_with_a_user_that_may_only_find_and_insert() {
    let (mongod, _dir) = server_with_auth().await;
    suite(async || {
        let actions = ["find", "insert", "listIndexes"];
        let (place, uri) = place_with_user(&mongod, &actions).await;
        let by_root = place.set_up().await;
        assert_eq!(codes(&by_root).await, [("PRIVILEGES_TOO_WIDE", false)]);
        let options =
            MongoOptions { database: Some(place.database.clone()), ..MongoOptions::default() };
        let ledger = MongoLedger::connect(&uri, options).await.unwrap();
        ledger.setup().await.expect("nothing is left to do, so nothing is needed for it");
        Arc::new(ledger) as Arc<dyn Ledger>
    })
    .await;

    let (place, uri) = place_with_user(&mongod, &["find", "listIndexes"]).await;
    place.set_up().await;
    let reader = MongoLedger::connect(
        &uri,
        MongoOptions { database: Some(place.database.clone()), ..MongoOptions::default() },
    );
    let commit = Samples::new("acme").commit("dag/x", 1, 1, 1);
    let refused = reader.await.unwrap().append(&[commit]).await;
    assert!(is_unavailable(&refused), "{refused:?}");
}
