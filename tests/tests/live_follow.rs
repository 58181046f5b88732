//! Interfaces come, go, change their names and their routes while a backend counts: what they carry is counted to
//! the packet, under the right name, and once in the host's totals. With both live backends.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use nix::sys::signal::Signal;
use wherefore::{
    backend::{
        Backend, Choice, LiveSettings,
        interfaces::{Pattern, Request},
        live,
    },
    enrich::locality,
    locality::Locality,
    snapshot::Snapshot,
};
use wherefore_tests::{
    Netns, PATIENCE, agent::Stream, device, require_bpf, require_root, run_agent, scenario, wait_until,
};

fn request(include: &str) -> Request {
    let (include, exclude) = include.split_once('^').unwrap_or((include, ""));
    let patterns = |text: &str| -> Vec<Pattern> {
        let parse = |word: &str| word.parse().unwrap_or_else(|error| panic!("{word}: {error}"));
        text.split_whitespace().map(parse).collect()
    };
    Request { include: patterns(include), exclude: patterns(exclude), stacked: false }
}

/// A backend at work in a namespace, and everything it has counted: packets to a port by the interface's name.
struct Watch<'a> {
    netns: &'a Netns,
    backend: Box<dyn Backend>,
    packets: BTreeMap<(String, u16), u64>,
    host: u64,
    last: Snapshot,
}

impl<'a> Watch<'a> {
    fn start(netns: &'a Netns, choice: Choice, request: Request) -> Self {
        let settings = LiveSettings { interfaces: request, ..scenario::settings() };
        let backend = netns.run(|| live::start(choice, "asked for", &settings));
        let backend = backend.unwrap_or_else(|error| panic!("start: {error}"));
        Self { netns, backend, packets: BTreeMap::new(), host: 0, last: Snapshot::default() }
    }

    /// Ends an interval; the names of the interfaces watched in it.
    fn poll(&mut self) -> Vec<String> {
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
    fn watches(&mut self, names: &[&str]) {
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
    fn counts(&mut self, name: &str, port: u16, packets: u64) {
        let key = (name.to_owned(), port);
        for _ in 0..400 {
            self.poll();
            if self.packets.get(&key).is_some_and(|found| *found >= packets) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.poll();
        assert_eq!(self.packets.get(&key), Some(&packets), "{name}: {:?}", self.packets);
    }

    /// Sends datagrams of 100 bytes that nobody answers.
    fn send(&self, to: impl Into<Ipv4Addr>, port: u16, packets: u64) {
        send(self.netns, to.into(), port, packets);
    }
}

fn send(netns: &Netns, to: Ipv4Addr, port: u16, packets: u64) {
    netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap_or_else(|error| panic!("{error}"));
        for _ in 0..packets {
            let sent = socket.send_to(&[7; 100], SocketAddr::from((to, port)));
            sent.unwrap_or_else(|error| panic!("sending to {to}: {error}"));
        }
    });
}

/// A veth in `netns` with an address, whose other end is in `other`; quiet, and nobody needs to be asked for
/// 192.0.2.x, …, for `NET` its first three numbers.
fn cable(netns: &Netns, name: &str, net: &str, other: &Netns) {
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
fn neighbour(netns: &Netns, device: &str, address: &str, other: &Netns, of: &str) {
    let mac = device::mac(other, of).map(|byte| format!("{byte:02x}")).join(":");
    netns.ip(&format!("neighbour replace {address} lladdr {mac} dev {device} nud permanent"));
}

fn forward(netns: &Netns) {
    netns.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap_or_else(|error| panic!("{error}"));
}

/// Addresses that nobody has: packets to them are dropped without an answer.
const A: [u8; 4] = [192, 0, 2, 99];
const B: [u8; 4] = [198, 51, 100, 99];
const C: [u8; 4] = [203, 0, 113, 99];

/// With each backend that can run here.
fn with_both(test: impl Fn(Choice)) {
    if require_root() {
        test(Choice::Pcap);
    }
    if require_bpf() {
        test(Choice::Ebpf);
    }
}

#[test]
fn those_that_match_are_counted_as_they_come_and_go() {
    with_both(|choice| {
        let (host, world) = (Netns::new("host"), Netns::new("world"));
        cable(&host, "eth0", "192.0.2", &world);
        // Nothing matches yet.
        let mut watch = Watch::start(&host, choice, request("ct* ^ct9"));
        assert!(watch.poll().is_empty());
        assert!(watch.backend.description().to_string().contains("watching no interface"));
        watch.send(A, 1000, 5);
        cable(&host, "ct0", "198.51.100", &world);
        cable(&host, "ct9", "203.0.113", &world);
        watch.watches(&["ct0"]);
        watch.send(B, 1000, 7);
        watch.send(C, 1000, 9);
        watch.counts("ct0", 1000, 7);
        // Gone with what it carried since the last poll: that is in the next snapshot, under its name.
        watch.send(B, 1001, 11);
        host.ip("link delete ct0");
        watch.counts("ct0", 1001, 11);
        watch.watches(&[]);
        // Another one by the same name.
        cable(&host, "ct0", "198.51.100", &world);
        watch.watches(&["ct0"]);
        watch.send(B, 1002, 13);
        watch.counts("ct0", 1002, 13);
        assert!(watch.packets.keys().all(|(name, _)| name == "ct0"), "{:?}", watch.packets);
    });
}

/// It is watched as soon as it is there, however long an interval is.
#[test]
fn a_new_interface_does_not_wait_for_a_poll() {
    with_both(|choice| {
        let (host, world) = (Netns::new("host"), Netns::new("world"));
        let backend = if choice == Choice::Ebpf { "ebpf" } else { "pcap" };
        let arguments = ["run", "-i", "ct*", "--interval", "1h", "--backend", backend];
        let mut agent = run_agent(Some(&host), &arguments);
        agent.wait_for_line(Stream::Out, PATIENCE, |line| {
            line.contains("nothing is counted until one is there")
        });
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("interfaces: matching ct*"));
        cable(&host, "ct0", "198.51.100", &world);
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("is watched now: matches ct*"));
        send(&host, B.into(), 1000, 7);
        host.ip("link set ct0 name ct1");
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("ct0 is called ct1 now"));
        host.ip("link set ct1 down");
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("ct1 is down"));
        host.ip("link delete ct1");
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("ct1 is gone"));
        agent.wait_for_line(Stream::Out, PATIENCE, |line| {
            line.contains("nothing is counted until one is back")
        });
        agent.signal(Signal::SIGTERM);
        let ended = agent.wait(PATIENCE);
        assert_eq!(ended.status.code(), Some(0), "{ended:#?}");
        assert!(ended.stdout.iter().any(|line| line.contains(": 7 packets, 994 bytes")), "{ended:#?}");
    });
}

