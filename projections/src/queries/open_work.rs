//! Open work: what dispatch starts from.

use futures::TryStreamExt;
use stella_domain::{
    aggregate::RunStatus,
    chain::Head,
    event::FireCause,
    ids::Tenant,
    open_work::{
        OpenFireWork, OpenLease, OpenRun, OpenWork, PendingApproval, PendingRetry, QueuedStep,
        RunDeadline,
    },
};

use super::starts::counted_starts;
use crate::{
    ProjectionError, Projections,
    rows::{ControlRow, DagRow, Row, RunRow, ScheduleRow, StepRow, StepState},
    store::read_position,
};

const CONTROL: &str = "SELECT row FROM controls";
const PAUSED_DAGS: &str = "SELECT row FROM dags WHERE row ->> 'paused' IS NOT NULL ORDER BY key";
const SCHEDULES: &str = "SELECT row FROM schedules ORDER BY key";
const OPEN_RUNS: &str =
    "SELECT row FROM runs WHERE status IN ('running', 'failing', 'cancelling') ORDER BY key";
const OPEN_STEPS: &str = "SELECT row FROM steps WHERE open IS NOT NULL ORDER BY key";
/// A run that is being cancelled cannot time out any more.
const RUNS_WITH_DEADLINE: &str = "SELECT row FROM runs WHERE status IN ('running', 'failing') \
    AND row ->> 'deadline' IS NOT NULL ORDER BY key";

impl Projections {
    /// All open work of a tenant, at the head that it names. Costs what is open, whatever the
    /// length of the ledger; the ledger is checked to be the same first.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn open_work(&self, tenant: &Tenant) -> Result<OpenWork, ProjectionError> {
        let models = self.tenant(tenant).await?;
        models.verify().await?;
        let (readers, path) = (models.readers().await, &models.files.live);
        let mut snapshot = readers.begin().await.map_err(ProjectionError::storage(path))?;
        let position = read_position(&mut *snapshot, path).await?;
        let head = position.map_or(Head::EMPTY, |position| position.head);
        let mut work = OpenWork { head, ..OpenWork::default() };
        let fault = ProjectionError::storage(path);
        let read = sqlx::query_scalar(CONTROL).fetch_optional(&mut *snapshot).await;
        let control: Option<String> = read.map_err(fault)?;
        if let Some(text) = control {
            work.control = ControlRow::from_text(&text)?.state();
        }
        let mut rows = sqlx::query_scalar::<_, String>(PAUSED_DAGS).fetch(&mut *snapshot);
        while let Some(text) = rows.try_next().await.map_err(ProjectionError::storage(path))? {
            work.paused_dags.push(DagRow::from_text(&text)?.dag_id);
        }
        drop(rows);
        let mut rows = sqlx::query_scalar::<_, String>(SCHEDULES).fetch(&mut *snapshot);
        while let Some(text) = rows.try_next().await.map_err(ProjectionError::storage(path))? {
            add_schedule(&mut work, ScheduleRow::from_text(&text)?);
        }
        drop(rows);
        let mut rows = sqlx::query_scalar::<_, String>(OPEN_RUNS).fetch(&mut *snapshot);
        while let Some(text) = rows.try_next().await.map_err(ProjectionError::storage(path))? {
            let RunRow { run_id, dag_id, status, .. } = RunRow::from_text(&text)?;
            let cancelling = status == RunStatus::Cancelling;
            work.runs.push(OpenRun { run_id, dag_id, cancelling });
        }
        drop(rows);
        let mut rows = sqlx::query_scalar::<_, String>(OPEN_STEPS).fetch(&mut *snapshot);
        while let Some(text) = rows.try_next().await.map_err(ProjectionError::storage(path))? {
            add(&mut work, StepRow::from_text(&text)?)?;
        }
        drop(rows);
        let mut runs = sqlx::query_scalar::<_, String>(RUNS_WITH_DEADLINE).fetch(&mut *snapshot);
        while let Some(text) = runs.try_next().await.map_err(ProjectionError::storage(path))? {
            let RunRow { run_id, deadline, .. } = RunRow::from_text(&text)?;
            work.deadlines.extend(deadline.map(|deadline| RunDeadline { run_id, deadline }));
        }
        drop(runs);
        work.starts = counted_starts(&mut snapshot, &work.head, path).await?;
        Ok(work)
    }
}

fn add_schedule(work: &mut OpenWork, row: ScheduleRow) {
    if row.deleted.is_none() {
        work.schedules.push(row.schedule_id.clone());
    }
    for (fire_time, fire) in row.open {
        work.fires.push(OpenFireWork {
            schedule_id: row.schedule_id.clone(),
            fire_time,
            run_id: fire.run_id,
            after: fire.after,
            cancels: fire.cancels,
            backfill: fire.cause == FireCause::Backfill,
            started: fire.started,
        });
    }
}

fn add(work: &mut OpenWork, step: StepRow) -> Result<(), ProjectionError> {
    let missing = |what: &str| ProjectionError::BadRow {
        table: StepRow::MODEL.table(),
        key: step.seq.to_string(),
        reason: format!("it is {} and has no {what}", step.phase.as_str()),
    };
    match step.phase {
        StepState::Queued => work.queued.push(QueuedStep {
            run_id: step.run_id,
            step_id: step.step_id,
            dag_id: step.dag_id,
            plugin: step.plugin.clone().ok_or_else(|| missing("plugin"))?,
            concurrency: step.concurrency,
            priority: step.priority,
            seq: step.queued_seq,
        }),
        StepState::Running => work.leases.push(OpenLease {
            token: step.token().ok_or_else(|| missing("lease"))?,
            worker_id: step.worker_id.clone().ok_or_else(|| missing("worker"))?,
            lease_ms: step.lease_ms.ok_or_else(|| missing("lease"))?,
            started_at: step.started_at.ok_or_else(|| missing("start"))?,
            step_id: step.step_id,
            dag_id: step.dag_id,
            plugin: step.plugin.clone().ok_or_else(|| missing("plugin"))?,
            concurrency: step.concurrency,
        }),
        StepState::BackingOff => work.retries.push(PendingRetry {
            not_before: step.not_before.ok_or_else(|| missing("time"))?,
            run_id: step.run_id,
            step_id: step.step_id,
        }),
        StepState::AwaitingApproval => {
            let (run_id, step_id) = (step.run_id, step.step_id);
            let approval = |deadline| PendingApproval { run_id, step_id, deadline };
            work.approvals.extend(step.deadline.map(approval));
        }
        // Nobody has to do anything about these.
        StepState::Expanded
        | StepState::Skipped
        | StepState::Succeeded
        | StepState::Failed
        | StepState::Cancelled
        | StepState::Dropped => {}
    }
    Ok(())
}
