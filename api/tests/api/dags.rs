//! DAGs: register, validate, look at.

use serde_json::json;
use stella_api::types::{DagVersionItem, DagVersionView, DagView, Page, RegisteredDag};

use crate::support::{Api, ECHO};

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_is_registered_once() {
    let api = Api::start().await;
    let first = api.post_text("/dags", "application/yaml", ECHO).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert!(first.header("location").ends_with("/dags/echo/versions/1"));
    let registered: RegisteredDag = serde_json::from_value(first.body).unwrap();
    let path = format!("/dags/echo/versions/1?minSeq={}", registered.seq.unwrap());
    let version: DagVersionView = serde_json::from_value(api.get(&path).await.body).unwrap();
    assert_eq!(version.digest, registered.digest);

    // The same spec as JSON has the same digest.
    let again = api.post_text("/dags", "application/json", version.spec.as_str().to_owned()).await;
    assert_eq!((again.status.as_u16(), &again.body["created"]), (200, &json!(false)));
    assert_eq!(again.body["version"], 1);

    let changed = ECHO.replace("say", "tell");
    let second = api.post_text("/dags", "text/yaml", changed).await;
    assert_eq!((second.status.as_u16(), &second.body["version"]), (201, &json!(2)));
    let list = api.get(&format!("/dags?minSeq={}", second.body["seq"])).await.body;
    let list: Page<DagView> = serde_json::from_value(list).unwrap();
    assert_eq!((list.items.len(), list.items[0].latest_version), (1, 2));
    let dag: DagView = serde_json::from_value(api.get("/dags/echo").await.body).unwrap();
    assert_eq!(dag.active_version, Some(2));
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_dag_once() {
    let api = Api::start().await;
    let ids = ["a", "a-b", "a.b", "b", "echo"];
    let mut seq = json!(null);
    for id in ids.iter().rev() {
        let spec = ECHO.replace("id: echo", &format!("id: {id}"));
        seq = api.post_text("/dags", "application/yaml", spec).await.body["seq"].clone();
    }
    let (mut listed, mut token) = (vec![], String::new());
    loop {
        let path = format!("/dags?pageSize=2&minSeq={seq}{token}");
        let page: Page<DagView> = serde_json::from_value(api.get(&path).await.body).unwrap();
        assert!(page.items.len() <= 2);
        listed.extend(page.items.into_iter().map(|dag| dag.dag_id.to_string()));
        let Some(next) = page.next_page_token else { break };
        token = format!("&pageToken={next}");
    }
    assert_eq!(listed, ids);
    for query in ["pageSize=0", "pageSize=501", "pageToken=x", "pageToken=AAAAAAAAAAA"] {
        api.get(&format!("/dags?{query}")).await.is_problem(400, "INVALID_QUERY");
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_errors_of_a_spec_are_listed_with_their_paths() {
    let api = Api::start().await;
    let spec = "\
id: bad
colour: red
steps:
  - {id: a, plugin: core, action: nope, needs: [b]}
  - {id: b, plugin: none, action: echo, needs: [a]}
";
    for path in ["/dags", "/dags:validate"] {
        let answer = api.post_text(path, "application/yaml", spec).await;
        answer.is_problem(422, "SPEC_INVALID");
        let errors = answer.body["errors"].as_array().unwrap();
        let at = |wanted: &str| errors.iter().any(|error| error["path"] == wanted);
        for path in ["colour", "steps[0].action", "steps[1].plugin"] {
            assert!(at(path), "{path}: {answer:?}");
        }
        assert!(errors.len() >= 4, "{answer:?}");
    }
    let valid = api.post_text("/dags:validate", "application/yaml", ECHO).await;
    assert_eq!((valid.status.as_u16(), &valid.body["steps"]), (200, &json!(1)));
    assert_eq!(api.get("/dags").await.body["items"], json!([]), "validating registers nothing");
    for text in ["id: [", "", "{\"id\":\"a\",\"id\":\"b\"}", "a: &a [*a]"] {
        let answer = api.post_text("/dags", "application/yaml", text).await;
        answer.is_problem(422, "SPEC_INVALID");
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dag_is_rolled_back_and_runs_stay_with_their_version() {
    let api = Api::start().await;
    let start =
        async |token: &str| api.post("/runs", &json!({"dagId": "echo", "runToken": token})).await;
    api.register(ECHO).await;
    api.post_text("/dags", "text/yaml", ECHO.replace("say", "tell")).await;
    assert_eq!(start("second").await.body["dagVersion"], 2);

    let body = json!({"toVersion": 1, "reason": "it says too much"});
    let back = api.post("/dags/echo:rollback", &body).await;
    assert_eq!((back.status.as_u16(), &back.body["activeVersion"]), (200, &json!(1)), "{back:?}");
    let again = api.post("/dags/echo:rollback", &body).await;
    assert_eq!((again.status.as_u16(), again.body.get("seq")), (200, None), "{again:?}");
    assert_eq!(start("third").await.body["dagVersion"], 1);
    // A repeat finds the run that it started, whatever is active or disabled now.
    let off = json!({"reason": "not again"});
    let off = api.post("/dags/echo/versions/2:disable", &off).await;
    assert_eq!(off.body["disabledVersions"], json!([2]), "{off:?}");
    let repeat = start("second").await;
    assert_eq!((repeat.status.as_u16(), &repeat.body["dagVersion"]), (200, &json!(2)));

    let named = json!({"dagId": "echo", "dagVersion": 2});
    api.post("/runs", &named).await.is_problem(409, "DAG_VERSION_DISABLED");
    let again = json!({"toVersion": 2});
    api.post("/dags/echo:rollback", &again).await.is_problem(409, "DAG_VERSION_DISABLED");
    let seq = off.body["seq"].clone();
    let versions = api.get(&format!("/dags/echo/versions?minSeq={seq}")).await.body;
    let versions: Page<DagVersionItem> = serde_json::from_value(versions).unwrap();
    let states = versions.items.iter().map(|v| (v.version, v.active, v.disabled));
    assert_eq!(states.collect::<Vec<_>>(), [(2, false, true), (1, true, false)]);

    // With the active version disabled nothing starts, until another is active.
    api.post("/dags/echo/versions/1:disable", &json!({})).await;
    start("fourth").await.is_problem(409, "DAG_VERSION_DISABLED");
    api.post("/dags/echo/versions/2:enable", &json!({})).await;
    api.post("/dags/echo/versions/2:activate", &json!({})).await;
    assert_eq!(start("fourth").await.body["dagVersion"], 2);
    let check = api.post_nothing("/admin/projections:check").await;
    assert_eq!(check.body["identical"], true, "{check:?}");
    api.stop().await;
}
