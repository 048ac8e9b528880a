//! A spec's members as the author wrote them, each checked by itself. What steps say about each
//! other is checked in `graph` and `template`.

use std::num::NonZeroU32;

use serde_json::Value;

use super::{
    Budget,
    error::{Problems, item, member},
    expression::{Piece, split},
    members::{
        Members, action, boolean, duration_ms, identifier, kind, list, object, text, whole_number,
    },
    retry::RetryPolicy,
    work::{Approval, ApprovalTimeout, DEFAULT_PARALLELISM, MAX_PARALLELISM},
};
use crate::{
    event::ErrorCode,
    ids::{DagId, PluginName, StepId},
};

/// Most starts in a budget.
pub const MAX_BUDGET_STARTS: u32 = 100_000;
/// Longest window of a budget, in milliseconds: a day.
pub const MAX_BUDGET_WINDOW_MS: u64 = 24 * 3_600_000;

/// Most steps of a DAG.
pub const MAX_STEPS: usize = 1000;

const DEFAULT_TIMEOUT_MS: u64 = 3_600_000;

// The members that a spec may have. What a later version of the language adds gets its name here
// and its reading below.
const DAG_MEMBERS: &[&str] =
    &["id", "description", "inputs", "concurrency", "budget", "steps", "outputs", "timeout"];
const STEP_MEMBERS: &[&str] = &[
    "id",
    "plugin",
    "action",
    "with",
    "needs",
    "when",
    "forEach",
    "parallelism",
    "timeout",
    "totalTimeout",
    "retries",
    "continueOnFailure",
    "approval",
];
const BUDGET_MEMBERS: &[&str] = &["starts", "window"];
const CONCURRENCY_MEMBERS: &[&str] = &["limit", "key"];
const RETRY_MEMBERS: &[&str] = &["max", "backoff", "maxBackoff", "factor", "nonRetryable"];
const APPROVAL_MEMBERS: &[&str] = &["message", "timeout", "onTimeout"];
/// What says how a plugin is used, and has no meaning where an operator decides.
const NOT_WITH_APPROVAL: &[&str] =
    &["plugin", "action", "with", "forEach", "parallelism", "timeout", "totalTimeout", "retries"];

/// Error codes that a step may name as not to be retried.
const MAX_NON_RETRYABLE: usize = 50;

/// What could be read; a member that is missing or wrong is `None` and already reported.
#[derive(Default)]
pub(super) struct DagSource<'a> {
    pub(super) id: Option<DagId>,
    pub(super) description: Option<String>,
    pub(super) inputs: Option<&'a Value>,
    pub(super) concurrency: Option<ConcurrencySource<'a>>,
    pub(super) budget: Option<Budget>,
    pub(super) outputs: Option<&'a Value>,
    pub(super) timeout_ms: Option<u64>,
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
    /// What an operator is asked, if the step is an approval.
    pub(super) approval: Option<Approval>,
    pub(super) when: Option<&'a str>,
    pub(super) for_each: Option<&'a Value>,
    pub(super) parallelism: u32,
    pub(super) continue_on_failure: bool,
    /// Place in the list, and the step needed.
    pub(super) needs: Vec<(usize, StepId)>,
    pub(super) timeout_ms: u64,
    pub(super) retry: RetryPolicy,
}

