//! A server that asks for passwords, and users that may do little.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use mongodb::{
    Client,
    bson::{Document, doc},
};
use stella_domain::{
    hash::Hash32,
    merkle::{Tile, TileId},
};
use stella_ledger::{
    checkpoints::store::CheckpointStore as _,
    conformance::{Samples, suite},
    erasure::{self, Blanking, EraseError, Eraser},
    mongo::{
        APPEND_ONLY_ROLE, CHECKPOINTS, COLLECTION, MadeRole, MongoEraser, MongoLedger,
        MongoOptions, RoleError, TILES,
    },
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

/// `mongod`'s URI for one who has the same word as name and password.
fn uri_of(mongod: &Mongod, user: &str, database: &str) -> String {
    let uri = mongod.uri().replace("mongodb://", &format!("mongodb://{user}:{user}@"));
    format!("{uri}&authSource={database}")
}

async fn place(mongod: &Mongod) -> Place {
    Place::at(uri_of(mongod, "root", "admin"), None).await
}

/// A user of the place's own database with `role`; answers a ledger that is theirs.
async fn ledger_with(mongod: &Mongod, place: &Place, role: &str) -> MongoLedger {
    let database = place.client.database(&place.database);
    let user = doc! { "createUser": role, "pwd": role, "roles": [role] };
    database.run_command(user).await.unwrap();
    let options =
        MongoOptions { database: Some(place.database.clone()), ..MongoOptions::default() };
    let uri = uri_of(mongod, role, &place.database);
    MongoLedger::connect(&uri, options).await.unwrap()
}

/// The URI of a user who may do no more at `place` than `actions` on the ledger.
async fn user_at(mongod: &Mongod, place: &Place, actions: &[&str]) -> String {
    let name = format!("{}_{}", place.database, actions.join("_"));
    let database = place.client.database(&place.database);
    let resource = |collection: &str| doc! { "db": &place.database, "collection": collection };
    let privileges = vec![
        doc! { "resource": resource(COLLECTION), "actions": actions },
        doc! { "resource": resource(""), "actions": ["listCollections"] },
    ];
    let role = doc! { "createRole": &name, "privileges": privileges, "roles": [] };
    database.run_command(role).await.unwrap();
    let user = doc! { "createUser": &name, "pwd": &name, "roles": [&name] };
    database.run_command(user).await.unwrap();
    uri_of(mongod, &name, &place.database)
}

#[tokio::test]
async fn it_conforms_with_the_role_that_it_makes() {
    let (mongod, _dir) = server_with_auth().await;
    suite(async || {
        let place = place(&mongod).await;
        let by_root = place.set_up().await;
        assert_eq!(codes(&by_root).await, [("PRIVILEGES_TOO_WIDE", false)]);
        by_root.make_append_only_role(APPEND_ONLY_ROLE).await.unwrap();
        let ledger = ledger_with(&mongod, &place, APPEND_ONLY_ROLE).await;
        ledger.setup().await.expect("nothing is left to do, so nothing is needed for it");
        assert_eq!(codes(&ledger).await, []);
        Arc::new(ledger) as Arc<dyn Ledger>
    })
    .await;
}

#[tokio::test]
async fn one_who_may_not_insert_appends_nothing() {
    let (mongod, _dir) = server_with_auth().await;
    let place = place(&mongod).await;
    place.set_up().await;
    let read = ledger_with(&mongod, &place, "read").await;
    let commit = Samples::new("acme").commit("dag/x", 1, 1, 1);
    let refused = read.append(&[commit]).await;
    assert!(is_unavailable(&refused), "{refused:?}");
}

/// What was recorded, its tiles and its checkpoints are out of reach of whoever has the server's
/// credentials: it is MongoDB that says so, whatever program asks.
#[tokio::test]
async fn the_role_changes_and_removes_nothing() {
    let (mongod, _dir) = server_with_auth().await;
    let place = place(&mongod).await;
    let by_root = place.set_up().await;
    by_root.make_append_only_role(APPEND_ONLY_ROLE).await.unwrap();
    let ledger = ledger_with(&mongod, &place, APPEND_ONLY_ROLE).await;
    let mut acme = Samples::new("acme");
    ledger.append(&[acme.commit("dag/x", 1, 1, 1)]).await.unwrap();
    let tile = Tile { id: TileId { level: 0, index: 0 }, root: Hash32::from([1; 32]) };
    ledger.insert_tiles(acme.tenant(), &[tile]).await.unwrap();
    ledger.insert_note(acme.tenant(), 1, "a note").await.unwrap();

    let uri = uri_of(&mongod, APPEND_ONLY_ROLE, &place.database);
    let server = Client::with_uri_str(&uri).await.unwrap().database(&place.database);
    for name in [COLLECTION, TILES, CHECKPOINTS] {
        let all = doc! { "q": {}, "limit": 0 };
        let any = doc! { "q": {}, "u": { "$set": { "root": 1 } }, "multi": true };
        let replace = doc! { "aggregate": name, "cursor": {}, "pipeline": [{ "$out": name }] };
        for command in [
            doc! { "update": name, "updates": [any] },
            doc! { "delete": name, "deletes": [all] },
            doc! { "findAndModify": name, "query": {}, "remove": true },
            replace,
            doc! { "drop": name },
            doc! { "dropIndexes": name, "index": "*" },
            doc! { "collMod": name, "validator": {} },
            doc! { "renameCollection": format!("{}.{name}", place.database),
            "to": format!("{}.gone", place.database) },
        ] {
            // Renaming is asked of `admin`; so it is not the wrong database that is refused.
            let renames = command.contains_key("renameCollection");
            let client = server.client();
            let database = if renames { client.database("admin") } else { server.clone() };
            let error = database.run_command(command.clone()).await.unwrap_err();
            assert!(error.to_string().contains("not authorized"), "{command}: {error}");
        }
        let count = server.collection::<Document>(name).find_one(doc! {}).await.unwrap();
        assert!(count.is_some(), "{name} has lost what it held");
    }
    for command in [
        doc! { "dropDatabase": 1 },
        doc! { "grantRolesToUser": APPEND_ONLY_ROLE,
        "roles": [{ "role": "dbOwner", "db": &place.database }] },
    ] {
        let error = server.run_command(command.clone()).await.unwrap_err();
        assert!(error.to_string().contains("not authorized"), "{command}: {error}");
    }
}

#[tokio::test]
async fn a_role_is_made_once_and_never_changed() {
    let (mongod, _dir) = server_with_auth().await;
    let place = place(&mongod).await;
    let by_root = place.set_up().await;
    for is_new in [true, false] {
        let made = by_root.make_append_only_role("append").await.unwrap();
        assert_eq!(made, MadeRole { database: place.database.clone(), is_new });
    }
    let database = place.client.database(&place.database);
    for (change, differs) in [
        (doc! { "roles": ["readWrite"] }, "more, "),
        (doc! { "roles": [], "privileges": [] }, "not insert on "),
    ] {
        let mut command = doc! { "updateRole": "append" };
        command.extend(change);
        database.run_command(command).await.unwrap();
        let refused = by_root.make_append_only_role("append").await.unwrap_err();
        assert!(matches!(refused, RoleError::Differs { .. }), "{refused:?}");
        assert!(refused.to_string().contains(differs), "{refused}");
    }
    by_root.make_append_only_role(APPEND_ONLY_ROLE).await.unwrap();
    let server = ledger_with(&mongod, &place, APPEND_ONLY_ROLE).await;
    let refused = server.make_append_only_role("mine").await.unwrap_err();
    assert!(matches!(refused, RoleError::MayNot { .. }), "{refused:?}");
}

/// Tiles and checkpoints are as much a part of the record as the ledger itself.
#[tokio::test]
async fn privileges_on_any_of_the_collections_are_found() {
    let (mongod, _dir) = server_with_auth().await;
    let place = place(&mongod).await;
    place.set_up().await.make_append_only_role(APPEND_ONLY_ROLE).await.unwrap();
    let database = place.client.database(&place.database);
    for name in [TILES, CHECKPOINTS] {
        let resource = doc! { "db": &place.database, "collection": name };
        let wide = doc! {
            "createRole": name,
            "privileges": [{ "resource": resource, "actions": ["remove"] }],
            "roles": [APPEND_ONLY_ROLE],
        };
        database.run_command(wide).await.unwrap();
        let ledger = ledger_with(&mongod, &place, name).await;
        let [found] = &ledger.findings().await.unwrap()[..] else { panic!("one finding") };
        assert_eq!(found.code, "PRIVILEGES_TOO_WIDE");
        let says = format!("may remove on {}.{name}: ", place.database);
        assert!(found.message.contains(&says), "{}", found.message);
    }
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
        let place = place(&mongod).await;
        place.set_up().await;
        let erasing = user_at(&mongod, &place, &["find", "update"]).await;
        let appending = user_at(&mongod, &place, &["find", "insert", "listIndexes"]).await;
        let (ledger, _) = connect(&appending, &place.database).await;
        let (_, eraser) = connect(&erasing, &place.database).await;
        (Arc::new(ledger) as Arc<dyn Ledger>, Arc::new(eraser) as Arc<dyn Eraser>)
    })
    .await;

    let place = place(&mongod).await;
    let by_root = place.set_up().await;
    let erasing = user_at(&mongod, &place, &["find", "update"]).await;
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
