//! The rows of the read models.
//!
//! Members of every struct stand in the order of their names, so that writing one gives canonical
//! JSON at once; a debug assertion and the tests hold that.

mod control;
mod dag;
mod run;
mod schedule;
mod step;
mod tally;

use serde::{Serialize, de::DeserializeOwned};
use stella_domain::json::CanonicalJson;

pub use self::{control::*, dag::*, run::*, schedule::*, step::*, tally::*};
use crate::{
    error::ProjectionError,
    model::{Model, Value},
    store::db_int,
};

/// A row of a read model.
pub(crate) trait Row: Serialize + DeserializeOwned {
    /// The model it belongs to.
    const MODEL: Model;

    /// The values of the columns of [`Model::columns`], `text` being the row's.
    fn bind(&self, text: String, values: &mut Vec<Value>);

    /// The row as canonical JSON.
    fn to_text(&self) -> String {
        let mut text = Vec::with_capacity(768);
        // Plain structs of strings, integers and canonical JSON: serialising them cannot fail.
        let written = serde_json::to_writer(&mut text, self).is_ok();
        debug_assert!(written);
        let text = String::from_utf8(text).unwrap_or_default();
        debug_assert_eq!(
            CanonicalJson::parse(&text).as_ref().map(CanonicalJson::as_str),
            Ok(text.as_str())
        );
        text
    }

    /// The row that `text` spells.
    fn from_text(text: &str) -> Result<Self, ProjectionError> {
        serde_json::from_str(text).map_err(|e| ProjectionError::BadRow {
            table: Self::MODEL.table(),
            key: text.chars().take(80).collect(),
            reason: e.to_string(),
        })
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Int(db_int(n))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, T::into)
    }
}
