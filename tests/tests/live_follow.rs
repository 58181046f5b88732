//! Interfaces come, go, change their names and their routes while a backend counts: what they carry is counted to
//! the packet, under the right name. With both live backends.

use std::{fs, net::Ipv4Addr};

use nix::sys::signal::Signal;
use wherefore::{
    backend::{Choice, LiveSettings, interfaces::Request},
    locality::Locality,
};
use wherefore_tests::{
    Netns, PATIENCE,
    agent::Stream,
    device, run_agent, scenario, wait_until,
    watch::{A, B, C, Watch, cable, neighbour, request, send, with_both},
};

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
            line.contains("nothing is counted until one is there; there are: lo")
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
        let mut watch = Watch::with(&host, choice, &settings);
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
        // Too late: by now eth0 is nobody's business, also where a capture still hands over what came before.
        watch.send(A, 1001, 9);
        watch.send(B, 1000, 6);
        watch.counts("eth1", 1000, 6);
        watch.counts("eth0", 1000, 5);
        assert_eq!(watch.packets.get(&("eth0".to_owned(), 1001)), None, "{:?}", watch.packets);
        // Gone for a moment, then by both at once.
        host.ip("route delete default");
        watch.watches(&["eth1"]);
        host.ip("route add default nexthop via 192.0.2.2 nexthop via 198.51.100.2");
        assert_eq!(watch.poll(), ["eth0", "eth1"]);
    });
}

/// By nexthop objects: one, a group, one that leads elsewhere, one that goes and takes its route along.
#[test]
fn nexthop_objects_lead_from_one_to_another() {
    // With 0 the kernel lists no interface with such a route, and says nothing of the route when the object changes.
    for compatible in ["1", "0"] {
        with_both(|choice| {
            let (host, world) = (Netns::new("host"), Netns::new("world"));
            cable(&host, "eth0", "192.0.2", &world);
            cable(&host, "eth1", "198.51.100", &world);
            let mode = "/proc/sys/net/ipv4/nexthop_compat_mode";
            host.run(|| fs::write(mode, compatible)).unwrap_or_else(|error| panic!("{mode}: {error}"));
            host.ip("nexthop add id 1 via 192.0.2.2 dev eth0");
            host.ip("nexthop add id 2 via 198.51.100.2 dev eth1");
            host.ip("nexthop add id 10 group 1");
            host.ip("route add default nhid 10");
            let mut watch = Watch::start(&host, choice, Request::default());
            assert_eq!(watch.backend.description().chosen, "default route");
            watch.watches(&["eth0"]);
            host.ip("nexthop replace id 10 group 1/2");
            watch.watches(&["eth0", "eth1"]);
            host.ip("nexthop replace id 10 group 2");
            watch.watches(&["eth1"]);
            host.ip("nexthop replace id 2 via 192.0.2.2 dev eth0");
            watch.watches(&["eth0"]);
            host.ip("route add default via 198.51.100.2 metric 100");
            watch.watches(&["eth0", "eth1"]);
            host.ip("nexthop delete id 10");
            watch.watches(&["eth1"]);
        });
    }
}

/// Forwarding decides whether what leads into the host is part of its totals.
#[test]
fn forwarding_that_is_switched_on_and_off_is_heeded() {
    with_both(|choice| {
        for family in ["ipv4", "ipv6"] {
            let (host, world) = (Netns::new("host"), Netns::new("world"));
            cable(&host, "eth0", "192.0.2", &world);
            cable(&host, "ct0", "198.51.100", &world);
            host.ip("route add default via 192.0.2.2");
            let mut watch = Watch::start(&host, choice, request("*"));
            watch.watches(&["eth0", "ct0"]);
            let switch = |name: &str, value: &str| {
                let path = format!("/proc/sys/net/{family}/conf/{name}/forwarding");
                host.run(|| fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
            };
            switch("ct0", "1");
            watch.watches(&["eth0"]);
            switch("ct0", "0");
            watch.watches(&["eth0", "ct0"]);
            switch("all", "1");
            watch.watches(&["eth0"]);
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