/// Read a spec member by member.
pub(super) fn read<'a>(value: &'a Value, problems: &mut Problems) -> DagSource<'a> {
    let Some(dag) = Members::of("", value, DAG_MEMBERS, problems) else {
        return DagSource::default();
    };
    let id = dag.required("id", problems).and_then(|(p, v)| identifier(&p, v, problems));
    let description = dag.optional("description").and_then(|(p, v)| text(&p, v, problems));
    let inputs = dag.optional("inputs").map(|(_, v)| v);
    let concurrency =
        dag.optional("concurrency").and_then(|(p, v)| read_concurrency(&p, v, problems));
    let budget = dag.optional("budget").and_then(|(p, v)| read_budget(&p, v, problems));
    let steps = dag.required("steps", problems).and_then(|(p, v)| list(&p, v, problems));
    if let Some(steps) = steps.filter(|s| s.is_empty() || s.len() > MAX_STEPS) {
        let message = format!("a DAG has 1 to {MAX_STEPS} steps, this one has {}", steps.len());
        problems.push("steps", message);
    }
    let steps = steps.map(Vec::as_slice).unwrap_or_default().iter().take(MAX_STEPS).enumerate();
    let steps = steps.map(|(i, step)| read_step(item("steps", i), step, problems)).collect();
    let outputs = dag.optional("outputs").and_then(|(p, v)| object(&p, v, problems).map(|_| v));
    let timeout_ms = dag.optional("timeout").and_then(|(p, v)| duration_ms(&p, v, problems));
    let description = description.map(str::to_owned);
    DagSource { id, description, inputs, concurrency, budget, outputs, timeout_ms, steps }
}

fn read_step<'a>(path: String, value: &'a Value, problems: &mut Problems) -> StepSource<'a> {
    let mut source = StepSource {
        path,
        id: None,
        plugin: None,
        action: None,
        with: None,
        approval: None,
        when: None,
        for_each: None,
        parallelism: DEFAULT_PARALLELISM,
        continue_on_failure: false,
        needs: Vec::new(),
        timeout_ms: DEFAULT_TIMEOUT_MS,
        retry: RetryPolicy::default(),
    };
    let Some(step) = Members::of(&source.path, value, STEP_MEMBERS, problems) else {
        return source;
    };
    source.id = step.required("id", problems).and_then(|(p, v)| identifier(&p, v, problems));
    match step.optional("approval") {
        Some((path, value)) => source.approval = read_approval(&path, value, &step, problems),
        None => read_work(&mut source, &step, problems),
    }
    if let Some((path, value)) = step.optional("needs") {
        source.needs = read_needs(&path, value, problems);
    }
    source.when = step.optional("when").and_then(|(p, v)| text(&p, v, problems));
    if let Some((path, value)) = step.optional("continueOnFailure") {
        source.continue_on_failure = boolean(&path, value, problems).unwrap_or_default();
    }
    source
}

/// What only a step has that a plugin carries out.
fn read_work<'a>(source: &mut StepSource<'a>, step: &Members<'a>, problems: &mut Problems) {
    source.plugin =
        step.required("plugin", problems).and_then(|(p, v)| identifier(&p, v, problems));
    source.action = step.required("action", problems).and_then(|(p, v)| action(&p, v, problems));
    source.with = step.optional("with").and_then(|(p, v)| object(&p, v, problems).map(|_| v));
    source.for_each = step.optional("forEach").and_then(|(p, v)| for_each(&p, v, problems));
    if let Some((path, value)) = step.optional("parallelism") {
        let range = (1, MAX_PARALLELISM);
        let parallelism = whole_number(&path, value, range, problems);
        source.parallelism = parallelism.unwrap_or(DEFAULT_PARALLELISM);
        if step.optional("forEach").is_none() {
            problems.push(path, "parallelism belongs to forEach: add that, or remove this");
        }
    }
    if let Some((path, value)) = step.optional("timeout") {
        source.timeout_ms = duration_ms(&path, value, problems).unwrap_or(DEFAULT_TIMEOUT_MS);
    }
    if let Some((path, value)) = step.optional("retries") {
        source.retry = read_retries(&path, value, problems);
    }
    if let Some((path, value)) = step.optional("totalTimeout") {
        source.retry.total_timeout_ms = duration_ms(&path, value, problems);
    }
}

