//! Which flows are the agent's own connections: marked, so that telling about an anomaly is never one.
//!
//! The kernel is asked about the agent's own descriptors (`getsockname`, `getpeername`), not
//! `/proc/net/tcp`: that costs some microseconds whatever the host carries, where the table of a busy
//! server takes milliseconds to print, and it names a connection from its first SYN on.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::RawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::sys::socket::{SockaddrLike as _, SockaddrStorage, getpeername, getsockname};

use crate::snapshot::{Flow, Snapshot};

/// A tuple outlives its socket by this many refreshes: the snapshot that holds its last packets comes
/// later, and a FIN may be answered or repeated after the descriptor is closed.
const REMEMBERED: u64 = 4;
/// Most tuples remembered. The sinks send a message a second at most, so some dozen are expected; past
/// this the rest goes unmarked.
const MAX_TUPLES: usize = 4096;

/// The agent's own connections. A cheap handle: clones share one memory.
///
/// `refresh` and `mark` are called once per interval; what opens a short-lived connection calls
/// [`Self::sample`] meanwhile, or [`Self::note`] where it knows the addresses.
#[derive(Clone, Debug, Default)]
pub struct OwnTraffic {
    shared: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Tuples with the refresh they were last seen at.
    tuples: HashMap<Tuple, u64>,
    refreshes: u64,
}

/// One connection, seen from here. No scope of link-local addresses: packets have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tuple {
    proto: u8,
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
}

impl OwnTraffic {
    /// Knows of no connection yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the connections open now, and forgets those gone for a few refreshes. Once per interval,
    /// before [`Self::mark`].
    ///
    /// # Errors
    /// When `/proc/self/fd` cannot be read; what was noted stays known.
    pub fn refresh(&self) -> io::Result<()> {
        {
            let mut memory = self.memory();
            memory.refreshes += 1;
            let now = memory.refreshes;
            memory.tuples.retain(|_, seen| now - *seen <= REMEMBERED);
        }
        self.sample()
    }

    /// Takes in the connections open now.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub fn sample(&self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let name = entry?.file_name();
            if let Some(tuple) = name.to_str().and_then(|name| name.parse().ok()).and_then(connection) {
                found.push(tuple);
            }
        }
        let mut memory = self.memory();
        for tuple in found {
            memory.note(tuple);
        }
        Ok(())
    }

    /// Takes in one TCP connection.
    pub fn note(&self, local: SocketAddr, remote: SocketAddr) {
        self.memory().note(Tuple::new(libc::IPPROTO_TCP as u8, local, remote));
    }

    /// Sets [`Flow::own`] of both directions of every known connection.
    pub fn mark(&self, snapshot: &mut Snapshot) {
        let memory = self.memory();
        if memory.tuples.is_empty() {
            return;
        }
        // Nearly every flow is told apart by its ports alone.
        let mut ports: Vec<u16> = memory.tuples.keys().map(|tuple| tuple.local.1).collect();
        ports.sort_unstable();
        for flow in &mut snapshot.flows {
            let known = |port: u16| ports.binary_search(&port).is_ok();
            flow.own |= known(flow.key.sport) && memory.holds(flow, false)
                || known(flow.key.dport) && memory.holds(flow, true);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn note(&mut self, tuple: Tuple) {
        if self.tuples.len() < MAX_TUPLES || self.tuples.contains_key(&tuple) {
            self.tuples.insert(tuple, self.refreshes);
        }
    }

    /// Whether `flow`, sent by us or (`received`) to us, is known.
    fn holds(&self, flow: &Flow, received: bool) -> bool {
        let (src, dst) = ((flow.src(), flow.key.sport), (flow.dst(), flow.key.dport));
        let (local, remote) = if received { (dst, src) } else { (src, dst) };
        self.tuples.contains_key(&Tuple { proto: flow.key.proto, local, remote })
    }
}

impl Tuple {
    /// IPv4 carried by an IPv6 socket is IPv4 on the wire.
    fn new(proto: u8, local: SocketAddr, remote: SocketAddr) -> Self {
        let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        Self { proto, local: plain(local), remote: plain(remote) }
    }
}

/// The connection behind a descriptor; `None` for anything but a connected TCP or UDP socket.
fn connection(fd: RawFd) -> Option<Tuple> {
    let remote = address(&getpeername::<SockaddrStorage>(fd).ok()?)?;
    let local = address(&getsockname::<SockaddrStorage>(fd).ok()?)?;
    Some(Tuple::new(protocol(fd)?, local, remote))
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match storage.family()? {
        nix::sys::socket::AddressFamily::Inet => {
            storage.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()))
        }
        nix::sys::socket::AddressFamily::Inet6 => {
            storage.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into()))
        }
        _ => None,
    }
}

