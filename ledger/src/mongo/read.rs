//! Reading: ranges of `_id`, and point reads.

use mongodb::{
    action::Find,
    bson::{Document, RawDocumentBuf, doc},
    options::ReadConcern,
};
use stella_domain::{
    chain::{ChainError, Commit, Head},
    ids::{StreamId, Tenant},
    time::Timestamp,
};

use super::{
    MongoLedger,
    batches::{BATCH, Batches},
    document::{Decoder, LAST_SEQ, above_keys, key, lowest_key},
    failure,
    setup::stream_index,
};
use crate::{
    page::{PAGE_BYTES, Page},
    port::{LedgerError, READ_LIMIT},
};

/// Tenants that are looked at when they are listed, one point read each.
const TENANTS_AT_MOST: usize = 100_000;

impl MongoLedger {
    /// Commits from the one that holds `from_seq` on.
    pub(super) async fn commits_from(
        &self,
        tenant: &Tenant,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        let limit = limit.min(READ_LIMIT);
        if limit == 0 || from_seq > LAST_SEQ {
            return Ok(vec![]);
        }
        let range = doc! { "$gte": key(tenant, from_seq), "$lt": above_keys(tenant) };
        // The casts are exact: at most 4,096. The batch is one larger than a small limit, else the
        // server keeps the cursor for a second trip that brings nothing.
        let find = self
            .collection
            .find(doc! { "_id": range })
            .sort(doc! { "_id": 1 })
            .limit(limit as i64)
            .batch_size((limit as u32 + 1).min(BATCH));
        let mut commits = self.commits(tenant, find, PAGE_BYTES).await?;
        // Nearly always `from_seq` begins a commit. Else it lies within one, or is not there yet.
        if commits.first().is_none_or(|first| first.seq != from_seq) && from_seq > 0 {
            let before = self.commit_at_or_before(tenant, from_seq - 1).await?;
            match (before, commits.first()) {
                (Some(before), _) if before.last_seq() >= from_seq => {
                    commits.insert(0, before);
                    commits.truncate(limit);
                }
                (before, Some(first)) => {
                    let head = before.map_or(Head::EMPTY, |commit| commit.head());
                    first.verify_follows(&head).map_err(damaged(tenant))?;
                }
                (_, None) => {}
            }
        }
        for pair in commits.windows(2) {
            pair[1].verify_follows(&pair[0].head()).map_err(damaged(tenant))?;
        }
        Ok(commits)
    }

    /// The last commit that begins at `seq` or before.
    pub(super) async fn commit_at_or_before(
        &self,
        tenant: &Tenant,
        seq: u64,
    ) -> Result<Option<Commit>, LedgerError> {
        let range = doc! { "$gte": lowest_key(tenant), "$lte": key(tenant, seq) };
        let find = self.collection.find(doc! { "_id": range }).sort(doc! { "_id": -1 }).limit(1);
        Ok(self.commits(tenant, find, usize::MAX).await?.pop())
    }

    /// Every commit of these streams, by seq.
    pub(super) async fn commits_of(
        &self,
        tenant: &Tenant,
        streams: &[StreamId],
    ) -> Result<Vec<Commit>, LedgerError> {
        if streams.is_empty() {
            return Ok(vec![]);
        }
        let names: Vec<String> = streams.iter().map(StreamId::to_string).collect();
        // With the hint it is an error when the index is missing, not a scan of the ledger.
        let find = self
            .collection
            .find(doc! { "tenant": tenant.as_str(), "stream": { "$in": names } })
            .hint(mongodb::options::Hint::Keys(stream_index()))
            .batch_size(BATCH);
        let mut commits = match self.commits(tenant, find, usize::MAX).await {
            Ok(commits) => commits,
            Err(error) => return Err(self.explained(error).await),
        };
        commits.sort_unstable_by_key(|commit| commit.seq);
        Ok(commits)
    }

    /// Commits of a stream from the one that holds `from_version` on.
    pub(super) async fn commits_of_one(
        &self,
        tenant: &Tenant,
        stream: &StreamId,
        from_version: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        let limit = limit.min(READ_LIMIT);
        let version = i64::try_from(from_version).unwrap_or(i64::MAX);
        let of_stream = |range: Document| {
            let stream = stream.to_string();
            doc! { "tenant": tenant.as_str(), "stream": stream, "streamVersion": range }
        };
        let hint = || mongodb::options::Hint::Keys(stream_index());
        if limit == 0 {
            return Ok(vec![]);
        }
        // Where the commit begins that holds it, or the last one before it.
        let holding = self
            .collection
            .find(of_stream(doc! { "$lte": version }))
            .hint(hint())
            .sort(doc! { "streamVersion": -1 })
            .limit(1);
        let mut commits = match self.commits(tenant, holding, usize::MAX).await {
            Ok(commits) => commits,
            Err(error) => return Err(self.explained(error).await),
        };
        commits.retain(|commit| commit.stream_version + commit.events.len() as u64 > from_version);
        if commits.len() < limit {
            // The cast is exact: at most 4,096.
            let after = self
                .collection
                .find(of_stream(doc! { "$gt": version }))
                .hint(hint())
                .sort(doc! { "streamVersion": 1 })
                .limit((limit - commits.len()) as i64);
            commits.extend(self.commits(tenant, after, PAGE_BYTES).await?);
        }
        Ok(commits)
    }

