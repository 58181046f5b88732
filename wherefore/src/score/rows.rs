//! The rows of a series as comma-separated values.

use std::{
    fmt,
    io::{self, BufRead},
};

use csv_core::{ReadRecordResult, Reader};

use super::timestamp;
use crate::clean::clean;

/// A longer line is no row; so no file makes the reader's memory grow.
const LONGEST: usize = 1 << 20;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads a series: a header line, then a line for each row (RFC 4180 quoting, line feeds or CR LF, a byte order mark
/// allowed). Column 1 is the time, column 2 the value, whatever they are called; further ones are passed over, and so
/// are empty lines. No row has more than one line, so that a quote that is never closed spoils its own row alone.
pub struct Rows<R> {
    input: R,
    parser: Reader,
    line: Vec<u8>,
    fields: Vec<u8>,
    /// Number of `line` in the file, the header being line 1.
    number: u64,
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// When.
    pub time: jiff::Timestamp,
    /// The same as it was written.
    pub timestamp: String,
    /// The value; finite.
    pub value: f64,
    /// The same as it was written.
    pub written: String,
}

/// A line that is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Which, the header being line 1.
    pub line: u64,
    /// Why not, and what is allowed.
    pub reason: Reason,
}

/// Why a line is no row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There is no first line.
    #[error("the file is empty: give a header line, then rows of timestamp,value")]
    NoHeader,
    /// More bytes than any row has.
    #[error("the line is longer than 1 MiB")]
    TooLong,
    /// One column.
    #[error("there is no second column: give timestamp,value")]
    NoValue,
    /// Column 1 is no time.
    #[error(
        "column 1: \"{0}\" is no time; give whole seconds since 1970, as in 1700000000, or \
         2023-11-14 22:13:20, or RFC 3339, as in 2023-11-14T22:13:20Z"
    )]
    Time(String),
    /// Column 2 is no finite number.
    #[error("column 2: \"{0}\" is no finite number; give one as in 12, -0.5 or 1e6")]
    Value(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.reason)
    }
}

enum Line {
    End,
    TooLong,
    Whole,
}

impl<R: BufRead> Rows<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// What the system or the decompressor says. A file without a header is no error: its first row is malformed.
    pub fn new(input: R) -> io::Result<Self> {
        let mut rows = Self { input, parser: Reader::new(), line: Vec::new(), fields: Vec::new(), number: 0 };
        rows.read_line()?;
        Ok(rows)
    }

    /// Whether the header looks like a row: a series without a header loses its first row.
    #[must_use]
    pub fn header_is_a_row(&mut self) -> bool {
        let line = self.line.strip_prefix(BOM).unwrap_or(&self.line);
        row(&mut self.parser, line, &mut self.fields).is_ok()
    }

    /// What is read from.
    pub const fn input(&self) -> &R {
        &self.input
    }

    /// The next row, or the line that is none; `None` at the end.
    ///
    /// # Errors
    /// As [`Rows::new`]. There are no rows behind one.
    pub fn read(&mut self) -> io::Result<Option<Result<Row, Malformed>>> {
        let malformed = |line, reason| Ok(Some(Err(Malformed { line, reason })));
        if self.number == 0 {
            self.number = 1;
            return malformed(1, Reason::NoHeader);
        }
        loop {
            match self.read_line()? {
                Line::End => return Ok(None),
                Line::TooLong => return malformed(self.number, Reason::TooLong),
                Line::Whole if self.line.is_empty() => {}
                Line::Whole => break,
            }
        }
        let number = self.number;
        Ok(Some(
            row(&mut self.parser, &self.line, &mut self.fields)
                .map_err(|reason| Malformed { line: number, reason }),
        ))
    }

    /// Reads a line without its end.
    fn read_line(&mut self) -> io::Result<Line> {
        self.line.clear();
        let limit = LONGEST as u64 + 1;
        let read = io::Read::take(&mut self.input, limit).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(Line::End);
        }
        self.number += 1;
        if self.line.len() > LONGEST && self.line.last() != Some(&b'\n') {
            self.input.skip_until(b'\n')?;
            return Ok(Line::TooLong);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        }
        while self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Ok(Line::Whole)
    }
}

/// The row that a line holds. `fields`: where its fields are unquoted.
fn row(parser: &mut Reader, line: &[u8], fields: &mut Vec<u8>) -> Result<Row, Reason> {
    let (timestamp, written) = first_two(parser, line, fields);
    let time = timestamp::parse(text(timestamp).unwrap_or_default());
    let (Some(time), Some(timestamp)) = (time, text(timestamp)) else {
        return Err(Reason::Time(shown(timestamp)));
    };
    let Some(written) = written else { return Err(Reason::NoValue) };
    let value =
        text(written).and_then(|text| text.trim().parse().ok()).filter(|value: &f64| value.is_finite());
    let (Some(value), Some(written)) = (value, text(written)) else {
        return Err(Reason::Value(shown(written)));
    };
    Ok(Row { time, timestamp: timestamp.to_owned(), value, written: written.to_owned() })
}

/// Columns 1 and 2, unquoted.
fn first_two<'a>(
    parser: &mut Reader,
    mut line: &[u8],
    fields: &'a mut Vec<u8>,
) -> (&'a [u8], Option<&'a [u8]>) {
    parser.reset();
    // Unquoting makes nothing longer.
    fields.resize(line.len() + 1, 0);
    let (mut ends, mut written, mut found) = ([0; 2], 0, 0);
    while found < ends.len() {
        let (result, read, wrote, ended) =
            parser.read_record(line, &mut fields[written..], &mut ends[found..]);
        line = &line[read..];
        written += wrote;
        found += ended;
        match result {
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::OutputFull
            | ReadRecordResult::OutputEndsFull
            | ReadRecordResult::Record
            | ReadRecordResult::End => break,
        }
    }
    let first = &fields[..ends[0]];
    (first, (found > 1).then(|| &fields[ends[0]..ends[1]]))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Outside text for a message: harmless, and not too long.
fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 40;
    let text = String::from_utf8_lossy(bytes);
    let start: String = text.chars().take(LONGEST).collect();
    let more = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("{}{more}", clean(&start))
}
