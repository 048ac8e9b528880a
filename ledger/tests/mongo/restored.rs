//! An older state of the collection under a running writer: MongoDB would take the gap.

use std::{sync::Arc, time::Duration};

use mongodb::bson::doc;
use stella_ledger::writer::WriteError;

use crate::{
    Place,
    counter::add,
    faulty::{Fault, Faulty},
    node::Node,
};

/// A writer that has written three commits, of which only the first is left.
async fn cut(place: &Place) -> (Node, Arc<Faulty>) {
    let ledger = Arc::new(Faulty::new(Arc::new(place.set_up().await)));
    let node = Node::start(ledger.clone());
    for id in 1..4 {
        node.run(add(1, id)).await.unwrap();
    }
    let later = doc! { "_id": { "$gt": "acme/000000000000" } };
    assert_eq!(place.raw().delete_many(later).await.unwrap().deleted_count, 2);
    (node, ledger)
}

async fn assert_refused_and_left(node: &Node, place: &Place) {
    let error = loop {
        match node.run(add(1, 4)).await {
            // Until the writer looks again.
            Err(WriteError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            outcome => break outcome.unwrap_err(),
        }
    };
    assert!(error.to_string().contains("was a backup restored?"), "{error}");
    assert_eq!(place.raw().count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test]
async fn no_gap_is_written_after_an_error() {
    let place = Place::new().await;
    let (node, ledger) = cut(&place).await;
    ledger.script(&[Fault::Unavailable]);
    let error = node.run(add(1, 4)).await.unwrap_err();
    assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("no longer holds event 2"), "{error}");
    assert_refused_and_left(&node, &place).await;
    place.leave().await;
}

#[tokio::test]
async fn no_gap_is_written_after_a_second_at_rest() {
    let place = Place::new().await;
    let (node, _) = cut(&place).await;
    // The rest itself, which no condition can be waited for.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_refused_and_left(&node, &place).await;
    place.leave().await;
}
