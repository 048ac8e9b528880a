//! What the writer is asked, and what it answers.

use std::{num::NonZeroU32, sync::Arc};

use stella_domain::{
    aggregate::{Control, ControlCommand, RunCommand, RunStatus, Schedule},
    event::{Event, Labels, LedgerEvent, RunCreated, ScheduleEvent, ScheduleFire, ScheduleRequest},
    ids::{Actor, DagId, RunId, RunToken, ScheduleId, StreamId},
    json::CanonicalJson,
    schedule::CompiledSchedule,
    time::Timestamp,
};

use crate::dispatch::Slot;

/// A command on its way to the writer. It can be decided again after another writer was first.
#[derive(Debug)]
pub enum Command {
    /// Start a run, or recognise that it was started.
    StartRun {
        /// Who asks.
        actor: Actor,
        /// What for.
        run: NewRun,
    },
    /// Run a run again that has ended, or recognise that it was.
    Rerun {
        /// Who asks.
        actor: Actor,
        /// The run.
        run_id: RunId,
        /// The version that the rerun follows; the active one otherwise.
        dag_version: Option<u32>,
        /// In the operator's words.
        reason: String,
    },
    /// Anything else about a run.
    Run {
        /// Who asks.
        actor: Actor,
        /// The run.
        run_id: RunId,
        /// What is asked.
        command: RunCommand,
    },
    /// Lease a queued step to a worker that waits.
    Grant {
        /// The worker's place, claimed for the step.
        slot: Slot,
    },
    /// Change a schedule.
    Schedule {
        /// Who asks.
        actor: Actor,
        /// The schedule.
        schedule_id: ScheduleId,
        /// What for.
        change: ScheduleChange,
    },
    /// Fire what is due of a schedule.
    Attend {
        /// The schedule.
        schedule_id: ScheduleId,
        /// Now.
        now: Timestamp,
    },
    /// Start the run of a fire.
    StartFire {
        /// The schedule.
        schedule_id: ScheduleId,
        /// The time that the fire is for.
        fire_time: Timestamp,
    },
    /// Change what is held back.
    Control {
        /// Who asks.
        actor: Actor,
        /// What for.
        command: ControlCommand,
    },
    /// Append events that were decided outside, if their stream has not moved since.
    Append {
        /// Who caused them.
        actor: Actor,
        /// The stream.
        stream: StreamId,
        /// The stream version that they were decided on.
        expected: u64,
        /// The events.
        events: Vec<Event>,
    },
    /// Drop what is cached of a run: its payloads were erased.
    Forget {
        /// The run, which has ended.
        run_id: RunId,
    },
    /// Nothing but to read what others, or an earlier process, have written.
    CatchUp,
}

/// A run to be started.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Derived from the run token, or fresh.
    pub run_id: RunId,
    /// The DAG.
    pub dag_id: DagId,
    /// The version asked for; the active one otherwise.
    pub dag_version: Option<u32>,
    /// The inputs as they are recorded, an object.
    pub inputs: CanonicalJson,
    /// The inputs as they were given, if members of them became artifacts.
    pub given: Option<CanonicalJson>,
    /// Labels.
    pub labels: Labels,
    /// Higher is dispatched first.
    pub priority: i32,
    /// The caller's idempotency key.
    pub run_token: Option<RunToken>,
    /// 0 for a first run, n for its n-th rerun.
    pub attempt: u32,
    /// Of a rerun: the first run, whose reruns are counted.
    pub rerun_of: Option<RunId>,
    /// In the words of whoever starts it; empty where nothing is said.
    pub reason: String,
    /// The fire of a schedule that it is for.
    pub schedule: Option<ScheduleFire>,
}

