//! A file that lines are appended to: bounded, reopened on demand, and never a reason to stop.

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Appends whole lines to `PATH`; past `max_bytes` the file becomes `PATH.1`, replacing an older one.
///
/// A line that cannot be written (disk full, directory gone) is lost and counted. The first of such a row
/// gives a [`Report::Failing`], the next line that succeeds a [`Report::Recovered`]; every line tries
/// again. Whoever writes passes reports on: this file may be the very log that is broken.
#[derive(Debug)]
pub struct BoundedFile {
    path: PathBuf,
    max_bytes: u64,
    file: Option<File>,
    /// Lines lost since the file last worked; 0: it works.
    lost: u64,
}

/// The state of a file changed.
#[derive(Debug)]
pub enum Report {
    /// Lines are being lost from now on.
    Failing {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What came back.
        error: io::Error,
    },
    /// The path could not be opened anew; the file opened before stays in use.
    NotReopened {
        /// Which file.
        path: PathBuf,
        /// What came back.
        error: io::Error,
    },
    /// Lines are written again.
    Recovered {
        /// Which file.
        path: PathBuf,
        /// How many lines it lost.
        lost: u64,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failing { path, action, error } => {
                write!(
                    f,
                    "{}: cannot {action}: {error}; its lines are lost until this is mended",
                    path.display()
                )
            }
            Self::NotReopened { path, error } => {
                write!(
                    f,
                    "{}: cannot reopen it: {error}; still writing to the one opened before",
                    path.display()
                )
            }
            Self::Recovered { path, lost } => {
                write!(f, "{}: written again, after {lost} lines were lost", path.display())
            }
        }
    }
}

impl BoundedFile {
    /// Opens `path` for appending. The file is made with mode 0640, a missing directory (and its missing
    /// parents) with mode 0750.
    ///
    /// # Errors
    /// When the directory cannot be made or the file not be opened: worth stopping for at start, as
    /// somebody is there to mend it.
    pub fn open(path: PathBuf, max_bytes: u64) -> io::Result<Self> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        }
        let file = Some(append(&path)?);
        Ok(Self { path, max_bytes, file, lost: 0 })
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lines lost since the file last worked.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Appends `line`, which ends with its line feed, at once and whole or not at all.
    pub fn write_line(&mut self, line: &[u8]) -> Option<Report> {
        match self.try_write(line) {
            Ok(()) if self.lost > 0 => {
                let lost = std::mem::take(&mut self.lost);
                Some(Report::Recovered { path: self.path.clone(), lost })
            }
            Ok(()) => None,
            Err((action, error)) => {
                self.lost = self.lost.saturating_add(1);
                (self.lost == 1).then(|| Report::Failing { path: self.path.clone(), action, error })
            }
        }
    }

    /// Opens the path anew, for a program that renamed the file away. Where that fails the old file stays
    /// in use, so no line is lost.
    pub fn reopen(&mut self) -> Option<Report> {
        match append(&self.path) {
            Ok(file) => {
                self.file = Some(file);
                None
            }
            Err(error) => Some(Report::NotReopened { path: self.path.clone(), error }),
        }
    }

    fn try_write(&mut self, line: &[u8]) -> Result<(), (&'static str, io::Error)> {
        // Asked each time (a microsecond), as others may truncate or extend the file.
        let mut length = self.opened()?.metadata().map_err(|error| ("read its size", error))?.len();
        if length > 0 && length.saturating_add(line.len() as u64) > self.max_bytes {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            // Within one directory: a reader finds either the old file or the new one, each with whole lines.
            // If it fails the file stays as it is and takes no more: bounded, and nothing is destroyed.
            std::fs::rename(&self.path, old)
                .map_err(|error| ("rename it, as it has reached its size", error))?;
            self.file = None;
            length = 0;
        }
        let file = self.opened()?;
        file.write_all(line).map_err(|error| {
            // A full disk may have taken a part of the line.
            let _ = file.set_len(length);
            ("write to it", error)
        })
    }

    fn opened(&mut self) -> Result<&mut File, (&'static str, io::Error)> {
        let file = match self.file.take() {
            Some(file) => file,
            None => append(&self.path).map_err(|error| ("open it", error))?,
        };
        Ok(self.file.insert(file))
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn makes_directories_and_files_for_owner_and_group_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/x.log");
        let mut file = BoundedFile::open(path.clone(), 100).unwrap();
        assert!(file.write_line(b"1\n").is_none());
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n");
        assert_eq!(mode(&path) & 0o027, 0);
        assert_eq!(mode(&dir.path().join("a")) & 0o027, 0);
        assert_eq!(mode(&dir.path().join("a/b")) & 0o027, 0);
    }

    #[test]
    fn follows_a_renamed_file_only_once_reopened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let moved = dir.path().join("x.log.old");
        let mut file = BoundedFile::open(path.clone(), 100).unwrap();
        file.write_line(b"1\n");
        std::fs::rename(&path, &moved).unwrap();
        file.write_line(b"2\n");
        assert!(file.reopen().is_none());
        file.write_line(b"3\n");
        assert_eq!(std::fs::read(&moved).unwrap(), b"1\n2\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"3\n");
    }

    #[test]
    fn a_failing_file_is_reported_once_and_again_when_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut file = BoundedFile::open(path.clone(), 4).unwrap();
        file.write_line(b"1\n");
        // A directory in the way of the renaming: the file is full and cannot go anywhere.
        let obstacle = dir.path().join("x.log.1");
        std::fs::create_dir(&obstacle).unwrap();
        assert!(matches!(file.write_line(b"234\n"), Some(Report::Failing { .. })));
        assert!(file.write_line(b"567\n").is_none());
        assert_eq!(file.lost(), 2);
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n");
        std::fs::remove_dir(&obstacle).unwrap();
        assert!(matches!(file.write_line(b"890\n"), Some(Report::Recovered { lost: 2, .. })));
        assert_eq!(file.lost(), 0);
        assert_eq!(std::fs::read(&obstacle).unwrap(), b"1\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"890\n");
    }

    #[test]
    fn a_full_disk_is_an_error_report() {
        let mut file = BoundedFile::open("/dev/full".into(), 100).unwrap();
        let report = file.write_line(b"1\n");
        assert!(
            matches!(&report, Some(Report::Failing { error, .. }) if error.kind() == io::ErrorKind::StorageFull),
            "{report:?}"
        );
        assert!(file.write_line(b"2\n").is_none());
    }

    proptest! {
        /// Whatever is written, the newest lines are there, whole and in order, and neither file exceeds
        /// its bound unless by a single line.
        #[test]
        fn never_cuts_a_line_and_never_outgrows_its_bound(
            lengths in prop::collection::vec(0usize..60, 1..60), max_bytes in 1u64..100,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.log");
            let mut file = BoundedFile::open(path.clone(), max_bytes).unwrap();
            let mut all = Vec::new();
            for (i, length) in lengths.iter().enumerate() {
                let line = format!("{i}:{}\n", "x".repeat(*length));
                prop_assert!(file.write_line(line.as_bytes()).is_none());
                all.extend_from_slice(line.as_bytes());
            }
            let new = std::fs::read(&path).unwrap();
            let old = std::fs::read(dir.path().join("x.log.1")).unwrap_or_default();
            for part in [&new, &old] {
                let lines = part.iter().filter(|byte| **byte == b'\n').count();
                prop_assert!(part.len() as u64 <= max_bytes || lines == 1);
            }
            let both = [old, new].concat();
            prop_assert!(all.ends_with(&both));
            let before = all.len() - both.len();
            prop_assert!(before == 0 || all[before - 1] == b'\n');
        }
    }
}
