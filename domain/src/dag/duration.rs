//! Durations as an author writes them: `500ms`, `30s`, `5m`, `2h`, `1d`.

/// Longest duration in a spec, in milliseconds: 7 days.
pub const MAX_DURATION_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Milliseconds that `text` spells, from 1 to [`MAX_DURATION_MS`].
///
/// # Errors
/// What is wrong, and what to write.
pub fn parse_ms(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(not_a_duration(text)),
    };
    if number.is_empty() {
        return Err(not_a_duration(text));
    }
    // Only too many digits make this fail, and that is beyond the limit as well.
    let ms = number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(unit_ms);
    if (1..=MAX_DURATION_MS).contains(&ms) {
        Ok(ms)
    } else {
        Err(format!("duration {text:?} is out of range: it must be from 1ms to 7d"))
    }
}

/// A duration as an author would write it.
pub(crate) fn spell_ms(ms: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let (unit, unit_ms) =
        units.into_iter().find(|(_, of)| ms.is_multiple_of(*of)).unwrap_or(("ms", 1));
    format!("{}{unit}", ms / unit_ms)
}

fn not_a_duration(text: &str) -> String {
    format!(
        "{text:?} is not a duration: write a whole number and ms, s, m, h or d, such as \"30s\" \
         or \"90m\""
    )
}
