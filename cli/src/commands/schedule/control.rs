//! What is done to a schedule, or to all of them.

use clap::Args;
use stella_api::types::{ChangedSchedule, ReasonBody, TriggerBody};
use stella_domain::{ids::ScheduleId, time::Timestamp};
use stella_ledger::clock::{Clock as _, SystemClock};

use crate::{
    client::path,
    commands::{ApiArgs, queue::print_control},
    failure::Failure,
    input,
    output::{details, time},
};

/// Fire now, whatever is due. Repeated with the same --fire-time, it fires once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule trigger nightly
  stella orch schedule trigger nightly --fire-time 2026-11-27T03:00:00Z --reason 'its source was late'")]
pub(crate) struct Trigger {
    /// The schedule.
    schedule: ScheduleId,
    /// The time that the fire is for; now otherwise.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    fire_time: Option<Timestamp>,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// Do not fire any more. What is due meanwhile is treated as the catch-up policy says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule pause nightly --reason 'the source is being moved'")]
pub(crate) struct Pause {
    #[command(flatten)]
    schedule: ScheduleArgs,
}

/// Fire again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule resume nightly")]
pub(crate) struct Resume {
    #[command(flatten)]
    schedule: ScheduleArgs,
}

/// Start no run for fires that have none yet.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule clear nightly --reason 'stale by now'")]
pub(crate) struct Clear {
    #[command(flatten)]
    schedule: ScheduleArgs,
}

/// End a schedule. Runs that go on do so.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule delete nightly --reason 'replaced by hourly'")]
pub(crate) struct Delete {
    #[command(flatten)]
    schedule: ScheduleArgs,
}

/// Start no more of a backfill. Runs that go on do so.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule cancel-backfill nightly --reason 'wrong range'")]
pub(crate) struct CancelBackfill {
    #[command(flatten)]
    schedule: ScheduleArgs,
}

/// Let no schedule of this server fire.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule pause-all --reason 'runaway since 14:00'")]
pub(crate) struct PauseAll {
    #[command(flatten)]
    all: AllArgs,
}

/// Let schedules fire again; those that were paused by name stay so.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule resume-all")]
pub(crate) struct ResumeAll {
    #[command(flatten)]
    all: AllArgs,
}

#[derive(Debug, Args)]
struct ScheduleArgs {
    /// The schedule.
    schedule: ScheduleId,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Args)]
struct AllArgs {
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Trigger {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // Named here, so that a command that is sent again fires once.
        let fire_time = self.fire_time.unwrap_or_else(|| SystemClock.now());
        let body = TriggerBody { fire_time: Some(fire_time.to_string()), reason: self.reason };
        let path = path("schedules", &self.schedule, ":trigger");
        let answer = self.api.client()?.post(&path, &[], &body).await?;
        print(&self.api, &answer.body)
    }
}

impl Pause {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.schedule.ask(":pause").await
    }
}

impl Resume {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.schedule.ask(":resume").await
    }
}

impl Clear {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.schedule.ask(":clear").await
    }
}

impl Delete {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.schedule.ask(":delete").await
    }
}

impl CancelBackfill {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.schedule.ask(":cancelBackfill").await
    }
}

impl PauseAll {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.all.ask("/schedulers:pause").await
    }
}

impl ResumeAll {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.all.ask("/schedulers:resume").await
    }
}

impl ScheduleArgs {
    async fn ask(self, verb: &str) -> Result<(), Failure> {
        let body = ReasonBody { reason: self.reason };
        let path = path("schedules", &self.schedule, verb);
        let answer = self.api.client()?.post(&path, &[], &body).await?;
        print(&self.api, &answer.body)
    }
}

impl AllArgs {
    async fn ask(self, path: &str) -> Result<(), Failure> {
        let body = ReasonBody { reason: self.reason };
        let answer = self.api.client()?.post(path, &[], &body).await?;
        print_control(&self.api, &answer.body)
    }
}

/// Fire times, each where they are few.
fn fires(times: &[Timestamp]) -> String {
    const EACH: usize = 5;
    match times {
        [first, .., last] if times.len() > EACH => {
            format!("{}, from {} to {}", times.len(), time(*first), time(*last))
        }
        _ => times.iter().copied().map(time).collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn print(api: &ApiArgs, schedule: &ChangedSchedule) -> Result<(), Failure> {
    api.output.print(schedule, |schedule| {
        let seq = schedule.seq.map_or("- (nothing to change)".to_owned(), |seq| seq.to_string());
        let passed_over = match schedule.had_run.len() {
            0 => String::new(),
            n => format!("{n}, which have had their run"),
        };
        details(&[
            ("schedule", schedule.schedule_id.to_string()),
            ("paused", if schedule.paused { "yes" } else { "no" }.to_owned()),
            ("run", schedule.run_id.as_ref().map(ToString::to_string).unwrap_or_default()),
            ("starts once", schedule.waits.clone().unwrap_or_default()),
            ("fires", fires(&schedule.fire_times)),
            ("passed over", passed_over),
            ("seq", seq),
        ])
    })
}
