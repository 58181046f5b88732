//! Figures as a table for people and as JSON for scripts.

use std::fmt;

use anyhow::Result;
use serde_json::{Map, Value, json};

/// What one measurement found.
#[derive(Debug)]
pub struct Table {
    /// Short name, the key in JSON.
    pub name: &'static str,
    /// What was measured, how, and in which unit.
    pub about: String,
    /// Head of each column behind the first, which names the row.
    pub columns: Vec<String>,
    /// Rows: a name and a cell for each column.
    pub rows: Vec<(String, Vec<Cell>)>,
}

/// One figure.
#[derive(Clone, Debug)]
pub enum Cell {
    /// A number, and how many of its decimals say something.
    Number(f64, usize),
    /// Why there is no number.
    Text(String),
}

impl From<Option<f64>> for Cell {
    /// A whole number; where there is none, a dash.
    fn from(value: Option<f64>) -> Self {
        value.map_or_else(|| Self::Text("-".into()), |value| Self::Number(value, 0))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value, decimals) => write!(f, "{value:.decimals$}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Table {
    /// As a Markdown table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head =
            std::iter::once(self.name.to_owned()).chain(self.columns.iter().cloned()).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|(name, cells)| {
                std::iter::once(name.clone()).chain(cells.iter().map(ToString::to_string)).collect()
            })
            .collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.chain(head.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        writeln!(f, "{}\n", self.about)?;
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String]| {
            for (place, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
                if place == 0 { write!(f, "| {cell:width$} |")? } else { write!(f, " {cell:>width$} |")? }
            }
            writeln!(f)
        };
        line(f, &head)?;
        for (place, &width) in widths.iter().enumerate() {
            let dashes = "-".repeat(width);
            if place == 0 { write!(f, "| {dashes} |")? } else { write!(f, " {}: |", &dashes[1..])? }
        }
        writeln!(f)?;
        for row in &rows {
            line(f, row)?;
        }
        Ok(())
    }
}

/// All tables of a run.
pub struct Report {
    short: bool,
    tables: Vec<Table>,
}

impl Report {
    /// Without tables yet; `short` says that the figures are worth nothing.
    pub const fn new(short: bool) -> Self {
        Self { short, tables: Vec::new() }
    }

    /// Takes a table in.
    pub fn add(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// The run as JSON: by table, row and column.
    ///
    /// # Errors
    /// None that a table could cause.
    pub fn json(&self) -> Result<String> {
        let cell = |cell: &Cell| match cell {
            Cell::Number(value, _) => json!(value),
            Cell::Text(text) => json!(text),
        };
        let tables: Map<String, Value> = self
            .tables
            .iter()
            .map(|table| {
                let rows: Map<String, Value> = table
                    .rows
                    .iter()
                    .map(|(name, cells)| {
                        let row: Map<String, Value> =
                            table.columns.iter().cloned().zip(cells.iter().map(cell)).collect();
                        (name.clone(), Value::Object(row))
                    })
                    .collect();
                (table.name.to_owned(), json!({ "about": table.about, "rows": rows }))
            })
            .collect();
        let host = nix::sys::utsname::uname()?;
        let report = json!({
            "kernel": host.release().to_string_lossy(),
            "machine": host.machine().to_string_lossy(),
            "short": self.short,
            "tables": tables,
        });
        Ok(serde_json::to_string_pretty(&report)? + "\n")
    }
}
