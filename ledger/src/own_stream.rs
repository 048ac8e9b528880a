//! What is done to a ledger as a whole stands in a stream of its own, together with each erasure. It
//! is read from a snapshot on: nobody waits longer because much was erased.

use stella_domain::{
    aggregate::{Aggregate as _, Ledger as Fold},
    event::{Event, LedgerEvent, SigningKeyRotated},
    hash::Hash32,
    ids::{StreamId, Tenant},
    time::Timestamp,
};

use crate::{
    port::{Ledger, LedgerError, READ_LIMIT},
    recorded::Recorded,
    snapshots::{ReadOn, SNAPSHOT_EVERY, Snapshot, Snapshots, read_on},
};

/// The stream of one tenant's ledger, and what it folds to.
pub(crate) struct OwnStream<'l> {
    ledger: &'l dyn Ledger,
    tenant: &'l Tenant,
    stream: StreamId,
    fold: Fold,
}

impl<'l> OwnStream<'l> {
    /// Fold it, page by page where there is no snapshot that fits.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn read(
        ledger: &'l dyn Ledger,
        snapshots: &dyn Snapshots,
        tenant: &'l Tenant,
    ) -> Result<Self, LedgerError> {
        let stream = StreamId::Ledger(tenant.clone());
        let parse = |state: &str| serde_json::from_str(state).ok();
        let read = read_on(ledger, snapshots, tenant, &stream, parse).await?;
        let (fold, kept, commits) = match read {
            Some(ReadOn { fold, version, commits }) => (fold, version, commits),
            None => (Fold::default(), 0, vec![]),
        };
        let mut own = Self { ledger, tenant, stream, fold };
        let mut last = own.evolve(&commits);
        if kept == 0 {
            last = own.read_whole().await?;
        }
        if own.fold.version >= kept + SNAPSHOT_EVERY
            && let (Some(hash), Ok(state)) = (last, serde_json::to_string(&own.fold))
        {
            let snapshot = Snapshot { version: own.fold.version, hash, state };
            snapshots.keep(tenant, &own.stream, snapshot);
        }
        Ok(own)
    }

    /// Its last event's hash.
    async fn read_whole(&mut self) -> Result<Option<Hash32>, LedgerError> {
        let mut last = None;
        loop {
            let next = self.fold.version + 1;
            let page = self.ledger.read_stream(self.tenant, &self.stream, next, READ_LIMIT).await?;
            if page.is_empty() {
                return Ok(last);
            }
            let page = page.into_iter().map(Recorded::decode).collect::<Result<Vec<_>, _>>()?;
            last = self.evolve(&page);
        }
    }

    /// The hash of the last event of `commits`.
    fn evolve(&mut self, commits: &[Recorded]) -> Option<Hash32> {
        for event in commits.iter().flat_map(|recorded| &recorded.events) {
            if let Event::Ledger(event) = event {
                self.fold.evolve(event);
            }
        }
        commits.last().map(|recorded| recorded.commit.head().hash)
    }

    /// When a clock fault was last accepted.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn clock_fault_accepted_at(&self) -> Result<Option<Timestamp>, LedgerError> {
        let Some(version) = self.fold.clock_fault_accepted_at else { return Ok(None) };
        let (recorded, _) = self.at(version).await?;
        Ok(Some(recorded.commit.recorded_at))
    }

    /// Every rotation of the signing key, with its seq.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn rotations(&self) -> Result<Vec<(u64, SigningKeyRotated)>, LedgerError> {
        let mut rotations = vec![];
        for version in &self.fold.rotated_at {
            let (recorded, i) = self.at(*version).await?;
            if let Some(Event::Ledger(LedgerEvent::SigningKeyRotated(rotation))) =
                recorded.events.get(i)
            {
                rotations.push((recorded.commit.seq + i as u64, (**rotation).clone()));
            }
        }
        Ok(rotations)
    }

    /// The commit that holds this version, and where in it.
    async fn at(&self, version: u64) -> Result<(Recorded, usize), LedgerError> {
        let read = self.ledger.read_stream(self.tenant, &self.stream, version, 1).await?;
        let holding = read.into_iter().next().and_then(|commit| {
            let i = usize::try_from(version.checked_sub(commit.stream_version)?).ok()?;
            (i < commit.events.len()).then_some((commit, i))
        });
        let (commit, i) = holding.ok_or_else(|| LedgerError::Malformed {
            id: format!("{} of {}", self.stream, self.tenant),
            reason: format!("its version {version}, read a moment ago, is not there"),
        })?;
        Ok((Recorded::decode(commit)?, i))
    }
}
