//! Aligned columns, as wide as they need to be: lines are cut by the terminal, not by us.

use comfy_table::{CellAlignment, ContentArrangement, presets};
use stella_api::types::MarkView;
use stella_domain::time::Timestamp;

/// Rows under headings.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// A table with these headings; those that end with `#` are numbers, aligned to the right.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.iter().map(|heading| heading.trim_end_matches('#')));
        for (column, heading) in table.column_iter_mut().zip(headings) {
            column.set_padding((0, 2));
            if heading.ends_with('#') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// Add a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells.map(|cell| one_line(&cell)));
    }

    /// The text; with `none` in the place of no rows.
    pub(crate) fn text(&self, none: &str) -> String {
        if self.0.row_count() == 0 { none.to_owned() } else { trimmed(&self.0) }
    }
}

/// Names and values, one a line; empty values are left out.
pub(crate) fn details(rows: &[(&str, String)]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        table.add_row([format!("{name}:"), one_line(value)]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    trimmed(&table)
}

fn trimmed(table: &comfy_table::Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// What people and plugins wrote may hold anything: nothing in it may steer the terminal or break
/// the table.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Who did something, when and why.
pub(crate) fn by(mark: &MarkView) -> String {
    let reason = mark.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    one_line(&format!("by {} since {}{reason}", mark.actor, time(mark.at)))
}

/// A time as tables show it: UTC, milliseconds.
pub(crate) fn time(time: Timestamp) -> String {
    let text = time.to_string();
    // `YYYY-MM-DDTHH:MM:SS.ffffffZ`; the year 10000 does not come.
    match text.get(..23) {
        Some(shown) => format!("{}Z", shown.replacen('T', " ", 1)),
        None => text,
    }
}

/// As [`time`], and `-` where there is none.
pub(crate) fn time_or_dash(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), time)
}

/// How long something took here, with the unit that fits.
pub(crate) fn elapsed(took: std::time::Duration) -> String {
    match u64::try_from(took.as_millis()) {
        Ok(0) => format!("{} µs", took.as_micros()),
        Ok(ms) => duration(ms),
        Err(_) => duration(u64::MAX),
    }
}

/// A duration in milliseconds, with the unit that fits.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{:03} s", ms / 1_000, ms % 1_000),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_not_padded() {
        let mut table = Table::new(&["NAME", "EVENTS#"]);
        table.row(["a".into(), "7".into()]);
        table.row(["long\u{1b}[31m name\n".into(), "1234".into()]);
        assert_eq!(
            table.text("none"),
            "NAME             EVENTS\na                     7\nlong [31m name     1234\n"
        );
        assert_eq!(Table::new(&["NAME"]).text("none"), "none");
    }

    #[test]
    fn details_leave_out_what_is_empty() {
        let rows = [("run", "X".to_owned()), ("error", String::new()), ("status", "ok".to_owned())];
        assert_eq!(details(&rows), "run:     X\nstatus:  ok\n");
    }

    #[test]
    fn times_and_durations() {
        assert_eq!(
            time("2026-11-23T09:00:00.000001Z".parse().unwrap()),
            "2026-11-23 09:00:00.000Z"
        );
        for (ms, text) in
            [(7, "7 ms"), (1_500, "1.500 s"), (61_000, "1 min 1 s"), (7_260_000, "2 h 1 min")]
        {
            assert_eq!(duration(ms), text);
        }
    }
}