/// What can be done to a schedule.
#[derive(Debug, Clone)]
pub enum ScheduleChange {
    /// Begin it, or change it.
    Set {
        /// What it does, checked.
        spec: Arc<CompiledSchedule>,
        /// What its runs start with.
        request: ScheduleRequest,
        /// Whether there must be one, or must be none, already.
        exists: bool,
    },
    /// Fire now.
    Trigger {
        /// The time that the fire is for: asked for again, it fires once.
        fire_time: Timestamp,
        /// In the operator's words.
        reason: String,
    },
    /// Do not fire any more, or do again.
    Pause {
        /// Which.
        paused: bool,
        /// In the operator's words.
        reason: String,
    },
    /// Let fires that have no run yet have none.
    Clear {
        /// In the operator's words.
        reason: String,
    },
    /// Fire for times that are past.
    Backfill {
        /// The first fire time is at this time or later.
        from: Timestamp,
        /// And the last before this one.
        to: Timestamp,
        /// Fires at most.
        cap: u32,
        /// Runs that go on at once at most.
        concurrency: NonZeroU32,
        /// In the operator's words.
        reason: String,
    },
    /// Start no more of the backfill.
    CancelBackfill {
        /// In the operator's words.
        reason: String,
    },
    /// End it.
    Delete {
        /// In the operator's words.
        reason: String,
    },
}

/// The durable answer to a command.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The run as it is now.
    Run(Box<RunStarted>),
    /// What is held back now.
    Control(Arc<Control>),
    /// What became of a schedule.
    Schedule(Box<ScheduleChanged>),
    /// The events are in.
    Appended,
}

/// A schedule as a command left it.
#[derive(Debug, Clone)]
pub struct ScheduleChanged {
    /// The schedule.
    pub schedule: Schedule,
    /// What was recorded.
    pub events: Vec<ScheduleEvent>,
    /// What keeps runs of its fires from being started, if something does.
    pub held: Option<&'static str>,
}

/// A run as a command left it.
#[derive(Debug, Clone)]
pub struct RunStarted {
    /// The run.
    pub run_id: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// What it is; `None` when it does not exist.
    pub created: Option<RunCreated>,
    /// When the command was decided.
    pub recorded_at: Timestamp,
    /// Whether the run was there already.
    pub replayed: bool,
}

impl Command {
    /// Work of dispatch itself.
    pub(super) fn dispatch(run_id: RunId, command: RunCommand) -> Self {
        Self::Run { actor: crate::dispatch_actor(), run_id, command }
    }

    /// Whether it starts or leases something.
    pub(super) fn depends_on_control(&self) -> bool {
        match self {
            Self::StartRun { .. }
            | Self::Rerun { .. }
            | Self::Run { .. }
            | Self::Grant { .. }
            | Self::Schedule { .. }
            | Self::Attend { .. }
            | Self::StartFire { .. }
            | Self::Control { .. } => true,
            Self::Append { stream, .. } => matches!(stream, StreamId::Control(_)),
            Self::Forget { .. } | Self::CatchUp => false,
        }
    }

    pub(super) fn accepts_clock_fault(&self) -> bool {
        let Self::Append { events, .. } = self else { return false };
        let accepted =
            |event: &Event| matches!(event, Event::Ledger(LedgerEvent::ClockFaultAccepted(..)));
        events.iter().any(accepted)
    }
}

/// The command as of the time at which it will be recorded.
pub(super) fn at(command: RunCommand, at: Timestamp) -> RunCommand {
    match command {
        RunCommand::GrantLease { step_id, worker_id, plugin, lease_ms, now: _ } => {
            RunCommand::GrantLease { step_id, worker_id, plugin, lease_ms, now: at }
        }
        RunCommand::Complete { token, worker_id, outcome, log, run_id, now: _ } => {
            RunCommand::Complete { token, worker_id, outcome, log, run_id, now: at }
        }
        RunCommand::ExpireLease { token, log, now: _ } => {
            RunCommand::ExpireLease { token, log, now: at }
        }
        RunCommand::ReturnLease { token, now: _ } => RunCommand::ReturnLease { token, now: at },
        RunCommand::TimeOut { token, log, run_id, now: _ } => {
            RunCommand::TimeOut { token, log, run_id, now: at }
        }
        RunCommand::Decide { step_id, verdict, reason, now: _ } => {
            RunCommand::Decide { step_id, verdict, reason, now: at }
        }
        // Their timers fired at `now`. While the ledger's time stands still, behind a clock that is
        // known to be wrong, `at` never gets there.
        RunCommand::QueueRetry { step_id, now } => {
            RunCommand::QueueRetry { step_id, now: now.max(at) }
        }
        RunCommand::PassApproval { step_id, now } => {
            RunCommand::PassApproval { step_id, now: now.max(at) }
        }
        RunCommand::PassDeadline { now } => RunCommand::PassDeadline { now: now.max(at) },
        other @ (RunCommand::Start(_) | RunCommand::Cancel { .. }) => other,
    }
}
