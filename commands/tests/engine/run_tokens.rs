//! Starting again with the same run token.

use futures::future::join_all;
use stella_commands::Refusal;
use stella_domain::aggregate::{RunRefusal, RunStatus};
use tempfile::TempDir;

use crate::node::{Node, TestClock, json, new_run, open, refusal};

#[tokio::test]
async fn the_same_run_comes_back_while_it_runs_and_after_its_end() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let again = || new_run("one", Some("t-1"));
    let run_id = node.run(again()).await.unwrap().answer.run_id;
    let held = node.lease("w1").await;
    for status in [RunStatus::Running, RunStatus::Succeeded] {
        let repeat = node.run(again()).await.unwrap();
        assert!(repeat.receipt.is_none());
        assert!(repeat.answer.replayed);
        assert_eq!((&repeat.answer.run_id, repeat.answer.status), (&run_id, status));
        let mut other = again();
        other.inputs = json(r#"{"n":1}"#);
        let conflict = refusal(node.run(other).await);
        assert!(matches!(conflict, Refusal::Run(RunRefusal::TokenConflict { .. })), "{conflict}");
        node.succeed("w1", &held, "{}").await;
    }
}

/// The token is looked at first: whether what it did not start exists is another question.
#[tokio::test]
async fn another_dag_or_version_is_a_conflict_even_where_there_is_none() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    node.run(new_run("one", Some("t-1"))).await.unwrap();
    let mut other_version = new_run("one", Some("t-1"));
    other_version.dag_version = Some(7);
    for (other, names) in
        [(new_run("nothing", Some("t-1")), "DAG nothing with"), (other_version, "one version 7")]
    {
        let conflict = refusal(node.run(other).await);
        let Refusal::Run(RunRefusal::TokenConflict { have, asked }) = &conflict else {
            panic!("{conflict}");
        };
        assert!(have.starts_with("DAG one version 1 with inputs b3:"), "{have}");
        assert!(asked.contains(names), "{asked}");
    }
    let mut same = new_run("one", Some("t-1"));
    same.dag_version = Some(1);
    assert!(node.run(same).await.unwrap().answer.replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_starts_at_once_with_one_token_are_one_run() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let starts = join_all((0..64).map(|_| node.run(new_run("one", Some("t-1")))));
    let answers: Vec<_> = starts.await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|written| written.receipt.is_some()).count(), 1);
    assert_eq!(answers.iter().filter(|written| !written.answer.replayed).count(), 1);
    let run_id = &answers[0].answer.run_id;
    assert!(answers.iter().all(|written| written.answer.run_id == *run_id));
    assert_eq!(node.history(run_id).await, [["RunCreated", "StepQueued"]]);
}
