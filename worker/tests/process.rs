//! The `process` runtime against plugins that behave badly in every way that they can.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use common::{
    Execution, Shelf, bundle, execute, execute_with, is_running, lease, pid_in, wait_until,
};
use rstest::rstest;
use serde_json::{Value, json};
use stella_domain::artifact::{Artifact, ArtifactDigest};
use stella_worker::StepError;
use tokio_util::sync::CancellationToken;

async fn run(script: &str, with: Value) -> Execution {
    let (_dir, bundle) = bundle(script, |_| ());
    execute(&bundle, &lease(1, "test", "go", with), &CancellationToken::new()).await
}

async fn error(script: &str) -> StepError {
    run(script, json!({})).await.outputs.expect_err(script)
}

#[tokio::test]
async fn a_plugin_reads_its_request_and_answers() {
    let done = run(
        r#"read -r line; echo "hello $line" >&2; printf '{"outputs":{"b":1.0,"request":%s}}' "$line""#,
        json!({ "name": "wörld" }),
    )
    .await;
    let outputs = done.outputs.unwrap();
    assert!(outputs.as_str().starts_with(r#"{"b":1,"request":{"action":"go","attempt":1,"#));
    let request = &outputs.to_value()["request"];
    assert_eq!(request["inputs"], json!({ "name": "wörld" }));
    assert_eq!((&request["stepId"], &request["timeoutMs"]), (&json!("step-1"), &json!(60_000)));
    assert!(request["deadline"].as_str().unwrap().ends_with('Z'));
    assert!(done.log.starts_with(b"hello {"));
}

#[tokio::test]
async fn a_plugin_sees_a_clean_environment_and_an_empty_directory_of_its_own() {
    let outputs = run(
        r#"printf '{"outputs":{"env":"%s","pwd":"%s","files":"%s"}}' \
           "$(env | cut -d= -f1 | grep -v -e '^PWD$' -e '^_$' -e '^SHLVL$' -e '^OLDPWD$' | sort | tr '\n' ' ')" \
           "$PWD" "$(ls -A)"; touch left-behind"#,
        json!({}),
    )
    .await
    .outputs
    .unwrap()
    .to_value();
    assert_eq!(
        outputs["env"],
        "LANG PATH PYTHONDONTWRITEBYTECODE STELLA_ARTIFACTS STELLA_ATTEMPT STELLA_RUN_ID STELLA_STEP_ID "
    );
    assert_eq!(outputs["files"], "");
    assert!(!fs::exists(outputs["pwd"].as_str().unwrap()).unwrap(), "the directory is removed");
}

#[rstest]
#[case::prints_nothing("true", "PLUGIN_OUTPUT_INVALID", "nothing was printed")]
#[case::prints_text("echo hello", "PLUGIN_OUTPUT_INVALID", "not acceptable JSON")]
#[case::prints_binary("printf '\\377'", "PLUGIN_OUTPUT_INVALID", "UTF-8")]
#[case::prints_two_values("echo '{\"outputs\":{}} {}'", "PLUGIN_OUTPUT_INVALID", "trailing")]
#[case::prints_a_list("echo '[]'", "PLUGIN_OUTPUT_INVALID", "not a JSON object")]
#[case::outputs_is_a_list("echo '{\"outputs\":[]}'", "PLUGIN_OUTPUT_INVALID", "not an object")]
#[case::neither("echo '{}'", "PLUGIN_OUTPUT_INVALID", "either")]
#[case::both(r#"echo '{"outputs":{},"error":{"code":"A"}}'"#, "PLUGIN_OUTPUT_INVALID", "either")]
#[case::unknown_member(r#"echo '{"output":{}}'"#, "PLUGIN_OUTPUT_INVALID", "output")]
#[case::duplicate_key(r#"echo '{"outputs":{"a":1,"a":2}}'"#, "PLUGIN_OUTPUT_INVALID", "duplicate")]
#[case::unsafe_integer(
    r#"echo '{"outputs":{"a":9007199254740992}}'"#,
    "PLUGIN_OUTPUT_INVALID",
    "9007199254740992"
)]
#[case::nul(r#"printf '%s' '{"outputs":{"a":"\u0000"}}'"#, "PLUGIN_OUTPUT_INVALID", "U+0000")]
#[case::bad_code(r#"echo '{"error":{"code":"oops"}}'"#, "PLUGIN_OUTPUT_INVALID", "oops")]
#[case::large_outputs(
    r#"printf '{"outputs":{"a":"%s"}}' "$(head -c 1024000 /dev/zero | tr '\0' a)""#,
    "OUTPUT_TOO_LARGE",
    "1024000"
)]
#[case::prints_100_mb("head -c 100000000 /dev/zero", "OUTPUT_TOO_LARGE", "1048576")]
#[case::exits_non_zero("echo why >&2; exit 3", "PLUGIN_EXIT", "exit status: 3; its log ends: why")]
#[case::outputs_and_fails("echo '{\"outputs\":{}}'; exit 1", "PLUGIN_EXIT", "exit status: 1")]
#[case::killed("kill -9 $$", "PLUGIN_EXIT", "signal: 9")]
#[tokio::test]
async fn bad_plugins_end_in_a_clear_error(
    #[case] script: &str,
    #[case] code: &str,
    #[case] says: &str,
) {
    let error = error(script).await;
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(says), "{error}");
    assert!(error.message().len() <= 4096);
}

