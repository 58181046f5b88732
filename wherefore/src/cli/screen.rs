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

/// Log lines and alerts kept for the foot of the live table.
const LINES_KEPT: usize = 50;

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

    /// Shows `text` in place of what was shown before.
    pub fn show(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(&frame(text, Self::size().1)?)?;
        out.flush()
    }
}

/// What makes a terminal of `height` lines show `text`, to be written at once, so that nothing flickers.
///
/// A line is cleared before it is written: behind a line that ends in the last column the cursor stays on it, and
/// clearing would take its last character. Likewise there is nothing below the last line to be cleared: the cursor
/// cannot go there, and that line would go.
fn frame(text: &str, height: u16) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut next = 0;
    for line in text.lines().take(height.into()) {
        queue!(out, MoveTo(0, next), Clear(ClearType::CurrentLine))?;
        out.extend_from_slice(line.as_bytes());
        next += 1;
    }
    if next < height {
        queue!(out, MoveTo(0, next), Clear(ClearType::FromCursorDown))?;
    }
    Ok(out)
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

/// The newest log lines and alerts, for the foot of the live table: the log's own place is under it.
#[derive(Clone, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// Oldest first.
    pub fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Adds one; the oldest makes room.
    pub fn add(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl io::Write for LastLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines() {
            self.add(line.to_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_screen_keeps_its_last_line_and_its_last_column() {
        let shown = |text: &str| String::from_utf8(frame(text, 2).unwrap()).unwrap();
        assert_eq!(shown("ab\ncd"), "\x1b[1;1H\x1b[2Kab\x1b[2;1H\x1b[2Kcd");
        assert_eq!(shown("ab"), "\x1b[1;1H\x1b[2Kab\x1b[2;1H\x1b[J");
        assert_eq!(shown("ab\ncd\nef"), shown("ab\ncd"), "a terminal that shrank does not scroll");
    }

    #[test]
    fn the_newest_lines_are_kept_in_order() {
        let mut lines = LastLines::default();
        lines.write_all(b"a\nb\n").unwrap();
        (0..LINES_KEPT - 1).for_each(|i| lines.add(i.to_string()));
        let kept = lines.get();
        assert_eq!((kept.len(), kept[0].as_str(), kept[1].as_str()), (LINES_KEPT, "b", "0"));
    }
}
