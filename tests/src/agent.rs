//! The agent as a process.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use tempfile::TempDir;

use crate::netns::Netns;

/// The `wherefore` binary: `$WHEREFORE_BIN`, else the one beside the running test in the target directory.
/// It is not built here; `cargo xtask test` builds it first.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WHEREFORE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    // target/PROFILE/deps/TEST
    let path = test.ancestors().nth(2).map(|profile| profile.join("wherefore")).unwrap_or_default();
    assert!(path.is_file(), "no {}: run cargo build first", path.display());
    path
}

/// What names the agent's directory where no flag does, so that no test writes to this machine's own.
pub const STATE_DIRECTORY: &str = "STATE_DIRECTORY";
/// No directory, and none can be made of it.
pub const NO_STATE: &str = "/dev/null/state";

/// One of the agent's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A running agent, killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    /// Where it keeps what it learned, unless that was said.
    _state: Option<TempDir>,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Vec<(Stream, String)>>,
    more: Condvar,
}

impl Output {
    fn lines(&self) -> MutexGuard<'_, Vec<(Stream, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an agent ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code, or the signal that killed it.
    pub status: ExitStatus,
    /// Lines of standard output.
    pub stdout: Vec<String>,
    /// Lines of standard error.
    pub stderr: Vec<String>,
}

/// Starts the agent with `arguments` inside a namespace, or outside of any.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn run_agent<S: AsRef<OsStr>>(netns: Option<&Netns>, arguments: &[S]) -> Agent {
    let mut command = Command::new(binary());
    command.args(arguments);
    Agent::start(netns, &mut command)
}

impl Agent {
    /// Starts a prepared command (environment, working directory) with captured output. What it learns is gone with
    /// it, unless the command names a directory or sets `STATE_DIRECTORY`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(netns: Option<&Netns>, command: &mut Command) -> Self {
        let said = command.get_envs().any(|(name, _)| name == STATE_DIRECTORY);
        let state = (!said).then(|| tempfile::tempdir().unwrap_or_else(|error| panic!("{error}")));
        if let Some(state) = &state {
            command.env(STATE_DIRECTORY, state.path());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = match netns {
            Some(netns) => netns.spawn(command),
            None => command.spawn(),
        };
        let mut child = started.unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let output = Arc::new(Output::default());
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(follow(Stream::Out, out, &output));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(follow(Stream::Err, err, &output));
        }
        Self { child, _state: state, output, readers }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line, also among those it printed before, and returns it.
    ///
    /// # Panics
    /// With all output, when the line does not come within `timeout` or before the agent ends.
    pub fn wait_for_line(
        &mut self,
        stream: Stream,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let begun = Instant::now();
        loop {
            // Asked before the lines are looked at, so that the last ones of an ended process count.
            let ended = self.readers.iter().all(JoinHandle::is_finished);
            let lines = self.output.lines();
            if let Some((_, line)) = lines.iter().find(|(from, line)| *from == stream && wanted(line)) {
                return line.clone();
            }
            assert!(!ended, "the agent ended without the awaited line: {lines:#?}");
            assert!(begun.elapsed() < timeout, "no such line in {timeout:?}: {lines:#?}");
            let waited = self.output.more.wait_timeout(lines, Duration::from_millis(50));
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The lines of a stream so far.
    #[must_use]
    pub fn lines(&self, stream: Stream) -> Vec<String> {
        let lines = self.output.lines();
        lines.iter().filter(|(from, _)| *from == stream).map(|(_, line)| line.clone()).collect()
    }

    /// Waits until it has told `count` intervals, as lines on standard output.
    ///
    /// # Panics
    /// With all output, when they do not come.
    pub fn wait_for_intervals(&mut self, count: usize) {
        let begun = Instant::now();
        while self.intervals() < count {
            assert!(begun.elapsed() < crate::PATIENCE, "no interval {count}: {:#?}", self.output.lines());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Intervals told so far, as lines on standard output.
    #[must_use]
    pub fn intervals(&self) -> usize {
        let lines = self.output.lines();
        lines.iter().filter(|(from, line)| *from == Stream::Out && is_interval(line)).count()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) {
        kill(self.as_pid(), signal).unwrap_or_else(|error| panic!("{signal}: {error}"));
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// With all output, when it does not end within `timeout`.
    #[must_use]
    pub fn wait(mut self, timeout: Duration) -> Ended {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(error) => panic!("waiting for the agent: {error}"),
            }
            assert!(begun.elapsed() < timeout, "still running after {timeout:?}: {:#?}", self.output.lines());
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        Ended { status, stdout: self.lines(Stream::Out), stderr: self.lines(Stream::Err) }
    }

    fn as_pid(&self) -> Pid {
        // Linux' process ids end at 2^22.
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Without effect on a child that was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether a log line tells an interval: `… INFO … · 2 flows · 0.2 s · 250 bytes in 3 packets …`.
fn is_interval(line: &str) -> bool {
    line.contains(" INFO ") && line.contains(" p/s") && line.contains(" in ")
}

fn follow(stream: Stream, from: impl Read + Send + 'static, to: &Arc<Output>) -> JoinHandle<()> {
    let output = Arc::clone(to);
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            output.lines().push((stream, String::from_utf8_lossy(&line).into_owned()));
            output.more.notify_all();
            line.clear();
        }
        output.more.notify_all();
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PATIENCE;

    #[test]
    fn output_signals_and_exit_codes_come_back() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap 'echo bye >&2; exit 7' TERM; echo ready; while :; do :; done"]);
        let mut agent = Agent::start(None, &mut shell);
        assert_eq!(agent.wait_for_line(Stream::Out, PATIENCE, |line| line.starts_with("rea")), "ready");
        agent.signal(Signal::SIGTERM);
        let ended = agent.wait(PATIENCE);
        assert_eq!(ended.status.code(), Some(7));
        assert_eq!((ended.stdout, ended.stderr), (vec!["ready".into()], vec!["bye".to_owned()]));
    }
}
