//! What dispatch wants decided, as commands, and back.

use stella_domain::{
    aggregate::{ControlChange, ControlCommand, RunCommand},
    ids::{Actor, FencingToken},
    time::Timestamp,
};

use super::{Command, schedules};
use crate::{dispatch::Due, leases::StepLogs};

impl Command {
    pub(super) fn from_due(due: Due, logs: &dyn StepLogs, now: Timestamp) -> Self {
        match due {
            Due::Grant { slot } => Self::Grant { slot },
            Due::Drained => {
                let command =
                    ControlCommand { change: ControlChange::Drained, reason: String::new() };
                Self::Control { actor: crate::dispatch_actor(), command }
            }
            Due::Expire(token) => {
                let log = logs.close(&token);
                let command = RunCommand::ExpireLease { token: token.stream_version, log, now };
                Self::dispatch(token.run_id, command)
            }
            Due::Return(token) => {
                let command = RunCommand::ReturnLease { token: token.stream_version, now };
                Self::dispatch(token.run_id, command)
            }
            Due::TimeOut(token) => {
                let log = logs.close(&token);
                let (run_id, token) = (token.run_id.clone(), token.stream_version);
                let command = RunCommand::TimeOut { token, log, run_id: run_id.clone(), now };
                Self::dispatch(run_id, command)
            }
            Due::Retry(run_id, step_id) => {
                Self::dispatch(run_id, RunCommand::QueueRetry { step_id, now })
            }
            Due::Attend(schedule_id) => Self::Attend { schedule_id, now },
            Due::StartFire(schedule_id, fire_time) => Self::StartFire { schedule_id, fire_time },
            Due::CancelFor(run_id) => {
                let reason = schedules::REPLACED.to_owned();
                Self::Run {
                    actor: Actor::scheduler(),
                    run_id,
                    command: RunCommand::Cancel { reason },
                }
            }
            Due::Approval(run_id, step_id) => {
                Self::dispatch(run_id, RunCommand::PassApproval { step_id, now })
            }
            Due::Deadline(run_id) => Self::dispatch(run_id, RunCommand::PassDeadline { now }),
            Due::CatchUp => Self::CatchUp,
        }
    }

    /// The due work that this command came from.
    pub(super) fn into_due(self) -> Option<Due> {
        match self {
            Self::Grant { slot } => Some(Due::Grant { slot }),
            Self::Control { command, .. } if command.change == ControlChange::Drained => {
                Some(Due::Drained)
            }
            Self::Run { run_id, command, .. } => match command {
                RunCommand::ExpireLease { token, .. } => {
                    Some(Due::Expire(FencingToken { run_id, stream_version: token }))
                }
                RunCommand::ReturnLease { token, .. } => {
                    Some(Due::Return(FencingToken { run_id, stream_version: token }))
                }
                RunCommand::TimeOut { token, .. } => {
                    Some(Due::TimeOut(FencingToken { run_id, stream_version: token }))
                }
                RunCommand::QueueRetry { step_id, .. } => Some(Due::Retry(run_id, step_id)),
                RunCommand::Cancel { .. } => Some(Due::CancelFor(run_id)),
                RunCommand::PassApproval { step_id, .. } => Some(Due::Approval(run_id, step_id)),
                RunCommand::PassDeadline { .. } => Some(Due::Deadline(run_id)),
                RunCommand::Start(_)
                | RunCommand::GrantLease { .. }
                | RunCommand::Complete { .. }
                | RunCommand::Decide { .. } => None,
            },
            Self::Attend { schedule_id, .. } => Some(Due::Attend(schedule_id)),
            Self::StartFire { schedule_id, fire_time } => {
                Some(Due::StartFire(schedule_id, fire_time))
            }
            Self::CatchUp => Some(Due::CatchUp),
            Self::Control { .. }
            | Self::Schedule { .. }
            | Self::StartRun { .. }
            | Self::Rerun { .. }
            | Self::Append { .. }
            | Self::Forget { .. } => None,
        }
    }
}
