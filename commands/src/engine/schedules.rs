//! Schedules within decisions: what is due is fired, what was fired is started.

use std::collections::BTreeSet;

use stella_domain::{
    aggregate::{
        Aggregate as _, LedgerRefusal, RunRefusal, Schedule, ScheduleCommand, ScheduleRefusal,
        Surroundings, run_of,
    },
    event::{Event, ScheduleEvent, ScheduleFire, ScheduleRequest},
    ids::{Actor, RunId, ScheduleId, StreamId, Tenant},
    json::CanonicalJson,
    schedule::{CompiledSchedule, fire_token},
    time::Timestamp,
};
use stella_ledger::writer::{Decided, Decision};

use super::{
    Answer, Engine, NewRun, Outcome, ScheduleChange, ScheduleChanged, cache::TenantCache,
    grant::Effect, refused,
};
use crate::{refusal::Refusal, size};

/// Why a run ends whose schedule cancels it for the next.
pub(super) const REPLACED: &str = "a later fire of its schedule takes its place";

impl Engine {
    pub(super) fn change_schedule(
        &mut self,
        tenant: &Tenant,
        actor: &Actor,
        id: &ScheduleId,
        change: ScheduleChange,
        at: Timestamp,
    ) -> Outcome {
        let asked = match &change {
            ScheduleChange::Trigger { fire_time, .. } => Some(*fire_time),
            _ => None,
        };
        let around = self.surroundings(tenant, id, asked, at);
        let cache = self.caches.tenant(tenant);
        if !cache.is_open() {
            return refused(Refusal::Ledger(LedgerRefusal::NotOpened));
        }
        if let ScheduleChange::Set { spec, request, .. } = &change
            && let Err(refusal) = startable(cache, spec, request, at)
        {
            return refused(refusal);
        }
        let command = match change {
            ScheduleChange::Set { spec, request, exists } => {
                ScheduleCommand::Set { spec, request, exists, now: at }
            }
            ScheduleChange::Trigger { fire_time, reason } => {
                ScheduleCommand::Trigger { fire_time, around, reason }
            }
            ScheduleChange::Pause { paused, reason } => ScheduleCommand::Pause { paused, reason },
            ScheduleChange::Clear { reason } => ScheduleCommand::Clear { around, reason },
            ScheduleChange::Backfill { from, to, cap, concurrency, reason } => {
                ScheduleCommand::Backfill { from, to, now: at, cap, concurrency, reason }
            }
            ScheduleChange::CancelBackfill { reason } => ScheduleCommand::CancelBackfill { reason },
            ScheduleChange::Delete { reason } => ScheduleCommand::Delete { around, reason },
        };
        self.decide_schedule(tenant, actor, id, command)
    }

    /// Fire what is due.
    pub(super) fn attend(&mut self, tenant: &Tenant, id: &ScheduleId, now: Timestamp) -> Outcome {
        let around = self.surroundings(tenant, id, None, now);
        let cache = self.caches.tenant(tenant);
        let schedule_id = id.clone();
        // What was fired and is not durable yet is not among what is open: look again after it.
        if cache.schedule_is_staged(id) {
            return nothing(vec![Effect::Attended { schedule_id, again: Some(now) }]);
        }
        if held(cache, id).is_some() {
            return nothing(vec![Effect::Attended { schedule_id, again: None }]);
        }
        let command = ScheduleCommand::Attend(around);
        let mut outcome = self.decide_schedule(tenant, &Actor::scheduler(), id, command);
        let schedule = self.caches.tenant(tenant).schedule(id);
        let again = schedule.and_then(|schedule| schedule.look_again_at(now));
        outcome.effects.push(Effect::Attended { schedule_id, again });
        outcome
    }

    /// Start the run of a fire.
    pub(super) fn start_fire(
        &mut self,
        tenant: &Tenant,
        id: &ScheduleId,
        fire_time: Timestamp,
        at: Timestamp,
    ) -> Outcome {
        let cache = self.caches.tenant(tenant);
        let schedule_id = id.clone();
        let Some(schedule) = cache.schedule(id).filter(|schedule| schedule.wants(fire_time)) else {
            return nothing(vec![Effect::FireOver { schedule_id, fire_time }]);
        };
        let new = match held(cache, id) {
            Some(why) => Err(why.to_owned()),
            None => new_run(tenant, schedule, fire_time),
        };
        let mut outcome = match new {
            Ok(new) => self.start_run(tenant, &Actor::scheduler(), &new, at),
            Err(why) => return nothing(vec![Effect::FireRefused { schedule_id, fire_time, why }]),
        };
        match &outcome.answer {
            // Somebody else has used its token, or it was started and not heard of.
            Ok(Answer::Run(run)) if outcome.commit.is_none() && run.status.is_ended() => {
                outcome.effects.push(Effect::FireOver { schedule_id, fire_time });
            }
            Ok(_) => {}
            // What is refused may be recorded all the same: its DAG's brake.
            Err(refusal) => {
                let why = refusal.to_string();
                outcome.effects.push(Effect::FireRefused { schedule_id, fire_time, why });
            }
        }
        outcome
    }