#[rstest]
#[case::zero_exit("")]
#[case::non_zero_exit("exit 9")]
#[tokio::test]
async fn a_plugin_gives_its_own_error(#[case] then: &str) {
    let answer = r#"echo '{"error":{"code":"NO_LUCK","message":"none","retryable":false}}'"#;
    let error = error(&format!("{answer}; {then}")).await;
    assert_eq!((error.code(), error.retryable()), ("NO_LUCK", false));
    assert_eq!(error.message(), "none");
}

#[tokio::test]
async fn outputs_of_the_largest_size_pass() {
    // {"a":"…"} has 8 bytes around the text.
    let script = r#"printf '{"outputs":{"a":"%s"}}' "$(head -c 1023992 /dev/zero | tr '\0' a)""#;
    assert_eq!(run(script, json!({})).await.outputs.unwrap().as_str().len(), 1_000 * 1024);
}

#[tokio::test]
async fn a_plugin_need_not_read_its_request() {
    let large = json!({ "text": "x".repeat(500_000) });
    let outputs = run(r#"echo '{"outputs":{}}'"#, large).await.outputs.unwrap();
    assert_eq!(outputs.as_str(), "{}");
}

#[tokio::test]
async fn a_long_log_keeps_its_ends() {
    // Nobody takes it: a server that is away.
    let script = "echo first >&2; head -c 3000000 /dev/zero >&2; printf '\\nlast\\n' >&2; echo '{\"outputs\":{}}'";
    let log = run(script, json!({})).await.log;
    assert!(log.starts_with(b"first\n") && log.ends_with(b"\nlast\n"), "{}", log.len());
    assert!((1_000_000..1_200_000).contains(&log.len()), "{}", log.len());
    assert!(String::from_utf8_lossy(&log).contains("bytes left out here]"));
}

#[tokio::test]
async fn outputs_that_do_not_fit_their_schema_are_refused_with_all_violations() {
    let (_dir, bundle) = bundle(r#"echo '{"outputs":{"n":"x"}}'"#, |manifest| {
        manifest["actions"]["go"]["outputs"] =
            json!({"required": ["m"], "properties": {"n": {"type": "integer"}}});
    });
    let lease = lease(1, "test", "go", json!({}));
    let error = execute(&bundle, &lease, &CancellationToken::new()).await.outputs.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("PLUGIN_OUTPUT_INVALID", false));
    assert!(error.message().contains("\"/n\"") && error.message().contains("\"m\""), "{error}");
}

#[tokio::test]
async fn inputs_that_do_not_fit_their_schema_start_nothing() {
    let (dir, bundle) = bundle("touch \"$(dirname \"$0\")/started\"", |manifest| {
        manifest["actions"]["go"]["inputs"] = json!({"required": ["lockfile"]});
    });
    let lease = lease(1, "test", "go", json!({}));
    let error = execute(&bundle, &lease, &CancellationToken::new()).await.outputs.unwrap_err();
    assert_eq!(error.code(), "PLUGIN_INPUT_INVALID");
    assert!(error.message().contains("lockfile"), "{error}");
    assert!(!dir.path().join("started").exists());
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let (dir, bundle) = bundle("true", |_| ());
    let cancel = CancellationToken::new();
    let other = lease(1, "test", "other", json!({}));
    let error = execute(&bundle, &other, &cancel).await.outputs.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("PLUGIN_NOT_FOUND", false));
    fs::remove_file(dir.path().join("run.sh")).unwrap();
    let go = lease(1, "test", "go", json!({}));
    let error = execute(&bundle, &go, &cancel).await.outputs.unwrap_err();
    assert_eq!(error.code(), "PLUGIN_NOT_FOUND", "{error}");
}

#[tokio::test]
async fn what_cannot_be_executed_is_a_spawn_error() {
    let (dir, bundle) = bundle("true", |_| ());
    let path = dir.path().join("run.sh");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&path, mode).unwrap();
    let go = lease(1, "test", "go", json!({}));
    let error = execute(&bundle, &go, &CancellationToken::new()).await.outputs.unwrap_err();
    assert_eq!(error.code(), "PLUGIN_SPAWN", "{error}");
}

