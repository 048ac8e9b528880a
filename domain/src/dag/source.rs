//! A spec's members as the author wrote them, each checked by itself. What steps say about each
//! other is checked in `graph` and `template`.

use std::{num::NonZeroU32, str::FromStr};

use serde_json::{Map, Value};

use super::{
    duration,
    error::{Problems, did_you_mean, item, member},
    retry::RetryPolicy,
};
use crate::ids::{DagId, IdError, PluginName, StepId};

/// Most steps of a DAG.
pub const MAX_STEPS: usize = 1000;

const DEFAULT_TIMEOUT_MS: u64 = 3_600_000;

// The members that a spec may have. What a later version of the language adds (`when`, `forEach`,
// `continueOnFailure`, a run's timeout, …) gets its name here and its reading below.
const DAG_MEMBERS: &[&str] = &["id", "description", "inputs", "concurrency", "steps"];
const STEP_MEMBERS: &[&str] = &["id", "plugin", "action", "with", "needs", "timeout", "retries"];
const CONCURRENCY_MEMBERS: &[&str] = &["limit", "key"];
const RETRY_MEMBERS: &[&str] = &["max", "backoff", "maxBackoff", "factor"];

/// What could be read; a member that is missing or wrong is `None` and already reported.
pub(super) struct DagSource<'a> {
    pub(super) id: Option<DagId>,
    pub(super) description: Option<String>,
    pub(super) inputs: Option<&'a Value>,
    pub(super) concurrency: Option<ConcurrencySource<'a>>,
    pub(super) steps: Vec<StepSource<'a>>,
}

pub(super) struct ConcurrencySource<'a> {
    pub(super) limit: NonZeroU32,
    pub(super) key: Option<&'a Value>,
}

pub(super) struct StepSource<'a> {
    pub(super) path: String,
    pub(super) id: Option<StepId>,
    pub(super) plugin: Option<PluginName>,
    pub(super) action: Option<String>,
    pub(super) with: Option<&'a Value>,
    /// Place in the list, and the step needed.
    pub(super) needs: Vec<(usize, StepId)>,
    pub(super) timeout_ms: u64,
    pub(super) retry: RetryPolicy,
}

/// Read a spec member by member.
pub(super) fn read<'a>(value: &'a Value, problems: &mut Problems) -> DagSource<'a> {
    let Some(dag) = Members::of("", value, DAG_MEMBERS, problems) else {
        return DagSource {
            id: None,
            description: None,
            inputs: None,
            concurrency: None,
            steps: Vec::new(),
        };
    };
    let id = dag.required("id", problems).and_then(|(p, v)| identifier(&p, v, problems));
    let description = dag.optional("description").and_then(|(p, v)| text(&p, v, problems));
    let inputs = dag.optional("inputs").map(|(_, v)| v);
    let concurrency =
        dag.optional("concurrency").and_then(|(p, v)| read_concurrency(&p, v, problems));
    let steps = dag.required("steps", problems).and_then(|(p, v)| list(&p, v, problems));
    if let Some(steps) = steps.filter(|s| s.is_empty() || s.len() > MAX_STEPS) {
        let message = format!("a DAG has 1 to {MAX_STEPS} steps, this one has {}", steps.len());
        problems.push("steps", message);
    }
    let steps = steps.map(Vec::as_slice).unwrap_or_default().iter().take(MAX_STEPS).enumerate();
    let steps = steps.map(|(i, step)| read_step(item("steps", i), step, problems)).collect();
    DagSource { id, description: description.map(str::to_owned), inputs, concurrency, steps }
}

fn read_step<'a>(path: String, value: &'a Value, problems: &mut Problems) -> StepSource<'a> {
    let mut source = StepSource {
        path,
        id: None,
        plugin: None,
        action: None,
        with: None,
        needs: Vec::new(),
        timeout_ms: DEFAULT_TIMEOUT_MS,
        retry: RetryPolicy::default(),
    };
    let Some(step) = Members::of(&source.path, value, STEP_MEMBERS, problems) else {
        return source;
    };
    source.id = step.required("id", problems).and_then(|(p, v)| identifier(&p, v, problems));
    source.plugin =
        step.required("plugin", problems).and_then(|(p, v)| identifier(&p, v, problems));
    source.action = step.required("action", problems).and_then(|(p, v)| action(&p, v, problems));
    source.with = step.optional("with").and_then(|(p, v)| object(&p, v, problems).map(|_| v));
    if let Some((path, value)) = step.optional("needs") {
        source.needs = read_needs(&path, value, problems);
    }
    if let Some((path, value)) = step.optional("timeout") {
        source.timeout_ms = duration_ms(&path, value, problems).unwrap_or(DEFAULT_TIMEOUT_MS);
    }
    if let Some((path, value)) = step.optional("retries") {
        source.retry = read_retries(&path, value, problems);
    }
    source
}

fn read_concurrency<'a>(
    path: &str,
    value: &'a Value,
    problems: &mut Problems,
) -> Option<ConcurrencySource<'a>> {
    let concurrency = Members::of(path, value, CONCURRENCY_MEMBERS, problems)?;
    let key = concurrency.optional("key").map(|(_, v)| v);
    let (path, limit) = concurrency.required("limit", problems)?;
    let limit = limit.as_u64().and_then(|n| u32::try_from(n).ok()).and_then(NonZeroU32::new);
    if limit.is_none() {
        problems.push(path, "expected a whole number of steps that run at once, 1 or more");
    }
    Some(ConcurrencySource { limit: limit?, key })
}

