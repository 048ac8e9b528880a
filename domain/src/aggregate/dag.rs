//! A DAG as an aggregate: immutable versions, one of them active.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Aggregate;
use crate::{
    dag::DagSpec,
    event::{
        Brake, DagEvent, DagPaused, DagRolledBack, DagVersion, DagVersionRegistered, NoData, Reason,
    },
    json::CanonicalJson,
};

/// State of the stream `dag/<dagId>`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dag {
    /// Every version, by number.
    pub versions: BTreeMap<u32, RegisteredVersion>,
    /// What runs start with unless they name a version.
    pub active: Option<u32>,
    /// Whether no run starts, and no step of its runs is leased.
    #[serde(default)]
    pub paused: bool,
    /// Events in the stream.
    pub version: u64,
}

/// One version of a DAG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredVersion")]
pub struct RegisteredVersion {
    /// `b3:` and the hex digest of the canonical spec.
    pub digest: String,
    /// The spec in canonical form.
    pub source: CanonicalJson,
    /// Whether no run starts with it.
    pub disabled: bool,
    /// The spec, compiled. `None` if this build cannot read it: such a version starts nothing.
    #[serde(skip)]
    pub spec: Option<Arc<DagSpec>>,
}

/// A version without what follows from its spec.
#[derive(Deserialize)]
struct StoredVersion {
    digest: String,
    #[serde(deserialize_with = "crate::json::stored")]
    source: CanonicalJson,
    disabled: bool,
}

impl From<StoredVersion> for RegisteredVersion {
    fn from(StoredVersion { digest, source, disabled }: StoredVersion) -> Self {
        let spec = DagSpec::from_stored(&source).ok().map(Arc::new);
        Self { digest, source, disabled, spec }
    }
}

/// What can be asked of a DAG.
#[derive(Debug, Clone)]
pub enum DagCommand {
    /// Add a version, unless one with this digest is there already.
    Register {
        /// The spec, validated.
        spec: Arc<DagSpec>,
        /// In the words of whoever registers it; empty where nothing is said.
        reason: String,
    },
    /// Do something to one of its versions.
    Version {
        /// Its number.
        version: u32,
        /// What.
        change: VersionChange,
        /// In the operator's words.
        reason: String,
    },
    /// Hold all of it back, because too many of its runs start.
    Brake(Brake),
    /// Hold all of it back, or let it go on.
    Pause {
        /// Whether it is held back.
        paused: bool,
        /// In the operator's words.
        reason: String,
    },
}

/// What can be done to a version. Each is safe to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionChange {
    /// Let runs start with it unless they name one.
    Activate,
    /// The same, for a version older than the active one.
    RollBack,
    /// Let no run start with it.
    Disable,
    /// Let runs start with it again.
    Enable,
}

/// Why a DAG refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DagRefusal {
    /// No version was ever registered.
    #[error("there is no DAG of this id: register it with `stella orch dag apply FILE`")]
    Unknown,
    /// There is a DAG, but not this version.
    #[error("this DAG has no version {asked}: its newest is {newest}")]
    UnknownVersion {
        /// As asked for.
        asked: u32,
        /// The newest there is.
        newest: u32,
    },
    /// No run is to start, whatever the version.
    #[error(
        "this DAG is paused, and no run of it starts: `stella orch dag get` says who paused it; \
         go on with `stella orch dag resume`"
    )]
    Paused,
    /// Too many of its runs were started.
    #[error(
        "this DAG has started {starts} runs in {} seconds, which is its budget, and is paused now: \
         `stella orch dag get` says who started them; go on with `stella orch dag resume`",
        window_ms / 1_000
    )]
    BudgetSpent {
        /// Runs.
        starts: u32,
        /// In milliseconds.
        window_ms: u64,
    },
    /// No run is to start with this version.
    #[error(
        "version {version} of this DAG is disabled: start with another version, roll back, or \
         enable it"
    )]
    Disabled {
        /// The version.
        version: u32,
    },
    /// Rolling back leads to an older version.
    #[error(
        "version {asked} of this DAG is not older than version {active}, which is active: to go \
         forward, activate it"
    )]
    NotOlder {
        /// As asked for.
        asked: u32,
        /// The active version.
        active: u32,
    },
    /// The version's spec cannot be read by this build.
    #[error("version {version} of this DAG cannot be read by this release: {reason}")]
    Unreadable {
        /// The version.
        version: u32,
        /// What does not fit.
        reason: String,
    },
}

impl Dag {
    /// The version with this digest, if it is registered.
    pub fn version_of(&self, digest: &str) -> Option<u32> {
        self.versions.iter().find(|(_, v)| v.digest == digest).map(|(number, _)| *number)
    }

    /// What a run would start with: the named version, or the active one.
    ///
    /// # Errors
    /// [`DagRefusal`] says what is missing, or that the version is disabled.
    pub fn startable(&self, asked: Option<u32>) -> Result<(u32, Arc<DagSpec>), DagRefusal> {
        let newest = *self.versions.keys().next_back().ok_or(DagRefusal::Unknown)?;
        if self.paused {
            return Err(DagRefusal::Paused);
        }
        let number = asked.or(self.active).unwrap_or(newest);
        if self.version(number)?.disabled {
            return Err(DagRefusal::Disabled { version: number });
        }
        self.pinned(number)
    }