    fn decide_schedule(
        &mut self,
        tenant: &Tenant,
        actor: &Actor,
        id: &ScheduleId,
        command: ScheduleCommand,
    ) -> Outcome {
        let cache = self.caches.tenant(tenant);
        let refuse = |refusal| refused(Refusal::Schedule(id.clone(), refusal));
        let Some(schedule) = cache.schedule(id) else { return refuse(ScheduleRefusal::Unknown) };
        let version = schedule.version;
        let facts: Vec<ScheduleEvent> = match schedule.decide(command) {
            Ok(facts) => facts,
            Err(refusal) => return refuse(refusal),
        };
        let events: Vec<Event> = facts.iter().cloned().map(Event::Schedule).collect();
        if let Err(refusal) = events.iter().try_for_each(size::check) {
            return refused(refusal);
        }
        let stream = StreamId::Schedule(id.clone());
        events.iter().for_each(|event| cache.evolve(event, &stream));
        let (schedule, held) = (cache.schedule(id).cloned().unwrap_or_default(), held(cache, id));
        let changed = ScheduleChanged { schedule, events: facts, held };
        let answer = Ok(Answer::Schedule(Box::new(changed)));
        let decided = Decided { stream, stream_version: version + 1, actor: actor.clone(), events };
        let commit = (!decided.events.is_empty()).then_some(decided);
        if commit.is_some() {
            cache.schedule_staged(id);
        }
        Decision { commit, answer, effects: vec![] }
    }

    /// What is known outside of the schedule; of a fire that was `asked` for as well.
    fn surroundings(
        &mut self,
        tenant: &Tenant,
        id: &ScheduleId,
        asked: Option<Timestamp>,
        now: Timestamp,
    ) -> Surroundings {
        let open = self.shared.dispatch().open_fires(tenant, id);
        let cache = self.caches.tenant(tenant);
        let schedule = cache.schedule(id);
        let due = schedule.into_iter().flat_map(|schedule| schedule.candidates(tenant, now));
        let spec = schedule.and_then(|schedule| schedule.spec.as_ref());
        let dag_id = spec.map(|spec| &spec.spec().dag_id);
        let free_since = self.shared.dispatch().free_since(tenant, id, dag_id);
        let asked = asked.zip(spec).map(|(time, spec)| run_of(tenant, spec, time));
        let open_runs = open.iter().map(|fire| fire.run_id.clone());
        let named: BTreeSet<RunId> = due.chain(asked).chain(open_runs).collect();
        let exists = |run_id: &RunId| cache.run(run_id).is_some_and(|run| run.version > 0);
        let existing = named.into_iter().filter(exists).collect();
        Surroundings { tenant: tenant.clone(), now, free_since, open, existing }
    }
}

/// Why a schedule does not fire now, if something keeps it.
fn held(cache: &TenantCache, id: &ScheduleId) -> Option<&'static str> {
    let (control, schedule) = (cache.control(), cache.schedule(id)?);
    let dag_id = &schedule.spec.as_ref()?.spec().dag_id;
    if control.schedulers_paused {
        Some("the schedulers are paused")
    } else if control.draining.is_some() {
        Some("the queue is being drained")
    } else if cache.known_dag(dag_id).is_some_and(|dag| dag.paused) {
        Some("its DAG is paused")
    } else {
        None
    }
}

/// Whether the runs of a schedule would start, as far as that is known now.
fn startable(
    cache: &mut TenantCache,
    spec: &CompiledSchedule,
    request: &ScheduleRequest,
    now: Timestamp,
) -> Result<(), Refusal> {
    let (dag_id, asked) = (&spec.spec().dag_id, spec.spec().dag_version);
    let dag = cache.dag(dag_id);
    let newest = dag.versions.keys().next_back().copied();
    let version = asked.or(dag.active).or(newest).unwrap_or(1);
    let pinned = dag.pinned(version);
    let (_, dag_spec) = pinned.map_err(|refusal| Refusal::Dag(dag_id.clone(), refusal))?;
    let inputs = inputs(spec, request, now);
    dag_spec.check_inputs(&inputs).map_err(|violations| {
        Refusal::Run(RunRefusal::InputsInvalid { dag_id: dag_id.clone(), violations })
    })
}

/// The inputs of a fire.
fn inputs(
    spec: &CompiledSchedule,
    request: &ScheduleRequest,
    fire_time: Timestamp,
) -> CanonicalJson {
    let Some(name) = &spec.spec().fire_time_input else { return request.inputs.clone() };
    let mut value = request.inputs.to_value();
    if let Some(members) = value.as_object_mut() {
        members.insert(name.clone(), fire_time.to_string().into());
    }
    // A checked object and one text more: it stays within what JSON may be.
    CanonicalJson::from_value(&value).unwrap_or_else(|_| request.inputs.clone())
}

fn new_run(tenant: &Tenant, schedule: &Schedule, fire_time: Timestamp) -> Result<NewRun, String> {
    let spec = schedule.spec.as_ref().ok_or("there is no such schedule")?;
    let request = schedule.request.as_ref().ok_or("its inputs are erased")?;
    let token = fire_token(spec.id(), fire_time).parse();
    Ok(NewRun {
        run_id: run_of(tenant, spec, fire_time),
        dag_id: spec.spec().dag_id.clone(),
        dag_version: spec.spec().dag_version,
        inputs: inputs(spec, request, fire_time),
        given: None,
        labels: request.labels.clone(),
        priority: spec.spec().priority,
        run_token: Some(token.map_err(|error| format!("{error}"))?),
        attempt: 0,
        rerun_of: None,
        reason: String::new(),
        schedule: Some(ScheduleFire { fire_time, schedule_id: spec.id().clone() }),
    })
}

fn nothing(effects: Vec<Effect>) -> Outcome {
    Decision { commit: None, answer: Ok(Answer::Appended), effects }
}
