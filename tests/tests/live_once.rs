//! What passes several interfaces is counted on each that is watched, and once in the host's totals. With both live
//! backends.

use std::{collections::BTreeMap, fs, net::Ipv4Addr};

use wherefore::{backend::interfaces::Request, locality::Locality};
use wherefore_tests::{
    Netns, PATIENCE, wait_until,
    watch::{A, B, C, Watch, cable, neighbour, request, send, with_both},
};

fn forward(netns: &Netns) {
    netns.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap_or_else(|error| panic!("{error}"));
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
