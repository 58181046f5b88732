//! A live backend in a namespace whose interfaces change under it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use wherefore::{
    backend::{
        Backend, Choice, LiveSettings,
        interfaces::{Pattern, Request},
        live,
    },
    enrich::locality,
    snapshot::Snapshot,
};

use crate::{Netns, PATIENCE, device, require_bpf, require_root, scenario, wait_until};

/// An address that nobody has, on the first [`cable`]: packets to it are dropped without an answer.
pub const A: [u8; 4] = [192, 0, 2, 99];
/// Likewise on the second.
pub const B: [u8; 4] = [198, 51, 100, 99];
/// Likewise on the third.
pub const C: [u8; 4] = [203, 0, 113, 99];

/// The interfaces to watch: patterns, and behind `^` those to leave out.
///
/// # Panics
/// When one is no pattern.
#[must_use]
pub fn request(include: &str) -> Request {
    let (include, exclude) = include.split_once('^').unwrap_or((include, ""));
    let patterns = |text: &str| -> Vec<Pattern> {
        let parse = |word: &str| word.parse().unwrap_or_else(|error| panic!("{word}: {error}"));
        text.split_whitespace().map(parse).collect()
    };
    Request { include: patterns(include), exclude: patterns(exclude), stacked: false }
}

/// A backend at work in a namespace, and everything it has counted.
pub struct Watch<'a> {
    netns: &'a Netns,
    /// The backend.
    pub backend: Box<dyn Backend>,
    /// Packets to a port by the interface's name.
    pub packets: BTreeMap<(String, u16), u64>,
    /// Packets of the host's totals.
    pub host: u64,
    /// The last interval.
    pub last: Snapshot,
}

impl<'a> Watch<'a> {
    /// Starts one on these interfaces.
    ///
    /// # Panics
    /// When it cannot start.
    #[must_use]
    pub fn start(netns: &'a Netns, choice: Choice, request: Request) -> Self {
        Self::with(netns, choice, &LiveSettings { interfaces: request, ..scenario::settings() })
    }

    /// As [`Self::start`], with settings of the test's own.
    ///
    /// # Panics
    /// When it cannot start.
    #[must_use]
    pub fn with(netns: &'a Netns, choice: Choice, settings: &LiveSettings) -> Self {
        let backend = netns.run(|| live::start(choice, "asked for", settings));
        let backend = backend.unwrap_or_else(|error| panic!("start: {error}"));
        Self { netns, backend, packets: BTreeMap::new(), host: 0, last: Snapshot::default() }
    }

    /// Ends an interval; the names of the interfaces watched in it.
    ///
    /// # Panics
    /// When that fails, or a flow's interface has no name.
    pub fn poll(&mut self) -> Vec<String> {
        let mut snapshot =
            self.backend.poll().unwrap_or_else(|error| panic!("poll: {error}")).unwrap_or_default();
        locality::mark(&mut snapshot);
        for flow in &snapshot.flows {
            let name = snapshot.interfaces.get(&flow.key.ifindex);
            let name = name.unwrap_or_else(|| panic!("no name: {flow:?} {:?}", snapshot.interfaces)).clone();
            *self.packets.entry((name, flow.key.dport)).or_default() += flow.counters.packets;
        }
        self.host += snapshot.host_total().packets;
        let names = snapshot.interfaces.values().cloned().collect();
        self.last = snapshot;
        names
    }

    /// Polls until exactly these are watched. A poll heeds all that happened before it; only what the kernel does
    /// behind a command that has returned is waited for.
    ///
    /// # Panics
    /// When others are.
    pub fn watches(&mut self, names: &[&str]) {
        let mut last = Vec::new();
        for _ in 0..200 {
            last = self.poll();
            if last == names {
                return;
            }
        }
        panic!("watched {last:?}, not {names:?}");
    }

    /// Polls until this many packets to a port were counted on an interface, and no more.
    ///
    /// # Panics
    /// When there are fewer or more.
    pub fn counts(&mut self, name: &str, port: u16, packets: u64) {
        let key = (name.to_owned(), port);
        wait_until("the packets to be counted", PATIENCE, || {
            self.poll();
            self.packets.get(&key).is_some_and(|found| *found >= packets)
        });
        self.poll();
        assert_eq!(self.packets.get(&key), Some(&packets), "{name}: {:?}", self.packets);
    }

    /// Sends datagrams of 100 bytes that nobody answers.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn send(&self, to: impl Into<Ipv4Addr>, port: u16, packets: u64) {
        send(self.netns, to.into(), port, packets);
    }
}

/// As [`Watch::send`], from any namespace.
///
/// # Panics
/// When the kernel refuses.
pub fn send(netns: &Netns, to: Ipv4Addr, port: u16, packets: u64) {
    netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap_or_else(|error| panic!("{error}"));
        for _ in 0..packets {
            let sent = socket.send_to(&[7; 100], SocketAddr::from((to, port)));
            sent.unwrap_or_else(|error| panic!("sending to {to}: {error}"));
        }
    });
}

/// A veth in `netns` with an address, whose other end is in `other`; quiet, and nobody needs to be asked for
/// `net`.2 and .99, for `net` the first three numbers of an address.
///
/// # Panics
/// When the kernel refuses.
pub fn cable(netns: &Netns, name: &str, net: &str, other: &Netns) {
    netns.ip(&format!("link add {name} type veth peer name far-{name} netns {}", other.path()));
    for (netns, device, host) in [(netns, name.to_owned(), 1), (other, format!("far-{name}"), 2)] {
        netns.ip(&format!("link set {device} arp off multicast off addrgenmode none"));
        netns.ip(&format!("address add {net}.{host}/24 dev {device}"));
        netns.ip(&format!("link set {device} up"));
    }
    for host in [2, 99] {
        neighbour(netns, name, &format!("{net}.{host}"), other, &format!("far-{name}"));
    }
    neighbour(other, &format!("far-{name}"), &format!("{net}.1"), netns, name);
}

/// Tells `device` the link address of an IP address, which the device `of` in `other` has.
///
/// # Panics
/// When the kernel refuses.
pub fn neighbour(netns: &Netns, device: &str, address: &str, other: &Netns, of: &str) {
    let mac = device::mac(other, of).map(|byte| format!("{byte:02x}")).join(":");
    netns.ip(&format!("neighbour replace {address} lladdr {mac} dev {device} nud permanent"));
}

/// With each backend that can run here.
///
/// # Panics
/// As [`require_root`], and where the test does.
pub fn with_both(test: impl Fn(Choice)) {
    if require_root() {
        test(Choice::Pcap);
    }
    if require_bpf() {
        test(Choice::Ebpf);
    }
}