/// An expression holds for those that come later, also where they are the first without Ethernet headers.
#[test]
fn an_expression_holds_for_new_interfaces_of_any_kind() {
    with_both(|choice| {
        let (host, world) = (Netns::new("host"), Netns::new("world"));
        cable(&host, "eth0", "192.0.2", &world);
        let settings = LiveSettings {
            interfaces: request("eth0 tun* ct*"),
            expression: Some("udp port 1000".into()),
            ..scenario::settings()
        };
        let backend = host.run(|| live::start(choice, "asked for", &settings));
        let backend = backend.unwrap_or_else(|error| panic!("start: {error}"));
        let mut watch =
            Watch { netns: &host, backend, packets: BTreeMap::new(), host: 0, last: Snapshot::default() };
        watch.watches(&["eth0"]);
        let _tun = device::tun(&host, "tun0");
        host.ip("address add 203.0.113.1/24 dev tun0");
        cable(&host, "ct0", "198.51.100", &world);
        watch.watches(&["eth0", "tun0", "ct0"]);
        for (to, packets) in [(A, 3), (B, 4), (C, 5)] {
            watch.send(to, 1000, packets);
            watch.send(to, 1001, packets);
        }
        watch.counts("eth0", 1000, 3);
        watch.counts("ct0", 1000, 4);
        watch.counts("tun0", 1000, 5);
        assert!(watch.packets.keys().all(|(_, port)| *port == 1000), "{:?}", watch.packets);
    });
}

#[test]
fn a_new_name_and_a_pause_lose_nothing() {
    with_both(|choice| {
        let (host, world) = (Netns::new("host"), Netns::new("world"));
        cable(&host, "eth0", "192.0.2", &world);
        let mut watch = Watch::start(&host, choice, request("eth0"));
        assert_eq!(watch.poll(), ["eth0"]);
        watch.send(A, 1000, 5);
        watch.counts("eth0", 1000, 5);
        host.ip("link set eth0 name wan0");
        assert_eq!(watch.poll(), ["wan0"]);
        watch.send(A, 1001, 6);
        watch.counts("wan0", 1001, 6);
        host.ip("link set wan0 down");
        watch.poll();
        host.ip("link set wan0 up");
        neighbour(&host, "wan0", "192.0.2.99", &world, "far-eth0");
        assert_eq!(watch.poll(), ["wan0"]);
        watch.send(A, 1002, 7);
        watch.counts("wan0", 1002, 7);
    });
}

