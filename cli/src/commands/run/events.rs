//! `run ledger`.

use clap::Args;
use stella_api::types::EventView;
use stella_domain::ids::RunId;

use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    output::{Format, Table, json, time},
};

/// A run's events, as the ledger holds them.
///
/// To verify events, take `stella orch ledger export`: its bytes are those that were hashed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run ledger 0RQ9CWTXP9BPJR3KTYEG0MB9FF
  stella orch run ledger 0RQ9CWTXP9BPJR3KTYEG0MB9FF -o json | jq .type")]
pub(crate) struct Events {
    /// The run.
    run_id: RunId,
    #[command(flatten)]
    api: ApiArgs,
}

impl Events {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let path = path("runs", &self.run_id, "/ledger");
        let events: Vec<EventView> = self.api.client()?.list(&path, &[], usize::MAX).await?;
        match self.api.output.format {
            Format::Json => events.iter().try_for_each(json),
            Format::Table => self.api.output.print(&events, |events| table(events)),
        }
    }
}

fn table(events: &[EventView]) -> String {
    let mut table = Table::new(&["SEQ#", "RECORDED", "TYPE", "ACTOR", "DATA", "HASH"]);
    for event in events {
        table.row([
            event.seq.to_string(),
            time(event.recorded_at),
            event.event_type.clone(),
            event.actor.to_string(),
            shortened(event.data.as_str()),
            event.hash.get(..12).unwrap_or(&event.hash).to_owned(),
        ]);
    }
    table.text("no events")
}

/// The beginning of an event's data; `-o json` has all of it.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