#[tokio::test]
async fn memory_is_limited() {
    // The script's own variable grows: no other program is needed.
    let script =
        r#"s=x; i=0; while [ $i -lt 28 ]; do s="$s$s"; i=$((i+1)); done; echo '{"outputs":{}}'"#;
    let (_dir, bundle) = bundle(script, |manifest| manifest["limits"] = json!({"memoryMb": 100}));
    let go = lease(1, "test", "go", json!({}));
    let error = execute(&bundle, &go, &CancellationToken::new()).await.outputs.unwrap_err();
    assert_eq!(error.code(), "PLUGIN_EXIT", "{error}");
}

/// Writes its own and a grandchild's process id, then waits; with `trap`, deaf to SIGTERM.
fn lingering(trap: &str) -> String {
    format!(
        r#"{trap}
        here=$(dirname "$0")
        sleep 1000 &
        echo $! > "$here/grandchild"
        echo $$ > "$here/leader"
        while :; do sleep 1; done"#
    )
}

#[rstest]
#[case::polite("")]
#[case::ignores_sigterm("trap '' TERM")]
#[tokio::test]
async fn a_timeout_ends_the_whole_group(#[case] trap: &str) {
    let (dir, bundle) = bundle(&lingering(trap), |_| ());
    let mut lease = lease(1, "test", "go", json!({}));
    // On a busy machine a short time may be over before the script has begun.
    for timeout_ms in [250, 1_000, 4_000, 16_000] {
        lease.timeout_ms = timeout_ms;
        let error = execute(&bundle, &lease, &CancellationToken::new()).await.outputs.unwrap_err();
        assert_eq!(error, StepError::TimedOut { timeout_ms });
        if dir.path().join("leader").exists() {
            break;
        }
    }
    all_gone(dir.path()).await;
}

#[rstest]
#[case::polite("")]
#[case::ignores_sigterm("trap '' TERM")]
#[tokio::test]
async fn a_cancel_ends_the_whole_group(#[case] trap: &str) {
    let (dir, bundle) = bundle(&lingering(trap), |_| ());
    let lease = lease(1, "test", "go", json!({}));
    let cancel = CancellationToken::new();
    let cancel_once_it_runs = async {
        pid_in(&dir.path().join("leader")).await;
        cancel.cancel();
    };
    let (done, ()) = tokio::join!(execute(&bundle, &lease, &cancel), cancel_once_it_runs);
    assert_eq!(done.outputs.unwrap_err(), StepError::Cancelled);
    all_gone(dir.path()).await;
}

#[tokio::test]
async fn dropping_the_execution_ends_the_whole_group() {
    let (dir, bundle) = bundle(&lingering(""), |_| ());
    let lease = lease(1, "test", "go", json!({}));
    let cancel = CancellationToken::new();
    let leader = dir.path().join("leader");
    tokio::select! {
        _ = execute(&bundle, &lease, &cancel) => panic!("it lingers"),
        _ = pid_in(&leader) => {}
    }
    all_gone(dir.path()).await;
}

#[tokio::test]
async fn a_grandchild_does_not_outlive_the_plugin() {
    // It holds stdout open, which must not keep the answer back either.
    let (dir, bundle) = bundle(
        r#"sleep 1000 & echo $! > "$(dirname "$0")/grandchild"; echo $$ > "$(dirname "$0")/leader"
           echo '{"outputs":{}}'"#,
        |_| (),
    );
    let lease = lease(1, "test", "go", json!({}));
    let done = execute(&bundle, &lease, &CancellationToken::new()).await;
    assert_eq!(done.outputs.unwrap().as_str(), "{}");
    all_gone(dir.path()).await;
}

async fn all_gone(dir: &std::path::Path) {
    for name in ["leader", "grandchild"] {
        let pid = pid_in(&dir.join(name)).await;
        wait_until(&format!("{name} {pid} is gone"), || !is_running(pid)).await;
    }
}

#[tokio::test]
async fn the_last_words_of_a_cancelled_plugin_are_kept() {
    let (dir, bundle) = bundle(
        r#"trap 'echo goodbye >&2; exit 0' TERM
           echo $$ > "$(dirname "$0")/leader"; while :; do sleep 0.1; done"#,
        |_| (),
    );
    let lease = lease(1, "test", "go", json!({}));
    let cancel = CancellationToken::new();
    let (done, ()) = tokio::join!(execute(&bundle, &lease, &cancel), async {
        pid_in(&dir.path().join("leader")).await;
        cancel.cancel();
    });
    assert_eq!(done.outputs.unwrap_err(), StepError::Cancelled);
    // Before it a shell may report the end of its `sleep`.
    assert!(done.log.ends_with(b"goodbye\n"));
}

