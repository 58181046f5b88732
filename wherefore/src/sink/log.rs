//! The log files: `wherefore.log` with everything the agent has to say, `wherefore_anomalies.log` with
//! one line of JSON per alert.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing_subscriber::fmt::MakeWriter;

use super::{
    Error,
    files::{BoundedFile, Report},
};
use crate::alert::Alert;

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Directory of both files; `None`: no files.
    pub dir: Option<PathBuf>,
    /// A file that grows beyond this many bytes is renamed to `NAME.1` (an older one is replaced).
    pub max_bytes: u64,
}

impl Settings {
    fn open(&self, name: &str) -> Result<Option<BoundedFile>, Error> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let path = dir.join(name);
        match BoundedFile::open(path.clone(), self.max_bytes) {
            Ok(file) => Ok(Some(file)),
            Err(source) => Err(Error::LogFile { path, source }),
        }
    }
}

/// `wherefore.log`, as a writer for `tracing_subscriber::fmt().with_writer(…)`. A cheap handle: clones
/// share the file.
#[derive(Clone, Debug)]
pub struct TextLog {
    file: Arc<Mutex<BoundedFile>>,
}

impl TextLog {
    /// Opens the file; `None` where no directory is set.
    ///
    /// # Errors
    /// When the directory cannot be made or the file not be opened.
    pub fn open(settings: &Settings) -> Result<Option<Self>, Error> {
        let file = settings.open("wherefore.log")?;
        Ok(file.map(|file| Self { file: Arc::new(Mutex::new(file)) }))
    }

    /// Opens the file anew, after a rotation by somebody else.
    pub fn reopen(&self) {
        let report = self.file().reopen();
        complain(report);
    }

    fn file(&self) -> MutexGuard<'_, BoundedFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This log is what is broken, so the words go to standard error; without one they are lost.
fn complain(report: Option<Report>) {
    if let Some(report) = report {
        let _ = writeln!(io::stderr(), "wherefore: {report}");
    }
}

impl<'a> MakeWriter<'a> for TextLog {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { log: self, text: Vec::new() }
    }
}

/// One event's text, written to the file when dropped, whole.
#[derive(Debug)]
pub struct Line<'a> {
    log: &'a TextLog,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            let report = self.log.file().write_line(&self.text);
            complain(report);
        }
    }
}

/// `wherefore_anomalies.log`.
#[derive(Debug)]
pub struct AnomalyLog {
    file: Mutex<BoundedFile>,
}

impl AnomalyLog {
    /// Opens the file; `None` where no directory is set.
    ///
    /// # Errors
    /// When the directory cannot be made or the file not be opened.
    pub fn open(settings: &Settings) -> Result<Option<Self>, Error> {
        let file = settings.open("wherefore_anomalies.log")?;
        Ok(file.map(|file| Self { file: Mutex::new(file) }))
    }

    /// Writes one line, at once.
    pub fn tell(&self, alert: &Alert) {
        let mut line = alert.to_json();
        line.push('\n');
        let report = self.file().write_line(line.as_bytes());
        log(report);
    }

    /// Opens the file anew, after a rotation by somebody else.
    pub fn reopen(&self) {
        let report = self.file().reopen();
        log(report);
    }

    fn file(&self) -> MutexGuard<'_, BoundedFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(report: Option<Report>) {
    match report {
        Some(report @ (Report::Failing { .. } | Report::NotReopened { .. })) => tracing::error!("{report}"),
        Some(report @ Report::Recovered { .. }) => tracing::warn!("{report}"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::samples;

    #[test]
    fn no_directory_no_files() {
        let settings = Settings { dir: None, max_bytes: 1 };
        assert!(TextLog::open(&settings).unwrap().is_none());
        assert!(AnomalyLog::open(&settings).unwrap().is_none());
    }

    #[test]
    fn a_subscriber_writes_whole_events_and_keeps_what_it_wrote_through_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { dir: Some(dir.path().to_owned()), max_bytes: 120 };
        let log = TextLog::open(&settings).unwrap().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for i in 0..8 {
                tracing::info!(i, "counting");
            }
        });
        let old = std::fs::read_to_string(dir.path().join("wherefore.log.1")).unwrap();
        let new = std::fs::read_to_string(dir.path().join("wherefore.log")).unwrap();
        let expected: String = (0..8).map(|i| format!(" INFO counting i={i}\n")).collect();
        assert_eq!(old + &new, expected);
    }

    #[test]
    fn one_line_of_json_per_alert() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { dir: Some(dir.path().to_owned()), max_bytes: 1 << 20 };
        let log = AnomalyLog::open(&settings).unwrap().unwrap();
        log.tell(&samples::burst());
        log.tell(&samples::connection());
        let text = std::fs::read_to_string(dir.path().join("wherefore_anomalies.log")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines, [samples::burst().to_json(), samples::connection().to_json()]);
    }

    #[test]
    fn a_path_that_cannot_be_is_named() {
        let settings = Settings { dir: Some("/proc/nowhere".into()), max_bytes: 1 };
        let error = TextLog::open(&settings).unwrap_err().to_string();
        assert!(error.contains("/proc/nowhere/wherefore.log"), "{error}");
    }
}
