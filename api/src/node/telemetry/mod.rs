//! What a node tells others about what it records: lines of its log, and OpenTelemetry.
//!
//! Both follow committed events as any reader does. Nobody waits for them, and what cannot be told is left
//! out: the ledger has it.

mod log;
mod push;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use stella_domain::ids::{LedgerId, StreamId};
use stella_ledger::{
    feed::{Feed, Follower},
    port::{Ledger, LedgerError},
    recorded::Recorded,
};
use stella_replay::telemetry::Runs;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::push::{EndpointError, OtlpConfig, OtlpEndpoint};

/// Commits looked at together.
const COMMITS_AT_ONCE: usize = 64;
/// Between two attempts to read a ledger that does not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Begin to tell of what is recorded from `from_seq` on, to whom it is wanted.
pub(super) fn start(
    name: &LedgerId,
    ledger: &Arc<dyn Ledger>,
    feed: &Arc<Feed>,
    from_seq: u64,
    otlp: Option<&OtlpConfig>,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let follow = || Committed {
        name: name.clone(),
        ledger: Arc::clone(ledger),
        follower: feed.follow(&name.tenant, from_seq),
        fetched: VecDeque::new(),
    };
    let mut tasks = vec![];
    if log::is_wanted() {
        let stop = stop.clone();
        let lines = log::lines(follow());
        tasks.push(tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = lines => {}
            }
        }));
    }
    if let Some(otlp) = otlp {
        tasks.push(tokio::spawn(push::push(otlp.clone(), follow(), stop.clone())));
    }
    tasks
}

/// Committed events as they come.
struct Committed {
    name: LedgerId,
    ledger: Arc<dyn Ledger>,
    follower: Follower,
    fetched: VecDeque<Arc<Recorded>>,
}

impl Committed {
    /// The next commit. If it is of a run, `runs` knows what came before it.
    ///
    /// Safe to cancel: none is lost.
    async fn next(&mut self, runs: &mut Runs) -> Arc<Recorded> {
        let mut is_news = true;
        loop {
            match self.try_next(runs).await {
                Ok(recorded) => return recorded,
                Err(error) => {
                    if std::mem::take(&mut is_news) {
                        let tenant = &self.name.tenant;
                        tracing::warn!(%tenant, %error, "what is recorded cannot be told of");
                    }
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        }
    }

    async fn try_next(&mut self, runs: &mut Runs) -> Result<Arc<Recorded>, LedgerError> {
        let recorded = loop {
            match self.fetched.front() {
                Some(recorded) => break Arc::clone(recorded),
                None => self.fetched.extend(self.follower.next(COMMITS_AT_ONCE).await?),
            }
        };
        if let Some(run_id) = runs.unknown(&recorded) {
            let stream = StreamId::Run(run_id.clone());
            let commits = self.ledger.read_streams(&self.name.tenant, &[stream]).await?;
            let before = commits.into_iter().filter(|commit| commit.seq < recorded.commit.seq);
            let before = before.map(Recorded::decode).collect::<Result<Vec<_>, _>>()?;
            runs.catch_up(run_id, &before);
        }
        self.fetched.pop_front();
        Ok(recorded)
    }
}
