//! Plugins as workers say that they have them.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::ids::{PluginDigest, PluginName, PluginVersion};

/// Which build of a plugin a worker has, as far as it says so. A copy allocates nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginBuild {
    /// The digest of its files.
    pub digest: Option<PluginDigest>,
    /// Its version.
    pub version: Option<PluginVersion>,
}

/// A plugin that a worker has.
///
/// In JSON its name alone, or an object `{name, version?, digest?}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerPlugin {
    /// The plugin.
    pub name: PluginName,
    /// What the worker says of it.
    pub build: PluginBuild,
}

impl From<PluginName> for WorkerPlugin {
    fn from(name: PluginName) -> Self {
        Self { name, build: PluginBuild::default() }
    }
}

/// The longer form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Described {
    name: PluginName,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    version: Option<PluginVersion>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    digest: Option<PluginDigest>,
}

impl Serialize for WorkerPlugin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { name, build: PluginBuild { digest, version } } = self.clone();
        if digest.is_none() && version.is_none() {
            return name.serialize(serializer);
        }
        Described { name, version, digest }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WorkerPlugin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = WorkerPlugin;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plugin's name, or an object with name, version and digest")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<WorkerPlugin, E> {
        let name: PluginName = name.parse().map_err(E::custom)?;
        Ok(name.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WorkerPlugin, A::Error> {
        let Described { name, version, digest } =
            Described::deserialize(MapAccessDeserializer::new(map)).map_err(A::Error::custom)?;
        Ok(WorkerPlugin { name, build: PluginBuild { digest, version } })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn a_plugin_is_a_name_or_an_object() {
        let digest = format!("b3:{}", "0a".repeat(32));
        for text in [
            r#""core""#.to_owned(),
            r#"{"name":"scan","version":"1.2.0+build/7"}"#.to_owned(),
            format!(r#"{{"name":"scan","version":"1","digest":"{digest}"}}"#),
        ] {
            let plugin: WorkerPlugin = serde_json::from_str(&text).expect(&text);
            assert_eq!(serde_json::to_string(&plugin).expect(&text), text);
        }
        let bare: WorkerPlugin = serde_json::from_str(r#"{"name":"core"}"#).expect("no build");
        assert_eq!(bare, "core".parse::<PluginName>().expect("a name").into());
    }

    #[test]
    fn what_is_no_plugin_is_refused() {
        let long = format!(r#"{{"name":"scan","version":"{}"}}"#, "1".repeat(65));
        for (text, reason) in [
            ("1", "a plugin's name, or an object"),
            (r#""a b""#, "not a valid plugin name"),
            (r#"{"version":"1"}"#, "missing field `name`"),
            (r#"{"name":"scan","version":""}"#, "not a valid plugin version"),
            (r#"{"name":"scan","version":"1 0"}"#, "not a valid plugin version"),
            (long.as_str(), "not a valid plugin version"),
            (r#"{"name":"scan","digest":"b3:XY"}"#, "not a valid plugin digest"),
            (r#"{"name":"scan","colour":"red"}"#, "unknown field `colour`"),
        ] {
            let error = serde_json::from_str::<WorkerPlugin>(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
