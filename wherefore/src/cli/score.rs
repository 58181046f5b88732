//! `wherefore score`: how unusual each value of a series is.

use std::{
    io::{self, BufReader, BufWriter},
    path::Path,
};

use super::{
    args::{CommonArgs, ScoreArgs},
    detection,
    failure::Failure,
    say,
};
use crate::{
    backend,
    config::exit,
    input,
    render::scores::Printer,
    score::{Alerting, Row, Rows},
};

/// Scores a series and prints it; the exit code. `original`, `warnings`: what the original's flags came to.
///
/// # Errors
/// What kept it from starting, reading or printing.
pub fn run(args: &ScoreArgs, original: bool, warnings: &[String]) -> Result<u8, Failure> {
    let scoring = detection::scoring(&args.detector, original)?;
    notes(&args.common, warnings.iter().chain(&scoring.notes));
    let mut alerting = Alerting::new(scoring.settings.scorer()?, scoring.alerts_per_day);
    let mut series = Series::open(&args.file, &args.common)?;
    let printed = print(&mut series, &mut alerting, args).or_else(|failure| match failure {
        // A reader that went away (`| head`) is no error.
        Failure::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        failure => Err(failure),
    });
    printed.map(|()| series.exit_code())
}

fn print(series: &mut Series, alerting: &mut Alerting, args: &ScoreArgs) -> Result<(), Failure> {
    let output = || Failure::io("cannot write to standard output");
    let out = BufWriter::new(io::stdout().lock());
    let mut printer = Printer::new(out, args.format).map_err(output())?;
    let read = loop {
        // Rows that come slowly are printed as they come.
        if series.waits() {
            printer.flush().map_err(output())?;
        }
        match series.next() {
            Ok(Some(row)) => {
                printer.row(&row, alerting.take(row.time, row.value)).map_err(output())?;
            }
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    printer.finish().map_err(output())?;
    read
}

/// Says what a person should know, unless only errors are wanted.
pub(super) fn notes<'a>(common: &CommonArgs, notes: impl Iterator<Item = &'a String>) {
    for note in notes.filter(|_| common.level().tracing() >= tracing::Level::WARN) {
        say(&format!("note: {note}\n"));
    }
}

/// The rows of a file; what is malformed is said and passed over.
pub(super) struct Series {
    name: String,
    rows: Rows<BufReader<input::Source>>,
    malformed: u64,
}

impl Series {
    /// Opens a file, `-` being standard input, and reads its header.
    pub fn open(path: &Path, common: &CommonArgs) -> Result<Self, Failure> {
        let source =
            input::open(path).map_err(|source| backend::Error::NoInput { path: path.to_owned(), source })?;
        let name = if path.as_os_str() == "-" { "stdin".to_owned() } else { path.display().to_string() };
        let mut rows = input::decompressed(source)
            .and_then(|(source, _)| Rows::new(BufReader::with_capacity(64 * 1024, source)))
            .map_err(Failure::io(format!("cannot read {name}")))?;
        if rows.header_is_a_row() {
            let note = format!("{name}:1: this looks like a row, but the first line is the header");
            notes(common, std::iter::once(&note));
        }
        Ok(Self { name, rows, malformed: 0 })
    }

    /// The next row that is one.
    pub fn next(&mut self) -> Result<Option<Row>, Failure> {
        loop {
            match self.rows.read() {
                Ok(Some(Ok(row))) => return Ok(Some(row)),
                Ok(Some(Err(malformed))) => {
                    self.malformed += 1;
                    say(&format!("{}:{malformed}\n", self.name));
                }
                Ok(None) => return Ok(None),
                Err(source) => {
                    let what = format!("cannot read {} to its end", self.name);
                    return Err(Failure::Io { what, source });
                }
            }
        }
    }

    /// Whether the next row must be waited for, as far as is known.
    pub fn waits(&self) -> bool {
        self.rows.input().buffer().is_empty()
    }

    /// The exit code once all was read.
    pub const fn exit_code(&self) -> u8 {
        if self.malformed == 0 { exit::OK } else { exit::FAILURE }
    }
}
