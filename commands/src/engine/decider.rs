//! The writer's side of the engine: what it is asked, and told of what became of its decisions.

use stella_domain::{
    event::{Event, RunEvent},
    hash::Hash32,
    ids::{FencingToken, StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::{
    recorded::Recorded,
    snapshots::never_ends,
    writer::{Decider, Decision},
};

use super::{Answer, Command, Engine, Outcome, cache, cache::Fold, command, grant::Effect};
use crate::refusal::Refusal;

impl Engine {
    /// Keep a snapshot of a stream that has grown since its last one. `end` is where it ends in the
    /// ledger: version and hash of its last event.
    fn keep_snapshot(&mut self, tenant: &Tenant, stream: &StreamId, end: (u64, Hash32)) {
        if let Some(snapshot) = self.caches.tenant(tenant).snapshot(stream, end) {
            self.shared.snapshots.keep(tenant, stream, snapshot);
        }
    }

    /// Leases in `recorded` whose worker never heard of them, because the ledger did not say
    /// whether it had written them: they end now, and somebody else gets the steps.
    fn end_untold(&mut self, tenant: &Tenant, recorded: &Recorded, now: Timestamp) {
        let Some(untold) = self.untold.get_mut(tenant) else { return };
        let StreamId::Run(run_id) = &recorded.commit.stream else { return };
        for (event, stream_version) in recorded.events.iter().zip(recorded.commit.stream_version..)
        {
            let Event::Run(RunEvent::StepStarted(started)) = event else { continue };
            let token = FencingToken { run_id: run_id.clone(), stream_version };
            if untold.remove(&token).is_some_and(|worker_id| worker_id == started.worker_id) {
                self.shared.dispatch().orphan(tenant, &token, now);
            }
        }
    }
}

impl Decider for Engine {
    type Command = Command;
    type Answer = Result<Answer, Refusal>;
    type Effect = Effect;
    type Fold = Fold;

    fn fold(stream: &StreamId, state: &str) -> Option<Fold> {
        Fold::parse(stream, state)
    }

    fn missing(&self, tenant: &Tenant, command: &Command) -> Vec<StreamId> {
        self.caches.missing(tenant, command)
    }

    fn load(
        &mut self,
        tenant: &Tenant,
        streams: &[StreamId],
        folds: Vec<(StreamId, u64, Fold)>,
        commits: Vec<Recorded>,
    ) {
        let ends = cache::ends(&commits);
        self.caches.tenant(tenant).load(streams, folds, commits);
        for (stream, end) in ends {
            self.keep_snapshot(tenant, &stream, end);
        }
    }

    fn decide(&mut self, tenant: &Tenant, command: &Command, at: Timestamp) -> Outcome {
        match command {
            Command::StartRun { actor, run } => self.start_run(tenant, actor, run, at),
            Command::Rerun { actor, run_id, dag_version, reason } => {
                self.rerun(tenant, actor, run_id, *dag_version, reason, at)
            }
            Command::Run { actor, run_id, command } => {
                let command = command::at(command.clone(), at);
                self.run_command(tenant, actor, run_id, command, at)
            }
            Command::Grant { slot } => self.grant(tenant, slot, at),
            Command::Schedule { actor, schedule_id, change } => {
                self.change_schedule(tenant, actor, schedule_id, change.clone(), at)
            }
            Command::Attend { schedule_id, now } => self.attend(tenant, schedule_id, *now),
            Command::StartFire { schedule_id, fire_time } => {
                self.start_fire(tenant, schedule_id, *fire_time, at)
            }
            Command::Control { actor, command } => self.control(tenant, actor, command.clone()),
            Command::Append { actor, stream, expected, events } => {
                self.append(tenant, actor, stream, *expected, events)
            }
            Command::Forget { run_id } => {
                self.caches.tenant(tenant).drop_stream(&StreamId::Run(run_id.clone()));
                Decision { commit: None, answer: Ok(Answer::Appended), effects: vec![] }
            }
            Command::CatchUp => {
                Decision { commit: None, answer: Ok(Answer::Appended), effects: vec![] }
            }
        }
    }

    fn next_due(&mut self, now: Timestamp) -> Option<(Tenant, Command)> {
        let (tenant, due) = self.shared.dispatch().next_due(now)?;
        Some((tenant, Command::from_due(due, &*self.shared.logs, now)))
    }

    fn undecided(&mut self, tenant: &Tenant, command: Command) {
        let now = self.shared.clock.now();
        if let Some(due) = command.into_due() {
            self.shared.dispatch().put_back(tenant, due, now);
        }
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.shared.dispatch().wake_at()
    }

    fn recorded(&mut self, tenant: &Tenant, recorded: &Recorded, ours: bool) {
        let cache = self.caches.tenant(tenant);
        if ours {
            // Whatever was in doubt would have come before.
            self.untold.remove(tenant);
        } else {
            cache.drop_stream(&recorded.commit.stream);
            self.count_starts_of_others(tenant, recorded);
        }
        let cache = self.caches.tenant(tenant);
        // Nothing is staged on a run that has ended.
        for (_, erased) in recorded.erasures() {
            cache.drop_stream(&StreamId::Run(erased.run_id.clone()));
        }
        let now = self.shared.clock.now();
        let (commit, events) = (&recorded.commit, &recorded.events);
        let run = match &commit.stream {
            StreamId::Run(run_id) => cache.run(run_id),
            _ => None,
        };
        self.shared.dispatch().recorded(tenant, commit, events, now, run);
        if let (StreamId::Schedule(id), true) = (&commit.stream, ours) {
            self.caches.tenant(tenant).schedule_durable(id);
        }
        if ours && never_ends(&commit.stream) {
            self.keep_snapshot(tenant, &commit.stream, cache::end(recorded));
        }
        let StreamId::Run(run_id) = &commit.stream else { return };
        self.end_untold(tenant, recorded, now);
        let is = |wanted: fn(&RunEvent) -> bool| {
            events.iter().any(|event| matches!(event, Event::Run(event) if wanted(event)))
        };
        if is(|event| {
            matches!(event, RunEvent::RunCancelRequested(..) | RunEvent::RunDeadlinePassed(_))
        }) {
            self.shared.cancelled.notify_waiters();
        }
        self.shared.run_ends.recorded(tenant, run_id, recorded);
        self.caches.tenant(tenant).durable(run_id, ours);
    }

    fn perform(&mut self, tenant: &Tenant, effect: Effect) {
        effect.perform(&self.shared, tenant);
    }

    fn abandon(&mut self, tenant: &Tenant, effect: Effect, may_be_written: bool) {
        if let Effect::Deliver { grant, slot, .. } = &effect
            && may_be_written
        {
            let untold = self.untold.entry(tenant.clone()).or_default();
            untold.insert(grant.token.clone(), slot.worker_id.clone());
        }
        effect.abandon(&self.shared);
    }

    fn forget(&mut self, tenant: &Tenant, streams: &[StreamId]) {
        let cache = self.caches.tenant(tenant);
        for stream in streams {
            cache.drop_stream(stream);
        }
    }

    fn accepts_clock_fault(&self, command: &Command) -> bool {
        command.accepts_clock_fault()
    }
}
