//! Objectives for runs, and how they stand. Pure: counted elsewhere.

use std::{fmt, str::FromStr};

use stella_projections::Outcomes;

use crate::types::{HealthStatus, ObjectiveView, SloReport, SloWindowView};

/// Hours of the windows that are looked at besides the whole period.
const WINDOWS_H: [u64; 3] = [1, 6, 24];
/// Spending 2 % of 30 days' budget in an hour, 5 % in six hours: what somebody should hear of.
const BURNS_FAST: [(u64, f64); 2] = [(1, 14.4), (6, 6.0)];

/// What is aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SloTargets {
    /// Of runs that succeed or fail, those that succeed.
    pub success: Percent,
    /// Of those, the ones that end within `duration_ms`.
    pub duration: Percent,
    /// Milliseconds within which a run ends in time.
    pub duration_ms: u64,
    /// Days that a budget is for.
    pub period_days: u32,
}

impl Default for SloTargets {
    fn default() -> Self {
        Self {
            success: Percent(99.0),
            duration: Percent(95.0),
            duration_ms: 300_000,
            period_days: 30,
        }
    }
}

/// A percentage that leaves a budget: more than 0, less than 100.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.trim_end_matches('%').parse().ok();
        let percent = percent.filter(|percent: &f64| *percent > 0.0 && *percent < 100.0);
        percent.map(Self).ok_or_else(|| {
            format!("{text:?} leaves no budget: write a percentage between 0 and 100, such as 99.5")
        })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SloTargets {
    /// Lengths of the windows to count in, in hours, the shortest first; the last is the period.
    pub(crate) fn windows_h(&self) -> Vec<u64> {
        let period_h = u64::from(self.period_days) * 24;
        WINDOWS_H.into_iter().filter(|hours| *hours < period_h).chain([period_h]).collect()
    }

    /// How the objectives stand, given what was counted in each of [`windows_h`](Self::windows_h).
    pub(crate) fn report(&self, counted: &[(u64, Outcomes)]) -> SloReport {
        let failed = |outcomes: &Outcomes| outcomes.failed;
        let late = |outcomes: &Outcomes| {
            (outcomes.succeeded + outcomes.failed).saturating_sub(outcomes.in_time)
        };
        SloReport {
            period_days: self.period_days,
            duration_ms: self.duration_ms,
            objectives: vec![
                objective("success", self.success, counted, failed),
                objective("duration", self.duration, counted, late),
            ],
        }
    }
}

fn objective(
    name: &str,
    target: Percent,
    counted: &[(u64, Outcomes)],
    missed: impl Fn(&Outcomes) -> u64,
) -> ObjectiveView {
    let budget = 1.0 - target.0 / 100.0;
    let window = |(hours, outcomes): &(u64, Outcomes)| {
        let (runs, missed) = (outcomes.succeeded + outcomes.failed, missed(outcomes));
        let ratio = if runs == 0 { 0.0 } else { missed as f64 / runs as f64 };
        SloWindowView { hours: *hours, runs, missed, burn_rate: ratio / budget }
    };
    let windows: Vec<_> = counted.iter().map(window).collect();
    // Over the whole period, the rate is the part of the budget that is spent.
    let spent = windows.last().map_or(0.0, |period| period.burn_rate);
    let burns = |window: &SloWindowView| {
        BURNS_FAST.iter().any(|(hours, rate)| window.hours == *hours && window.burn_rate >= *rate)
    };
    let status = if spent >= 1.0 {
        HealthStatus::Red
    } else if windows.iter().any(burns) {
        HealthStatus::Yellow
    } else {
        HealthStatus::Green
    };
    let (name, target_percent) = (name.to_owned(), target.0);
    ObjectiveView { name, target_percent, status, budget_left: 1.0 - spent, windows }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn outcomes(succeeded: u64, failed: u64, in_time: u64) -> Outcomes {
        Outcomes { created: succeeded + failed, succeeded, failed, in_time }
    }

    #[test]
    fn budgets_are_spent_as_runs_miss_the_objective() {
        let targets = SloTargets::default();
        assert_eq!(targets.windows_h(), [1, 6, 24, 720]);
        let counted = [
            (1, outcomes(80, 20, 100)),
            (6, outcomes(500, 20, 520)),
            (24, outcomes(2_000, 20, 2_000)),
            (720, outcomes(9_980, 20, 9_000)),
        ];
        let SloReport { objectives, .. } = targets.report(&counted);
        let [success, duration] = objectives.try_into().unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(success.windows[0].burn_rate, 20.0), "{success:?}");
        assert!(near(success.budget_left, 0.8), "{success:?}");
        assert_eq!(success.status, HealthStatus::Yellow);
        assert_eq!(duration.windows[3].missed, 1_000);
        assert!(near(duration.budget_left, -1.0), "{duration:?}");
        assert_eq!(duration.status, HealthStatus::Red);
    }

    #[test]
    fn nothing_that_ran_spends_nothing() {
        let targets = SloTargets { period_days: 1, ..SloTargets::default() };
        let windows = targets.windows_h();
        assert_eq!(windows, [1, 6, 24]);
        let none: Vec<_> = windows.into_iter().map(|h| (h, Outcomes::default())).collect();
        for objective in targets.report(&none).objectives {
            assert_eq!((objective.status, objective.budget_left), (HealthStatus::Green, 1.0));
        }
    }

    #[test]
    fn a_target_leaves_a_budget() {
        assert_eq!("99.5".parse(), Ok(Percent(99.5)));
        assert_eq!("99%".parse(), Ok(Percent(99.0)));
        for wrong in ["0", "100", "-1", "NaN", "x", ""] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
        }
    }
}