#[test]
fn the_default_route_leads_from_one_to_another() {
    with_both(|choice| {
        let (host, world) = (Netns::new("host"), Netns::new("world"));
        cable(&host, "eth0", "192.0.2", &world);
        cable(&host, "eth1", "198.51.100", &world);
        host.ip("route add default via 192.0.2.2");
        let mut watch = Watch::start(&host, choice, Request::default());
        assert_eq!(watch.backend.description().chosen, "default route");
        assert_eq!(watch.poll(), ["eth0"]);
        watch.send(A, 1000, 5);
        host.ip("route replace default via 198.51.100.2");
        // Both were watched in the interval.
        assert_eq!(watch.poll(), ["eth0", "eth1"]);
        watch.send(B, 1000, 6);
        watch.counts("eth1", 1000, 6);
        watch.counts("eth0", 1000, 5);
        // Gone for a moment, then by both at once.
        host.ip("route delete default");
        watch.watches(&["eth1"]);
        host.ip("route add default nexthop via 192.0.2.2 nexthop via 198.51.100.2");
        assert_eq!(watch.poll(), ["eth0", "eth1"]);
    });
}

/// A bridge with the host's address over a port; VXLAN and macvlan over a carrier: all of them named, so all are
/// counted, but each packet once in the host's totals.
#[test]
fn stacked_interfaces_count_once_for_the_host() {
    with_both(|choice| {
        let (host, world) = (Netns::new("host"), Netns::new("world"));
        cable(&host, "eth0", "192.0.2", &world);
        host.ip("link add vx0 type vxlan id 7 dev eth0 remote 192.0.2.99 dstport 4789");
        host.ip("link add link eth0 mac0 type macvlan mode bridge");
        for (device, net) in [("vx0", "203.0.113"), ("mac0", "198.51.100")] {
            host.ip(&format!("link set {device} arp off multicast off addrgenmode none"));
            host.ip(&format!("address add {net}.1/24 dev {device}"));
            host.ip(&format!("link set {device} up"));
            neighbour(&host, device, &format!("{net}.99"), &world, "far-eth0");
        }
        let mut watch = Watch::start(&host, choice, request("eth0 vx0 mac0"));
        assert_eq!(watch.poll().len(), 3);
        watch.send(A, 1000, 5);
        watch.send(B, 1001, 6);
        watch.send(C, 1002, 7);
        watch.counts("eth0", 1000, 5);
        watch.counts("mac0", 1001, 6);
        watch.counts("eth0", 1001, 6);
        watch.counts("vx0", 1002, 7);
        watch.counts("eth0", 4789, 7);
        assert_eq!(watch.host, 5 + 6 + 7, "{:?}", watch.packets);
        // The same by a glob: the carrier alone.
        let mut watch = Watch::start(&host, choice, request("*"));
        assert_eq!(watch.poll(), ["eth0"]);
        let stacked = Request { stacked: true, ..request("*") };
        let mut watch = Watch::start(&host, choice, stacked);
        assert_eq!(watch.poll().len(), 3);
        assert_eq!(watch.last.stacked.len(), 2);
    });
}

#[test]
fn a_bridge_counts_for_its_ports() {
    with_both(|choice| {
        let (host, world) = (Netns::new("host"), Netns::new("world"));
        cable(&host, "eth0", "192.0.2", &world);
        host.ip("link add br0 type bridge mcast_snooping 0");
        host.ip("link set br0 arp off multicast off addrgenmode none");
        host.ip("link set br0 up");
        host.ip("address flush dev eth0");
        let mut watch = Watch::start(&host, choice, request("eth0 br0"));
        watch.poll();
        assert!(watch.last.stacked.is_empty(), "two strangers");
        host.ip("link set eth0 master br0");
        host.ip("address add 192.0.2.1/24 dev br0");
        host.ip("route add default via 192.0.2.2");
        neighbour(&host, "br0", "192.0.2.99", &world, "far-eth0");
        watch.poll();
        let before = watch.host;
        watch.send(A, 1000, 5);
        watch.counts("br0", 1000, 5);
        watch.counts("eth0", 1000, 5);
        assert_eq!(watch.host - before, 5, "{:?}", watch.packets);
        // By default the bridge, as the route leads there; by a glob as well.
        for wanted in ["", "*"] {
            assert_eq!(Watch::start(&host, choice, request(wanted)).poll(), ["br0"], "{wanted:?}");
        }
    });
}