fn protocol(fd: RawFd) -> Option<u8> {
    let mut protocol: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `protocol`; both outlive the call. A
    // descriptor that was closed meanwhile gives EBADF, one that was reused is a socket of ours as well.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL, (&raw mut protocol).cast(), &raw mut length)
    };
    if result == 0 { u8::try_from(protocol).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

    use wherefore_common::{FlowCounters, FlowKey};

    use super::*;

    fn flow(proto: u8, src: SocketAddr, dst: SocketAddr) -> Flow {
        let bytes = |address: SocketAddr| match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let key = FlowKey {
            src: bytes(src),
            dst: bytes(dst),
            sport: src.port(),
            dport: dst.port(),
            proto,
            family: if src.is_ipv4() { 4 } else { 6 },
            ..FlowKey::default()
        };
        Flow::new(key, FlowCounters::default())
    }

    fn marks(own: &OwnTraffic, flows: Vec<Flow>) -> Vec<bool> {
        let mut snapshot = Snapshot { flows, ..Snapshot::default() };
        own.mark(&mut snapshot);
        snapshot.flows.iter().map(|flow| flow.own).collect()
    }

    #[test]
    fn marks_both_directions_of_an_open_connection_and_nothing_else() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = listener.local_addr().unwrap();
        let stream = TcpStream::connect(server).unwrap();
        let client = stream.local_addr().unwrap();
        let own = OwnTraffic::new();
        own.refresh().unwrap();
        let mut other = client;
        other.set_port(client.port() ^ 1);
        let flows = vec![
            flow(6, client, server),
            flow(6, server, client),
            flow(17, client, server),
            flow(6, other, server),
            flow(6, client, SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), server.port())),
        ];
        assert_eq!(marks(&own, flows), [true, true, false, false, false]);
    }

    #[test]
    fn remembers_a_closed_connection_for_some_intervals_only() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = listener.local_addr().unwrap();
        let own = OwnTraffic::new();
        let client = {
            let stream = TcpStream::connect(server).unwrap();
            own.sample().unwrap();
            stream.local_addr().unwrap()
        };
        drop(listener);
        for _ in 0..REMEMBERED {
            own.refresh().unwrap();
            assert_eq!(marks(&own, vec![flow(6, client, server)]), [true]);
        }
        own.refresh().unwrap();
        assert_eq!(marks(&own, vec![flow(6, client, server)]), [false]);
    }

    #[test]
    fn ipv4_on_an_ipv6_socket_is_ipv4_on_the_wire() {
        let own = OwnTraffic::new();
        own.note("[::ffff:192.0.2.1]:4000".parse().unwrap(), "[::ffff:198.51.100.1]:443".parse().unwrap());
        let local = "192.0.2.1:4000".parse().unwrap();
        let remote = "198.51.100.1:443".parse().unwrap();
        assert_eq!(marks(&own, vec![flow(6, remote, local)]), [true]);
    }

    #[test]
    fn connected_udp_is_known_by_its_protocol() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let own = OwnTraffic::new();
        own.refresh().unwrap();
        let (a, b) = (client.local_addr().unwrap(), server.local_addr().unwrap());
        assert_eq!(marks(&own, vec![flow(17, a, b), flow(17, b, a), flow(6, a, b)]), [true, true, false]);
    }

    #[test]
    fn memory_is_bounded() {
        let own = OwnTraffic::new();
        let remote = "198.51.100.1:443".parse().unwrap();
        for port in 1..=5000 {
            own.note(SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), port), remote);
        }
        assert_eq!(own.memory().tuples.len(), MAX_TUPLES);
    }
}
