//! What to try next: commands that work as they stand here, from the same directory.

use stella_domain::checkpoint::PinnedKey;
use stella_verify::manifest::names;

use super::{Stage, live::DemoRun};
use crate::{failure::Failure, output::quoted};

const HELLO: &str = r#"{"id":"hello","steps":[{"id":"greet","plugin":"core","action":"echo","with":{"text":"hello"}}]}"#;

/// Print them.
pub(super) fn print(stage: &Stage, run: &DemoRun, pinned: &[PinnedKey]) -> Result<(), Failure> {
    let Stage { screen, bundle, kept, .. } = stage;
    // As it was called just now: it need not be on the PATH.
    let stella = quoted(&std::env::args().next().unwrap_or_else(|| "stella".to_owned()));
    screen.heading("What to try next")?;
    if *kept {
        let file = quoted(&bundle.join(names::EVENTS).to_string_lossy());
        let (bundle, run_id) = (quoted(&bundle.to_string_lossy()), &run.run_id);
        let keys: String = pinned.iter().map(|key| format!(" --key {key}")).collect();
        screen.line("Verify the bundle yourself, and look at the run half way:")?;
        screen.command(format_args!("{stella} orch ledger verify {bundle}{keys}"))?;
        let half = run.first_seq.midpoint(run.last_seq);
        screen.command(format_args!(
            "{stella} orch replay show {run_id} --at {half} --file {file}"
        ))?;
    } else {
        screen.line("Keep the bundle, to verify it and to look into it:")?;
        screen.command(format_args!("{stella} orch demo --out ./demo"))?;
    }
    screen.line("A server that stays; then, in another terminal, a DAG of your own:")?;
    screen.command(format_args!("{stella} orch serve"))?;
    screen.command(format_args!("echo '{HELLO}' | {stella} orch dag apply -"))?;
    screen.command(format_args!("{stella} orch run start hello --wait"))?;
    screen.command(format_args!("{stella} orch run list"))
}
