//! Whether schedules fire as they should.

use std::collections::BTreeSet;

use stella_domain::{
    ids::{DagId, ScheduleId, Tenant},
    schedule::{CompiledSchedule, ON_TIME_MS},
    time::Timestamp,
};
use stella_projections::{ControlRow, PageRequest, ProjectionError, ScheduleRow};

use super::{Found, NAMED, green, names, told};
use crate::{state::AppState, types::HealthStatus};

/// Schedules that are looked at; there may be more of them.
const LOOKED_AT: usize = 1_000;

/// What was found of the schedules.
#[derive(Default)]
struct Standing {
    schedules: usize,
    /// Paused by themselves, each with why: somebody wanted that.
    paused: Vec<String>,
    /// A fire time has passed that nothing was decided on: which one, and of which DAG.
    overdue: Vec<(ScheduleId, Timestamp, DagId)>,
    /// A fire whose run is refused again and again.
    refused: Vec<String>,
}

pub(super) async fn schedulers(app: &AppState, tenant: &Tenant) -> Found {
    match look(app, tenant).await {
        Ok(found) => found,
        Err(error) => (HealthStatus::Red, error.to_string()),
    }
}

async fn look(app: &AppState, tenant: &Tenant) -> Result<Found, ProjectionError> {
    let (now, mut standing) = (app.clock.now(), Standing::default());
    // Without a way to the record no fire is refused: the ledger's own component says so.
    let commands = app.record().ok().map(|record| record.commands);
    let mut after = None;
    loop {
        let page = app.projections.schedules(tenant, PageRequest { size: 500, after }).await?;
        for row in &page.items {
            let refused = commands.as_ref().map(|to| to.refused_fires(tenant, &row.schedule_id));
            standing.add(row, &refused.unwrap_or_default(), now);
        }
        match page.next {
            Some(next) if standing.schedules < LOOKED_AT => after = Some(next),
            Some(_) | None => break,
        }
    }
    let mut held = BTreeSet::new();
    for (_, _, dag_id) in standing.overdue.iter().take(NAMED) {
        let dag = app.projections.dag(tenant, dag_id).await?;
        held.extend(dag.filter(|dag| dag.paused.is_some()).map(|dag| dag.dag_id));
    }
    Ok(standing.judge(app.projections.control(tenant).await?.as_ref(), &held))
}

impl Standing {
    fn add(&mut self, row: &ScheduleRow, refused: &[(Timestamp, String)], now: Timestamp) {
        self.schedules += 1;
        let id = &row.schedule_id;
        if let Some((time, why)) = refused.first() {
            self.refused.push(format!("{id} ({time}: {why})"));
        }
        if let Some(mark) = &row.paused {
            self.paused.push(format!("{id} ({})", told(mark)));
        } else if let Some(due) = overdue(row, now) {
            self.overdue.push((id.clone(), due, row.spec.dag_id.clone()));
        }
    }

    /// `held`: the DAGs that are paused, of those whose fires are overdue.
    fn judge(self, control: Option<&ControlRow>, held: &BTreeSet<DagId>) -> Found {
        let Self { schedules, paused, overdue, refused } = self;
        let mut said = vec![];
        let all = control.and_then(|control| control.schedulers_paused.as_ref());
        if let Some(mark) = all {
            said.push(format!("no schedule fires: all are paused {}", told(mark)));
        }
        if !overdue.is_empty() {
            let drained = control.is_some_and(|control| control.draining().is_some());
            let why = if drained { "; the queue is being drained" } else { "" };
            let overdue: Vec<String> = overdue
                .iter()
                .map(|(id, due, dag_id)| match held.contains(dag_id) {
                    true => format!("{id} ({due}; its DAG {dag_id} is paused)"),
                    false => format!("{id} ({due})"),
                })
                .collect();
            said.push(format!("fires are overdue of {}{why}", names(&overdue)));
        }
        if !refused.is_empty() {
            said.push(format!("runs of fires are refused of {}", names(&refused)));
        }
        let ill = !said.is_empty();
        if !paused.is_empty() {
            said.push(format!("paused by themselves: {}", names(&paused)));
        }
        match (ill, said.is_empty()) {
            (true, _) => (HealthStatus::Yellow, said.join("; ")),
            (false, true) => green(format!("{schedules} schedules, none overdue")),
            (false, false) => green(format!("{schedules} schedules; {}", said.join("; "))),
        }
    }
}

