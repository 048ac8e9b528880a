//! `schedule create`, `schedule update`.

use std::{num::NonZeroU32, path::PathBuf};

use clap::{Args, ValueEnum};
use stella_api::types::{CatchUpName, OverlapName, ScheduleBody};
use stella_domain::{
    ids::{DagId, ScheduleId},
    time::Timestamp,
};

use super::control::print;
use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    input::{self, KeyValue},
};

/// Begin a schedule.
///
/// Its runs start with run tokens that follow from schedule and fire time: however often a fire is
/// tried, it is one run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule create nightly --dag report --cron '0 3 * * *' --time-zone Europe/Berlin
  stella orch schedule create poll --dag poll --every 5m --overlap skip --jitter 30s
  stella orch schedule create hourly --dag sync --cron '0 * * * *' --overlap allow --catch-up all --catch-up-cap 24 --fire-time-input hour
  stella orch schedule create once --dag migrate --at 2027-01-01T06:00:00Z --input dry=false")]
pub(crate) struct Create {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Say what a schedule is from now on: all of it, as `create` does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule update nightly --dag report --cron '30 3 * * *' --time-zone Europe/Berlin --reason 'after the backup'")]
pub(crate) struct Update {
    #[command(flatten)]
    spec: SpecArgs,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum OverlapArg {
    /// A fire starts a run beside one that goes on.
    Allow,
    /// It starts none.
    #[default]
    Skip,
    /// One waits for it to end.
    QueueOne,
    /// It is cancelled, and the fire starts its own run then.
    CancelRunning,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum CatchUpArg {
    /// Missed fires start no run.
    #[default]
    Skip,
    /// The last of them does.
    Last,
    /// The last of them do, up to --catch-up-cap.
    All,
}

/// One of these is given.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct When {
    /// Fire as a cron expression of five fields says.
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// Fire again and again, such as every 30m.
    #[arg(long, value_name = "DURATION")]
    every: Option<String>,
    /// Fire once, at this time: RFC 3339, or a day.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<Timestamp>,
}

#[derive(Debug, Args)]
struct SpecArgs {
    /// The schedule.
    schedule: ScheduleId,
    /// The DAG of which runs start.
    #[arg(long)]
    dag: DagId,
    /// Its version; the active one otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    dag_version: Option<u32>,
    #[command(flatten)]
    when: When,
    /// The time zone of --cron; UTC otherwise.
    #[arg(long, value_name = "ZONE", requires = "cron")]
    time_zone: Option<String>,
    /// No fire time is before this one.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    start_at: Option<Timestamp>,
    /// No fire time is at this one or later.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    end_at: Option<Timestamp>,
    /// Fires are due up to so long after their time.
    #[arg(long, value_name = "DURATION")]
    jitter: Option<String>,
    /// What becomes of a fire while a run of an earlier one has not ended.
    #[arg(long, value_enum, default_value_t)]
    overlap: OverlapArg,
    /// What becomes of fires that nobody was there for. Those that are caught up with are subject to
    /// --overlap like any other: with `skip` the first starts a run, and the others none.
    #[arg(long, value_enum, default_value_t)]
    catch_up: CatchUpArg,
    /// With --catch-up all: how many, 10 otherwise.
    #[arg(long, value_name = "N")]
    catch_up_cap: Option<NonZeroU32>,
    /// One of the inputs; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = input::key_value)]
    input: Vec<KeyValue>,
    /// A file with the inputs, a JSON object; - is stdin.
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// The input that is given the fire time.
    #[arg(long, value_name = "KEY")]
    fire_time_input: Option<String>,
    /// A label of the runs; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = input::key_value)]
    label: Vec<KeyValue>,
    /// Priority of the runs: higher is dispatched first.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Create {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (body, api) = self.spec.body()?;
        let answer = api.client()?.post("/schedules", &[], &body).await?;
        print(&api, &answer.body)
    }
}

impl Update {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (body, api) = self.spec.body()?;
        let path = path("schedules", &body.schedule_id, ":update");
        let answer = api.client()?.post(&path, &[], &body).await?;
        print(&api, &answer.body)
    }
}

impl SpecArgs {
    fn body(self) -> Result<(ScheduleBody, ApiArgs), Failure> {
        if self.catch_up_cap.is_some() && !matches!(self.catch_up, CatchUpArg::All) {
            let what = "--catch-up-cap says how many --catch-up all starts: give that too";
            return Err(Failure::usage(what));
        }
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let body = ScheduleBody {
            schedule_id: self.schedule,
            dag_id: self.dag,
            dag_version: self.dag_version,
            cron: self.when.cron,
            time_zone: self.time_zone,
            every: self.when.every,
            at: text(self.when.at),
            start_at: text(self.start_at),
            end_at: text(self.end_at),
            jitter: self.jitter,
            overlap: match self.overlap {
                OverlapArg::Allow => OverlapName::Allow,
                OverlapArg::Skip => OverlapName::Skip,
                OverlapArg::QueueOne => OverlapName::QueueOne,
                OverlapArg::CancelRunning => OverlapName::CancelRunning,
            },
            catch_up: match self.catch_up {
                CatchUpArg::Skip => CatchUpName::Skip,
                CatchUpArg::Last => CatchUpName::Last,
                CatchUpArg::All => CatchUpName::All,
            },
            catch_up_cap: self.catch_up_cap,
            inputs: input::inputs(self.inputs.as_deref(), &self.input)?,
            fire_time_input: self.fire_time_input,
            labels: self.label.into_iter().map(|l| (l.key, l.value)).collect(),
            priority: self.priority,
            reason: self.reason,
        };
        Ok((body, self.api))
    }
}
