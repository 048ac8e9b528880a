//! Metrics: well-formed, documented, and all that alerts ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::{Command, Stdio},
};

use reqwest::Method;
use serde_json::{Value, json};
use stella_api::types::{HealthStatus, SloReport};

use crate::support::{Answer, Api, ECHO};

/// A DAG whose step fails for good.
const FAILING: &str = "\
id: failing
steps:
  - {id: break, plugin: core, action: fail, with: {code: BROKEN, message: told, retryable: false}}
";

const RULES: &str = include_str!("../../../docs/observability/alerts.yaml");
const DOCUMENT: &str = include_str!("../../../docs/observability/metrics-and-slos.md");

/// A family of metrics as it was served.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    /// Names of samples, each with its labels and value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (word, name) = (words.next().unwrap(), words.next().unwrap());
            let family = families.entry(name.to_owned()).or_default();
            match word {
                "HELP" => words.next().unwrap().clone_into(&mut family.help),
                "TYPE" => words.next().unwrap().clone_into(&mut family.kind),
                _ => panic!("{line}"),
            }
            name.clone_into(&mut current);
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap().split(',').filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (name, value) = label.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('"').to_owned())
        });
        assert!(name.starts_with(&current), "{line} stands under {current}");
        let sample = (name.to_owned(), labels.collect(), value.parse().unwrap());
        families.get_mut(&current).unwrap().samples.push(sample);
    }
    families
}

/// The name that a sample of this family has, as people and expressions write it.
fn written(name: &str, family: &Family) -> String {
    if family.kind == "counter" { format!("{name}_total") } else { name.to_owned() }
}

async fn served(api: &Api) -> BTreeMap<String, Family> {
    families(&text(api, Some("application/openmetrics-text;version=1.0.0,*/*;q=0.1")).await)
}

async fn text(api: &Api, accept: Option<&str>) -> String {
    let mut request = api.bare(Method::GET, "/metrics").header("authorization", api.bearer());
    request = match accept {
        Some(accept) => request.header("accept", accept),
        None => request,
    };
    let answer = Answer::of(request.send().await.unwrap()).await;
    let expected = accept.map_or("text/plain", |_| "application/openmetrics-text");
    assert!(answer.header("content-type").starts_with(expected), "{answer:?}");
    answer.text
}

/// `promtool` with this on its stdin; `None`, and a word about it, where there is no such program.
fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("NOT CHECKED: promtool is not on PATH (Debian has it in package prometheus)");
            return None;
        }
        Err(error) => panic!("promtool: {error}"),
    };
    // One that reads files only may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(said).unwrap()))
}

fn sum(family: &Family) -> f64 {
    family.samples.iter().map(|(_, _, value)| value).sum()
}

/// Names of metrics that an expression has.
fn names_in(expression: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_name(c));
    words.filter(|word| word.starts_with("orchestrator_")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_well_formed_documented_and_enough_for_the_alerts() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let run = api.finished("echo", &json!({})).await;
    api.post_nothing("/ledger:sign").await;
    api.get(&format!("/runs?minSeq={}", run["seq"])).await;
    let families = served(&api).await;

    let mut names = BTreeSet::new();
    for (name, family) in &families {
        assert!(family.help.ends_with('.') && family.help.len() > 10, "{name}: {family:?}");
        assert!(!name.ends_with("_total"), "{name} is a family's name");
        let suffixes: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            kind => panic!("{name} is a {kind}"),
        };
        if family.kind == "histogram" {
            assert!(name.ends_with("_seconds"), "{name} has no unit");
        }
        for (sample, labels, value) in &family.samples {
            let rest = sample.strip_prefix(name.as_str()).unwrap();
            assert!(suffixes.contains(&rest), "{sample} is of a {}", family.kind);
            assert!(*value >= 0.0, "{sample} {value}");
            let allowed = ["dag", "plugin", "state", "status", "le"];
            assert!(labels.keys().all(|label| allowed.contains(&label.as_str())), "{labels:?}");
            names.insert(sample.clone());
        }
        assert!(DOCUMENT.contains(&format!("| `{}` |", written(name, family))), "{name}");
    }
    let documented = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `orchestrator_"));
    let documented: BTreeSet<_> = documented
        .map(|rest| format!("orchestrator_{}", rest.split('`').next().unwrap()))
        .collect();
    let all: BTreeSet<_> = families.iter().map(|(name, family)| written(name, family)).collect();
    assert_eq!(documented, all);

    // What nothing has happened to has no sample yet, but its name.
    names.extend(all);
    let rules: Value = serde_saphyr::from_str(RULES).unwrap();
    let has_bound = |bound: &str| {
        let mut samples = families.values().flat_map(|family| &family.samples);
        samples.any(|(_, labels, _)| labels.get("le").is_some_and(|le| le == bound))
    };
    for bound in RULES.split("le=\"").skip(1) {
        assert!(has_bound(bound.split('"').next().unwrap()), "there is no bucket le={bound}");
    }
    let (mut alerts, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| {
        assert!(group["name"].is_string());
        group["rules"].as_array().unwrap()
    }) {
        let alert = rule["alert"].as_str().unwrap();
        assert!(alerts.insert(alert), "{alert} stands twice");
        let expression = rule["expr"].as_str().unwrap();
        let depth = expression.chars().try_fold(0_i32, |depth, c| match c {
            '(' | '{' | '[' => Some(depth + 1),
            ')' | '}' | ']' => Some(depth - 1).filter(|depth| *depth >= 0),
            _ => Some(depth),
        });
        assert_eq!(depth, Some(0), "{alert}: {expression}");
        for name in names_in(expression) {
            assert!(names.contains(&name), "{alert} asks for {name}, which is not served");
            asked.insert(name);
        }
        assert!(["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        assert!(rule["annotations"]["summary"].as_str().unwrap().len() > 10, "{alert}");
        assert!(DOCUMENT.contains(&format!("`{alert}`")), "{alert} is not documented");
    }
    assert!(alerts.len() >= 10 && asked.len() >= 10, "{alerts:?} {asked:?}");
    // What the objectives count as missed: a run that times out has not ended well either.
    assert!(RULES.contains("failed|timedOut|succeeded") && !RULES.contains("status=\"failed\""));
    api.stop().await;
}

/// The format that Prometheus' own tools read, and what those say about it and about the rules.
#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_nothing_to_say() {
    let api = Api::start().await;
    api.register(ECHO).await;
    api.register(FAILING).await;
    api.finished("echo", &json!({})).await;
    let run = api.finished("failing", &json!({})).await;
    api.post_nothing("/ledger:sign").await;
    api.get(&format!("/runs?minSeq={}", run["seq"])).await;
    let text = text(&api, None).await;
    api.stop().await;
    assert!(text.contains("# TYPE orchestrator_runs_total counter\n"), "{text}");
    assert!(text.contains("# HELP orchestrator_runs_total Runs that ended.\n"), "{text}");
    assert!(!text.contains("# EOF"), "{text}");
    if let Some(said) = promtool(&["check", "metrics"], &text) {
        assert_eq!(said, (true, String::new()), "{text}");
        // It does find something where there is something to find.
        let (well, said) = promtool(&["check", "metrics"], "# TYPE a counter\na 1\n").unwrap();
        assert!(!well && said.contains("counter metrics should have"), "{said}");
    }
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/observability/alerts.yaml");
    if let Some((well, said)) = promtool(&["check", "rules", rules], "") {
        assert!(well && said.contains("SUCCESS"), "{said}");
    }
}

