//! What somebody did to the documents behind the ledger's back.

use mongodb::bson::{Bson, doc};
use stella_ledger::{
    conformance::{Samples, damage_is_noticed},
    port::{Ledger, LedgerError},
};

use super::Place;

#[tokio::test]
async fn damage_is_found() {
    let place = Place::new().await;
    let ledger = place.set_up().await;
    damage_is_noticed(&ledger, async || {
        let id = doc! { "_id": "acme/000000000000" };
        let commit = place.raw().find_one(id.clone()).await.unwrap().unwrap();
        let event = commit.get_array("events").unwrap()[0].as_document().unwrap();
        let data = event.get_str("data").unwrap().replace("\"n\":0", "\"n\":9");
        let change = doc! { "$set": { "events.0.data": data } };
        assert_eq!(place.raw().update_one(id, change).await.unwrap().modified_count, 1);
    })
    .await;
    place.leave().await;
}

#[tokio::test]
async fn a_document_of_another_shape_stops_the_read() {
    let place = Place::new().await;
    let ledger = place.set_up().await;
    let mut acme = Samples::new("acme");
    let commits = [acme.commit("dag/x", 1, 2, 1), acme.commit("dag/x", 3, 2, 1)];
    ledger.append(&commits).await.unwrap();
    let id = doc! { "_id": "acme/000000000002" };
    let sound = place.raw().find_one(id.clone()).await.unwrap().unwrap();
    for (change, expected) in [
        (doc! { "$unset": { "actor": 1 } }, "`actor` is missing"),
        (doc! { "$set": { "seq": "2" } }, "member \"seq\" has no place there"),
        (doc! { "$set": { "seq": -1_i64 } }, "`seq` is negative"),
        (doc! { "$set": { "lastSeq": 9_i64 } }, "`lastSeq` is not that of its last event"),
        (doc! { "$set": { "note": "x" } }, "member \"note\" has no place there"),
        (doc! { "$set": { "stream": "step/x" } }, "not a valid stream"),
        (doc! { "$set": { "prev": Bson::Null } }, "member \"prev\" has no place there"),
        (doc! { "$set": { "events": "x" } }, "member \"events\" has no place there"),
        (doc! { "$set": { "events.1": 7 } }, "event 1: it is no document"),
        (doc! { "$set": { "events.1.type": "not a type" } }, "event 1: \"not a type\" is no"),
        (doc! { "$unset": { "events.0.salt": 1 } }, "event 0: `payload`, `salt` and"),
    ] {
        let raw = place.raw();
        let changing = raw.update_one(id.clone(), change.clone());
        changing.bypass_document_validation(true).await.unwrap();
        let error = ledger.read(acme.tenant(), 0, 10).await.unwrap_err();
        let LedgerError::Malformed { id: found, reason } = &error else { panic!("{error}") };
        assert_eq!(found, "acme/000000000002");
        assert!(reason.contains(expected), "{change}: {reason}");
        assert!(ledger.head(acme.tenant()).await.is_err(), "{change}");
        place.raw().replace_one(id.clone(), sound.clone()).await.unwrap();
    }
    assert_eq!(ledger.read(acme.tenant(), 0, 10).await.unwrap().len(), 2);
    place.leave().await;
}

#[tokio::test]
async fn a_commit_that_was_moved_or_taken_out_is_noticed() {
    let place = Place::new().await;
    let ledger = place.set_up().await;
    let mut acme = Samples::new("acme");
    let commits: Vec<_> = (0..3).map(|n| acme.commit("dag/x", 1 + 2 * n, 2, 1)).collect();
    ledger.append(&commits).await.unwrap();
    let middle = doc! { "_id": "acme/000000000002" };
    let mut taken = place.raw().find_one_and_delete(middle).await.unwrap().unwrap();
    for from_seq in [0, 2, 3] {
        let error = ledger.read(acme.tenant(), from_seq, 10).await.unwrap_err();
        assert!(matches!(error, LedgerError::Damaged { .. }), "from {from_seq}: {error}");
    }
    taken.insert("_id", "acme/000000000009");
    place.raw().insert_one(taken).await.unwrap();
    let error = ledger.head(acme.tenant()).await.unwrap_err();
    assert!(error.to_string().contains("`_id` is not that of its tenant and seq"), "{error}");
    place.leave().await;
}
