//! What the kernel offers, what this process may do, and what is attached already. Looks only, but for the removal
//! of a clsact qdisc and the making of a veth pair, which are here for the netlink they need.

mod chain;
mod changes;
mod counters;
pub(crate) mod create;
mod devices;
mod error;
pub mod ethtool;
mod netlink;
mod owner;
mod routes;
mod rtnetlink;
mod tcx;

use std::{
    ffi::{CStr, c_char},
    fs, io,
    path::PathBuf,
};

use caps::{CapSet, Capability};

pub use chain::{Attached, NAME_PREFIX, Place, Way, chain};
pub(super) use chain::{chain_ids, filters, has_clsact, program_names, remove_clsact};
pub(super) use changes::{Changes, Seen};
pub(super) use counters::DeviceCounters;
pub(super) use devices::native_xdp;
pub use devices::{Device, devices};
pub(super) use error::causes;
pub use error::os_error;
pub(super) use owner::Owner;
pub(super) use routes::DefaultRoutes;
pub(super) use rtnetlink::{Address, Link, Routing};

/// What does not depend on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Kernel release, as `uname -r`.
    pub kernel: String,
    /// The kernel describes its own types (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// Whether bpf(2) made a map, or what it said.
    pub bpf: Result<(), String>,
    /// Capabilities in effect.
    pub capabilities: Capabilities,
    /// `net.core.bpf_jit_enable`; `None` where it cannot be read, as in a container.
    pub jit: Option<u32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// Bytes this process may lock; `None`: as many as it wants.
    pub memlock: Option<u64>,
    /// Where the cgroup v2 hierarchy is mounted.
    pub cgroup2: Option<PathBuf>,
    /// `libpcap version 1.10.3 …`.
    pub libpcap: String,
}

/// Capabilities that matter here; `sys_admin` includes `bpf` and `perfmon`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `CAP_BPF`: programs and maps (kernel 5.8 or newer).
    pub bpf: bool,
    /// `CAP_NET_ADMIN`: attaching to interfaces.
    pub net_admin: bool,
    /// `CAP_PERFMON`: tracepoints, pointer arithmetic in programs.
    pub perfmon: bool,
    /// `CAP_NET_RAW`: capturing by libpcap.
    pub net_raw: bool,
    /// `CAP_SYS_ADMIN`: all of eBPF before 5.8; since then only lists of foreign programs.
    pub sys_admin: bool,
}

/// Looks at the host. What cannot be found out stays empty; nothing here fails.
#[must_use]
pub fn host() -> Host {
    Host {
        kernel: release(),
        btf: fs::metadata("/sys/kernel/btf/vmlinux").is_ok(),
        bpf: create_map().map_err(|error| error.to_string()),
        capabilities: Capabilities::of_this_process(),
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        memlock: memlock(),
        cgroup2: fs::read_to_string("/proc/self/mountinfo").ok().and_then(|mounts| cgroup2(&mounts)),
        libpcap: libpcap_version(),
    }
}

fn number(path: &str) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The kernel's release, as `uname -r`; empty where it cannot be read.
#[must_use]
pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Major and minor number of a kernel release.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Linux 5.8 split `CAP_BPF` and `CAP_PERFMON` off `CAP_SYS_ADMIN`, which still stands for both.
#[must_use]
pub fn before_cap_bpf(release: &str) -> bool {
    version(release).is_some_and(|version| version < (5, 8))
}

impl Capabilities {
    /// Those in effect.
    #[must_use]
    pub fn of_this_process() -> Self {
        let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
        let sys_admin = has(Capability::CAP_SYS_ADMIN);
        Self {
            bpf: sys_admin || has(Capability::CAP_BPF),
            net_admin: has(Capability::CAP_NET_ADMIN),
            perfmon: sys_admin || has(Capability::CAP_PERFMON),
            net_raw: has(Capability::CAP_NET_RAW),
            sys_admin,
        }
    }

    /// What counting in a kernel of this release needs, and whether it is there.
    #[must_use]
    pub fn for_ebpf(self, release: &str) -> Vec<(&'static str, bool)> {
        if before_cap_bpf(release) {
            vec![("CAP_SYS_ADMIN", self.sys_admin), ("CAP_NET_ADMIN", self.net_admin)]
        } else {
            vec![("CAP_BPF", self.bpf), ("CAP_NET_ADMIN", self.net_admin), ("CAP_PERFMON", self.perfmon)]
        }
    }
}

/// This program's path.
#[must_use]
pub fn program() -> String {
    std::env::current_exe().map_or_else(|_| "wherefore".into(), |path| quoted(&path.to_string_lossy()))
}

/// The command that gives `program` all capabilities of both backends for good. One and the same everywhere:
/// setcap(8) replaces what was there.
#[must_use]
pub fn setcap(program: &str, release: &str) -> String {
    let set = if before_cap_bpf(release) {
        "cap_sys_admin,cap_net_admin,cap_net_raw"
    } else {
        "cap_bpf,cap_net_admin,cap_perfmon,cap_net_raw"
    };
    format!("sudo setcap {set}+ep {program}")
}

/// The two ways to give a process that lacks rights what it needs, a line each.
#[must_use]
pub fn ways_to_allow() -> String {
    let program = program();
    let arguments: String = std::env::args_os()
        .skip(1)
        .map(|argument| format!(" {}", quoted(&argument.to_string_lossy())))
        .collect();
    format!(
        "  once and for all: {}\n  just this time:   sudo {program}{arguments}",
        setcap(&program, &release())
    )
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Makes an array of one number and drops it again: what counting needs first of all.
fn create_map() -> io::Result<()> {
    const BPF_MAP_CREATE: libc::c_long = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    /// The head of `union bpf_attr` for `BPF_MAP_CREATE`; the kernel takes any shorter form as padded by zeros.
    #[repr(C)]
    struct Attr {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
    }
    let attr =
        Attr { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 8, max_entries: 1, map_flags: 0 };
    // SAFETY: bpf(2) reads `size_of::<Attr>()` bytes of `attr`, which outlives the call, and writes none.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, &raw const attr, size_of::<Attr>()) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: bpf(2) returned this descriptor just now; nobody else owns it.
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) });
    Ok(())
}

fn memlock() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) writes one rlimit, to a place that outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } != 0 {
        return None;
    }
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The mount point of cgroup v2 in a `mountinfo` (proc(5)): fields, then `-`, then the file system's type.
fn cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        (kind.split(' ').next()? == "cgroup2").then(|| fields.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[link(name = "pcap")]
unsafe extern "C" {
    fn pcap_lib_version() -> *const c_char;
}

fn libpcap_version() -> String {
    // SAFETY: takes nothing; returns a string that is never freed (pcap_lib_version(3PCAP)).
    let version = unsafe { pcap_lib_version() };
    if version.is_null() {
        return String::new();
    }
    // SAFETY: not null, terminated by a zero, and lives as long as the process.
    unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_also_in_a_hybrid_hierarchy() {
        let mounts = "25 30 0:22 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro\n\
                      26 25 0:23 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n\
                      27 25 0:24 / /sys/fs/cgroup/cpu rw shared:11 - cgroup cgroup rw,cpu\n";
        assert_eq!(cgroup2(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2("27 25 0:24 / /cgroup2 rw shared:11 - cgroup cgroup rw\nbroken"), None);
    }

    #[test]
    fn this_host_says_who_it_is() {
        let host = host();
        assert!(host.kernel.starts_with(|c: char| c.is_ascii_digit()), "{host:?}");
        assert!(host.libpcap.contains("libpcap"), "{host:?}");
    }
}
