//! `run logs`.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use clap::Args;
use stella_api::types::{RunView, StepPhaseView, StepView};
use stella_domain::ids::{RunId, StepId};

use crate::{
    client::{Client, LogPiece, ServerArgs, path},
    failure::Failure,
    output,
};

/// Between two looks at what is new.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the plugins of a run's steps wrote about their work: their stderr.
///
/// Of each step its newest attempt, unless --attempt names another. Lines of several steps begin with
/// their step; of one step the bytes come as they are. A finished log's digest is part of the event that
/// ended its attempt: `stella orch ledger verify --artifacts` checks it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run logs 0RQ9CWTXP9BPJR3KTYEG0MB9FF
  stella orch run logs 0RQ9CWTXP9BPJR3KTYEG0MB9FF --follow
  stella orch run logs 0RQ9CWTXP9BPJR3KTYEG0MB9FF --step scan --attempt 1 > scan.log")]
pub(crate) struct Logs {
    /// The run.
    run_id: RunId,
    /// One step only.
    #[arg(long, value_name = "STEP")]
    step: Option<StepId>,
    /// Its attempt, from 1; the newest otherwise.
    #[arg(long, value_name = "N", requires = "step")]
    attempt: Option<u32>,
    /// Go on until the run has ended.
    #[arg(long, short, conflicts_with = "attempt")]
    follow: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// How far the log of a step was printed.
#[derive(Default)]
struct Printed {
    attempt: u32,
    offset: u64,
    is_complete: bool,
    /// A line whose end has not come yet.
    rest: Vec<u8>,
}

impl Logs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.server)?;
        let mut printed: BTreeMap<StepId, Printed> = BTreeMap::new();
        loop {
            // Asked for first: then what is listed below is all that there will be.
            let run: RunView = client.get(&path("runs", &self.run_id, ""), &[]).await?;
            let query = [("minSeq", run.last_seq.to_string())];
            let steps: Vec<StepView> =
                client.list(&path("runs", &self.run_id, "/steps"), &query, usize::MAX).await?;
            self.check(&run, &steps)?;
            for step in steps.iter().filter(|step| self.wants(step)) {
                let at = printed.entry(step.step_id.clone()).or_default();
                self.print(&client, step, at).await?;
            }
            if !self.follow || run.status.is_ended() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if printed.values().all(|at| at.offset == 0) {
            output::note("nothing was written");
        }
        Ok(())
    }

    fn check(&self, run: &RunView, steps: &[StepView]) -> Result<(), Failure> {
        match &self.step {
            Some(id) if run.status.is_ended() || !self.follow => {
                if steps.iter().any(|step| step.step_id == *id) {
                    return Ok(());
                }
                let what = format!("of run {} no step {id} was started", self.run_id);
                Err(Failure::failed(what)
                    .try_this(format!("see which were: `stella orch run steps {}`", self.run_id)))
            }
            _ => Ok(()),
        }
    }

    /// Whether there may be something to print.
    fn wants(&self, step: &StepView) -> bool {
        self.step.as_ref().is_none_or(|id| step.step_id == *id)
            && (step.phase == StepPhaseView::Running || !step.logs.is_empty())
    }

    async fn print(
        &self,
        client: &Client,
        step: &StepView,
        at: &mut Printed,
    ) -> Result<(), Failure> {
        let attempt = self.attempt.unwrap_or(step.attempt);
        if at.attempt != attempt {
            self.end_line(step, at)?;
            *at = Printed { attempt, ..Printed::default() };
        }
        let finished = step.logs.iter().find(|log| log.attempt == attempt);
        if let (Some(left), false) = (finished, at.is_complete) {
            let mut whole = vec![];
            client.artifact(&self.run_id, left.log.digest, &mut whole, "it").await?;
            let printed = usize::try_from(at.offset).unwrap_or(usize::MAX).min(whole.len());
            at.offset = whole.len() as u64;
            at.is_complete = true;
            self.show(step, at, &whole[printed..])?;
        }
        while !at.is_complete {
            let piece = client.log(&self.run_id, &step.step_id, attempt, at.offset).await?;
            let LogPiece { bytes, is_complete } = piece;
            at.offset += bytes.len() as u64;
            self.show(step, at, &bytes)?;
            at.is_complete = is_complete;
            if bytes.is_empty() && !is_complete {
                return Ok(());
            }
        }
        self.end_line(step, at)
    }

    fn show(&self, step: &StepView, at: &mut Printed, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        // Files get the bytes as they are; nothing in them may steer somebody's terminal.
        let harmless: Vec<u8>;
        let bytes = match stdout.is_terminal() {
            true => {
                harmless = without_controls(bytes);
                &harmless
            }
            false => bytes,
        };
        if self.step.is_some() {
            stdout.write_all(bytes)?;
            return Ok(stdout.flush()?);
        }
        at.rest.extend_from_slice(bytes);
        let Some(end) = at.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = at.rest.split_off(end + 1);
        for line in at.rest.split_inclusive(|byte| *byte == b'\n') {
            write!(stdout, "{} | ", step.step_id)?;
            stdout.write_all(line)?;
        }
        at.rest = rest;
        Ok(stdout.flush()?)
    }

    fn end_line(&self, step: &StepView, at: &mut Printed) -> Result<(), Failure> {
        if at.rest.is_empty() { Ok(()) } else { self.show(step, at, b"\n") }
    }
}

/// With spaces in the place of control characters, those of Latin-1 too, which some terminals obey.
fn without_controls(bytes: &[u8]) -> Vec<u8> {
    let mut kept = bytes.to_vec();
    for at in 0..kept.len() {
        if kept[at].is_ascii_control() && !b"\n\t".contains(&kept[at]) {
            kept[at] = b' ';
        }
        if kept[at] == 0xc2 && matches!(kept.get(at + 1), Some(0x80..=0x9f)) {
            kept[at..at + 2].fill(b' ');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_log_steers_the_terminal() {
        let log = "a\tb\n\u{1b}[31mred\u{9b}2J\r\u{e9}".as_bytes();
        assert_eq!(without_controls(log), "a\tb\n [31mred  2J \u{e9}".as_bytes());
    }
}