/// A router between a guest behind a veth and the world: the guest's packets pass both interfaces, count once for the
/// host, and are nobody's here.
#[test]
fn what_a_router_forwards_counts_once_and_is_not_its_own() {
    with_both(|choice| {
        let (router, world, guest) = (Netns::new("router"), Netns::new("world"), Netns::new("guest"));
        cable(&router, "eth0", "192.0.2", &world);
        cable(&router, "ve0", "198.51.100", &guest);
        router.ip("route add default via 192.0.2.2");
        guest.ip("route add default via 198.51.100.1");
        forward(&router);
        let mut watch = Watch::start(&router, choice, request("eth0 ve0"));
        watch.poll();
        let locality = |watch: &Watch, port| {
            let flows = watch.last.flows.iter().filter(|flow| flow.key.dport == port);
            flows.map(|flow| flow.locality).collect::<Vec<_>>()
        };
        send(&guest, A.into(), 1000, 5);
        watch.send(A, 1001, 6);
        send(&guest, Ipv4Addr::new(198, 51, 100, 1), 1002, 7);
        let mut seen = BTreeMap::new();
        wait_until("all of them", PATIENCE, || {
            watch.poll();
            for port in [1000, 1001, 1002] {
                seen.entry(port).or_insert_with(Vec::new).extend(locality(&watch, port));
            }
            let count = |name: &str, port| watch.packets.get(&(name.to_owned(), port)).copied();
            (count("eth0", 1000), count("ve0", 1000), count("eth0", 1001), count("ve0", 1002))
                == (Some(5), Some(5), Some(6), Some(7))
        });
        let all = |port, locality| seen[&port].iter().all(|found| *found == locality);
        assert!(all(1000, Locality::Forwarded) && seen[&1000].len() >= 2, "{seen:?}");
        assert!(all(1001, Locality::Outgoing) && all(1002, Locality::Incoming), "{seen:?}");
        // What the guest tells the router itself passes the veth alone, which leads into the host.
        assert_eq!(watch.host, 5 + 6, "{:?}", watch.packets);
        for wanted in ["", "*"] {
            assert_eq!(Watch::start(&router, choice, request(wanted)).poll(), ["eth0"], "{wanted:?}");
        }
    });
}

#[test]
fn an_address_that_comes_and_goes_changes_whose_traffic_it_is() {
    with_both(|choice| {
        let (host, world) = (Netns::new("host"), Netns::new("world"));
        cable(&host, "eth0", "192.0.2", &world);
        neighbour(&world, "far-eth0", "192.0.2.77", &host, "eth0");
        let mut watch = Watch::start(&host, choice, request("eth0"));
        watch.poll();
        let locality = |watch: &mut Watch, port: u16| {
            send(&world, Ipv4Addr::new(192, 0, 2, 77), port, 1);
            let mut found = None;
            wait_until("the packet", PATIENCE, || {
                watch.poll();
                let flow = watch.last.flows.iter().find(|flow| flow.key.dport == port);
                found = flow.map(|flow| flow.locality);
                found.is_some()
            });
            found
        };
        assert_eq!(locality(&mut watch, 1000), Some(Locality::Forwarded));
        host.ip("address add 192.0.2.77/32 dev lo");
        assert_eq!(locality(&mut watch, 1001), Some(Locality::Incoming));
        host.ip("address delete 192.0.2.77/32 dev lo");
        watch.poll();
        assert_eq!(locality(&mut watch, 1002), Some(Locality::Forwarded));
        // What came before an address went was still for it.
        host.ip("address add 192.0.2.77/32 dev lo");
        watch.poll();
        send(&world, Ipv4Addr::new(192, 0, 2, 77), 1003, 1);
        host.ip("address delete 192.0.2.77/32 dev lo");
        watch.poll();
        let flow = watch.last.flows.iter().find(|flow| flow.key.dport == 1003);
        // libpcap may hand it over later.
        assert!(choice == Choice::Pcap || flow.is_some_and(|flow| flow.locality == Locality::Incoming));
    });
}
