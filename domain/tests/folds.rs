//! How folds are spelt that are kept beside a ledger. Where one of these changes, `FOLD_VERSION` has to
//! be raised, or a build takes up what another one kept and reads it differently.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{num::NonZeroU32, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use stella_domain::{
    aggregate::{
        Aggregate, Control, ControlChange, ControlCommand, Dag, DagCommand, FOLD_VERSION, Schedule,
        ScheduleCommand, Surroundings, VersionChange,
    },
    dag::{DagSpec, PluginCatalog},
    event::{LimitScope, ScheduleRequest},
    ids::PluginName,
    json::CanonicalJson,
    schedule::{CatchUp, CompiledSchedule, Overlap, ScheduleSpec, Timing},
    time::Timestamp,
};

struct AnyPlugin;
impl PluginCatalog for AnyPlugin {
    fn actions(&self, _: &PluginName) -> Option<Vec<String>> {
        Some(vec!["noop".to_owned()])
    }
}

/// The fold of what these commands record, as it is spelt; read back, it is the same.
fn fold<A: Aggregate + Serialize + DeserializeOwned>(commands: Vec<A::Command>) -> (A, String) {
    let mut fold = A::default();
    for command in commands {
        let events = fold.decide(command).expect("taken");
        assert!(!events.is_empty(), "it records something");
        events.iter().for_each(|event| fold.evolve(event));
    }
    let text = serde_json::to_string(&fold).unwrap();
    let again: A = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    (again, text)
}

const CONTROL: &str = concat!(
    r#"{"dispatchPaused":true,"pluginsPaused":["core"],"schedulersPaused":true,"#,
    r#""draining":{"thenPause":true},"limits":[["tenant",9],[{"plugin":"core"},3]],"version":6}"#
);
const DAG: &str = concat!(
    r#"{"versions":{"1":{"digest":"b3:db5d0d2fc98a7fbbac2d355ca7b8cc071c10f9c63f187435322458acd35dd3bc","#,
    r#""source":{"description":"1","id":"d","steps":[{"action":"noop","id":"a","plugin":"core"}]},"#,
    r#""disabled":true},"#,
    r#""2":{"digest":"b3:1e8287ab6584d6e9a1d700a3643d4923675586bfd41e22f334e74d02819d0d60","#,
    r#""source":{"description":"2","id":"d","steps":[{"action":"noop","id":"a","plugin":"core"}]},"#,
    r#""disabled":false}},"active":2,"paused":true,"version":6}"#
);
const SCHEDULE: &str = concat!(
    r#"{"spec":["s",{"catchUp":"skip","dagId":"d","jitterMs":0,"overlap":"allow","priority":0,"#,
    r#""timing":{"every":{"ms":60000}}}],"request":{"inputs":{"a":1},"labels":{}},"paused":true,"#,
    r#""seen":"2026-11-23T09:01:00.000000Z","backfill":{"concurrency":2,"left":5,"#,
    r#""seen":"2026-11-23T08:52:00.000000Z","to":"2026-11-23T08:57:59.999999Z"},"#,
    r#""cleared":[],"version":6}"#
);

#[test]
fn a_change_of_how_folds_are_spelt_raises_their_version() {
    assert_eq!(FOLD_VERSION, 2, "what is below belongs to that version");
    let scope = LimitScope::Plugin("core".parse().unwrap());
    let changes = [
        ControlChange::SetLimit { scope, limit: NonZeroU32::new(3) },
        ControlChange::SetLimit { scope: LimitScope::Tenant, limit: NonZeroU32::new(9) },
        ControlChange::PauseSchedulers,
        ControlChange::StartDrain { then_pause: Some(true) },
        ControlChange::PauseDispatch { plugin: Some("core".parse().unwrap()) },
        ControlChange::PauseDispatch { plugin: None },
    ];
    let because = |change| ControlCommand { change, reason: "because".to_owned() };
    let (_, control) = fold::<Control>(changes.into_iter().map(because).collect());

    let spec = |n: u32| {
        let step = r#"{"id":"a","plugin":"core","action":"noop"}"#;
        let text = format!(r#"{{"id":"d","description":"{n}","steps":[{step}]}}"#);
        DagCommand::Register {
            spec: Arc::new(DagSpec::parse(&text, &AnyPlugin).unwrap()),
            reason: String::new(),
        }
    };
    let (change, reason) = (VersionChange::Disable, "because".to_owned());
    let disable = DagCommand::Version { version: 1, change, reason: reason.clone() };
    let pause = DagCommand::Pause { paused: true, reason };
    let (dag, dag_text) = fold::<Dag>(vec![spec(1), spec(2), disable, pause]);
    assert!(dag.versions[&1].spec.is_some(), "the spec is compiled again");

    let spec = ScheduleSpec {
        catch_up: CatchUp::Skip,
        dag_id: "d".parse().unwrap(),
        dag_version: None,
        end_at: None,
        fire_time_input: None,
        jitter_ms: 0,
        overlap: Overlap::Allow,
        priority: 0,
        start_at: None,
        timing: Timing::Every { ms: 60_000 },
    };
    let at = |minutes: i64| Timestamp::from_micros(1_795_424_400_000_000 + minutes * 60_000_000);
    let around = |now| Surroundings {
        tenant: "acme".parse().unwrap(),
        now,
        free_since: None,
        open: vec![],
        existing: Default::default(),
    };
    let spec = Arc::new(CompiledSchedule::compile("s".parse().unwrap(), spec).unwrap());
    let inputs = CanonicalJson::parse(r#"{"a":1}"#).unwrap();
    let request = ScheduleRequest { inputs, labels: Default::default(), reason: None };
    let reason = "because".to_owned();
    let concurrency = NonZeroU32::new(2).unwrap();
    let (schedule, schedule_text) = fold::<Schedule>(vec![
        ScheduleCommand::Set { spec, request, exists: false, now: at(0) },
        ScheduleCommand::Attend(around(at(1))),
        ScheduleCommand::Backfill {
            from: at(-9),
            to: at(-2),
            now: at(1),
            cap: 10,
            concurrency,
            reason: reason.clone(),
        },
        ScheduleCommand::Attend(around(at(1))),
        ScheduleCommand::Pause { paused: true, reason },
    ]);
    assert_eq!([control, dag_text, schedule_text], [CONTROL, DAG, SCHEDULE]);
    assert!(schedule.spec.is_some(), "its times are worked out again");
}