/// `approval: {message?, timeout?, onTimeout?}`.
fn read_approval(
    path: &str,
    value: &Value,
    step: &Members<'_>,
    problems: &mut Problems,
) -> Option<Approval> {
    for (path, _) in NOT_WITH_APPROVAL.iter().filter_map(|name| step.optional(name)) {
        problems.push(path, "an approval waits for an operator and runs nothing: remove this");
    }
    let approval = Members::of(path, value, APPROVAL_MEMBERS, problems)?;
    let message = approval.optional("message").and_then(|(p, v)| text(&p, v, problems));
    let after_ms = approval.optional("timeout").and_then(|(p, v)| duration_ms(&p, v, problems));
    let mut approves = false;
    if let Some((path, value)) = approval.optional("onTimeout") {
        match value.as_str() {
            Some("reject") => {}
            Some("approve") => approves = true,
            _ => {
                problems.push(&path, "expected \"reject\" (what happens without it) or \"approve\"")
            }
        }
        if approval.optional("timeout").is_none() {
            problems.push(path, "onTimeout belongs to timeout: add that, or remove this");
        }
    }
    let timeout = after_ms.map(|after_ms| ApprovalTimeout { after_ms, approves });
    Some(Approval { message: message.map(str::to_owned), timeout })
}

fn for_each<'a>(path: &str, value: &'a Value, problems: &mut Problems) -> Option<&'a Value> {
    if let Some(text) = value.as_str() {
        // What is wrong within an expression is told where it is compiled.
        let (pieces, errors) = split(text);
        if errors.is_empty() && !matches!(pieces[..], [Piece::Expression(_)]) {
            let what = "expected a list, or one expression that gives one and nothing around it, \
                        such as ${inputs.files}";
            problems.push(path, format!("{what}, found the text {text:?}"));
            return None;
        }
        return Some(value);
    }
    if value.is_array() {
        return Some(value);
    }
    let found = kind(value);
    problems.push(path, format!("expected a list, or an expression that gives one, found {found}"));
    None
}

fn read_budget(path: &str, value: &Value, problems: &mut Problems) -> Option<Budget> {
    let budget = Members::of(path, value, BUDGET_MEMBERS, problems)?;
    let starts = budget.required("starts", problems).and_then(|(path, starts)| {
        let starts = starts.as_u64().and_then(|n| u32::try_from(n).ok()).and_then(NonZeroU32::new);
        let starts = starts.filter(|starts| starts.get() <= MAX_BUDGET_STARTS);
        if starts.is_none() {
            let message = format!("expected a whole number of runs, 1 to {MAX_BUDGET_STARTS}");
            problems.push(path, message);
        }
        starts
    });
    let window = budget.required("window", problems);
    let window_ms = window.and_then(|(path, window)| {
        let ms = duration_ms(&path, window, problems)?;
        if ms > MAX_BUDGET_WINDOW_MS {
            problems.push(path, "the window of a budget is a day at most");
        }
        Some(ms)
    });
    Some(Budget { starts: starts?, window_ms: window_ms? })
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
    if let Some((path, value)) = retries.optional("nonRetryable") {
        policy.non_retryable = read_codes(&path, value, problems);
    }
    policy
}

fn read_codes(path: &str, value: &Value, problems: &mut Problems) -> Vec<ErrorCode> {
    let items = list(path, value, problems).map(Vec::as_slice).unwrap_or_default();
    if items.len() > MAX_NON_RETRYABLE {
        problems.push(path, format!("at most {MAX_NON_RETRYABLE} error codes may be named"));
    }
    let items = items.iter().take(MAX_NON_RETRYABLE).enumerate();
    items
        .filter_map(|(i, value)| {
            let path = item(path, i);
            let code = text(&path, value, problems)?;
            let parsed = ErrorCode::parse(code);
            if parsed.is_none() {
                let message = format!(
                    "{code:?} is not an error code: write 1 to 64 of A-Z 0-9 _, beginning with a \
                     letter"
                );
                problems.push(path, message);
            }
            parsed
        })
        .collect()
}

fn retry_max(path: &str, value: &Value, problems: &mut Problems) -> u32 {
    whole_number(path, value, (0, RetryPolicy::LARGEST_MAX), problems).unwrap_or_default()
}
