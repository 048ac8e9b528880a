//! The run: started, watched, reported on, and started once more.

use std::collections::HashMap;

use serde_json::Value;
use stella_api::types::{LedgerHead, RunView, StartRunBody, StartedRun, StepView, StreamMessage};
use stella_domain::{
    aggregate::RunStatus,
    event::Labels,
    ids::{DagId, RunId},
    json::CanonicalJson,
    time::Timestamp,
};

use super::Stage;
use crate::{
    client::{Answer, path},
    commands::run::{ends_run, fresh_run_token},
    exit::Exit,
    failure::Failure,
    output::duration,
};

/// The run that the demo is about.
pub(super) struct DemoRun {
    pub(super) run_id: RunId,
    pub(super) started: StartRunBody,
    /// `seq` of its first event.
    pub(super) first_seq: u64,
    /// `seq` of its last event.
    pub(super) last_seq: u64,
}

impl Stage {
    /// Start the run and show its events as they are recorded.
    pub(super) async fn run_live(&self, dag_id: &DagId) -> Result<DemoRun, Failure> {
        let inputs = serde_json::json!({ "lockfile": self.lockfile });
        let inputs = CanonicalJson::from_value(&inputs)
            .map_err(|error| Failure::usage(format!("the lockfile's path: {error}")))?;
        let body = StartRunBody {
            dag_id: dag_id.clone(),
            dag_version: None,
            inputs: Some(inputs),
            run_token: Some(fresh_run_token()?),
            labels: Labels::from([("demo".to_owned(), "supply-chain".to_owned())]),
            priority: 0,
            reason: String::new(),
        };
        self.screen.heading("Run it")?;
        // Before the start, so that no event is missed.
        let head: LedgerHead = self.client.get("/ledger/head", &[]).await?;
        let mut stream = self.client.stream(&[("fromSeq", head.size.to_string())]).await?;
        let started: Answer<StartedRun> = self.client.post("/runs", &[], &body).await?;
        let (run_id, first_seq) = (started.body.run_id, head.size);
        let mut watch = Watch::default();
        let last_seq = loop {
            let Some(event) = stream.next_event().await? else {
                return Err(Failure::unavailable("the stream ended before the run did"));
            };
            if let Some(line) = watch.see(&event) {
                self.screen.line(line)?;
            }
            if ends_run(&event) {
                break event.seq;
            }
        };
        Ok(DemoRun { run_id, started: body, first_seq, last_seq })
    }

    /// Print what the run found, or why it found nothing.
    pub(super) async fn print_report(&self, run: &DemoRun) -> Result<(), Failure> {
        let min_seq = [("minSeq", run.last_seq.to_string())];
        let view: RunView = self.client.get(&path("runs", &run.run_id, ""), &min_seq).await?;
        let steps: Vec<StepView> =
            self.client.list(&path("runs", &run.run_id, "/steps"), &min_seq, usize::MAX).await?;
        if view.status != RunStatus::Succeeded {
            let message = steps.iter().find_map(|step| step.message.clone()).unwrap_or_default();
            let what = format!("the run {}: {message}", view.status.as_str());
            return Err(Failure::new(Exit::RunFailed, what)
                .try_this("give it a valid Cargo.lock with --lockfile FILE"));
        }
        let outputs = steps.iter().find(|step| step.step_id.as_str() == "report");
        let outputs = outputs.and_then(|step| step.outputs.as_ref());
        let outputs = outputs.map_or(Value::Null, CanonicalJson::to_value);
        let Some(text) = outputs["text"].as_str() else {
            return Err(Failure::not_verified("the step report gave no text"));
        };
        self.screen.heading("What it found")?;
        text.lines().try_for_each(|line| self.screen.line(line))
    }

    /// Start the same run again, and see that nothing happens.
    pub(super) async fn start_again(&self, run: &DemoRun) -> Result<(), Failure> {
        self.screen.heading("Start the same run again, with the same run token")?;
        let before: LedgerHead = self.client.get("/ledger/head", &[]).await?;
        let again: Answer<StartedRun> = self.client.post("/runs", &[], &run.started).await?;
        let after: LedgerHead = self.client.get("/ledger/head", &[]).await?;
        if again.body.run_id != run.run_id || !again.replayed || !again.body.replayed {
            let what =
                format!("run {} was started in the place of {}", again.body.run_id, run.run_id);
            return Err(Failure::not_verified(what));
        }
        if before != after {
            let what = format!("the ledger grew from {} to {} events", before.size, after.size);
            return Err(Failure::not_verified(what));
        }
        self.screen.tick(format_args!("the same run came back: {}", run.run_id))?;
        self.screen
            .tick(format_args!("nothing ran twice: the ledger still has {} events", after.size))
    }
}

/// What has been seen of the run.
#[derive(Default)]
struct Watch {
    created_at: Option<Timestamp>,
    /// When each step was last leased.
    started_at: HashMap<String, Timestamp>,
}

impl Watch {
    /// The line that an event is worth, if any.
    fn see(&mut self, event: &StreamMessage) -> Option<String> {
        let at = event.recorded_at;
        let since = at.ms_since(*self.created_at.get_or_insert(at));
        let data = event.data.to_value();
        let step = data["stepId"].as_str().unwrap_or_default();
        let what = match event.event_type.as_str() {
            "RunCreated" => format!("run {} of {}", event.run_id, data["dagId"].as_str()?),
            "StepStarted" => {
                self.started_at.insert(step.to_owned(), at);
                format!("{step:<11} started")
            }
            "StepSucceeded" => {
                let took = self.started_at.get(step).map_or(0, |started| at.ms_since(*started));
                format!("{step:<11} succeeded in {}", duration(took))
            }
            "StepFailed" => {
                format!("{step:<11} failed: {}", data["errorCode"].as_str().unwrap_or_default())
            }
            "StepTimedOut" => format!("{step:<11} timed out"),
            "StepRetryScheduled" => format!("{step:<11} is tried again"),
            "RunSucceeded" => "run succeeded".to_owned(),
            "RunFailed" => "run failed".to_owned(),
            "RunCancelled" => "run cancelled".to_owned(),
            "RunTimedOut" => "run timed out".to_owned(),
            _ => return None,
        };
        Some(format!("+{}.{:03} s  {what}", since / 1_000, since % 1_000))
    }
}
