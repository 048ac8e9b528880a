//! Points in time as the ledger writes them.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::parsed;

/// A point in time in microseconds since 1970-01-01T00:00:00Z.
///
/// Its text is the ledger's: `YYYY-MM-DDTHH:MM:SS.ffffffZ`, always six digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// Why a text is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a point in time: write it as 2026-11-23T09:00:00.000000Z (UTC)")]
pub struct TimestampError(String);

impl Timestamp {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);

    /// From microseconds since the epoch; values outside the years 0 to 9999 are clamped.
    pub fn from_micros(micros: i64) -> Self {
        const FIRST: i64 = -62_167_219_200_000_000;
        const LAST: i64 = 253_402_300_799_999_999;
        Self(micros.clamp(FIRST, LAST))
    }

    /// Microseconds since the epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// This time and `ms` milliseconds.
    pub fn plus_ms(self, ms: u64) -> Self {
        let micros = i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000);
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// Milliseconds from `earlier` to this; zero when `earlier` is later.
    pub fn ms_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0) / 1000).unwrap_or(0)
    }

    /// Read any RFC 3339 text: people write windows by hand, with fewer digits or an offset.
    ///
    /// # Errors
    /// [`TimestampError`] when it is not RFC 3339.
    pub fn parse_lenient(text: &str) -> Result<Self, TimestampError> {
        let parsed =
            DateTime::parse_from_rfc3339(text).map_err(|_| TimestampError(text.to_owned()))?;
        Ok(Self::from_micros(parsed.timestamp_micros()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_micros(self.0).unwrap_or_default();
        f.pad(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;
    /// Strict: exactly the ledger's form.
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let time = Self::parse_lenient(text)?;
        if time.to_string() == text { Ok(time) } else { Err(TimestampError(text.to_owned())) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed::from_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ledgers_form_is_strict() {
        let text = "2026-11-23T09:00:00.000001Z";
        assert_eq!(text.parse::<Timestamp>().map(|t| t.to_string()), Ok(text.to_owned()));
        for other in ["2026-11-23T09:00:00Z", "2026-11-23T10:00:00.000001+01:00", "yesterday"] {
            assert!(other.parse::<Timestamp>().is_err(), "{other}");
        }
        assert_eq!(
            Timestamp::parse_lenient("1970-01-01T01:00:00+01:00").map(|t| t.as_micros()),
            Ok(0)
        );
    }
}
