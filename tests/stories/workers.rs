//! Workers in processes of their own: killed, frozen until somebody else has their step, and one in
//! another language. However it goes, a step has one outcome, recorded once.

use std::{os::unix::fs::symlink, process::Command};

use harness::{
    bundle::ShellBundle,
    server::{Builder, On, TestServer},
    until,
    worker::Process,
};
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::{Value, json};

/// A server without a worker of its own.
async fn workerless(on: On) -> Builder {
    TestServer::on(on).await.concurrency(0)
}

/// A plugin whose first attempt goes on until `release` exists; what it says is in its outputs.
fn hanging(release: &str) -> ShellBundle {
    let script = format!(
        "case \"$(cat)\" in\n\
         *'\"attempt\":1'*) while [ ! -e '{release}' ]; do sleep 0.1; done; said=first ;;\n\
         *) said=second ;;\nesac\n\
         echo \"{{\\\"outputs\\\":{{\\\"said\\\":\\\"$said\\\"}}}}\""
    );
    ShellBundle::new("hanging", &["go"], &script)
}

fn spec() -> Value {
    json!({"id": "d", "steps": [
        {"id": "a", "plugin": "hanging", "action": "go", "retries": {"max": 2, "backoff": "100ms"}},
        {"id": "b", "plugin": "core", "action": "echo", "needs": ["a"],
            "with": {"said": "${steps.a.outputs.said}"}},
    ]})
}

/// Start a run of the DAG, and wait until this worker holds its first step.
async fn started(server: &TestServer, worker: &str) -> String {
    let run = server.client.post("/runs", &json!({"dagId": "d"})).await.ok();
    let run_id = run["runId"].as_str().unwrap().to_owned();
    until("the step is held", async || {
        let steps = server.client.get(&format!("/runs/{run_id}/steps")).await.ok();
        let held = |step: &Value| step["stepId"] == "a" && step["workerId"] == worker;
        steps["items"].as_array().unwrap().iter().any(held).then_some(())
    })
    .await;
    run_id
}

