//! A server that asks for passwords, and users that may do little.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use mongodb::{Client, bson::doc};
use stella_ledger::{
    conformance::{Samples, suite},
    erasure::{self, Blanking, EraseError, Eraser},
    mongo::{COLLECTION, MongoEraser, MongoLedger, MongoOptions},
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
    let place = Place::at(as_user(mongod, "root"), None).await;
    let uri = user_at(mongod, &place, actions).await;
    (place, uri)
}

fn as_user(mongod: &Mongod, user: &str) -> String {
    let uri = mongod.uri().replace("mongodb://", &format!("mongodb://{user}:{user}@"));
    format!("{uri}&authSource=admin")
}

/// The URI of a user who may do no more at `place` than `actions`.
async fn user_at(mongod: &Mongod, place: &Place, actions: &[&str]) -> String {
    let database = place.database.as_str();
    let name = format!("{database}_{}", actions.join("_"));
    let admin = place.client.database("admin");
    let privileges = vec![
        doc! { "resource": { "db": database, "collection": COLLECTION }, "actions": actions },
        doc! { "resource": { "db": database, "collection": "" }, "actions": ["listCollections"] },
    ];
    let role = doc! { "createRole": &name, "privileges": privileges, "roles": [] };
    admin.run_command(role).await.unwrap();
    let user = doc! { "createUser": &name, "pwd": &name, "roles": [&name] };
    admin.run_command(user).await.unwrap();
    as_user(mongod, &name)
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

/// What blanks is not what appends, and neither can do the other's work.
#[tokio::test]
async fn only_the_erasing_credential_blanks() {
    let (mongod, _dir) = server_with_auth().await;
    let connect = async |uri: &str, database: &str| {
        let options =
            MongoOptions { database: Some(database.to_owned()), ..MongoOptions::default() };
        (
            MongoLedger::connect(uri, options.clone()).await.unwrap(),
            MongoEraser::connect(uri, options).await.unwrap(),
        )
    };
    erasure::conformance::suite(async || {
        let (place, erasing) = place_with_user(&mongod, &["find", "update"]).await;
        place.set_up().await;
        let appending = user_at(&mongod, &place, &["find", "insert", "listIndexes"]).await;
        let (ledger, _) = connect(&appending, &place.database).await;
        let (_, eraser) = connect(&erasing, &place.database).await;
        (Arc::new(ledger) as Arc<dyn Ledger>, Arc::new(eraser) as Arc<dyn Eraser>)
    })
    .await;

    let (place, erasing) = place_with_user(&mongod, &["find", "update"]).await;
    let by_root = place.set_up().await;
    let appending = user_at(&mongod, &place, &["find", "insert", "listIndexes"]).await;
    let mut acme = Samples::new("acme");
    let stored = acme.commit("run/0RQ9CWTXP9BPJR3KTYEG0MB9FF", 1, 3, 1);
    let (ledger, not_an_eraser) = connect(&appending, &place.database).await;
    ledger.append(&[Arc::clone(&stored)]).await.unwrap();
    let seqs = (0..9).collect();
    let blanking = Blanking::of(&stored, &seqs).unwrap();
    for refused in [not_an_eraser.may_blank().await, not_an_eraser.blank(&blanking).await] {
        assert!(matches!(refused, Err(EraseError::Refused(_))), "{refused:?}");
    }
    assert_eq!(by_root.read(acme.tenant(), 0, 9).await.unwrap(), [(*stored).clone()]);
    let (not_a_writer, eraser) = connect(&erasing, &place.database).await;
    assert!(is_unavailable(&not_a_writer.append(&[acme.commit("dag/x", 1, 1, 1)]).await));
    eraser.may_blank().await.unwrap();
    eraser.blank(&blanking).await.unwrap();
    assert_eq!(ledger.read(acme.tenant(), 0, 9).await.unwrap(), [blanking.after()]);
}
