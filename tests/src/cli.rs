//! The binary as a command that ends by itself: captures counted and replayed, bad command lines refused.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use tempfile::TempDir;

use crate::agent::{NO_STATE, STATE_DIRECTORY, binary};

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// The only JSON value on standard output.
    ///
    /// # Panics
    /// When it is none, or more follows than a line feed.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.out.matches('\n').count(), 1, "one line: {self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The binary with standard input closed and nothing of the environment that changes what it does; it keeps
/// nothing of what it learns.
#[must_use]
pub fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    command.env_remove("WHEREFORE_SLACK_URL").env_remove("NO_COLOR").env(STATE_DIRECTORY, NO_STATE);
    command
}

/// Runs the binary to its end.
///
/// # Panics
/// When it cannot be started, is killed by a signal, or prints what is no UTF-8.
#[must_use]
pub fn say<S: AsRef<OsStr>>(arguments: &[S]) -> Said {
    finish(command(arguments), &[])
}

/// Runs a line of words that hold no spaces.
///
/// # Panics
/// As [`say`].
#[must_use]
pub fn line(words: &str) -> Said {
    say(&words.split_whitespace().collect::<Vec<_>>())
}

/// Runs a prepared command with `input` on its standard input, if there is any.
///
/// # Panics
/// As [`say`].
#[must_use]
pub fn finish(mut command: Command, input: &[u8]) -> Said {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        scope.spawn(|| {
            // A command that does not read to the end is judged by what it says.
            stdin.map(|mut stdin| stdin.write_all(input))
        });
        child.wait_with_output()
    });
    let output = output.unwrap_or_else(|error| panic!("waiting for {command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Said {
        code: output.status.code().unwrap_or_else(|| panic!("{command:?}: {:?}", output.status)),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// A folder for captures, removed when dropped.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// An empty one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        Self(TempDir::new().unwrap_or_else(|error| panic!("temporary folder: {error}")))
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file; its path as text.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path.display().to_string()
    }
}

/// A file's text.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
