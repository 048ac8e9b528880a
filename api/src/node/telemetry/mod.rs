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
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::push::{EndpointError, OtlpConfig, OtlpEndpoint};

/// Commits looked at together.
const COMMITS_AT_ONCE: usize = 64;
/// Between two attempts to read a ledger that does not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long a stop waits for what is still to be told.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// Those who tell.
pub(super) struct Telling {
    tasks: Vec<JoinHandle<()>>,
    no_more: DropGuard,
}

impl Telling {
    /// Nothing more is recorded here: tell what is left, if that goes quickly.
    pub(super) async fn end(self) {
        let Self { mut tasks, no_more } = self;
        drop(no_more);
        let all = async {
            for task in &mut tasks {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(STOP_WAIT, all).await.is_err() {
            tasks.iter().for_each(JoinHandle::abort);
            tracing::warn!("what was still to be told of the runs is left out: the server stops");
        }
    }
}

/// Begin to tell of what is recorded from `from_seq` on, to whom it is wanted.
pub(super) fn start(
    name: &LedgerId,
    ledger: &Arc<dyn Ledger>,
    feed: &Arc<Feed>,
    from_seq: u64,
    otlp: Option<&OtlpConfig>,
) -> Telling {
    let no_more = CancellationToken::new();
    let follow = || Committed {
        name: name.clone(),
        ledger: Arc::clone(ledger),
        follower: feed.follow(&name.tenant, from_seq),
        fetched: VecDeque::new(),
        no_more: no_more.clone(),
    };
    let mut tasks = vec![];
    if log::is_wanted() {
        tasks.push(tokio::spawn(log::lines(follow())));
    }
    if let Some(otlp) = otlp {
        tasks.push(tokio::spawn(push::push(otlp.clone(), follow())));
    }
    Telling { tasks, no_more: no_more.drop_guard() }
}

/// Committed events as they come.
struct Committed {
    name: LedgerId,
    ledger: Arc<dyn Ledger>,
    follower: Follower,
    fetched: VecDeque<Arc<Recorded>>,
    /// Nothing more is recorded here.
    no_more: CancellationToken,
}

impl Committed {
    /// The next commit; none when nothing more comes. If it is of a run, `runs` knows what came before it.
    ///
    /// Safe to cancel: none is lost.
    async fn next(&mut self, runs: &mut Runs) -> Option<Arc<Recorded>> {
        let mut is_news = true;
        loop {
            let no_more = self.no_more.clone();
            let is_last = no_more.is_cancelled();
            if is_last && self.fetched.is_empty() && !self.follower.is_behind() {
                return None;
            }
            let tried = tokio::select! {
                tried = self.try_next(runs) => tried,
                () = no_more.cancelled(), if !is_last => continue,
            };
            match tried {
                Ok(recorded) => return Some(recorded),
                Err(_) if is_last => return None,
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