    /// What a run follows that was started with this version, disabled meanwhile or not.
    ///
    /// # Errors
    /// [`DagRefusal`] says what is missing.
    pub fn pinned(&self, number: u32) -> Result<(u32, Arc<DagSpec>), DagRefusal> {
        let spec = self.version(number)?.spec.clone();
        let spec = spec.ok_or_else(|| DagRefusal::Unreadable {
            version: number,
            reason: "its spec does not hold under this release's rules".to_owned(),
        })?;
        Ok((number, spec))
    }

    /// The versions that no run starts with, ascending.
    pub fn disabled(&self) -> impl Iterator<Item = u32> {
        self.versions.iter().filter(|(_, version)| version.disabled).map(|(number, _)| *number)
    }

    fn version(&self, asked: u32) -> Result<&RegisteredVersion, DagRefusal> {
        let newest = *self.versions.keys().next_back().ok_or(DagRefusal::Unknown)?;
        self.versions.get(&asked).ok_or(DagRefusal::UnknownVersion { asked, newest })
    }

    fn register(&self, spec: &DagSpec, reason: String) -> Vec<DagEvent> {
        if self.version_of(spec.digest()).is_some() {
            return vec![];
        }
        let version = self.versions.keys().next_back().map_or(1, |newest| newest + 1);
        let registered = DagVersionRegistered {
            dag_id: spec.id().clone(),
            digest: spec.digest().to_owned(),
            spec: spec.canonical().clone(),
            version,
        };
        // That a version is there changes nothing; that runs start with it is what has a reason.
        let reason = Some(Reason { reason }).filter(|said| !said.reason.is_empty());
        vec![
            DagEvent::DagVersionRegistered(registered),
            DagEvent::DagVersionActivated(DagVersion { version }, reason),
        ]
    }

    fn pause(&self, paused: bool, reason: String) -> Result<Vec<DagEvent>, DagRefusal> {
        if self.versions.is_empty() {
            return Err(DagRefusal::Unknown);
        }
        if self.paused == paused {
            return Ok(vec![]);
        }
        let reason = Some(Reason { reason });
        Ok(vec![match paused {
            true => DagEvent::DagPaused(DagPaused::default(), reason),
            false => DagEvent::DagResumed(NoData {}, reason),
        }])
    }

    fn brake(&self, brake: Brake) -> Vec<DagEvent> {
        let paused = DagPaused { brake: Some(brake) };
        if self.paused { vec![] } else { vec![DagEvent::DagPaused(paused, None)] }
    }

    fn set_disabled(&mut self, number: u32, disabled: bool) {
        if let Some(version) = self.versions.get_mut(&number) {
            version.disabled = disabled;
        }
    }

    fn change(
        &self,
        number: u32,
        change: VersionChange,
        reason: String,
    ) -> Result<Vec<DagEvent>, DagRefusal> {
        let version = self.version(number)?;
        let reason = Some(Reason { reason });
        let data = DagVersion { version: number };
        let event = match (change, self.active) {
            (VersionChange::Disable, _) if !version.disabled => {
                DagEvent::DagVersionDisabled(data, reason)
            }
            (VersionChange::Enable, _) if version.disabled => {
                DagEvent::DagVersionEnabled(data, reason)
            }
            (VersionChange::Disable | VersionChange::Enable, _) => return Ok(vec![]),
            (_, active) if active == Some(number) => return Ok(vec![]),
            // It would start nothing.
            (VersionChange::Activate | VersionChange::RollBack, _) if version.disabled => {
                return Err(DagRefusal::Disabled { version: number });
            }
            (VersionChange::RollBack, Some(active)) if number > active => {
                return Err(DagRefusal::NotOlder { asked: number, active });
            }
            (VersionChange::RollBack, Some(from)) => {
                DagEvent::DagRolledBack(DagRolledBack { from, to: number }, reason)
            }
            (VersionChange::Activate | VersionChange::RollBack, _) => {
                DagEvent::DagVersionActivated(data, reason)
            }
        };
        Ok(vec![event])
    }
}

impl Aggregate for Dag {
    type Command = DagCommand;
    type Event = DagEvent;
    type Error = DagRefusal;

    fn decide(&self, command: DagCommand) -> Result<Vec<DagEvent>, DagRefusal> {
        match command {
            DagCommand::Register { spec, reason } => Ok(self.register(&spec, reason)),
            DagCommand::Version { version, change, reason } => self.change(version, change, reason),
            DagCommand::Brake(brake) => Ok(self.brake(brake)),
            DagCommand::Pause { paused, reason } => self.pause(paused, reason),
        }
    }

    fn evolve(&mut self, event: &DagEvent) {
        self.version += 1;
        match event {
            DagEvent::DagVersionRegistered(data) => {
                let (digest, source) = (data.digest.clone(), data.spec.clone());
                let version = StoredVersion { digest, source, disabled: false };
                self.versions.insert(data.version, version.into());
            }
            DagEvent::DagVersionActivated(data, _) => self.active = Some(data.version),
            DagEvent::DagRolledBack(data, _) => self.active = Some(data.to),
            DagEvent::DagPaused(..) => self.paused = true,
            DagEvent::DagResumed(..) => self.paused = false,
            DagEvent::DagVersionDisabled(data, _) => self.set_disabled(data.version, true),
            DagEvent::DagVersionEnabled(data, _) => self.set_disabled(data.version, false),
        }
    }
}
