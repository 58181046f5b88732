//! Where counts come from: the kernel's tables, libpcap, or capture files.

pub mod classic;
pub mod counter;
mod coverage;
pub mod ebpf;
pub mod interfaces;
pub mod link;
pub mod live;
mod merged;
pub mod pcap_file;
pub mod pcap_live;
pub mod probe;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{filter::CidrFilter, snapshot::Snapshot};

/// Counts packets and hands over one [`Snapshot`] per interval.
///
/// A live backend's `poll` ends the open interval at once and returns it; the caller keeps the pace. A
/// file's `poll` reads on until an interval of the file's own clock is complete.
pub trait Backend: Send {
    /// What is watched, how, and why so; for the line a person reads first.
    fn description(&self) -> &Description;

    /// True where intervals follow the wall clock and the caller must keep the pace.
    fn is_live(&self) -> bool;

    /// The interval that just ended; `None` when there will be no more (end of the files).
    ///
    /// # Errors
    /// After an error of a file backend `poll` may be called again: everything before the fault is still
    /// handed over.
    fn poll(&mut self) -> Result<Option<Snapshot>, Error>;

    /// Ends counting and hands over the rest: everything that passed until now. Not to be polled again.
    ///
    /// # Errors
    /// As [`Backend::poll`]; counting has ended all the same.
    fn stop(&mut self) -> Result<Option<Snapshot>, Error> {
        self.poll()
    }
}

/// What a backend watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// `ebpf`, `pcap` or `file`.
    pub backend: &'static str,
    /// Interfaces with the hook in use on each when it began, or files.
    pub watched: Vec<Watched>,
    /// Why these interfaces: "default route", "named", "no default route: every interface that is up".
    pub chosen: String,
    /// Why this backend and hook ("TCX: kernel 6.6 or newer"; "eBPF unavailable: …").
    pub why: String,
}

/// One thing a backend watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Interface name or file path.
    pub name: String,
    /// `tcx`, `clsact`, `xdp+tcx`, `xdp-generic+clsact`, …, `libpcap`, or the file's format.
    pub hook: String,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watching ")?;
        if self.watched.is_empty() {
            write!(f, "no interface")?;
        }
        for (i, watched) in self.watched.iter().enumerate() {
            if i > 0 {
                write!(f, ", ")?;
            }
            write!(f, "{} ({})", watched.name, watched.hook)?;
        }
        write!(f, " with {}: {}", self.backend, self.why)
    }
}

/// Which backend was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// eBPF where it works, else libpcap with the reason in one line.
    #[default]
    Auto,
    /// Kernel programs only; an error where they cannot run.
    Ebpf,
    /// libpcap only.
    Pcap,
}

/// Which kernel hook was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Hook {
    /// TCX where the kernel has it (6.6), else clsact.
    #[default]
    Tc,
    /// A clsact filter, also where TCX exists.
    Clsact,
    /// Native XDP at ingress, TC at egress.
    Xdp,
    /// Generic XDP at ingress, TC at egress.
    XdpGeneric,
}

/// Settings of the live backends.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSettings {
    /// Which interfaces, as long as it runs.
    pub interfaces: interfaces::Request,
    /// Kernel hook.
    pub hook: Hook,
    /// Attach native XDP also where it changes offloads or queues.
    pub force_xdp: bool,
    /// Most flows held in one interval, in the kernel or in user space.
    pub table_size: u32,
    /// Print the kernel programs' own debug messages.
    pub kernel_log: bool,
    /// Warn where less than this part of what a device counts is counted here; 0 to 1.
    pub min_coverage: f64,
    /// libpcap: bytes captured of each packet (`-s`).
    pub snaplen: u32,
    /// libpcap: how long a read may wait for packets (`-w`).
    pub read_timeout: Duration,
    /// libpcap: see packets for other hosts too.
    pub promiscuous: bool,
    /// A tcpdump expression (`-f`).
    pub expression: Option<String>,
    /// Which flows are wanted; packets of others are counted as filtered.
    pub filter: CidrFilter,
}

/// Settings of the file backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Captures, read together in time order; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// Length of an interval of the files' clock; `None`: one interval for everything.
    pub interval: Option<Duration>,
    /// Most flows held in one interval; `None`: as many as there are.
    pub table_size: Option<u32>,
    /// A tcpdump expression (`-f`).
    pub expression: Option<String>,
    /// Which flows are wanted; packets of others are counted as filtered.
    pub filter: CidrFilter,
}

/// Why a backend cannot count, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Capabilities are missing.
    #[error("{0}")]
    Permission(String),
    /// An input file cannot be opened.
    #[error("cannot open {}: {source}", shown(path))]
    NoInput {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A capture file is broken; what came before is counted.
    #[error("{}: {reason} at byte {offset}", shown(path))]
    BrokenFile {
        /// Which.
        path: PathBuf,
        /// Offset in the (decompressed) file at which the fault begins.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The named interface does not exist.
    #[error("no interface named {name:?}; there are: {known}")]
    NoInterface {
        /// As given.
        name: String,
        /// Names that exist.
        known: String,
    },
    /// A tcpdump expression that libpcap does not take.
    #[error("-f {expression:?}: {reason}")]
    Expression {
        /// As given.
        expression: String,
        /// libpcap's words.
        reason: String,
    },
    /// A tcpdump expression that libpcap takes and the kernel does not.
    #[error("-f {expression:?} cannot run in the kernel: {reason}; --backend pcap takes it")]
    ExpressionForLibpcap {
        /// As given.
        expression: String,
        /// Why not.
        reason: String,
    },
    /// `--hook xdp` would change a device, and is not forced.
    #[error(
        "--hook xdp is refused on {interface}, because native XDP would change it:\n  {}\n\
         --hook tc counts the same and changes nothing; --force-xdp attaches all the same",
        changes.join("\n  ")
    )]
    XdpChanges {
        /// Its name.
        interface: String,
        /// What would change, one each.
        changes: Vec<String>,
    },
    /// The kernel or a driver has no such thing.
    #[error("{action}: {reason}")]
    NotOffered {
        /// What was tried.
        action: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// Anything else: what was tried, and what the system said.
    #[error("{action}: {reason}")]
    System {
        /// What was tried.
        action: String,
        /// What came back, and what to do.
        reason: String,
    },
}

/// A path for a message. A wildcard takes what others named, and a name may hold a terminal's control sequences.
fn shown(path: &Path) -> String {
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}
