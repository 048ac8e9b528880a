//! What is refused changes nothing.

use std::sync::Arc;

use stella_commands::Refusal;
use stella_domain::{
    aggregate::{DagRefusal, LedgerRefusal, Outcome, RunRefusal},
    dag::DagSpec,
};
use tempfile::TempDir;

use crate::node::{Node, TestClock, acme, json, new_run, open, operator, refusal};

#[tokio::test]
async fn what_is_unknown_is_refused() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let before = node.next_seq().await;
    let run_id = new_run("one", Some("never")).run_id;
    let cancel = node.commands.cancel_run(&acme(), &operator(), &run_id, String::new()).await;
    assert_eq!(refusal(cancel), Refusal::Run(RunRefusal::Unknown));
    let unknown = refusal(node.run(new_run("nothing", None)).await);
    assert_eq!(unknown, Refusal::Dag(Node::dag("nothing"), DagRefusal::Unknown));
    let mut new = new_run("one", None);
    new.dag_version = Some(2);
    let version = DagRefusal::UnknownVersion { asked: 2, newest: 1 };
    assert_eq!(refusal(node.run(new).await), Refusal::Dag(Node::dag("one"), version));
    let mut new = new_run("one", None);
    new.inputs = json("[]");
    let invalid = refusal(node.run(new).await);
    assert!(matches!(invalid, Refusal::Run(RunRefusal::InputsInvalid { .. })), "{invalid}");
    assert_eq!(node.next_seq().await, before, "nothing was recorded");
    // The id of a refused start is free: nothing of it was kept.
    node.run(new_run("one", Some("never"))).await.unwrap();
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused_and_nothing_is_staged() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let large = format!(r#"{{"n":"{}"}}"#, "x".repeat(64 * 1024));
    let is_too_large = |refusal: Refusal| {
        assert!(matches!(refusal, Refusal::TooLarge { part: "payload", .. }), "{refusal}");
    };
    let mut new = new_run("one", Some("t-1"));
    new.inputs = json(&large);
    is_too_large(refusal(node.run(new).await));
    let run_id = node.run(new_run("one", Some("t-1"))).await.unwrap().answer.run_id;
    let held = node.lease("w1").await;
    let before = node.next_seq().await;
    let outcome = Outcome::Succeeded { outputs: json(&large) };
    is_too_large(refusal(node.report("w1", &held, outcome).await));
    let cancel = node.commands.cancel_run(&acme(), &operator(), &run_id, large.clone()).await;
    is_too_large(refusal(cancel));
    assert_eq!(node.next_seq().await, before);
    node.succeed("w1", &held, "{}").await;
    assert_eq!(node.next_seq().await, before + 2, "the step's success and the run's");
}

#[tokio::test]
async fn nothing_is_recorded_before_the_ledger_is_opened() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let other = "other".parse().unwrap();
    let text = r#"{"id":"d","steps":[{"id":"a","plugin":"core","action":"noop"}]}"#;
    let spec = Arc::new(DagSpec::from_stored(&json(text)).unwrap());
    let ann = operator();
    let register = || node.commands.register_dag(&other, &ann, Arc::clone(&spec), String::new());
    let refused = refusal(register().await);
    assert_eq!(refused, Refusal::Ledger(LedgerRefusal::NotOpened));
    assert_eq!(node.ledger.head(&other).await.unwrap().next_seq, 0);
    node.commands.open_ledger(&other, &operator()).await.unwrap();
    assert_eq!(register().await.unwrap().0, 1);
    assert_eq!(register().await.unwrap().0, 1, "the version of this digest");
}
