//! Where a person looks while the pipeline runs: a live table, log lines, or records for other programs.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    execute, queue,
    terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen},
};
use tokio::sync::mpsc;

use crate::pipeline::Signal;

/// Log lines kept for the foot of the live table.
const LINES_KEPT: usize = 5;

/// The terminal's other screen, given back when this is dropped, also by a panic.
pub struct LiveScreen(());

impl LiveScreen {
    /// Takes the terminal.
    pub fn enter() -> io::Result<Self> {
        execute!(io::stdout(), EnterAlternateScreen, Hide, Clear(ClearType::All))?;
        Ok(Self(()))
    }

    /// Width and height.
    pub fn size() -> (u16, u16) {
        crossterm::terminal::size().unwrap_or((80, 24))
    }

    /// Shows `text` in place of what was shown before, without flicker: each line overwrites and clears
    /// the rest of its own.
    pub fn show(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for (row, line) in (0..).zip(text.lines()) {
            queue!(out, MoveTo(0, row))?;
            write!(out, "{line}")?;
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, MoveTo(0, u16::try_from(text.lines().count()).unwrap_or(u16::MAX)))?;
        queue!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }
}

impl Drop for LiveScreen {
    fn drop(&mut self) {
        // Nothing is left to do if the terminal is gone.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    }
}

/// Standard output for lines. A reader that went away (`| head`) ends the run, quietly and in order:
/// what is attached gets detached.
#[derive(Clone)]
pub struct Lines(pub mpsc::Sender<Signal>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match io::stdout().write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.reader_gone();
                Ok(bytes.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match io::stdout().flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.reader_gone();
                Ok(())
            }
            result => result,
        }
    }
}

impl Lines {
    /// Ends the run, as nobody reads any more.
    pub fn reader_gone(&self) {
        // A full queue holds a signal already.
        let _ = self.0.try_send(Signal::ReaderGone);
    }
}

/// The newest log lines, for the foot of the live table: the log's own place is under it.
#[derive(Clone, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// Oldest first.
    pub fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl io::Write for LastLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in String::from_utf8_lossy(bytes).lines() {
            if lines.len() == LINES_KEPT {
                lines.pop_front();
            }
            lines.push_back(line.to_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
