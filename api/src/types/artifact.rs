//! Artifacts and logs: what is too large for an event.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stella_domain::{
    artifact::{Artifact, ArtifactDigest, Kind},
    ids::StepId,
};
use utoipa::ToSchema;

/// What an event says of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactView {
    /// Its BLAKE3 digest: `b3:` and 64 hex digits.
    #[schema(value_type = String)]
    pub digest: ArtifactDigest,
    /// What its bytes are, such as `application/json`.
    #[schema(value_type = String)]
    pub media_type: Arc<str>,
    /// The file that a plugin left, if it was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub name: Option<Arc<str>>,
    /// How many bytes it has.
    pub size: u64,
}

impl From<Artifact> for ArtifactView {
    fn from(artifact: Artifact) -> Self {
        let Artifact { digest, media_type, name, size } = artifact;
        Self { digest, media_type, name, size }
    }
}

/// What an artifact is to its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ArtifactKind {
    /// A large member of inputs or outputs.
    Value,
    /// A file that a plugin left.
    File,
    /// What a plugin wrote about its work.
    Log,
}

impl ArtifactKind {
    /// The kind as written in answers and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::File => "file",
            Self::Log => "log",
        }
    }
}

impl From<Kind> for ArtifactKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Value => Self::Value,
            Kind::File => Self::File,
            Kind::Log => Self::Log,
        }
    }
}

/// An artifact, and the event that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedArtifact {
    /// `seq` of the event.
    pub seq: u64,
    /// Its type.
    pub event_type: String,
    /// The step that the event is of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub step_id: Option<StepId>,
    /// The attempt, from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempt: Option<u32>,
    /// What it is to the run.
    pub kind: ArtifactKind,
    /// Where it stands in the event's payload: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// The artifact.
    #[serde(flatten)]
    pub artifact: ArtifactView,
}

/// The log that an attempt left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptLogView {
    /// Which, from 1.
    pub attempt: u32,
    /// Where it is.
    pub log: ArtifactView,
}

/// How far a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogSizeView {
    /// Bytes that it has; what is added next begins here.
    pub size: u64,
}
