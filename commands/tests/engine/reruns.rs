//! Running again what has ended: asked twice, it starts once.

use futures::future::join_all;
use stella_commands::Refusal;
use stella_domain::{
    aggregate::RunRefusal,
    event::{Event, RunEvent},
    ids::{RunId, StreamId},
};
use tempfile::TempDir;

use crate::node::{Node, TestClock, acme, failed, new_run, open, operator, refusal};

async fn rerun(node: &Node, run_id: &RunId) -> (RunId, bool) {
    let reason = "the disk was full".to_owned();
    let rerun = node.commands.rerun(&acme(), &operator(), run_id, None, reason).await.unwrap();
    (rerun.answer.run_id, rerun.answer.replayed)
}

async fn fail(node: &Node) -> RunId {
    let held = node.lease("w1").await;
    node.report("w1", &held, failed("NO_SPACE")).await.unwrap();
    held.token.run_id
}

#[tokio::test]
async fn a_rerun_is_the_next_attempt_and_asked_for_again_the_same() {
    for token in [Some("t"), None] {
        let dir = TempDir::new().unwrap();
        let node = Node::new(open(&dir).await, &TestClock::new()).await;
        let first = node.run(new_run("one", token)).await.unwrap().answer.run_id;
        let ask = node.commands.rerun(&acme(), &operator(), &first, None, String::new()).await;
        assert_eq!(refusal(ask), Refusal::Run(RunRefusal::NotEnded));
        assert_eq!(fail(&node).await, first);
        let many = join_all((0..16).map(|_| rerun(&node, &first))).await;
        assert_eq!(many.iter().filter(|(_, replayed)| !replayed).count(), 1, "{token:?}");
        let second = many[0].0.clone();
        assert!(many.iter().all(|(run_id, _)| *run_id == second));
        assert_eq!(fail(&node).await, second);
        let (third, replayed) = rerun(&node, &second).await;
        assert!(!replayed && third != second);
        assert_eq!(rerun(&node, &first).await, (second.clone(), true), "its own rerun");
        let created: Vec<_> = node
            .commits()
            .await
            .iter()
            .filter_map(|recorded| match (&recorded.events[0], &recorded.commit.stream) {
                (Event::Run(RunEvent::RunCreated(data, request)), StreamId::Run(run_id)) => {
                    let request = request.clone().unwrap();
                    let of = data.rerun_of.clone();
                    Some((run_id.clone(), data.attempt, of, request.run_token, request.reason))
                }
                _ => None,
            })
            .collect();
        let token_text = token.map(str::to_owned);
        let reason = Some("the disk was full".to_owned());
        let expected = [
            (first.clone(), 0, None, token_text.clone(), None),
            (second, 1, Some(first.clone()), token_text.clone(), reason.clone()),
            (third.clone(), 2, Some(first.clone()), token_text, reason),
        ];
        assert_eq!(created, expected);
        if token.is_some() {
            let again = node.run(new_run("one", token)).await.unwrap().answer;
            assert!(again.replayed, "its token stands for the run");
            assert_eq!(again.run_id, third, "for the newest attempt of it");
        }
    }
}

#[tokio::test]
async fn what_never_was_is_not_run_again() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let next = node.next_seq().await;
    let nothing = RunId::from_bytes([7; 16]);
    let ask = node.commands.rerun(&acme(), &operator(), &nothing, None, String::new()).await;
    assert_eq!(refusal(ask), Refusal::Run(RunRefusal::Unknown));
    assert_eq!(node.next_seq().await, next);
}
