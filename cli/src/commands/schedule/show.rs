//! `schedule list`, `schedule get`.

use clap::Args;
use stella_api::types::{FireView, ScheduleBody, ScheduleView};
use stella_domain::ids::ScheduleId;

use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    output::{Table, by, details, time, time_or_dash},
};

/// All schedules.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule list
  stella orch schedule list -o json")]
pub(crate) struct List {
    #[command(flatten)]
    api: ApiArgs,
}

/// A schedule: what it is, its next fire times, and what became of its fires.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule get nightly")]
pub(crate) struct Get {
    /// The schedule.
    schedule: ScheduleId,
    #[command(flatten)]
    api: ApiArgs,
}

impl List {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let schedules: Vec<ScheduleView> = client.list("/schedules", &[], usize::MAX).await?;
        self.api.output.print(&schedules, |schedules| {
            let mut table = Table::new(&[
                "SCHEDULE", "DAG", "WHEN", "STATE", "NEXT", "LAST", "FIRED#", "OPEN#",
            ]);
            for schedule in schedules {
                let state = match (schedule.over, &schedule.paused, &schedule.held) {
                    (true, ..) => "over",
                    (false, Some(_), _) => "paused",
                    (false, None, Some(_)) => "held",
                    (false, None, None) => "active",
                };
                table.row([
                    schedule.spec.schedule_id.to_string(),
                    schedule.spec.dag_id.to_string(),
                    when(&schedule.spec),
                    state.to_owned(),
                    time_or_dash(schedule.next.first().copied()),
                    time_or_dash(schedule.last_fire_time),
                    schedule.fired.to_string(),
                    schedule.open.len().to_string(),
                ]);
            }
            table.text("there is no schedule: begin one with `stella orch schedule create`")
        })
    }
}

impl Get {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let schedule: ScheduleView =
            client.get(&path("schedules", &self.schedule, ""), &[]).await?;
        self.api.output.print(&schedule, text)
    }
}

fn text(schedule: &ScheduleView) -> String {
    let spec = &schedule.spec;
    let next: Vec<String> = schedule.next.iter().copied().map(time).collect();
    let missed = schedule
        .last_miss
        .as_ref()
        .map(|miss| format!("{} to {} ({})", time(miss.from), time(miss.to), miss.reason));
    let backfill = schedule.backfill.as_ref().map(|backfill| {
        let (done, fires, open) = (backfill.done, backfill.fires, backfill.open);
        let state = match (&backfill.cancelled, backfill.under_way) {
            (Some(mark), _) => format!(", cancelled {}", by(mark)),
            (None, true) => ", under way".to_owned(),
            (None, false) => ", done".to_owned(),
        };
        format!("{done} of {fires} fire(s), {open} run(s) go on{state}")
    });
    let last = schedule.last_fire_time.map(|at| {
        let run = schedule.last_run_id.as_ref().map_or(String::new(), ToString::to_string);
        format!("{} run {run}", time(at))
    });
    let version = spec.dag_version.map_or(String::new(), |n| format!(" version {n}"));
    let details = details(&[
        ("schedule", spec.schedule_id.to_string()),
        ("dag", format!("{}{version}", spec.dag_id)),
        ("when", when(spec)),
        ("jitter", spec.jitter.clone().unwrap_or_default()),
        ("from", spec.start_at.clone().unwrap_or_default()),
        ("until", spec.end_at.clone().unwrap_or_default()),
        ("overlap", name(&spec.overlap)),
        ("catch up", name(&spec.catch_up)),
        ("inputs", spec.inputs.to_string()),
        ("paused", schedule.paused.as_ref().map_or("no".to_owned(), by)),
        ("held", schedule.held.clone().unwrap_or_default()),
        ("next", if schedule.over { "none, it is over".to_owned() } else { next.join(", ") }),
        ("fired", schedule.fired.to_string()),
        ("last", last.unwrap_or_default()),
        ("missed last", missed.unwrap_or_default()),
        ("backfill", backfill.unwrap_or_default()),
        ("created", by(&schedule.created)),
    ]);
    if schedule.open.is_empty() {
        return details;
    }
    let mut table = Table::new(&["FIRE TIME", "RUN", "CAUSE", "STATE"]);
    for fire in &schedule.open {
        table.row([time(fire.fire_time), fire.run_id.to_string(), fire.cause.clone(), state(fire)]);
    }
    format!("{details}\n{}", table.text(""))
}

fn state(fire: &FireView) -> String {
    match (&fire.refused, &fire.after, fire.started) {
        (_, _, true) => "run goes on".to_owned(),
        (Some(why), _, false) => format!("refused: {why}"),
        (None, Some(run), false) => format!("waits for run {run}"),
        (None, None, false) => "about to start".to_owned(),
    }
}

fn when(spec: &ScheduleBody) -> String {
    match (&spec.cron, &spec.every, &spec.at) {
        (Some(cron), _, _) => {
            format!("{cron} {}", spec.time_zone.as_deref().unwrap_or("UTC"))
        }
        (None, Some(every), _) => format!("every {every}"),
        (None, None, Some(at)) => format!("at {at}"),
        (None, None, None) => "-".to_owned(),
    }
}

fn name(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
