//! `schedule backfill`.

use std::{num::NonZeroU32, time::Duration};

use clap::Args;
use stella_api::types::{BackfillBody, ChangedSchedule, ScheduleView};
use stella_domain::{ids::ScheduleId, time::Timestamp};

use super::control::print;
use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    input,
    output::{line, note, time},
};

/// How often progress is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Fire for times that are past, a few runs at once. Times that have had their run are passed over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch schedule backfill nightly --from 2026-11-01 --to 2026-11-15 --dry-run
  stella orch schedule backfill nightly --from 2026-11-01 --to 2026-11-15 --concurrency 3 --wait")]
pub(crate) struct Backfill {
    /// The schedule.
    schedule: ScheduleId,
    /// The first fire time is at this time or later.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    from: Timestamp,
    /// And the last before this one.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    to: Timestamp,
    /// Fires at most: with more it is refused.
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    cap: u32,
    /// Runs that go on at once at most.
    #[arg(long, value_name = "N", default_value = "1")]
    concurrency: NonZeroU32,
    /// List the fires, and start nothing.
    #[arg(long)]
    dry_run: bool,
    /// Wait for its end, with progress.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Backfill {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let body = BackfillBody {
            from: self.from.to_string(),
            to: self.to.to_string(),
            cap: self.cap,
            concurrency: self.concurrency,
            dry_run: self.dry_run,
            reason: self.reason,
        };
        let verb = path("schedules", &self.schedule, ":backfill");
        let changed: ChangedSchedule = client.post(&verb, &[], &body).await?.body;
        if self.dry_run && !self.api.output.is_json() {
            for fire_time in &changed.fire_times {
                let had_run = changed.had_run.contains(fire_time);
                line(format_args!(
                    "{}{}",
                    time(*fire_time),
                    if had_run { "  has its run" } else { "" }
                ))?;
            }
            let (fires, had_run) = (changed.fire_times.len(), changed.had_run.len());
            note(format_args!(
                "{fires} fire(s), {had_run} of them passed over; nothing was started"
            ));
            return Ok(());
        }
        if self.wait {
            let (mut min_seq, mut said) = (changed.seq, String::new());
            loop {
                let query: Vec<_> =
                    min_seq.take().map(|seq| ("minSeq", seq.to_string())).into_iter().collect();
                let get = path("schedules", &self.schedule, "");
                let schedule: ScheduleView = client.get(&get, &query).await?;
                let Some(backfill) = schedule.backfill else { break };
                let (done, fires) = (backfill.done, backfill.fires);
                let held = schedule.held.map(|why| format!(": {why}")).unwrap_or_default();
                let now = format!(
                    "{done} of {fires} fire(s) decided, {} run(s) go on{held}",
                    backfill.open
                );
                if now != said {
                    note(format_args!("{now}"));
                    said = now;
                }
                if !backfill.under_way {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        print(&self.api, &changed)
    }
}
