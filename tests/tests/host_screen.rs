//! The live table in a terminal of its own: what it shows, and that the terminal is given back.

use std::{
    fs::File,
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddr},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use wherefore_tests::{Lan, PATIENCE, agent, require_bpf, traffic::Sender, wait_until};

/// A terminal of 100 columns and 30 lines: its own end, and the program's. Not openpty(3), whose descriptors
/// every child inherits: it would hold its own terminal open.
fn terminal() -> (OwnedFd, OwnedFd) {
    const FLAGS: libc::c_int = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let owned = |fd: libc::c_int| {
        assert!(fd >= 0, "pseudo-terminal: {}", io::Error::last_os_error());
        // SAFETY: a call returned it just now; nobody else owns it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    // SAFETY: takes flags only.
    let own = owned(unsafe { libc::posix_openpt(FLAGS) });
    // SAFETY: takes a descriptor that is open.
    assert_eq!(unsafe { libc::unlockpt(own.as_raw_fd()) }, 0, "{}", io::Error::last_os_error());
    // SAFETY: TIOCGPTPEER (Linux 4.13) takes flags and returns a new descriptor.
    let program = owned(unsafe { libc::ioctl(own.as_raw_fd(), libc::TIOCGPTPEER, FLAGS) });
    let size = libc::winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    let sized = unsafe { libc::ioctl(own.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    assert_eq!(sized, 0, "{}", io::Error::last_os_error());
    (own, program)
}

/// The agent in a terminal.
struct Screen {
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    fn start(lan: &Lan, arguments: &[&str]) -> (Self, File) {
        let (own, program) = terminal();
        let stdio = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap_or_else(|error| panic!("{error}")));
        let mut command = Command::new(agent::binary());
        command
            .args(arguments)
            .arg("--no-state")
            .stdin(stdio(&program))
            .stdout(stdio(&program))
            .stderr(stdio(&program));
        // SAFETY: between fork and exec only setsid(2) and ioctl(2) are called, which are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = lan.host.spawn(&mut command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        (Self { child, shown: Arc::default() }, File::from(own))
    }

    /// Follows what is shown until the terminal closes.
    fn follow(&self, mut own: File) {
        let shown = Arc::clone(&self.shown);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = own.read(&mut bytes) {
                shown.lock().unwrap_or_else(PoisonError::into_inner).extend(&bytes[..read]);
            }
        });
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("its end", PATIENCE, || {
            status = self.child.try_wait().unwrap_or_else(|error| panic!("{error}"));
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

#[test]
fn the_table_shows_the_top_flow_and_gives_the_terminal_back() {
    if !require_bpf() {
        return;
    }
    let lan = Lan::new();
    let (mut screen, own) = Screen::start(&lan, &["run", "--interval", "500ms"]);
    screen.follow(own);
    let mut sender =
        Sender::new(&lan.host, Lan::HOST_V4, SocketAddr::from((Ipv4Addr::new(192, 0, 2, 99), 7)));
    wait_until("the table", PATIENCE, || screen.shown().contains("watching eth0 (tcx)"));
    assert!(screen.shown().contains(ENTER));
    // Counting began before the first table, so this is in the interval that ends next or the one after.
    sender.send(30_000);
    wait_until("the flow", PATIENCE, || screen.shown().contains("192.0.2.99"));
    let shown = screen.shown();
    let figures = shown.matches("192.0.2.99").count();
    assert!(figures >= 1 && !shown.contains(LEAVE), "{shown:?}");

    kill(Pid::from_raw(screen.child.id() as i32), Signal::SIGINT).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(screen.wait(), Some(0), "{:?}", screen.shown());
    wait_until("the last words", PATIENCE, || screen.shown().contains("on the wire"));
    let shown = screen.shown();
    let (_, after) =
        shown.split_once(LEAVE).unwrap_or_else(|| panic!("the terminal is not given back: {shown:?}"));
    assert!(after.contains("20 packets, 30,280 bytes on the wire"), "{after:?}");
    assert!(shown.contains("\x1b[?25h"), "the cursor is not given back: {shown:?}");
}

/// A connection to the host that breaks must not leave an agent behind that nobody sees.
#[test]
fn a_terminal_that_goes_away_ends_the_run() {
    if !require_bpf() {
        return;
    }
    let lan = Lan::new();
    let (mut screen, mut own) = Screen::start(&lan, &["run", "--interval", "200ms"]);
    let mut first = [0; 64];
    let read = own.read(&mut first).unwrap_or_else(|error| panic!("{error}"));
    assert!(read > 0);
    drop(own);
    assert_eq!(screen.wait(), Some(0));
}
