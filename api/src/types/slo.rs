//! Objectives: how many runs may go wrong, and how many have.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::HealthStatus;

/// How the objectives stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SloReport {
    /// Days that a budget is for.
    pub period_days: u32,
    /// Milliseconds within which a run ends in time.
    pub duration_ms: u64,
    /// The objectives: `success`, `duration`.
    pub objectives: Vec<ObjectiveView>,
}

/// How an objective stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveView {
    /// `success`: of runs that succeeded or failed, those that succeeded. `duration`: those that
    /// ended in time.
    pub name: String,
    /// The percentage that is aimed at.
    pub target_percent: f64,
    /// Red when the budget is spent; yellow when it is being spent 14.4 times too fast over an
    /// hour, or 6 times over six hours.
    pub status: HealthStatus,
    /// What is left of the period's budget: 1 is all of it, 0 nothing, less than 0 more than all.
    pub budget_left: f64,
    /// Window by window, the shortest first; the last one is the period.
    pub windows: Vec<SloWindowView>,
}

/// An objective in a window: runs that were created in it and have ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SloWindowView {
    /// Its length, in hours, up to now.
    pub hours: u64,
    /// Runs that count.
    pub runs: u64,
    /// Those that missed the objective.
    pub missed: u64,
    /// How much faster than evenly the budget is spent: at 1 it lasts for the period.
    pub burn_rate: f64,
}
