//! What goes out on a stream, whatever carries it.

use std::{collections::VecDeque, sync::Arc};

use stella_domain::{
    chain::StoredPayload,
    ids::{RunId, StreamId},
    json::CanonicalJson,
};
use stella_ledger::{feed::Follower, recorded::Recorded};

use super::StreamFilter;
use crate::{
    problem::ApiError,
    types::{StreamItem, StreamLink, StreamMessage},
};

/// Commits fetched at a time: what a reader who is behind holds in memory.
const BATCH_COMMITS: usize = 16;

/// A reader's place in the ledger, and what it wants of what follows.
pub(super) struct Source {
    follower: Follower,
    /// The first commit may begin before it.
    from_seq: u64,
    filter: StreamFilter,
    /// Whether what the filter leaves out comes as links.
    chain: bool,
    fetched: VecDeque<Arc<Recorded>>,
}

impl Source {
    pub(super) fn new(
        follower: Follower,
        from_seq: u64,
        filter: StreamFilter,
        chain: bool,
    ) -> Self {
        Self { follower, from_seq, filter, chain, fetched: VecDeque::new() }
    }

    /// What the next commit has for the client, as soon as there is such a commit; never nothing.
    ///
    /// Safe to cancel: the place moves only when there is an answer.
    ///
    /// # Errors
    /// The ledger's, after which the stream cannot go on.
    pub(super) async fn next(&mut self) -> Result<Vec<StreamItem>, ApiError> {
        loop {
            let Some(recorded) = self.fetched.front().map(Arc::clone) else {
                let commits = self.follower.next(BATCH_COMMITS).await?;
                self.fetched.extend(commits);
                // Whoever wants little of much leaves the thread to others now and then.
                tokio::task::yield_now().await;
                continue;
            };
            let items = self.items(&recorded).await?;
            self.fetched.pop_front();
            if !items.is_empty() {
                return Ok(items);
            }
        }
    }

    /// The seq of the last event that was looked at; `None` before there was one.
    pub(super) fn looked_at(&self) -> Option<u64> {
        let next_seq = self.fetched.front().map_or(self.follower.next_seq(), |r| r.commit.seq);
        next_seq.max(self.from_seq).checked_sub(1)
    }

    async fn items(&mut self, recorded: &Recorded) -> Result<Vec<StreamItem>, ApiError> {
        let run_id = match &recorded.commit.stream {
            StreamId::Run(run_id) if self.filter.takes(run_id, recorded).await? => Some(run_id),
            _ => None,
        };
        let seqs = recorded.commit.seq..;
        let events = seqs.zip(&recorded.commit.events).enumerate();
        Ok(events
            .filter(|(_, (seq, _))| *seq >= self.from_seq)
            .filter_map(|(i, (_, event))| match run_id {
                Some(run_id) if self.filter.takes_type(&event.event_type) => {
                    Some(StreamItem::Event(Box::new(message(run_id, recorded, i))))
                }
                _ => self.chain.then(|| StreamItem::Link(link(recorded, i))),
            })
            .collect())
    }
}

fn message(run_id: &RunId, recorded: &Recorded, i: usize) -> StreamMessage {
    let (commit, event) = (&recorded.commit, &recorded.commit.events[i]);
    let salt = match &event.payload {
        StoredPayload::Present { salt, .. } => Some(salt.to_string()),
        StoredPayload::None | StoredPayload::Erased(_) => None,
    };
    StreamMessage {
        seq: commit.seq + i as u64,
        hash: event.hash.to_string(),
        event_type: event.event_type.to_string(),
        run_id: run_id.clone(),
        stream_version: commit.stream_version + i as u64,
        recorded_at: commit.recorded_at,
        actor: commit.actor.clone(),
        data: event.data.clone(),
        payload: event.payload.json().cloned(),
        salt,
        header: CanonicalJson::trusted(commit.header(i)),
    }
}

fn link(recorded: &Recorded, i: usize) -> StreamLink {
    let commit = &recorded.commit;
    StreamLink {
        seq: commit.seq + i as u64,
        hash: commit.events[i].hash.to_string(),
        header: CanonicalJson::trusted(commit.header(i)),
    }
}
