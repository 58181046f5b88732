//! Network namespaces that vanish with the test, even one that is killed.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    panic::resume_unwind,
    process::{Child, Command},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace. It has no name in the file system: an open file holds it, so the kernel removes it
/// with its last user, after a panic or a kill too.
#[derive(Debug)]
pub struct Netns {
    hint: String,
    file: File,
}

impl Netns {
    /// A new namespace with its loopback device up, quiet on IPv6; `hint` names it in messages.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(hint: &str) -> Self {
        let this = Self::try_new(hint).unwrap_or_else(|error| panic!("network namespace {hint}: {error}"));
        this.ip("link set lo up");
        this
    }

    /// A new namespace without anything set up.
    ///
    /// # Errors
    /// The kernel's: not root, or no namespaces.
    pub fn try_new(hint: &str) -> io::Result<Self> {
        let made = thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    File::open("/proc/thread-self/ns/net")
                })
                .join()
        });
        let file = made.unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(Self { hint: hint.into(), file })
    }

    /// A path by which other processes reach it while this one lives; `ip … netns PATH` takes it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `work` on a thread inside. Sockets, captures and child processes made there stay inside, also
    /// threads it starts.
    ///
    /// # Panics
    /// With the panic of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let result = thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.file, CloneFlags::CLONE_NEWNET)
                        .unwrap_or_else(|error| panic!("entering network namespace {}: {error}", self.hint));
                    work()
                })
                .join()
        });
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Starts a process inside.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.run(|| command.spawn())
    }

    /// Runs `ip ARGUMENTS` inside (split at blanks) and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, arguments: &str) -> String {
        let output = self
            .run(|| Command::new("ip").args(arguments.split_whitespace()).output())
            .unwrap_or_else(|error| panic!("ip: {error}"));
        assert!(
            output.status.success(),
            "{}: ip {arguments}: {}",
            self.hint,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
