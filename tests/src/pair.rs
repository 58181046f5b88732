//! Both ends of a veth pair in one network namespace, so that one agent watches both.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    process::Command,
    time::Duration,
};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{setsockopt, sockopt::UdpGsoSegment},
};
use wherefore::{
    backend::{Hook, LiveSettings, interfaces::Request},
    config::default,
    filter::CidrFilter,
};

use crate::{agent::Stream, netns::Netns, run_agent};

/// Sends; has the address 192.0.2.1.
pub const NEAR: &str = "va";
/// Receives what `NEAR` sends; has no address.
pub const FAR: &str = "vb";
/// Bytes of Ethernet, IPv4 and UDP headers.
pub const HEADERS: u64 = 14 + 20 + 8;

/// A network namespace with both devices, up and quiet.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn namespace() -> Netns {
    let netns = Netns::new("pair");
    netns.ip(&format!("link add {NEAR} type veth peer name {FAR}"));
    for device in [NEAR, FAR] {
        // No IPv6 addresses: their neighbour discovery would be traffic of nobody's asking.
        netns.ip(&format!("link set {device} addrgenmode none"));
        netns.ip(&format!("link set {device} up"));
    }
    netns.ip(&format!("address add 192.0.2.1/24 dev {NEAR}"));
    netns.ip(&format!("neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev {NEAR}"));
    netns
}

/// What to count at `hook`: both ends, in small tables.
#[must_use]
pub fn settings(hook: Hook) -> LiveSettings {
    LiveSettings {
        interfaces: Request::named([NEAR, FAR]),
        hook,
        force_xdp: true,
        table_size: 1024,
        kernel_log: false,
        min_coverage: default::MIN_COVERAGE,
        snaplen: 96,
        read_timeout: Duration::from_millis(100),
        promiscuous: false,
        expression: None,
        filter: CidrFilter::default(),
    }
}

/// As [`settings`], of one interface.
#[must_use]
pub fn only(name: &str, hook: Hook) -> LiveSettings {
    LiveSettings { interfaces: Request::named([name]), ..settings(hook) }
}

/// Runs the agent on `NEAR` with a filter of somebody else's behind its program at egress, until it has told so many
/// intervals; its lines that speak of "our program".
///
/// # Panics
/// When they do not come.
#[must_use]
pub fn said_of_a_filter_behind_ours(arguments: &[&str], intervals: usize) -> Vec<String> {
    let netns = namespace();
    netns.run(|| {
        let _ = tc("qdisc add dev va clsact");
        let _ = tc("filter add dev va egress prio 7 protocol all u32 match u32 0 0");
    });
    let first = ["run", "-i", NEAR, "--interval", "100ms"];
    let mut agent = run_agent(Some(&netns), &[&first, arguments].concat());
    agent.wait_for_intervals(intervals);
    let lines = [Stream::Out, Stream::Err].into_iter().flat_map(|stream| agent.lines(stream));
    lines.filter(|line| line.contains("our program")).collect()
}

/// What `tc` says. To be called inside.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn tc(arguments: &str) -> String {
    let output = Command::new("tc").args(arguments.split(' ')).output().expect("no iproute2");
    assert!(output.status.success(), "tc {arguments}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The number of an interface. To be called inside.
///
/// # Panics
/// When there is none of that name.
#[must_use]
pub fn index(name: &str) -> u32 {
    if_nametoindex(name).expect("no such interface")
}

/// A socket that sends from `NEAR`, from a port of the kernel's choice. To be called inside.
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
