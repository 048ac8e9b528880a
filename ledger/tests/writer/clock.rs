//! Clocks that are wrong: `docs/ledger-format.md`, section 4.

use std::sync::Arc;

use stella_domain::time::Timestamp;
use stella_ledger::writer::WriteError;
use tempfile::TempDir;

use crate::{
    counter::{Command, add},
    faulty::Faulty,
    node::{Node, TurnedClock, open, recorded_ids},
};

async fn recorded_at_ms(node: &Node, id: u32) -> Result<i64, WriteError> {
    let receipt = node.run(add(1, id)).await?.receipt.expect("recorded");
    Ok(receipt.recorded_at.as_micros() / 1_000)
}

fn assert_refused(outcome: Result<i64, WriteError>) {
    match outcome {
        Err(WriteError::ClockFault(_)) => {}
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn time_stands_still_while_an_accepted_fault_lasts() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let clock = Arc::new(TurnedClock::default());
    let node = Node::with_clock(ledger.clone(), clock.clone());
    clock.set_ms(100_000);
    assert_eq!(recorded_at_ms(&node, 1).await.unwrap(), 100_000);
    // Up to five seconds behind are nobody's fault.
    clock.set_ms(95_000);
    assert_eq!(recorded_at_ms(&node, 2).await.unwrap(), 100_000);
    clock.set_ms(94_999);
    assert_refused(recorded_at_ms(&node, 3).await);

    node.run(Command::AcceptClockFault).await.unwrap();
    assert_eq!(recorded_at_ms(&node, 4).await.unwrap(), 100_000);
    // Another node learns of it from the ledger.
    let restarted = Node::with_clock(ledger.clone(), clock.clone());
    assert_eq!(recorded_at_ms(&restarted, 5).await.unwrap(), 100_000);

    clock.set_ms(99_000);
    assert_eq!(recorded_at_ms(&node, 6).await.unwrap(), 100_000);
    clock.set_ms(100_500);
    assert_eq!(recorded_at_ms(&node, 7).await.unwrap(), 100_500);
    // The next fault is another one.
    clock.set_ms(80_000);
    assert_refused(recorded_at_ms(&node, 8).await);
    assert_refused(recorded_at_ms(&restarted, 8).await);
    assert_eq!(recorded_ids(&*ledger, "acme").await, [1, 2, u32::MAX, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_clock_that_differs_from_the_servers_is_refused() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Faulty::new(open(&dir).await));
    let clock = Arc::new(TurnedClock::default());
    clock.set_ms(100_000);
    *ledger.server_time.lock().unwrap() = Some(Timestamp::from_micros(106_000_000));
    let node = Node::with_clock(ledger.clone(), clock.clone());
    // Clocks are compared before anything is decided.
    let error = node.run(add(1, 0)).await.unwrap_err().to_string();
    assert!(error.contains("differs by -6 s"), "{error}");
    node.run(Command::AcceptClockFault).await.unwrap();
    node.run(add(1, 5_000)).await.unwrap();
    assert_eq!(recorded_ids(&*ledger, "acme").await, [u32::MAX, 5_000]);
}

#[tokio::test]
async fn a_server_that_answers_late_has_no_other_time() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Faulty::new(open(&dir).await));
    let clock = Arc::new(TurnedClock::default());
    // It looks at its clock half a minute after it was asked, and answers half a minute later.
    clock.set_ms(100_000);
    *ledger.server_time.lock().unwrap() = Some(Timestamp::from_micros(130_000_000));
    let turned = Arc::clone(&clock);
    *ledger.before_time_is_told.lock().unwrap() = Some(Box::new(move || turned.set_ms(160_000)));
    let node = Node::with_clock(ledger.clone(), clock.clone());
    assert_eq!(recorded_at_ms(&node, 1).await.unwrap(), 160_000);
}
