//! What a person or a script reads: tables, JSON, CSV, the live table. Pure, except for [`print()`].

pub mod alerts;
pub mod flows;
pub mod live;
pub mod scores;
pub mod summary;
pub mod table;
pub mod text;
pub mod tuning;

use std::io::{self, Write as _};

pub use flows::render as flows;
pub use live::{LiveView, Totals, closing, interval_line, live_table, too_short};
pub use summary::{KeyKind, Report, Row, Summary, Unaccounted};

/// How a command prints its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: units rounded, the largest rows only.
    #[default]
    Table,
    /// One JSON object on one line.
    Json,
    /// One JSON object per row and line.
    Jsonl,
    /// A header line, then one line per row (RFC 4180 quoting, lines end in a line feed).
    Csv,
}

/// What a command prints, by stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output, line feeds included.
    pub out: String,
    /// Standard error: what a reader of the data must know but a parser of it must not meet.
    pub err: String,
}

/// Writes `text` to standard output. A reader that went away (`| head`) is no error.
///
/// # Errors
/// Any other failure to write, such as a full disk.
pub fn print(text: &str) -> io::Result<()> {
    write_quietly(&mut io::stdout().lock(), text)
}

/// Writes `text` and flushes; a broken pipe counts as success.
///
/// # Errors
/// As [`print()`].
pub fn write_quietly(to: &mut impl io::Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

impl Output {
    /// Prints both streams. A failure of standard error is not reported: there is nowhere left to.
    ///
    /// # Errors
    /// As [`print()`].
    pub fn print(&self) -> io::Result<()> {
        print(&self.out)?;
        let _ = io::stderr().lock().write_all(self.err.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_broken_pipe_is_forgiven() {
        assert!(write_quietly(&mut Broken(io::ErrorKind::BrokenPipe), "x").is_ok());
        assert!(write_quietly(&mut Broken(io::ErrorKind::StorageFull), "x").is_err());
    }
}
