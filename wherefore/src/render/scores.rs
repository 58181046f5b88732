//! The scores of a series, row by row.

use std::io::{self, Write};

use serde::Serialize;

use super::text::csv_line;
use crate::score::{Row, Scored};

/// How scores are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The header `timestamp,value,score,alert`, then a line for each row.
    #[default]
    Csv,
    /// One JSON array, an object a line.
    Json,
    /// One JSON object per row and line.
    Jsonl,
}

/// Prints rows as they come.
pub struct Printer<W> {
    to: W,
    format: Format,
    rows: u64,
}

/// A row as JSON. The score reads back exactly, as any number in this form.
#[derive(Serialize)]
struct Object<'a> {
    timestamp: &'a str,
    value: f64,
    score: f64,
    alert: u8,
}

impl<W: Write> Printer<W> {
    /// Prints what stands before the first row.
    ///
    /// # Errors
    /// What the system says, as of all of these.
    pub fn new(mut to: W, format: Format) -> io::Result<Self> {
        match format {
            Format::Csv => to.write_all(csv_line(["timestamp", "value", "score", "alert"]).as_bytes())?,
            Format::Json => to.write_all(b"[")?,
            Format::Jsonl => {}
        }
        Ok(Self { to, format, rows: 0 })
    }

    /// Prints a row; time and value as they were written. As JSON the value is a number.
    ///
    /// # Errors
    /// What the system says.
    pub fn row(&mut self, row: &Row, scored: Scored) -> io::Result<()> {
        let alert = u8::from(scored.alert);
        let first = self.rows == 0;
        self.rows += 1;
        if self.format == Format::Csv {
            let (score, alert) = (scored.score.to_string(), alert.to_string());
            let fields = [&row.timestamp, &row.written, &score, &alert];
            return self.to.write_all(csv_line(fields).as_bytes());
        }
        if self.format == Format::Json {
            self.to.write_all(if first { b"\n" } else { b",\n" })?;
        }
        let object = Object { timestamp: &row.timestamp, value: row.value, score: scored.score, alert };
        serde_json::to_writer(&mut self.to, &object)?;
        if self.format == Format::Jsonl {
            self.to.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Hands on what was printed so far.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// Prints what stands behind the last row.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(mut self) -> io::Result<()> {
        if self.format == Format::Json {
            self.to.write_all(if self.rows == 0 { b"]\n" } else { b"\n]\n" })?;
        }
        self.to.flush()
    }
}