fn read_needs(path: &str, value: &Value, problems: &mut Problems) -> Vec<(usize, StepId)> {
    let items = list(path, value, problems).map(Vec::as_slice).unwrap_or_default();
    let items = items.iter().take(MAX_STEPS).enumerate();
    items.filter_map(|(i, v)| Some((i, identifier(&item(path, i), v, problems)?))).collect()
}

fn read_retries(path: &str, value: &Value, problems: &mut Problems) -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    if value.is_number() {
        policy.max = retry_max(path, value, problems);
        return policy;
    }
    if !value.is_object() {
        let found = kind(value);
        problems.push(path, format!("expected a number or an object {{max, …}}, found {found}"));
        return policy;
    }
    let Some(retries) = Members::of(path, value, RETRY_MEMBERS, problems) else { return policy };
    if let Some((path, value)) = retries.required("max", problems) {
        policy.max = retry_max(&path, value, problems);
    }
    let backoff = retries.optional("backoff");
    let max_backoff = retries.optional("maxBackoff");
    let mut read = |member: Option<(String, &Value)>| {
        member.and_then(|(path, value)| duration_ms(&path, value, problems))
    };
    let (backoff_ms, max_backoff_ms) = (read(backoff), read(max_backoff));
    policy.backoff_ms = backoff_ms.unwrap_or(policy.backoff_ms);
    // A first wait longer than the default cap lifts the cap; one that contradicts a cap that the
    // author wrote is a mistake.
    policy.max_backoff_ms = max_backoff_ms.unwrap_or(policy.max_backoff_ms.max(policy.backoff_ms));
    if policy.max_backoff_ms < policy.backoff_ms {
        let message = "maxBackoff is shorter than backoff: make it at least as long";
        problems.push(member(path, "maxBackoff"), message);
    }
    if let Some((path, value)) = retries.optional("factor") {
        match value.as_f64().filter(|f| (1.0..=10.0).contains(f)) {
            Some(factor) => policy.factor = factor,
            None => problems.push(path, "expected a number from 1 to 10"),
        }
    }
    policy
}

fn retry_max(path: &str, value: &Value, problems: &mut Problems) -> u32 {
    let max = value.as_u64().and_then(|n| u32::try_from(n).ok());
    max.filter(|n| *n <= RetryPolicy::LARGEST_MAX).unwrap_or_else(|| {
        let largest = RetryPolicy::LARGEST_MAX;
        problems.push(path, format!("expected a whole number from 0 to {largest}"));
        0
    })
}

/// The members of an object, none of them unknown.
struct Members<'a> {
    path: String,
    members: &'a Map<String, Value>,
}

impl<'a> Members<'a> {
    fn of(path: &str, value: &'a Value, known: &[&str], problems: &mut Problems) -> Option<Self> {
        let members = object(path, value, problems)?;
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let hint = did_you_mean(name, known.iter().copied());
            let known = known.join(", ");
            let message = format!("unknown field; known here are {known}{hint}");
            problems.push(member(path, name), message);
        }
        Some(Self { path: path.to_owned(), members })
    }

    fn optional(&self, name: &str) -> Option<(String, &'a Value)> {
        self.members.get(name).map(|value| (member(&self.path, name), value))
    }

    fn required(&self, name: &str, problems: &mut Problems) -> Option<(String, &'a Value)> {
        let found = self.optional(name);
        if found.is_none() {
            problems.push(member(&self.path, name), "missing: this field is required");
        }
        found
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null (leave the field out, or give it a value)",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

pub(super) fn object<'a>(
    path: &str,
    value: &'a Value,
    problems: &mut Problems,
) -> Option<&'a Map<String, Value>> {
    let found = value.as_object();
    if found.is_none() {
        problems.push(path, format!("expected an object, found {}", kind(value)));
    }
    found
}

fn list<'a>(path: &str, value: &'a Value, problems: &mut Problems) -> Option<&'a Vec<Value>> {
    let found = value.as_array();
    if found.is_none() {
        problems.push(path, format!("expected a list, found {}", kind(value)));
    }
    found
}

fn text<'a>(path: &str, value: &'a Value, problems: &mut Problems) -> Option<&'a str> {
    let found = value.as_str();
    if found.is_none() {
        problems.push(path, format!("expected a string, found {}", kind(value)));
    }
    found
}

fn identifier<T: FromStr<Err = IdError>>(
    path: &str,
    value: &Value,
    problems: &mut Problems,
) -> Option<T> {
    let parsed = text(path, value, problems)?.parse();
    parsed.map_err(|e: IdError| problems.push(path, e.to_string())).ok()
}

fn action(path: &str, value: &Value, problems: &mut Problems) -> Option<String> {
    let name = text(path, value, problems)?;
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=128).contains(&name.len()) && name.bytes().all(valid) {
        return Some(name.to_owned());
    }
    problems.push(path, format!("{name:?} is not an action: write 1 to 128 of A-Z a-z 0-9 . _ -"));
    None
}

fn duration_ms(path: &str, value: &Value, problems: &mut Problems) -> Option<u64> {
    let Some(text) = value.as_str() else {
        let message = format!("expected a duration such as \"30s\", found {}", kind(value));
        problems.push(path, message);
        return None;
    };
    duration::parse_ms(text).map_err(|message| problems.push(path, message)).ok()
}
