//! A network namespace of a test's own, with one pair of virtual Ethernet devices.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    process::Command,
};

use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
    sys::socket::{setsockopt, sockopt::UdpGsoSegment},
};
use wherefore::backend::ebpf::{Start, Target};

/// Sends; has the address 192.0.2.1.
pub const NEAR: &str = "va";
/// Receives what `NEAR` sends; has no address.
pub const FAR: &str = "vb";
/// Bytes of Ethernet, IPv4 and UDP headers.
pub const HEADERS: u64 = 14 + 20 + 8;

/// Runs `test` in a thread with a network namespace of its own, which goes with the thread.
///
/// # Panics
/// When the namespace cannot be made, or `test` panics.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("no network namespace");
        ip("link set lo up");
        ip("link add va type veth peer name vb");
        for device in [NEAR, FAR] {
            // No IPv6 addresses: their neighbour discovery would be traffic of nobody's asking.
            ip(&format!("link set {device} addrgenmode none"));
            ip(&format!("link set {device} up"));
        }
        ip("addr add 192.0.2.1/24 dev va");
        ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev va");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs iproute2's `ip` in this thread's namespace.
///
/// # Panics
/// When it fails.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("no iproute2");
    assert!(status.success(), "ip {arguments}");
}

/// What `tc` says.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn tc(arguments: &str) -> String {
    let output = Command::new("tc").args(arguments.split(' ')).output().expect("no iproute2");
    assert!(output.status.success(), "tc {arguments}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An interface of this namespace as something to watch.
///
/// # Panics
/// When there is none of that name.
#[must_use]
pub fn target(name: &str) -> Target {
    let index = if_nametoindex(name).expect("no such interface");
    Target { name: name.into(), index, start: Start::Ethernet }
}

/// A socket that sends from `NEAR`, from a port of the kernel's choice.
///
/// # Errors
/// What the kernel says.
pub fn socket() -> io::Result<UdpSocket> {
    UdpSocket::bind("192.0.2.1:0")
}

/// Where frames go that `FAR` receives and nobody answers.
#[must_use]
pub fn far(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], port))
}

/// Lets the kernel cut what the socket sends into datagrams of `size` bytes (`UDP_SEGMENT`).
///
/// # Errors
/// What the kernel says.
pub fn segment(socket: &UdpSocket, size: i32) -> io::Result<()> {
    Ok(setsockopt(socket, UdpGsoSegment, &size)?)
}
