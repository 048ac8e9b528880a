//! DAG specs from the outside: the cases of `fixtures/dag-specs`, and properties over any spec.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::json;
use stella_domain::{
    dag::{DagSpec, PluginCatalog, RenderError, Scope, SpecErrors, StepFacts, StepIndex},
    ids::{PluginName, StepId},
    json::CanonicalJson,
};

struct Catalog;

impl PluginCatalog for Catalog {
    fn actions(&self, plugin: &PluginName) -> Option<Vec<String>> {
        let actions: &[&str] = match plugin.as_str() {
            "core" => &["noop", "echo", "sleep", "fail"],
            // Only its workers know what it has.
            "anywhere" => &[],
            _ => return None,
        };
        Some(actions.iter().map(ToString::to_string).collect())
    }

    fn known(&self) -> Vec<PluginName> {
        vec!["core".parse().unwrap()]
    }
}

fn parse(text: &str) -> Result<DagSpec, SpecErrors> {
    DagSpec::parse(text, &Catalog)
}

fn accepted(text: &str) -> DagSpec {
    parse(text).unwrap_or_else(|e| panic!("refused:\n{e}\n{text}"))
}

fn canonical(value: serde_json::Value) -> CanonicalJson {
    CanonicalJson::from_value(&value).expect("I-JSON")
}

/// Each case's outcome stands in its `.golden` sibling; `UPDATE_GOLDEN=1` rewrites them all.
#[test]
fn cases() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/dag-specs"));
    let rewrite = std::env::var_os("UPDATE_GOLDEN").is_some();
    let (mut cases, mut failed) = (0, Vec::new());
    for entry in fs::read_dir(folder).expect("the folder of cases") {
        let path = entry.expect("a folder entry").path();
        if !path.extension().is_some_and(|e| e == "yaml" || e == "json") {
            continue;
        }
        cases += 1;
        let outcome = match parse(&fs::read_to_string(&path).expect("a case")) {
            Ok(spec) => format!("accepted {}\n{}\n", spec.digest(), spec.canonical()),
            Err(errors) => format!("refused\n{errors}\n"),
        };
        let golden = path.with_extension("golden");
        if rewrite {
            fs::write(&golden, &outcome).expect("a golden file written");
        } else if fs::read_to_string(&golden).ok().as_ref() != Some(&outcome) {
            failed.push(format!("{}:\n{outcome}", path.display()));
        }
    }
    assert!(cases > 0, "no case in {}", folder.display());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What the reference shows is a spec.
