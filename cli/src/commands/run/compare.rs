//! `run compare`.

use clap::Args;
use stella_api::types::{
    CompareVerdict, FirstDifference, OutputsComparison, RunComparison, RunView, StepComparison,
    StepSide,
};
use stella_domain::ids::RunId;

use crate::{
    commands::ApiArgs,
    failure::Failure,
    output::{Table, duration},
};

/// What marks where the runs first go apart.
const FIRST: &str = ">>";
/// What marks every other difference.
const OTHER: &str = "*";

/// Two runs, side by side: what they were given, and step by step what came of it.
///
/// `>>` marks where they first differ, `*` what differs besides. Times are shown and count for
/// nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run compare 0RQ9CWTXP9BPJR3KTYEG0MB9FF 3YQB7T0V6K8DZC2M5N1X4J9HGE
  stella orch run compare 0RQ9CWTXP9BPJR3KTYEG0MB9FF 3YQB7T0V6K8DZC2M5N1X4J9HGE -o json | jq .firstDifference")]
pub(crate) struct Compare {
    /// The first run.
    a: RunId,
    /// The second run.
    b: RunId,
    #[command(flatten)]
    api: ApiArgs,
}

impl Compare {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let query = [("a", self.a.to_string()), ("b", self.b.to_string())];
        let comparison: RunComparison = self.api.client()?.get("/runs:compare", &query).await?;
        self.api.output.print(&comparison, text)
    }
}

fn text(comparison: &RunComparison) -> String {
    let RunComparison { first_difference, a, b, steps, .. } = comparison;
    let first = first_difference.as_ref();
    let mut text = format!("{}\n\n{}", verdict(comparison), facts(comparison, first));
    let mut table = Table::new(&["", "STEP", "A", "B", "OUTPUTS", "TOOK A#", "TOOK B#"]);
    for step in steps {
        let is_first = first.is_some_and(|first| first.step_id.as_ref() == Some(&step.step_id));
        table.row([
            mark(is_first, step.differs.is_empty()).to_owned(),
            step.step_id.to_string(),
            side(step, step.a.as_ref()),
            side(step, step.b.as_ref()),
            outputs(step),
            took(step.a.as_ref()),
            took(step.b.as_ref()),
        ]);
    }
    let left_out = comparison.steps_compared - steps.len() as u64;
    let nothing = match left_out {
        0 => "no step was queued yet in either".to_owned(),
        all => format!("{all} steps, and none differs"),
    };
    text += &format!("\n{}", table.text(&nothing));
    if left_out > 0 && !steps.is_empty() {
        text += &format!("\n{left_out} more steps were compared: those that differ come first\n");
    }
    for (name, run) in [("A", a), ("B", b)] {
        if let Some(seq) = run.erased_seq {
            text += &format!("\noutputs of {name} were erased by event {seq}: not compared\n");
        }
    }
    text
}

fn verdict(comparison: &RunComparison) -> String {
    match (&comparison.verdict, &comparison.first_difference) {
        (_, Some(FirstDifference { step_id: Some(step_id), what })) => {
            format!("they first differ in step {step_id}: {what}")
        }
        (_, Some(FirstDifference { step_id: None, what })) => {
            format!("they first differ in {what}")
        }
        (CompareVerdict::SameAsFarAsKept, None) => {
            "the same as far as is kept: outputs were erased".to_owned()
        }
        (CompareVerdict::SameAsFarAsCompared, None) => {
            format!("the same in the first {} steps; there are more", comparison.steps_compared)
        }
        (CompareVerdict::Same | CompareVerdict::Different, None) => "the same".to_owned(),
    }
}

fn facts(comparison: &RunComparison, first: Option<&FirstDifference>) -> String {
    let mut table = Table::new(&["", "", "A", "B"]);
    let (a, b) = (&comparison.a, &comparison.b);
    table.row([String::new(), "run".into(), a.run_id.to_string(), b.run_id.to_string()]);
    let given = comparison.facts.iter().filter(|fact| !fact.a.is_empty() || !fact.b.is_empty());
    for fact in given {
        let is_first =
            first.is_some_and(|first| first.step_id.is_none() && first.what == fact.name);
        table.row([
            mark(is_first, fact.same).to_owned(),
            fact.name.clone(),
            or_dash(&fact.a),
            or_dash(&fact.b),
        ]);
    }
    table.row([String::new(), "took".into(), run_took(a), run_took(b)]);
    table.text("")
}

fn mark(is_first: bool, same: bool) -> &'static str {
    match (is_first, same) {
        (true, _) => FIRST,
        (false, false) => OTHER,
        (false, true) => "",
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn run_took(run: &RunView) -> String {
    run.ended_at.map_or_else(|| "-".into(), |ended| duration(ended.ms_since(run.created_at)))
}

/// Where it stands; the attempt where it is not the first, the plugin where that differs.
fn side(step: &StepComparison, side: Option<&StepSide>) -> String {
    let Some(side) = side else { return "-".to_owned() };
    let mut text = side.phase.as_str().to_owned();
    if let Some(code) = &side.error_code {
        text += &format!(" {code}");
    }
    if side.attempt > 1 {
        text += &format!(" (attempt {})", side.attempt);
    }
    text + &plugin(step, side)
}

/// As much of the plugin as shows how it differs.
fn plugin(step: &StepComparison, side: &StepSide) -> String {
    /// `b3:` and twelve digits of a digest.
    const SHORT: usize = 15;
    let differs = |what: &str| step.differs.iter().any(|differs| differs == what);
    let mut text = String::new();
    if let Some(name) = side.plugin.as_ref().filter(|_| differs("plugin")) {
        text += &format!(" {name}");
    }
    match (&side.plugin_version, &side.plugin_digest) {
        (Some(version), _) if differs("pluginVersion") => text += &format!(" {version}"),
        (_, Some(digest)) if differs("pluginDigest") => text += &format!(" {digest:.SHORT$}"),
        _ => {}
    }
    text
}

fn took(side: Option<&StepSide>) -> String {
    side.and_then(|side| side.took_ms).map_or_else(|| "-".to_owned(), duration)
}

fn outputs(step: &StepComparison) -> String {
    let word = match step.outputs {
        OutputsComparison::None => "-",
        OutputsComparison::Same => "same",
        OutputsComparison::Different => "different",
        OutputsComparison::Erased => "erased",
    };
    match &step.outputs_differ {
        None => word.to_owned(),
        Some(at) => {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
            let path = if at.path.is_empty() { "(whole)" } else { &at.path };
            format!("{path}: {}, {}", value(&at.a), value(&at.b))
        }
    }
}
