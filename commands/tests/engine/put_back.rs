//! Work that could not be carried out is due again, and not at once.

use std::sync::Arc;

use stella_commands::dispatch::{Dispatch, Due};
use stella_domain::{
    ids::{PluginName, RunId},
    open_work::{OpenWork, QueuedStep},
    time::Timestamp,
};

use crate::node::{acme, worker};

#[test]
fn a_grant_that_failed_is_tried_again_later_and_others_go_first() {
    let mut dispatch = Dispatch::default();
    let now = Timestamp::from_micros(1_000_000_000);
    let plugin: PluginName = "core".parse().unwrap();
    let step = |n: u8| QueuedStep {
        run_id: RunId::from_bytes([n; 16]),
        step_id: "a".parse().unwrap(),
        dag_id: "one".parse().unwrap(),
        plugin: plugin.clone(),
        concurrency: None,
        priority: 0,
        seq: n.into(),
    };
    let queued = vec![step(1), step(2)];
    let work = OpenWork { queued, ..OpenWork::default() };
    dispatch.open(&acme(), work, now);
    let (_, _grants) =
        dispatch.wait(Arc::new([acme()]), &worker("w1"), Arc::new([plugin.clone().into()]), 1, now);
    let due = |dispatch: &mut Dispatch, at| loop {
        match dispatch.next_due(at) {
            Some((_, Due::CatchUp)) => {}
            Some((_, due @ Due::Grant { .. })) => return Some(due),
            None => return None,
            Some(other) => panic!("{other:?}"),
        }
    };
    let run_of = |due: &Due| match due {
        Due::Grant { slot } => slot.step.0.clone(),
        other => panic!("{other:?}"),
    };
    let first = due(&mut dispatch, now).expect("a grant");
    assert_eq!(run_of(&first), step(1).run_id);
    dispatch.put_back(&acme(), first, now);
    let second = due(&mut dispatch, now).expect("the place is free again");
    assert_eq!(run_of(&second), step(2).run_id);
    dispatch.put_back(&acme(), second, now);
    assert!(due(&mut dispatch, now).is_none(), "not at once");
    let later = dispatch.wake_at().expect("later");
    let again = due(&mut dispatch, later).expect("due again");
    assert_eq!(run_of(&again), step(1).run_id);
}
