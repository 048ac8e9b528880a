//! Loading plugins again.

use serde::{Deserialize, Serialize};
use stella_domain::{
    ids::{PluginDigest, PluginName, PluginVersion, WorkerId},
    time::Timestamp,
};
use utoipa::ToSchema;

/// Plugins were asked for anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmView {
    /// What workers in processes of their own are told as `warm`. They load their bundles before they
    /// next ask for work; `GET /workers` shows what each has then.
    #[schema(value_type = String, format = DateTime)]
    pub warm: Timestamp,
    /// What came of the bundles of this server, by plugin.
    pub bundles: Vec<WarmedBundle>,
    /// The workers that were asked, by id: those that this server has heard of in the last two minutes.
    /// The one in its process, which has the server's bundles, is among them.
    #[schema(value_type = Vec<String>)]
    pub workers: Vec<WorkerId>,
}

/// A bundle that was loaded again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmedBundle {
    /// The plugin.
    #[schema(value_type = String)]
    pub plugin: PluginName,
    /// The version that was there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub version_before: Option<PluginVersion>,
    /// The digest that was there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub digest_before: Option<PluginDigest>,
    /// The version that is there now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub version: Option<PluginVersion>,
    /// The digest that is there now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub digest: Option<PluginDigest>,
    /// Why the one before is kept, if what is in its directory cannot be used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kept_because: Option<String>,
}
