//! Looking over a collection that somebody damaged.

use std::sync::{Arc, Mutex};

use mongodb::{
    Collection,
    bson::{Binary, Document, doc, spec::BinarySubtype},
};
use stella_ledger::{
    fsck::scan::Scan,
    mongo::{CHECKPOINTS, TILES},
    uri::Storage,
};

use crate::{
    Place,
    looked_over::{
        self, Damage, commits_that_overlap_are_found, everything_wrong_is_found,
        payloads_and_erasures_fit,
    },
};

struct Damaged {
    /// Shared with the test, which has it removed.
    place: Arc<Place>,
    storage: Storage,
    scan: Arc<dyn Scan>,
}

impl Damaged {
    async fn change(&self, collection: &str, id: String, change: Document) {
        let collection = self.of(collection);
        let change = collection.update_one(doc! { "_id": id }, change);
        let changed = change.bypass_document_validation(true).await.unwrap();
        assert_eq!(changed.modified_count, 1);
    }

    fn of(&self, collection: &str) -> Collection<Document> {
        self.place.client.database(&self.place.database).collection(collection)
    }
}

fn key(seq: u64) -> String {
    format!("acme/{seq:012}")
}

impl looked_over::Place for Damaged {
    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn scan(&self) -> &Arc<dyn Scan> {
        &self.scan
    }

    async fn damage(&self, damage: Damage) {
        match damage {
            Damage::Data(seq) => {
                let commit = self.place.raw().find_one(doc! { "_id": key(seq) }).await.unwrap();
                let commit = commit.unwrap();
                let event = commit.get_array("events").unwrap()[0].as_document().unwrap();
                let data = event.get_str("data").unwrap().replace("\"n\":", "\"n\":1");
                let change = doc! { "$set": { "events.0.data": data } };
                self.change("ledger", key(seq), change).await;
            }
            Damage::Actors => {
                let change = doc! { "$set": { "actor": "user:other" } };
                self.place.raw().update_many(doc! {}, change).await.unwrap();
            }
            // Nothing does here: the place of each is its key.
            Damage::Order => {}
            Damage::Removed(seq) => {
                self.place.raw().delete_one(doc! { "_id": key(seq) }).await.unwrap();
            }
            Damage::Prev(seq) => {
                let prev = Binary { subtype: BinarySubtype::Generic, bytes: vec![0; 32] };
                self.change("ledger", key(seq), doc! { "$set": { "prev": prev } }).await;
            }
            Damage::Time(seq) => {
                self.change("ledger", key(seq), doc! { "$set": { "recordedAt": 1_i64 } }).await;
            }
            Damage::Origin(seq) => {
                let change = doc! { "$set": { "origin": "other.example" } };
                self.change("ledger", key(seq), change).await;
            }
            Damage::LastSeq(seq) => {
                self.change("ledger", key(seq), doc! { "$inc": { "lastSeq": 1_i64 } }).await;
            }
            Damage::Unreadable(seq) => {
                self.change("ledger", key(seq), doc! { "$set": { "events": "x" } }).await;
            }
            Damage::Tile(index, root) => {
                let id = format!("acme/0/{index:016}");
                match root {
                    Some(root) => {
                        let bytes = root.as_bytes().to_vec();
                        let root = Binary { subtype: BinarySubtype::Generic, bytes };
                        self.change(TILES, id, doc! { "$set": { "root": root } }).await;
                    }
                    None => drop(self.of(TILES).delete_one(doc! { "_id": id }).await.unwrap()),
                }
            }
            Damage::Note(size, note) => {
                let id = format!("acme/{size:016}");
                self.change(CHECKPOINTS, id, doc! { "$set": { "note": note } }).await;
            }
        }
    }
}

/// Databases of a test, which go with it.
#[derive(Default)]
struct Databases(Mutex<Vec<Arc<Place>>>);

impl Databases {
    async fn fresh(&self) -> Damaged {
        let place = Arc::new(Place::new().await);
        let storage = Storage::of(place.set_up().await);
        let scan: Arc<dyn Scan> = Arc::new(place.set_up().await);
        self.0.lock().unwrap().push(Arc::clone(&place));
        Damaged { place, storage, scan }
    }

    async fn drop(self) {
        for place in self.0.into_inner().unwrap() {
            place.client.database(&place.database).drop().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_a_collection_is_found() {
    let databases = Databases::default();
    everything_wrong_is_found(async || databases.fresh().await).await;
    databases.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_overlap_in_a_collection_are_found() {
    let databases = Databases::default();
    commits_that_overlap_are_found(async || databases.fresh().await).await;
    databases.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_gone_from_a_collection_was_erased() {
    let databases = Databases::default();
    payloads_and_erasures_fit(async || databases.fresh().await).await;
    databases.drop().await;
}