    /// What the server says of a hint that fits no index helps nobody: the finding behind it does.
    async fn explained(&self, error: LedgerError) -> LedgerError {
        let LedgerError::Unavailable(said) = &error else { return error };
        if !said.contains("hint") {
            return error;
        }
        let findings = self.set_up_findings().await.unwrap_or_default();
        let blocking = findings.into_iter().find(|finding| finding.blocks_writes);
        blocking.map_or(error, |finding| {
            LedgerError::Unavailable(format!("{}: {}", finding.code, finding.message))
        })
    }

    /// Whether no commit begins at `next_seq`, asked of a primary that a majority still follows.
    pub(super) async fn nothing_at(
        &self,
        tenant: &Tenant,
        next_seq: u64,
    ) -> Result<bool, LedgerError> {
        if next_seq > LAST_SEQ {
            return Ok(true);
        }
        let found = self
            .collection
            .find_one(doc! { "_id": key(tenant, next_seq) })
            .projection(doc! { "_id": 1 })
            .read_concern(ReadConcern::linearizable())
            // Without a limit it waits for a majority that may never come.
            .max_time(self.options.read_timeout);
        Ok(self.within("a linearizable read", async { found.await }).await?.is_none())
    }

    /// Binary search over the commits.
    pub(super) async fn first_since(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        let last = self.commit_at_or_before(tenant, LAST_SEQ).await?;
        let Some(last) = last.filter(|last| last.recorded_at >= time) else { return Ok(None) };
        // The commit at `found` is late enough; all before `low` are too early.
        let (mut low, mut found) = (0, last.seq);
        while low < found {
            let middle = low + (found - low) / 2;
            let commit = self.commit_at_or_before(tenant, middle).await?;
            match commit.filter(|commit| commit.last_seq() >= middle) {
                Some(commit) if commit.recorded_at < time => low = commit.head().next_seq,
                Some(commit) => found = commit.seq,
                None => {
                    let reason = "no commit holds it";
                    let source = ChainError::NotNext { seq: found, expected_seq: middle, reason };
                    return Err(damaged(tenant)(source));
                }
            }
        }
        Ok(Some(found))
    }

    /// Tenants by name, found by skipping from one to the next in the index of `_id`.
    pub(super) async fn tenants_by_name(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
        let mut tenants: Vec<Tenant> = vec![];
        let mut from = String::new();
        while tenants.len() < TENANTS_AT_MOST {
            let find = self
                .collection
                .find_one(doc! { "_id": { "$gte": from.as_str() } })
                .sort(doc! { "_id": 1 })
                .projection(doc! { "_id": 1 })
                .max_time(self.options.read_timeout);
            let Some(found) = self.within("a read", async { find.await }).await? else { break };
            let malformed =
                |id: &str, reason: String| LedgerError::Malformed { id: id.to_owned(), reason };
            let id = found.get_str("_id").map_err(|e| malformed("?", e.to_string()))?;
            let name = id.split_once('/').map_or(id, |(name, _)| name);
            let tenant: Tenant = name.parse().map_err(|e| malformed(id, format!("{e}")))?;
            from = above_keys(&tenant);
            if from.as_str() <= id {
                return Err(malformed(id, "`_id` is not <tenant>/<seq>".to_owned()));
            }
            tenants.push(tenant);
        }
        // The index has `a-b/…` before `a/…`.
        tenants.sort_unstable();
        tenants.truncate(limit);
        Ok(tenants)
    }

    /// The server's clock.
    pub(super) async fn local_time(&self) -> Result<Timestamp, LedgerError> {
        let hello = self.command("admin", doc! { "hello": 1 }).await?;
        let time = hello
            .get_datetime("localTime")
            .map_err(|e| LedgerError::Unavailable(format!("hello without localTime: {e}")))?;
        Ok(Timestamp::from_micros(time.timestamp_millis().saturating_mul(1_000)))
    }

    /// Run a command that does not write, on the primary.
    pub(super) async fn command(
        &self,
        database: &str,
        command: Document,
    ) -> Result<Document, LedgerError> {
        let database = self.collection.client().database(database);
        self.within("a command", async { database.run_command(command).await }).await
    }

    /// Decode and check what `find` gives until there are `bytes` of it.
    async fn commits(
        &self,
        tenant: &Tenant,
        find: Find<'_, RawDocumentBuf>,
        bytes: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        let find = find.max_time(self.options.read_timeout);
        let (batch, mut batches) = self.within("a read", Batches::of(find)).await?;
        let (mut decoder, mut page) = (Decoder::default(), Page::new(tenant, bytes));
        let mut batch = Some(batch);
        while let Some(found) = batch {
            for document in found.documents().map_err(|error| failure::unavailable(&error))? {
                let document = document.map_err(|error| failure::unavailable(&error))?;
                page.push(decoder.decode(document)).await?;
                if page.is_full() {
                    return page.finish();
                }
            }
            batch = self.within("a read", batches.next()).await?;
        }
        page.finish()
    }
}

fn damaged(tenant: &Tenant) -> impl Fn(ChainError) -> LedgerError + '_ {
    |source| LedgerError::Damaged { tenant: tenant.clone(), source }
}
