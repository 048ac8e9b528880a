//! Points in time as the ledger writes them.

use std::{fmt, ops::Range};

use chrono::{DateTime, Datelike as _, Timelike as _};
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

/// A time's text, in place. Times stand in every header and several times in every row of a read
/// model, where a general formatter is a good part of what writing them costs.
struct Text([u8; 27]);

impl Text {
    fn of(time: Timestamp) -> Self {
        let time = DateTime::from_timestamp_micros(time.0).unwrap_or_default().naive_utc();
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut digits = |at: Range<usize>, mut number: u32| {
            for digit in text[at].iter_mut().rev() {
                // Exact: below ten.
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        // No time lies outside the years 0 to 9999.
        digits(0..4, time.year().unsigned_abs());
        digits(5..7, time.month());
        digits(8..10, time.day());
        digits(11..13, time.hour());
        digits(14..16, time.minute());
        digits(17..19, time.second());
        digits(20..26, time.nanosecond() / 1000);
        Self(text)
    }

    fn as_str(&self) -> &str {
        // It cannot fail: digits and separators are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Text::of(*self).as_str())
    }
}

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;
    /// Strict: exactly the ledger's form.
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let time = Self::parse_lenient(text)?;
        if Text::of(time).as_str() == text {
            Ok(time)
        } else {
            Err(TimestampError(text.to_owned()))
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Text::of(*self).as_str())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed::from_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{SecondsFormat, Utc};

    use super::*;

    #[test]
    fn the_text_is_rfc_3339_from_the_first_year_to_the_last() {
        let last = Timestamp::from_micros(i64::MAX).as_micros();
        let mut micros = Timestamp::from_micros(i64::MIN).as_micros();
        // A prime number of microseconds, some eleven days: all months, leap days, hours, digits.
        while micros <= last {
            let time = DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
            let expected = time.to_rfc3339_opts(SecondsFormat::Micros, true);
            assert_eq!(Timestamp::from_micros(micros).to_string(), expected);
            micros += 999_999_999_989;
        }
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp::from_micros(i64::MIN).to_string(), "0000-01-01T00:00:00.000000Z");
    }

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