/// What the run's ledger says of step `a`, and which worker it names or comes from.
async fn history(server: &TestServer, run_id: &str) -> Vec<(String, String)> {
    let events = server.client.get(&format!("/runs/{run_id}/ledger?pageSize=500")).await.ok();
    let events = events["items"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of_step = events.iter().filter(|event| event["data"]["stepId"] == "a");
    of_step
        .map(|event| {
            let actor = text(&event["actor"]);
            let holder = event["data"]["workerId"].as_str();
            let reporter = actor.strip_prefix("worker:").unwrap_or("-");
            (text(&event["type"]), holder.unwrap_or(reporter).to_owned())
        })
        .collect()
}

async fn one_outcome(server: &TestServer, run_id: &str) {
    let run = server.client.ended(run_id).await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let run = json!({"runId": run_id, "seq": run["lastSeq"]});
    assert_eq!(server.client.step(&run, "b").await["outputs"], json!({"said": "second"}));
    let history = history(server, run_id).await;
    let workers_of = |wanted: &str| -> Vec<&str> {
        let of = history.iter().filter(|(event_type, _)| event_type == wanted);
        of.map(|(_, worker)| worker.as_str()).collect()
    };
    assert_eq!(workers_of("StepSucceeded"), ["second"], "{history:?}");
    assert_eq!(workers_of("StepStarted"), ["first", "second"], "{history:?}");
    assert_eq!(workers_of("StepLeaseExpired").len(), 1, "{history:?}");
}

#[rstest]
#[tokio::test]
async fn a_killed_workers_step_goes_to_another(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let builder = workerless(on).await;
    let plugin = hanging("/nonexistent");
    let server = builder.plugin(plugin.dir()).start().await;
    server.client.register(&spec()).await;
    let first = server.worker_of("first", plugin.dir()).await;
    let run_id = started(&server, "first").await;
    let _second = server.worker_of("second", plugin.dir()).await;
    drop(first);
    one_outcome(&server, &run_id).await;
}

/// The term of its lease is ten minutes, and a return does not count as an expiry.
#[rstest]
#[tokio::test]
async fn a_worker_that_is_stopped_gives_its_step_back(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let builder = workerless(on).await;
    let plugin = hanging("/nonexistent");
    let server = builder.plugin(plugin.dir()).lease_ttl(600_000).start().await;
    server.client.register(&spec()).await;
    let first = server.worker_of("first", plugin.dir()).await;
    let run_id = started(&server, "first").await;
    first.signal(Signal::SIGTERM);
    let returned = until("the step is given back", async || {
        let history = history(&server, &run_id).await;
        history.iter().any(|(event_type, _)| event_type == "StepLeaseReturned").then_some(history)
    });
    assert!(returned.await.contains(&("StepLeaseReturned".to_owned(), "first".to_owned())));
    until("it is not counted on any more", async || {
        let waiting = server.client.get("/queue/steps").await.ok();
        (waiting["items"][0]["why"]["code"] == "NO_WORKER").then_some(())
    })
    .await;
    let _second = server.worker_of("second", plugin.dir()).await;
    let run = server.client.ended(&run_id).await;
    assert_eq!((&run["status"], &run["leaseExpiries"]), (&json!("succeeded"), &json!(0)), "{run}");
}

/// Its next heartbeat is more than three minutes away.
#[rstest]
#[tokio::test]
async fn a_cancel_reaches_a_worker_before_its_next_heartbeat(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let builder = workerless(on).await;
    let plugin = hanging("/nonexistent");
    let server = builder.plugin(plugin.dir()).lease_ttl(600_000).start().await;
    server.client.register(&spec()).await;
    let _worker = server.worker_of("first", plugin.dir()).await;
    let run_id = started(&server, "first").await;
    server.client.post(&format!("/runs/{run_id}:cancel"), &json!({})).await.ok();
    let run = server.client.ended(&run_id).await;
    assert_eq!(run["status"], "cancelled", "{run}");
}

#[rstest]
#[tokio::test]
async fn a_frozen_worker_that_comes_back_changes_nothing(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let builder = workerless(on).await;
    let release = tempfile::tempdir().unwrap();
    let release = release.path().join("release");
    let plugin = hanging(release.to_str().unwrap());
    let server = builder.plugin(plugin.dir()).start().await;
    server.client.register(&spec()).await;
    let first = server.worker_of("first", plugin.dir()).await;
    let run_id = started(&server, "first").await;
    first.signal(Signal::SIGSTOP);
    let _second = server.worker_of("second", plugin.dir()).await;
    one_outcome(&server, &run_id).await;
    // Its step ends only now, and is reported with a token that is no longer the current one.
    std::fs::write(&release, "").unwrap();
    first.signal(Signal::SIGCONT);
    // With one place, it holds another step only once it is done with that one. Which of the two
    // steps it gets is nobody's promise: the workers may take turns.
    until("the frozen worker works again", async || {
        let run = server.client.run(&json!({"dagId": "d"})).await;
        let path = format!("/runs/{}/steps?minSeq={}", run["runId"].as_str().unwrap(), run["seq"]);
        let steps = server.client.get(&path).await.ok();
        let steps = steps["items"].as_array().unwrap();
        steps.iter().any(|step| step["workerId"] == "first").then_some(())
    })
    .await;
    one_outcome(&server, &run_id).await;
}

/// Its answer was lost, so it says it again; and once more, after the server was killed.
#[rstest]
#[tokio::test]
async fn what_is_completed_twice_is_recorded_once(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let mut server = workerless(on).await.lease_ttl(600_000).start().await;
    let step = json!({"id": "a", "plugin": "core", "action": "noop"});
    server.client.register(&json!({"id": "d", "steps": [step]})).await;
    let run = server.client.post("/runs", &json!({"dagId": "d"})).await.ok();
    let poll = json!({"workerId": "w", "plugins": ["core"], "waitMs": 30_000});
    let leases = server.client.post("/workers:poll", &poll).await.ok();
    let token = leases["leases"][0]["token"].as_str().unwrap();
    let complete = async |server: &TestServer, said: u32| {
        let body = json!({"workerId": "w", "outputs": {"said": said}});
        server.client.post(&format!("/leases/{token}:complete"), &body).await
    };
    let at_once = futures::future::join_all((0..8).map(|_| complete(&server, 1))).await;
    for answer in at_once {
        assert_eq!(answer.ok(), json!({"leases": []}));
    }
    server.restart().await;
    assert_eq!(complete(&server, 1).await.ok(), json!({"leases": []}));
    complete(&server, 2).await.problem(409, "LEASE_ENDED");
    let history = history(&server, run["runId"].as_str().unwrap()).await;
    let types: Vec<&str> = history.iter().map(|(event_type, _)| event_type.as_str()).collect();
    assert_eq!(types, ["StepQueued", "StepStarted", "StepSucceeded"]);
}

#[rstest]
#[tokio::test]
async fn a_worker_in_another_language_works_off_steps(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let builder = workerless(on).await;
    let server = builder.start().await;
    let spec = json!({"id": "d", "steps": [
        {"id": "a", "plugin": "core", "action": "echo", "with": {"n": 1}},
        {"id": "b", "plugin": "core", "action": "sleep", "with": {"ms": 1}},
        {"id": "c", "plugin": "core", "action": "echo", "needs": ["a", "b"],
            "with": {"n": "${steps.a.outputs.n}"}},
    ]});
    server.client.register(&spec).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/worker.py");
    let worker = Process::spawn(
        Command::new("python3")
            .arg(script)
            .arg(format!("http://{}", server.client.server()))
            .arg(server.data_dir().join("token")),
    );
    let run = server.client.run(&json!({"dagId": "d"})).await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let step = server.client.step(&run, "c").await;
    assert_eq!(step["outputs"], json!({"n": 1}));
    assert_eq!(step["workerId"], format!("python-{}", worker.id()));
    // What it cannot do fails its run with a code of its own, and it works on.
    let unknown = json!({"id": "e", "steps": [{"id": "a", "plugin": "core", "action": "fail"}]});
    server.client.register(&unknown).await;
    let run = server.client.run(&json!({"dagId": "e"})).await;
    assert_eq!((&run["status"], &run["errorCode"]), (&json!("failed"), &json!("PYTHON_ERROR")));
    // A run that is cancelled ends, because the heartbeat says so.
    let slow = json!({"id": "s", "steps": [
        {"id": "a", "plugin": "core", "action": "sleep", "with": {"ms": 600_000}}]});
    server.client.register(&slow).await;
    let run = server.client.post("/runs", &json!({"dagId": "s"})).await.ok();
    let run_id = run["runId"].as_str().unwrap();
    until("the step runs", async || {
        let steps = server.client.get(&format!("/runs/{run_id}/steps")).await.ok();
        (steps["items"][0]["phase"] == "running").then_some(())
    })
    .await;
    server.client.post(&format!("/runs/{run_id}:cancel"), &json!({})).await.ok();
    let run = server.client.ended(run_id).await;
    assert_eq!(run["status"], "cancelled", "{run}");
    // One that is stopped in the middle of a step gives it back.
    let run = server.client.post("/runs", &json!({"dagId": "s"})).await.ok();
    let ledger = format!("/runs/{}/ledger?pageSize=500", run["runId"].as_str().unwrap());
    let types = async || {
        let events = server.client.get(&ledger).await.ok();
        let events = events["items"].as_array().unwrap().clone();
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("the step is held", async || {
        types().await.contains(&"StepStarted".to_owned()).then_some(())
    })
    .await;
    worker.signal(Signal::SIGTERM);
    until("it is given back", async || {
        types().await.contains(&"StepLeaseReturned".to_owned()).then_some(())
    })
    .await;
}

/// The plugin `versioned`, whose step says which version it is.
fn versioned(version: &str) -> ShellBundle {
    let script = format!("echo '{{\"outputs\":{{\"said\":\"{version}\"}}}}'");
    ShellBundle::of_version(version, "versioned", &["go"], &script)
}

fn versioned_spec() -> Value {
    json!({"id": "v", "steps": [{"id": "a", "plugin": "versioned", "action": "go"}]})
}

/// Run it: which version is recorded, and what the step said.
async fn carried_out_by(server: &TestServer) -> (Value, Value) {
    let run = server.client.run(&json!({"dagId": "v"})).await;
    let step = server.client.step(&run, "a").await;
    (step["pluginVersion"].clone(), step["outputs"]["said"].clone())
}

async fn until_carried_out_by(server: &TestServer, version: &str) {
    until("the new version is used", async || {
        let (recorded, said) = carried_out_by(server).await;
        assert_eq!(recorded, said, "what is recorded is what was carried out");
        (recorded == version).then_some(())
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn warming_brings_a_new_version_to_all_workers(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let (old, new, broken) = (versioned("1.0.0"), versioned("1.1.0"), versioned("1.2.0"));
    std::fs::write(broken.dir().join("plugin.json"), "{").unwrap();
    let installed = tempfile::tempdir().unwrap();
    let installed = installed.path().join("versioned");
    let install = |plugin: &ShellBundle| {
        let next = installed.with_extension("next");
        symlink(plugin.dir(), &next).unwrap();
        std::fs::rename(&next, &installed).unwrap();
    };
    // Once with the worker of the server, once with one in a process of its own.
    for concurrency in [1, 0] {
        install(&old);
        let builder = TestServer::on(on).await.plugin(&installed).concurrency(concurrency);
        let server = builder.start().await;
        let remote = match concurrency {
            0 => Some(server.worker_of("remote", &installed).await),
            _ => None,
        };
        server.client.register(&versioned_spec()).await;
        until_carried_out_by(&server, "1.0.0").await;
        install(&new);
        let why = json!({"reason": "1.1.0 is out"});
        let warmed = server.client.post("/workers:warm", &why).await.ok();
        let bundle = &warmed["bundles"][0];
        assert_eq!(
            (&bundle["versionBefore"], &bundle["version"]),
            (&json!("1.0.0"), &json!("1.1.0"))
        );
        assert_eq!(warmed["workers"].as_array().unwrap().len(), 1, "{warmed}");
        until_carried_out_by(&server, "1.1.0").await;

        // What cannot be used changes nothing.
        install(&broken);
        let warmed = server.client.post_empty("/workers:warm").await.ok();
        let bundle = &warmed["bundles"][0];
        assert!(bundle["keptBecause"].as_str().unwrap().contains("plugin.json"), "{warmed}");
        assert_eq!(bundle["version"], "1.1.0");
        assert_eq!(carried_out_by(&server).await, (json!("1.1.0"), json!("1.1.0")));
        let deed =
            |why: &str| ("WorkersWarmed".to_owned(), "user:local".to_owned(), why.to_owned());
        assert_eq!(server.deeds(&["WorkersWarmed"]).await, [deed("1.1.0 is out"), deed("")]);
        drop(remote);
    }
}

#[rstest]
#[tokio::test]
async fn a_plugin_that_only_workers_have_is_named_before_they_are_there(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let plugin = versioned("1.0.0");
    let builder = workerless(on).await.args(&["--remote-plugin", "versioned=go"]);
    let server = builder.start().await;
    server.client.register(&versioned_spec()).await;
    let stop = json!({"id": "w", "steps": [{"id": "a", "plugin": "versioned", "action": "stop"}]});
    let refused = server.client.post("/dags", &stop).await.problem(422, "SPEC_INVALID");
    assert!(refused.to_string().contains("has no action"), "{refused}");
    let run = server.client.post("/runs", &json!({"dagId": "v"})).await.ok();
    let _remote = server.worker_of("remote", plugin.dir()).await;
    let run_id = run["runId"].as_str().unwrap();
    let run = server.client.ended(run_id).await;
    assert_eq!(run["status"], "succeeded", "{run}");
}
