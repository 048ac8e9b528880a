//! The set-up, what is missing of it, and what commands look like on the wire.

use std::time::Duration;

use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use stella_ledger::{
    conformance::Samples,
    mongo::{CHECKPOINTS, MongoOptions, TILES},
    port::{AppendError, AppendFailure, Ledger, READ_LIMIT},
};

use super::{Place, codes, is_unavailable};

#[tokio::test]
async fn setting_up_is_idempotent_and_keeps_out_what_is_no_commit() {
    let place = Place::new().await;
    let ledgers = [place.ledger(MongoOptions::default()).await, place.set_up().await];
    let (one, other) = tokio::join!(ledgers[0].setup(), ledgers[1].setup());
    one.and(other).unwrap();
    let foreign = place.raw().insert_one(doc! { "_id": "acme/000000000000" }).await.unwrap_err();
    assert!(foreign.to_string().contains("Document failed validation"), "{foreign}");
    for name in [TILES, CHECKPOINTS] {
        let database = place.client.database(&place.database);
        let foreign = database.collection(name).insert_one(doc! { "_id": "acme/0" }).await;
        let foreign = foreign.unwrap_err().to_string();
        assert!(foreign.contains("Document failed validation"), "{name}: {foreign}");
    }
    assert!(ledgers[0].server_time().await.unwrap().is_some());
    place.leave().await;
}

/// What a crash between the collection and its index leaves behind is new still; where there are
/// commits, an index that is gone is for people to see.
#[tokio::test]
async fn an_empty_collection_is_set_up_and_one_with_commits_is_left_alone() {
    let place = Place::new().await;
    let database = place.client.database(&place.database);
    database.create_collection("ledger").await.unwrap();
    let ledger = place.ledger(MongoOptions::default()).await;
    ledger.setup_if_new().await.unwrap();
    let commit = Samples::new("acme").commit("dag/x", 1, 1, 1);
    ledger.append(&[commit]).await.unwrap();
    place.raw().drop_index("tenant_1_stream_1_streamVersion_1").await.unwrap();
    ledger.setup_if_new().await.unwrap();
    let missing = codes(&ledger).await;
    assert!(missing.contains(&("INDEX_MISSING", true)), "{missing:?}");
    place.leave().await;
}

#[tokio::test]
async fn every_command_asks_for_what_the_ledger_rests_on() {
    let place = Place::new().await;
    let ledger = place.set_up().await;
    let mut acme = Samples::new("acme");
    let database = place.client.database(&place.database);
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    ledger.append(&[acme.commit("dag/x", 1, 1, 1)]).await.unwrap();
    ledger.read(acme.tenant(), 0, 10).await.unwrap();
    ledger.read_streams(acme.tenant(), &["dag/x".parse().unwrap()]).await.unwrap();
    assert!(ledger.is_head(acme.tenant(), 1).await.unwrap());
    database.run_command(doc! { "profile": 0 }).await.unwrap();

    let profile = database.collection::<Document>("system.profile");
    let commands = profile.find(doc! { "ns": format!("{}.ledger", place.database) }).await;
    let commands: Vec<Document> = commands.unwrap().try_collect().await.unwrap();
    let level = |entry: &Document| {
        let command = entry.get_document("command").unwrap();
        let level = command.get_document("readConcern").unwrap().get_str("level");
        level.unwrap().to_owned()
    };
    let of = |op: &'static str| commands.iter().filter(move |c| c.get_str("op") == Ok(op));
    let finds: Vec<_> = of("query").map(level).collect();
    assert_eq!(finds, ["majority", "majority", "linearizable"]);
    for plan in of("query").map(|find| find.get_str("planSummary").unwrap()) {
        assert!(plan.starts_with("IXSCAN") || plan == "IDHACK", "{plan}");
    }
    let inserts: Vec<_> = of("insert").collect();
    let [insert] = inserts[..] else { panic!("one insert: {inserts:?}") };
    let concern = insert.get_document("command").unwrap().get_document("writeConcern").unwrap();
    assert_eq!(concern.get_str("w"), Ok("majority"));
    assert_eq!(concern.get_bool("j"), Ok(true));
    assert!(concern.contains_key("wtimeout"));
    place.leave().await;
}

#[tokio::test]
async fn a_batch_larger_than_a_message_lands_up_to_its_conflict() {
    let place = Place::new().await;
    let ledger = place.set_up().await;
    let (mut acme, mut other) = (Samples::new("acme"), Samples::new("other"));
    ledger.append(&[other.fork().commit("dag/y", 1, 1, 1)]).await.unwrap();
    // 4 MB each.
    let mut batch: Vec<_> = (0..12).map(|n| acme.commit("dag/x", 1 + 400 * n, 400, 1)).collect();
    batch.push(other.commit("dag/x", 1, 1, 1));
    let error = ledger.append(&batch).await.unwrap_err();
    assert!(matches!(error, AppendError { landed: 12, cause: AppendFailure::Conflict }), "{error}");
    assert_eq!(ledger.head(acme.tenant()).await.unwrap(), acme.head());
    // A page is limited in bytes, too, and continues where it ended.
    let (mut next_seq, mut pages) = (0, 0);
    while next_seq < acme.head().next_seq {
        let page = ledger.read(acme.tenant(), next_seq, READ_LIMIT).await.unwrap();
        (next_seq, pages) = (page.last().unwrap().head().next_seq, pages + 1);
    }
    assert_eq!(pages, 3);
    place.leave().await;
}

#[tokio::test]
async fn without_its_index_it_takes_no_writes_until_the_index_is_back() {
    let place = Place::new().await;
    let options = MongoOptions { check_every: Duration::ZERO, ..MongoOptions::default() };
    let ledger = place.ledger(options).await;
    let mut acme = Samples::new("acme");
    let commits = [acme.commit("dag/x", 1, 1, 1), acme.commit("dag/x", 2, 1, 1)];
    let refused = ledger.append(&commits).await;
    assert!(is_unavailable(&refused), "before it is set up: {refused:?}");
    let missing = codes(&ledger).await;
    assert!(missing.contains(&("INDEX_MISSING", true)), "{missing:?}");

    ledger.setup().await.unwrap();
    ledger.append(&commits[..1]).await.unwrap();
    place.raw().drop_index("tenant_1_stream_1_streamVersion_1").await.unwrap();
    let refused = ledger.append(&commits[1..]).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    assert_eq!(ledger.read(acme.tenant(), 0, 10).await.unwrap().len(), 1, "reads go on");
    // One of the same keys that is not unique will not do.
    let keys = doc! { "tenant": 1, "stream": 1, "streamVersion": 1 };
    let lax = mongodb::IndexModel::builder().keys(keys).build();
    place.raw().create_index(lax).await.unwrap();
    assert!(is_unavailable(&ledger.append(&commits[1..]).await));

    place.raw().drop_index("tenant_1_stream_1_streamVersion_1").await.unwrap();
    ledger.setup().await.unwrap();
    ledger.append(&commits[1..]).await.unwrap();
    assert!(codes(&ledger).await.iter().all(|(_, blocks_writes)| !blocks_writes));
    place.leave().await;
}
