//! A DAG as an aggregate: immutable versions, one of them active.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Aggregate;
use crate::{
    dag::DagSpec,
    event::{DagEvent, DagVersion, DagVersionRegistered},
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
    /// Events in the stream.
    pub version: u64,
}

/// One version of a DAG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegisteredVersion {
    /// `b3:` and the hex digest of the canonical spec.
    pub digest: String,
    /// The spec in canonical form.
    pub source: CanonicalJson,
    /// The spec, compiled. `None` if this build cannot read it: such a version starts nothing.
    #[serde(skip)]
    pub spec: Option<Arc<DagSpec>>,
}

/// What can be asked of a DAG.
#[derive(Debug, Clone)]
pub enum DagCommand {
    /// Add a version, unless one with this digest is there already.
    Register {
        /// The spec, validated.
        spec: Arc<DagSpec>,
    },
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
    /// [`DagRefusal`] says what is missing.
    pub fn startable(&self, asked: Option<u32>) -> Result<(u32, Arc<DagSpec>), DagRefusal> {
        let newest = *self.versions.keys().next_back().ok_or(DagRefusal::Unknown)?;
        let number = asked.or(self.active).unwrap_or(newest);
        let version = self
            .versions
            .get(&number)
            .ok_or(DagRefusal::UnknownVersion { asked: number, newest })?;
        let spec = version.spec.clone().ok_or_else(|| DagRefusal::Unreadable {
            version: number,
            reason: "its spec does not hold under this release's rules".to_owned(),
        })?;
        Ok((number, spec))
    }
}

impl Aggregate for Dag {
    type Command = DagCommand;
    type Event = DagEvent;
    type Error = DagRefusal;

    fn decide(&self, command: DagCommand) -> Result<Vec<DagEvent>, DagRefusal> {
        let DagCommand::Register { spec } = command;
        if self.version_of(spec.digest()).is_some() {
            return Ok(vec![]);
        }
        let version = self.versions.keys().next_back().map_or(1, |newest| newest + 1);
        let registered = DagVersionRegistered {
            dag_id: spec.id().clone(),
            digest: spec.digest().to_owned(),
            spec: spec.canonical().clone(),
            version,
        };
        Ok(vec![
            DagEvent::DagVersionRegistered(registered),
            DagEvent::DagVersionActivated(DagVersion { version }),
        ])
    }

    fn evolve(&mut self, event: &DagEvent) {
        self.version += 1;
        match event {
            DagEvent::DagVersionRegistered(data) => {
                let version = RegisteredVersion {
                    digest: data.digest.clone(),
                    source: data.spec.clone(),
                    spec: DagSpec::from_stored(&data.spec).ok().map(Arc::new),
                };
                self.versions.insert(data.version, version);
            }
            DagEvent::DagVersionActivated(data) => self.active = Some(data.version),
        }
    }
}