#[tokio::test]
async fn files_that_a_plugin_leaves_are_handed_over_and_named_in_its_outputs() {
    let script = r#"printf 'a,b\n1,2\n' > "$STELLA_ARTIFACTS/table.csv"; : > "$STELLA_ARTIFACTS/none"
        printf '{"outputs":{"rows":1}}'"#;
    let ((_dir, bundle), shelf) = (bundle(script, |_| ()), Shelf::default());
    let lease = lease(1, "test", "go", json!({}));
    let done = execute_with(&bundle, &lease, &CancellationToken::new(), &shelf).await;
    let outputs = done.outputs.unwrap().to_value();
    assert_eq!(outputs["rows"], 1);
    let table = Artifact::named_by(&outputs["artifacts"]["table.csv"]).unwrap();
    assert_eq!((&*table.media_type, table.size), ("text/csv", 8));
    assert_eq!(table.digest, ArtifactDigest::of(b"a,b\n1,2\n"));
    let none = Artifact::named_by(&outputs["artifacts"]["none"]).unwrap();
    assert_eq!((&*none.media_type, none.size), ("application/octet-stream", 0));
    assert_eq!(shelf.0.lock().unwrap()[&table.digest], b"a,b\n1,2\n");
}

#[rstest]
#[case::a_link(r#"ln -s /etc/passwd "$STELLA_ARTIFACTS/x""#, "no plain file")]
#[case::a_folder(r#"mkdir "$STELLA_ARTIFACTS/x""#, "no plain file")]
#[case::a_bad_name(r#": > "$STELLA_ARTIFACTS/.hidden""#, "names are 1 to 128 of")]
#[case::too_many(
    r#"i=0; while [ $i -lt 65 ]; do : > "$STELLA_ARTIFACTS/f$i"; i=$((i+1)); done"#,
    "more than 64"
)]
#[tokio::test]
async fn what_cannot_be_kept_is_refused(#[case] script: &str, #[case] says: &str) {
    let error = error(&format!("{script}; echo '{{\"outputs\":{{}}}}'")).await;
    assert_eq!(error.code(), "PLUGIN_OUTPUT_INVALID");
    assert!(error.message().contains(says), "{error}");
}

#[tokio::test]
async fn outputs_with_a_member_of_their_own_for_files_are_refused() {
    let error = error(r#": > "$STELLA_ARTIFACTS/x"; echo '{"outputs":{"artifacts":1}}'"#).await;
    assert!(error.message().contains("is for the files that the plugin left"), "{error}");
}

#[tokio::test]
async fn artifacts_among_the_inputs_come_as_values_and_as_files() {
    let shelf = Shelf::default();
    let value = shelf.put(None, "application/json", br#"{"large":[1,2,3]}"#);
    let file = shelf.put(Some("in.txt"), "text/plain", b"from a file\n");
    let script = r#"read -r line; f=$(printf %s "$line" | sed 's/.*"file":"\([^"]*\)".*/\1/')
        printf '{"outputs":{"request":%s,"file":"%s"}}' "$line" "$(cat "$f")""#;
    let (_dir, bundle) = bundle(script, |manifest| {
        manifest["actions"]["go"] =
            json!({ "inputs": { "properties": { "value": { "required": ["large"] } } } });
    });
    let with = json!({ "value": value.to_value(), "file": file.to_value() });
    let lease = lease(1, "test", "go", with);
    let done = execute_with(&bundle, &lease, &CancellationToken::new(), &shelf).await;
    let outputs = done.outputs.unwrap().to_value();
    assert_eq!(outputs["request"]["inputs"]["value"], json!({ "large": [1, 2, 3] }));
    assert_eq!(outputs["file"], "from a file");
}

#[tokio::test]
async fn an_artifact_that_is_not_what_was_recorded_is_never_used() {
    let shelf = Shelf::default();
    let value = shelf.put(None, "application/json", b"{}");
    shelf.0.lock().unwrap().insert(value.digest, b"[]".to_vec());
    let (_dir, bundle) = bundle("touch /nonexistent/started; echo '{\"outputs\":{}}'", |_| ());
    let lease = lease(1, "test", "go", json!({ "value": value.to_value() }));
    let done = execute_with(&bundle, &lease, &CancellationToken::new(), &shelf).await;
    let error = done.outputs.unwrap_err();
    assert_eq!(error.code(), "ARTIFACT_FAILED");
    assert!(error.message().contains("something else"), "{error}");
}