#[test]
fn every_dag_of_the_reference_is_accepted() {
    let reference = include_str!("../../docs/dags.md");
    let specs: Vec<&str> = reference
        .split("```yaml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert!(specs.len() >= 8);
    specs.into_iter().for_each(|spec| drop(accepted(spec)));
}

/// What one commit has to say about steps whose needs it meets is bounded.
#[test]
fn a_dag_that_decides_has_fewer_steps() {
    let step = |i: usize| json!({"id": format!("s{i}"), "plugin": "core", "action": "noop"});
    let with = |n: usize, name: &str, value: serde_json::Value| {
        let mut steps: Vec<_> = (0..n).map(step).collect();
        steps[0][name] = value;
        parse(&json!({"id": "d", "steps": steps}).to_string())
    };
    assert!(with(700, "when", json!("true")).is_ok());
    assert!(with(701, "continueOnFailure", json!(true)).is_ok());
    for spec in [with(701, "when", json!("true")), with(700, "forEach", json!([]))] {
        let errors = spec.unwrap_err();
        assert_eq!(errors.errors()[0].path, "steps");
        assert!(errors.to_string().contains("at most 700 steps"), "{errors}");
    }
}

/// However a condition is written, it is read without endless recursion.
#[test]
fn deep_conditions_are_refused_or_evaluated() {
    for when in [
        "1+".repeat(255) + "1",
        "!".repeat(500) + "true",
        "-".repeat(500) + "1",
        "(".repeat(255) + "1" + &")".repeat(255),
        "[".repeat(255) + &"]".repeat(255),
        "inputs".to_owned() + &".a".repeat(250),
        "inputs".to_owned() + &"[0]".repeat(160),
        "true ? ".repeat(50) + "1" + &" : 1".repeat(50),
        "a(".repeat(160) + &")".repeat(160),
        "{1:".repeat(120) + "1" + &"}".repeat(120),
    ] {
        let step = json!({"id": "a", "plugin": "core", "action": "noop", "when": when});
        let _ = parse(&json!({"id": "d", "steps": [step]}).to_string());
    }
}

/// What may be called according to the spec's check can be.
#[test]
fn every_function_that_a_condition_may_call_is_there() {
    for when in [
        "bool('true')",
        "bytes('a') == b'a'",
        "'abc'.contains('b')",
        "double(1) == 1.0",
        "dyn(1) == 1",
        "'abc'.endsWith('c')",
        "int('1') == 1",
        "size('abc') == 3 && [1].size() == 1",
        "'abc'.startsWith('a')",
        "string(1) == '1'",
        "type(1) == type(2)",
        "uint(1) == 1u",
        "has(inputs.b) && !has(inputs.a)",
    ] {
        let step = json!({"id": "a", "plugin": "core", "action": "noop", "when": when});
        let spec = accepted(&json!({"id": "d", "steps": [step]}).to_string());
        let nothing = |_| -> Result<StepFacts<'static>, String> { Err("no step".to_owned()) };
        let holds =
            spec.steps()[0].when.as_ref().unwrap().holds(&canonical(json!({"b": 1})), nothing);
        assert_eq!(holds, Ok(true), "{when}");
    }
}

/// What was registered before functions were checked goes on as it was.
#[test]
fn a_stored_spec_may_name_a_function_that_there_is_not() {
    let step = json!({"id": "a", "plugin": "core", "action": "noop", "when": "true || lower('A')"});
    let spec = canonical(json!({"id": "d", "steps": [step]}));
    assert!(parse(spec.as_str()).is_err());
    assert!(DagSpec::from_stored(&spec).is_ok());
}

#[test]
fn a_stored_spec_is_read_again_without_its_plugins() {
    let spec = accepted("id: d\nsteps: [{id: a, plugin: core, action: noop, retries: 3.0}]");
    let again = DagSpec::from_stored(spec.canonical()).expect("a stored spec");
    assert_eq!(again, spec);
    let gone = canonical(json!({"id": "d", "steps": [{"id":"a","plugin":"gone","action":"x"}]}));
    assert!(parse(gone.as_str()).is_err());
    assert!(DagSpec::from_stored(&gone).is_ok());
    assert!(DagSpec::from_stored(&canonical(json!({"id": "d", "steps": []}))).is_err());
}

#[test]
fn yaml_and_json_of_the_same_spec_have_one_digest() {
    let yaml = "# a comment\nid: d\nsteps:\n  - {action: noop, plugin: core, id: a}\n";
    let json = r#"{"steps":[{"id":"a","plugin":"core","action":"noop"}],"id":"d"}"#;
    assert_eq!(accepted(yaml).digest(), accepted(json).digest());
    // A default written out is a different text, hence a different version.
    let explicit = r#"{"steps":[{"id":"a","plugin":"core","action":"noop","needs":[]}],"id":"d"}"#;
    assert_ne!(accepted(json), accepted(explicit));
}

#[test]
fn the_graph_is_compiled() {
    let spec = accepted(
        r"
id: d
steps:
  - { id: last, plugin: core, action: noop, needs: [left, right],
      with: { x: '${steps.first.outputs}', y: '${steps.left.outputs.n}' } }
  - { id: left, plugin: core, action: noop, needs: [first], timeout: 90s }
  - { id: right, plugin: core, action: noop, needs: [first] }
  - { id: first, plugin: core, action: noop, retries: 2 }
",
    );
    let at = |id: &str| spec.index_of(&id.parse::<StepId>().unwrap()).unwrap();
    let step = |id: &str| spec.step(at(id));
    assert_eq!(at("last"), StepIndex(0));
    assert_eq!(step("last").needs, [at("left"), at("right")]);
    assert_eq!(step("first").dependents, [at("left"), at("right")]);
    assert_eq!((step("left").timeout_ms, step("right").timeout_ms), (90_000, 3_600_000));
    assert_eq!((step("first").retry.max, step("left").retry.max), (2, 0));
    let referenced = ["last", "left", "right", "first"].map(|id| step(id).outputs_referenced);
    assert_eq!(referenced, [false, true, false, true]);
    assert_eq!(step("last").action().unwrap().with.reads(), [at("left"), at("first")]);
    assert_eq!(spec.index_of(&"nope".parse().unwrap()), None);
}

#[test]
fn backoff_grows_up_to_its_cap() {
    let policy = |retries: &str| {
        accepted(&format!(
            "{{\"id\":\"d\",\"steps\":[{{\"id\":\"a\",\"plugin\":\"core\",\"action\":\"noop\",\
             \"retries\":{retries}}}]}}"
        ))
        .steps()[0]
            .retry
            .clone()
    };
    let delays = |retries: &str| [1, 2, 3, 4, u32::MAX].map(|n| policy(retries).delay_ms(n));
    assert_eq!(delays("5"), [1000, 2000, 4000, 8000, 300_000]);
    let slow = r#"{"max":3,"backoff":"100ms","maxBackoff":"1s","factor":1.5}"#;
    assert_eq!(delays(slow), [100, 150, 225, 337, 1000]);
    assert_eq!(delays(r#"{"max":3,"factor":1}"#), [1000; 5]);
    assert_eq!(policy(r#"{"max":1,"backoff":"1h"}"#).delay_ms(2), 3_600_000);
}

/// A spec whose step `b` has this `with`.
fn reading(with: &serde_json::Value) -> DagSpec {
    let step = |id: &str| json!({"id": id, "plugin": "core", "action": "echo"});
    let mut reader = step("b");
    reader["needs"] = json!(["a.1"]);
    reader["with"] = with.clone();
    accepted(&json!({"id": "d", "steps": [step("a.1"), reader]}).to_string())
}

fn render_with<'a>(
    spec: &DagSpec,
    inputs: &'a CanonicalJson,
    outputs: &'a dyn Fn(StepIndex) -> Result<Option<&'a CanonicalJson>, RenderError>,
) -> Result<CanonicalJson, RenderError> {
    let with = &spec.steps()[1].action().unwrap().with;
    with.render(&Scope { inputs, outputs, item: None, missing_is_null: false })
}

fn render(with: &serde_json::Value) -> Result<CanonicalJson, RenderError> {
    let spec = reading(with);
    let inputs = canonical(json!({
        "n": 1, "s": "é\"\n", "list": [{"k": "v"}, 2.5], "odd name": true, "nothing": null,
        "z": {"b": 2, "a": 1}
    }));
    let outputs =
        canonical(json!({"y": {"deep": [10, 20]}, "outputs": "o", "big": "x".repeat(60_000)}));
    let lookup = |step: StepIndex| Ok((step == StepIndex(0)).then_some(&outputs));
    render_with(&spec, &inputs, &lookup)
}

#[test]
fn templates_render() {
    for (with, expected) in [
        (json!({}), json!({})),
        (
            json!({"b": [1, {"z": 1, "a": null}], "a": "$x $"}),
            json!({"b": [1, {"z": 1, "a": null}], "a": "$x $"}),
        ),
        (json!({"x": "${inputs.n}"}), json!({"x": 1})),
        (json!({"x": "${ inputs.z }"}), json!({"x": {"a": 1, "b": 2}})),
        (json!({"x": "${inputs.nothing}"}), json!({"x": null})),
        (json!({"x": "${inputs.list[0].k}${inputs.list[1]}"}), json!({"x": "v2.5"})),
        (json!({"x": "${inputs[\"odd name\"]}"}), json!({"x": true})),
        (
            json!({"x": "<${inputs.s}> ${inputs.z} ${inputs.nothing}"}),
            json!({"x": "<é\"\n> {\"a\":1,\"b\":2} null"}),
        ),
        (json!({"x": ["${steps.a.1.outputs.y.deep[1]}"]}), json!({"x": [20]})),
        (json!({"x": "${steps[\"a.1\"].outputs.outputs}"}), json!({"x": "o"})),
        (
            json!({"x": "${steps.a.1.outputs.y}", "${inputs.n}": 0}),
            json!({"x": {"deep": [10, 20]}, "${inputs.n}": 0}),
        ),
        (json!({"x": "$${inputs.n} ${inputs.n}"}), json!({"x": "${inputs.n} 1"})),
        (json!({"x": "$${", "y": "$$${inputs.n}"}), json!({"x": "${", "y": "$${inputs.n}"})),
        (
            json!({"\u{1F600}": "${inputs.n}", "\u{FB33}": 1}),
            json!({"\u{1F600}": 1, "\u{FB33}": 1}),
        ),
    ] {
        let rendered = render(&with).unwrap_or_else(|e| panic!("{with}: {e}"));
        assert_eq!(rendered, canonical(expected), "{with}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (expression, first_missing) in [
        ("${inputs.nope.x}", "inputs.nope"),
        ("${inputs.n.x.y}", "inputs.n.x"),
        ("${inputs.list[2]}", "inputs.list[2]"),
        ("${inputs.list.k}", "inputs.list.k"),
        ("${inputs.z[0]}", "inputs.z[0]"),
        ("${inputs[\"a b\"]}", "inputs[\"a b\"]"),
        ("${steps.a.1.outputs.y.nope}", "steps.a.1.outputs.y.nope"),
    ] {
        for with in [json!({"x": expression}), json!({"x": format!("text {expression}")})] {
            let missing = first_missing.to_owned();
            let expression = expression.to_owned();
            assert_eq!(render(&with), Err(RenderError::Missing { expression, missing }));
        }
    }
    let spec = reading(&json!({"x": "${steps.a.1.outputs.y}"}));
    let inputs = CanonicalJson::empty_object();
    let error = render_with(&spec, &inputs, &|_| Ok(None));
    let Err(RenderError::Missing { missing, .. }) = error else { panic!("{error:?}") };
    assert_eq!(missing, "steps.a.1.outputs");
}

#[test]
fn a_rendered_template_has_a_limit() {
    let many = vec!["${steps.a.1.outputs.big}"; 20];
    assert_eq!(render(&json!({"x": many})), Err(RenderError::TooLarge));
    assert_eq!(render(&json!({"x": many.concat()})), Err(RenderError::TooLarge));
}

#[test]
fn all_violations_of_inputs_are_listed() {
    let spec = accepted(
        r##"
id: d
inputs:
  type: object
  required: [name, size]
  additionalProperties: false
  properties:
    name: { $ref: "#/$defs/name" }
    size: { type: integer, minimum: 1 }
    tags: { type: array, items: { type: string } }
  $defs: { name: { type: string, pattern: "^[a-z]+$" } }
steps: [{ id: a, plugin: core, action: noop }]
"##,
    );
    let check = |inputs| spec.check_inputs(&canonical(inputs));
    assert_eq!(check(json!({"name": "abc", "size": 3, "tags": []})), Ok(()));
    let violations = check(json!({"name": "ABC", "tags": ["x", 1, 2], "other": 1})).unwrap_err();
    assert_eq!(violations.to_string(), "5 violation(s)");
    let violations = violations.listed;
    let mut paths: Vec<_> = violations.iter().map(|v| v.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["", "", "name", "tags[1]", "tags[2]"], "{violations:?}");
    assert!(violations.iter().all(|v| !v.to_string().contains("ABC")), "{violations:?}");
    assert_eq!(check(json!([])).unwrap_err().to_string(), "1 violation(s)");
    let many: Vec<u32> = (0..500).collect();
    let violations = check(json!({"name": "a", "size": 1, "tags": many})).unwrap_err();
    assert_eq!((violations.listed.len(), violations.unlisted), (100, 400));
    let said = "500 violation(s), the first 100 of which are listed";
    assert_eq!(violations.to_string(), said);
}

/// Whoever checks inputs must not hang, so a schema that could make endless work is refused.
#[test]
fn schemas_that_make_endless_work_are_refused() {
    let with = |inputs: &serde_json::Value| {
        let steps = json!([{"id": "a", "plugin": "core", "action": "noop"}]);
        parse(&json!({"id": "d", "inputs": inputs, "steps": steps}).to_string())
    };
    // Definition i refers to the next one `times`; the last is plain.
    let chain = |length: usize, times: usize| {
        let reference = |i: usize| json!({"$ref": format!("#/$defs/a{i}")});
        let definition = |i: usize| json!({"allOf": vec![reference(i + 1); times]});
        let mut defs: serde_json::Map<_, _> =
            (0..length).map(|i| (format!("a{i}"), definition(i))).collect();
        defs.insert(format!("a{length}"), json!({"type": "object"}));
        json!({"$defs": defs, "allOf": [reference(0)]})
    };
    let fine = with(&chain(5, 2)).unwrap();
    assert_eq!(fine.check_inputs(&canonical(json!({}))), Ok(()));
    for (schema, why) in [
        (chain(30, 2), "with its references written out this schema has more than"),
        (chain(500, 1), "nests more than"),
        (json!({"$ref": "#"}), "recursion is not supported"),
        (json!({"properties": {"child": {"$ref": "#"}}}), "recursion is not supported"),
        (
            json!({"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}}}),
            "recursion is not supported",
        ),
        (json!({"$defs": {"a": {"items": {"$ref": "#/$defs"}}}}), "recursion is not supported"),
        (json!({"$dynamicRef": "#a"}), "only `$ref` is supported"),
        (json!({"items": {"$id": "x", "$ref": "#/a"}}), "only at the top"),
    ] {
        let errors = with(&schema).unwrap_err().to_string();
        assert!(errors.contains(why), "{schema}: {errors}");
    }
}

#[test]
fn any_object_is_taken_without_a_schema() {
    let spec = accepted("id: d\nsteps: [{ id: a, plugin: core, action: noop }]");
    assert_eq!(spec.check_inputs(&canonical(json!({"x": [1]}))), Ok(()));
    assert!(spec.check_inputs(&canonical(json!(null))).is_err());
}

#[test]
fn sizes_are_limited() {
    let step = |i: usize| json!({"id": format!("s{i}"), "plugin": "core", "action": "noop"});
    let spec = |n: usize| json!({"id": "d", "steps": (0..n).map(step).collect::<Vec<_>>()});
    assert_eq!(accepted(&spec(1000).to_string()).steps().len(), 1000);
    assert_eq!(parse(&spec(1001).to_string()).unwrap_err().errors()[0].path, "steps");
    let refused = |text: &str, say: &str| {
        let errors = parse(text).unwrap_err();
        assert!(errors.to_string().contains(say), "{errors}");
    };
    let mut long = json!({"id": "d", "description": "x".repeat(64_000), "steps": [step(0)]});
    assert!(parse(&long.to_string()).is_ok());
    long["description"] = "x".repeat(64_900).into();
    refused(&long.to_string(), "in canonical form");
    long["description"] = "x".repeat(65_536).into();
    refused(&long.to_string(), "bytes long and may be at most 65536");
    // Aliases that would write out to far more than they read.
    let bomb: String = (1..=9)
        .map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(",")))
        .collect();
    refused(&format!("a0: &a0 [x,x,x,x,x,x,x,x,x]\n{bomb}"), "not acceptable YAML");
    refused(&format!("{{\"id\":{}", "[".repeat(60_000)), "not acceptable JSON");
    refused(&"[".repeat(60_000), "not acceptable YAML");
    refused(&"- ".repeat(30_000), "not acceptable YAML");
}

#[test]
fn listed_errors_are_limited() {
    let bad = json!({"id": "d", "steps": vec![json!({}); 200]});
    let errors = parse(&bad.to_string()).unwrap_err();
    assert_eq!((errors.errors().len(), errors.unlisted()), (100, 500));
    assert!(errors.to_string().ends_with("and 500 more errors"));
}

/// Edges of a random acyclic graph: every need stands before its step in a hidden order.
fn acyclic() -> impl Strategy<Value = Vec<(usize, Vec<usize>)>> {
    (1..40usize).prop_flat_map(|n| {
        let needs = (0..n)
            .map(|i| {
                prop::collection::vec(any::<prop::sample::Index>(), 0..4).prop_map(move |picks| {
                    let mut needs: Vec<usize> = match i {
                        0 => vec![],
                        _ => picks.iter().map(|pick| pick.index(i)).collect(),
                    };
                    needs.sort_unstable();
                    needs.dedup();
                    (i, needs)
                })
            })
            .collect::<Vec<_>>();
        needs.prop_shuffle()
    })
}

fn spec_of(edges: &[(usize, Vec<usize>)]) -> String {
    let name = |i: &usize| format!("s{i}");
    let steps: Vec<_> = edges
        .iter()
        .map(|(i, needs)| {
            let needs: Vec<_> = needs.iter().map(name).collect();
            json!({"id": name(i), "plugin": "core", "action": "noop", "needs": needs})
        })
        .collect();
    json!({"id": "d", "steps": steps}).to_string()
}

proptest! {
    #[test]
    fn acyclic_graphs_are_accepted_and_a_back_edge_refused(edges in acyclic(), pick: prop::sample::Index) {
        let spec = accepted(&spec_of(&edges));
        for (place, (_, needs)) in edges.iter().enumerate() {
            prop_assert_eq!(spec.steps()[place].needs.len(), needs.len());
            for need in &spec.steps()[place].needs {
                prop_assert!(spec.step(*need).dependents.contains(&StepIndex(place as u32)));
            }
        }
        // Let some step that is needed need one that needs it.
        let pairs: Vec<(usize, usize)> =
            edges.iter().flat_map(|(i, needs)| needs.iter().map(|need| (*need, *i))).collect();
        prop_assume!(!pairs.is_empty());
        let (need, step) = pairs[pick.index(pairs.len())];
        let mut cyclic = edges;
        cyclic.iter_mut().find(|(i, _)| *i == need).unwrap().1.push(step);
        let errors = parse(&spec_of(&cyclic)).unwrap_err();
        prop_assert!(errors.to_string().contains("in a cycle: "), "{}", errors);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!("{{{text}"));
    }

    #[test]
    fn arbitrary_expressions_never_panic(
        text in r#"(\$?\$\{|inputs|steps|\.outputs|\.|\[|\]|"|\\|\}|a|0|é| ){0,12}"#,
    ) {
        let spec = json!({"id": "d", "steps": [
            {"id": "a", "plugin": "core", "action": "noop"},
            {"id": "b", "plugin": "core", "action": "noop", "needs": ["a"], "with": {"x": text}},
        ]});
        if let Ok(spec) = parse(&spec.to_string()) {
            let inputs = canonical(json!({"a": {"a": [1]}}));
            let _ = render_with(&spec, &inputs, &|_| Ok(Some(&inputs)));
        }
    }

    #[test]
    fn mangled_specs_never_panic(at in 0..600usize, len in 0..8usize, put in "[-:{}\\[\\],&*!|>'\"%@`?# \n0~a]{0,6}") {
        let good = include_str!("../../fixtures/dag-specs/everything.yaml");
        let mut text: Vec<char> = good.chars().collect();
        let at = at.min(text.len());
        let end = (at + len).min(text.len());
        text.splice(at..end, put.chars());
        let _ = parse(&text.into_iter().collect::<String>());
    }
}