/// The fire time that should have been decided on by now.
fn overdue(row: &ScheduleRow, now: Timestamp) -> Option<Timestamp> {
    // One that this build cannot read is not fired, and `schedule get` says so.
    let spec = CompiledSchedule::compile(row.schedule_id.clone(), row.spec.clone()).ok()?;
    let next = spec.next_after(row.seen)?;
    (now.ms_since(spec.due_at(next)) > ON_TIME_MS).then_some(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-11-28T12:00:00.000000Z";

    fn schedule(id: &str, seen: &str, more: &Value) -> ScheduleRow {
        let mark = json!({"actor": "user:ann", "at": seen, "seq": 3});
        let mut row = json!({
            "created": mark, "updated": mark, "fired": 0, "labels": {}, "open": {},
            "scheduleId": id, "seen": seen,
            "spec": {"catchUp": "skip", "dagId": "d", "jitterMs": 0, "overlap": "skip",
                "priority": 0, "timing": {"every": {"ms": 60_000}}},
        });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(row).unwrap()
    }

    fn judged(rows: &[ScheduleRow], refused: &[(Timestamp, String)], control: &Value) -> Found {
        let mut standing = Standing::default();
        rows.iter().for_each(|row| standing.add(row, refused, NOW.parse().unwrap()));
        let mut row = json!({"limits": [], "pluginsPaused": {}, "tenant": "acme", "version": 1});
        row.as_object_mut().unwrap().extend(control.as_object().unwrap().clone());
        let held = BTreeSet::from(["d".parse().unwrap()]);
        standing.judge(Some(&serde_json::from_value(row).unwrap()), &held)
    }

    #[test]
    fn what_does_not_fire_is_told_with_its_reason() {
        let on_time = schedule("often", "2026-11-28T11:59:00.000000Z", &json!({}));
        let nothing = json!({});
        let (status, text) = judged(std::slice::from_ref(&on_time), &[], &nothing);
        assert_eq!((status, &*text), (HealthStatus::Green, "1 schedules, none overdue"));

        // A minute late is still on time, and decided on with the next look.
        let late = schedule("often", "2026-11-28T11:57:59.000000Z", &nothing);
        let (status, text) = judged(std::slice::from_ref(&late), &[], &nothing);
        assert_eq!(status, HealthStatus::Yellow);
        let told = "overdue of often (2026-11-28T11:58:00.000000Z; its DAG d is paused)";
        assert!(text.contains(told), "{text}");

        let pause = json!({"actor": "user:ann", "at": NOW, "reason": "moving", "seq": 9});
        let (status, text) = judged(&[late], &[], &json!({"schedulersPaused": pause}));
        assert_eq!(status, HealthStatus::Yellow);
        assert!(text.contains("paused since 2026-11-28T12:00:00.000000Z by user:ann: moving"));

        // Somebody wanted it: told, and nothing to look after.
        let old = schedule("old", "2026-11-01T00:00:00.000000Z", &json!({"paused": pause}));
        let (status, text) = judged(&[old], &[], &nothing);
        assert_eq!(status, HealthStatus::Green);
        assert!(text.contains("paused by themselves: old (since") && text.contains("moving"));

        let refused = [(NOW.parse().unwrap(), "DAG d has no active version".to_owned())];
        let (status, text) = judged(&[on_time], &refused, &nothing);
        assert_eq!(status, HealthStatus::Yellow);
        assert!(text.contains("often (2026-11-28T12:00:00.000000Z: DAG d has no"), "{text}");
    }

    #[test]
    fn a_message_names_the_first_of_many() {
        let rows: Vec<_> = (0..9)
            .map(|n| schedule(&format!("s{n}"), "2026-11-01T00:00:00.000000Z", &json!({})))
            .collect();
        let (_, text) = judged(&rows, &[], &json!({}));
        assert!(text.contains("s4 (") && !text.contains("s5 (") && text.contains(" and 4 more"));
    }
}
