//! A worker of several tenants: each gets what its weight says, and none starves.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use proptest::prelude::*;
use stella_commands::dispatch::{Dispatch, Due};
use stella_domain::{
    ids::{PluginName, RunId, Tenant},
    open_work::{OpenWork, QueuedStep},
    time::Timestamp,
};

use crate::node::worker;

fn now() -> Timestamp {
    Timestamp::from_micros(1_000_000_000)
}

fn tenant(n: usize) -> Tenant {
    format!("t{n}").parse().unwrap()
}

fn plugin() -> PluginName {
    "core".parse().unwrap()
}

fn queued(of: usize, n: u64) -> QueuedStep {
    let mut run_id = [0; 16];
    run_id[7] = of as u8;
    run_id[8..].copy_from_slice(&n.to_be_bytes());
    QueuedStep {
        run_id: RunId::from_bytes(run_id),
        step_id: "a".parse().unwrap(),
        dag_id: "one".parse().unwrap(),
        plugin: plugin(),
        concurrency: None,
        priority: 0,
        seq: n,
    }
}

/// Tenant `n` has `depths[n]` steps that wait.
fn dispatch(depths: &[u64]) -> Dispatch {
    let mut dispatch = Dispatch::default();
    for (of, depth) in depths.iter().enumerate() {
        let queued = (1..=*depth).map(|n| queued(of, n)).collect();
        dispatch.open(&tenant(of), OpenWork { queued, ..OpenWork::default() }, now());
    }
    dispatch
}

/// A worker asks for so many steps of these tenants: whose it gets, in order.
fn given(dispatch: &mut Dispatch, tenants: &[usize], places: u32) -> Vec<Tenant> {
    let tenants = tenants.iter().map(|n| tenant(*n)).collect();
    let (waiter, _grants) =
        dispatch.wait(tenants, &worker("w1"), Arc::new([plugin().into()]), places, now());
    let mut given = vec![];
    while let Some((of, due)) = dispatch.next_due(now()) {
        if let Due::Grant { slot } = due {
            assert_eq!(slot.tenant, of);
            given.push(of);
        }
    }
    dispatch.leave(waiter);
    given
}

fn counted(given: &[Tenant]) -> BTreeMap<Tenant, u64> {
    let mut counts = BTreeMap::new();
    given.iter().for_each(|tenant| *counts.entry(tenant.clone()).or_default() += 1);
    counts
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 64, ..ProptestConfig::default()
    })]

    #[test]
    fn tenants_that_always_have_something_get_what_their_weights_say(
        weights in prop::collection::vec(1..20_u32, 2..6),
        places in 1..7_u32,
    ) {
        let total: u32 = weights.iter().sum();
        let rounds = 10_u32;
        let mut dispatch = dispatch(&vec![u64::from(rounds * total) + 1; weights.len()]);
        for (n, weight) in weights.iter().enumerate() {
            dispatch.set_weight(&tenant(n), NonZeroU32::new(*weight).unwrap());
        }
        let all: Vec<usize> = (0..weights.len()).collect();
        let mut got = vec![];
        while got.len() < (rounds * total) as usize {
            got.extend(given(&mut dispatch, &all, places));
            let counts = counted(&got);
            for (n, weight) in weights.iter().enumerate() {
                let have = counts.get(&tenant(n)).copied().unwrap_or_default() as f64;
                let due = got.len() as f64 * f64::from(*weight) / f64::from(total);
                // Stride scheduling is off by less than a lease for each other tenant.
                prop_assert!((have - due).abs() <= weights.len() as f64, "{n}: {have}, due {due}");
            }
        }
    }

    #[test]
    fn no_tenant_starves_whatever_the_others_and_their_workers_do(
        weights in prop::collection::vec(1..20_u32, 3),
        polls in prop::collection::vec((0..5_usize, 1..9_u32), 1..100),
    ) {
        let mut dispatch = dispatch(&[1_000; 4]);
        for (n, weight) in weights.iter().enumerate() {
            dispatch.set_weight(&tenant(n), NonZeroU32::new(*weight).unwrap());
        }
        // Some workers are of some tenants only. The last tenant has the least weight that there is.
        let of: [&[usize]; 5] = [&[0], &[0, 1], &[1, 2], &[0, 1, 2, 3], &[1, 3]];
        let most: usize = weights.iter().map(|weight| *weight as usize + 2).sum();
        let mut others = 0;
        for (which, places) in polls {
            let given = given(&mut dispatch, of[which], places);
            prop_assert_eq!(given.len(), places as usize);
            for got in given.iter().filter(|_| of[which].contains(&3)) {
                others = if *got == tenant(3) { 0 } else { others + 1 };
                prop_assert!(others <= most, "{others} others went before it");
            }
        }
    }

    #[test]
    fn who_had_nothing_to_do_for_a_while_has_saved_nothing_up(idle in 1..500_u32) {
        let mut dispatch = dispatch(&[2_000, 2_000]);
        given(&mut dispatch, &[0], idle);
        let counts = counted(&given(&mut dispatch, &[0, 1], 100));
        let (first, second) = (counts[&tenant(0)], counts[&tenant(1)]);
        prop_assert!(first.abs_diff(second) <= 2, "{first} and {second}");
    }
}

#[test]
fn a_tenant_without_work_costs_the_others_nothing() {
    let mut dispatch = dispatch(&[3, 0]);
    assert_eq!(given(&mut dispatch, &[0, 1], 5), [tenant(0), tenant(0), tenant(0)]);
}

#[test]
fn within_a_tenant_the_oldest_goes_first() {
    let mut dispatch = dispatch(&[5, 5]);
    let tenants = Arc::new([tenant(0), tenant(1)]);
    let (_, _grants) =
        dispatch.wait(tenants, &worker("w1"), Arc::new([plugin().into()]), 10, now());
    let mut seen: BTreeMap<Tenant, Vec<RunId>> = BTreeMap::new();
    while let Some((of, due)) = dispatch.next_due(now()) {
        if let Due::Grant { slot } = due {
            seen.entry(of).or_default().push(slot.step.0);
        }
    }
    assert_eq!(seen.len(), 2);
    assert!(seen.values().all(|runs| runs.len() == 5 && runs.is_sorted()), "{seen:?}");
}
