//! The figures of one run, as a table for people and as JSON for programs.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

/// What was measured, by row and then by ledger.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// The machine, in a line.
    pub(crate) machine: String,
    /// The commit measured, with `+` if the tree had changes.
    pub(crate) commit: String,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    unit: &'static str,
    values: BTreeMap<String, f64>,
}

impl Figures {
    pub(crate) fn new(machine: String, commit: String) -> Self {
        Self { machine, commit, rows: vec![] }
    }

    pub(crate) fn put(&mut self, name: &str, unit: &'static str, ledger: &str, value: f64) {
        eprintln!("  {ledger:8} {name}: {} {unit}", show(value));
        let row = match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row,
            None => {
                self.rows.push(Row { name: name.to_owned(), unit, values: BTreeMap::new() });
                let last = self.rows.len() - 1;
                &mut self.rows[last]
            }
        };
        row.values.insert(ledger.to_owned(), value);
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["figure", "unit", "mongodb", "sqlite"]);
        for row in &self.rows {
            let value = |ledger: &str| {
                let text = row.values.get(ledger).map_or_else(String::new, |v| show(*v));
                Cell::new(text).set_alignment(CellAlignment::Right)
            };
            let (name, unit) = (Cell::new(&row.name), Cell::new(row.unit));
            table.add_row([name, unit, value("mongodb"), value("sqlite")]);
        }
        table
    }
}

fn show(value: f64) -> String {
    match value {
        v if v >= 1000.0 => {
            let whole = format!("{v:.0}");
            let groups: Vec<&str> = whole
                .as_bytes()
                .rchunks(3)
                .rev()
                .map(|digits| std::str::from_utf8(digits).unwrap_or_default())
                .collect();
            groups.join(",")
        }
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