/// The duration of a run that is in time is set to a minute here.
#[tokio::test(flavor = "multi_thread")]
async fn objectives_are_counted_from_what_runs_came_to() {
    let api = Api::start().await;
    api.register(ECHO).await;
    api.register(FAILING).await;
    let mut seq = json!(0);
    for dag_id in ["echo", "failing", "echo", "echo"] {
        seq = api.finished(dag_id, &json!({})).await["seq"].clone();
    }
    api.get(&format!("/runs?minSeq={seq}")).await;
    let report = api.get("/admin/slo").await.body;
    let report: SloReport = serde_json::from_value(report).unwrap();
    assert_eq!((report.period_days, report.duration_ms), (30, 60_000));
    let [success, duration] = <[_; 2]>::try_from(report.objectives).unwrap();
    assert_eq!((&*success.name, &*duration.name), ("success", "duration"));
    let hours: Vec<_> = success.windows.iter().map(|window| window.hours).collect();
    assert_eq!(hours, [1, 6, 24, 720]);
    for window in &success.windows {
        assert_eq!((window.runs, window.missed), (4, 1));
        assert!((window.burn_rate - 25.0).abs() < 1e-6, "{window:?}");
    }
    assert_eq!(success.status, HealthStatus::Red);
    assert!(duration.windows.iter().all(|window| (window.runs, window.missed) == (4, 0)));
    assert_eq!((duration.status, duration.budget_left), (HealthStatus::Green, 1.0));
    api.stop().await;
}

/// Series are kept for good by whoever collects them.
#[tokio::test(flavor = "multi_thread")]
async fn labels_are_bounded() {
    let api = Api::without_worker().await;
    let mut seq = json!(0);
    for n in 0..503 {
        // The names are not in the order of registration.
        let id = format!("dag-{}", 1_000 - n);
        let spec = ECHO.replace("id: echo", &format!("id: {id}"));
        assert_eq!(api.post_text("/dags", "application/yaml", spec).await.status, 201);
        seq = api.post("/runs", &json!({"dagId": id})).await.body["seq"].clone();
    }
    api.get(&format!("/runs?minSeq={seq}")).await;
    let families = served(&api).await;
    let started = &families["orchestrator_runs_started"].samples;
    let of = |dag: &str| -> f64 {
        let labelled = started.iter().filter(|(_, labels, _)| labels["dag"] == dag);
        labelled.map(|(_, _, value)| value).sum()
    };
    assert_eq!(started.len(), 501);
    assert_eq!((of("dag-1000"), of("dag-498"), of("(others)")), (1.0, 0.0, 3.0));
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_has_an_age_and_what_is_folded_survives() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    let run = api.post("/runs", &json!({"dagId": "echo"})).await.body;
    api.get(&format!("/runs?minSeq={}", run["seq"])).await;
    // It grows, from the millisecond after the one in which the step was queued.
    let families = loop {
        let families = served(&api).await;
        if sum(&families["orchestrator_queue_oldest_age_seconds"]) > 0.0 {
            break families;
        }
    };
    let value = |name: &str| sum(&families[name]);
    assert_eq!(value("orchestrator_runs_started"), 1.0);
    let appends = &families["orchestrator_ledger_append_duration_seconds"].samples;
    let count = appends.iter().find(|(name, ..)| name.ends_with("_count")).unwrap().2;
    assert!(count >= 2.0, "{appends:?}");
    assert_eq!(value("orchestrator_ledger_append_failures"), 0.0);
    api.post_nothing("/admin/projections:rebuild").await;
    let again = served(&api).await;
    for folded in ["orchestrator_runs_started", "orchestrator_queue_depth"] {
        let (before, after) = (&families[folded].samples, &again[folded].samples);
        assert_eq!(before, after, "{folded}");
    }
    api.stop().await;
}
