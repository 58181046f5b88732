//! The CIDR filter of a running agent: it holds from the first packet on, changes without the programs being loaded
//! again, and no packet is counted by two filters or by none.
//!
//! Needs root, eBPF and iproute2; everything happens in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::net::{IpAddr, Ipv4Addr};

use wherefore::{
    backend::{
        Backend as _, Choice, Hook, LiveSettings, ebpf, live,
        probe::{Way, chain},
    },
    filter::{CidrFilter, Prefixes},
    snapshot::Snapshot,
};
use wherefore_common::{Amount, Direction, Reason};
use wherefore_tests::{
    can_load,
    pair::{HEADERS, NEAR, far, index, namespace, only, settings, socket},
};

/// Where packets go: nobody answers.
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

fn without(net: &str) -> CidrFilter {
    let either = vec![net.parse().unwrap()];
    CidrFilter { exclude: Prefixes { either, ..Prefixes::default() }, ..CidrFilter::default() }
}

/// Packets to [`THERE`] that left [`NEAR`], in flows and filtered.
fn counted(snapshot: &Snapshot) -> [u64; 2] {
    let flows = snapshot.flows.iter().filter(|flow| flow.dst() == THERE && flow.key.ifindex == index(NEAR));
    let filtered = snapshot.unaccounted.iter().filter(|(key, _)| {
        key.reason == Reason::Filtered as u8
            && key.ifindex == index(NEAR)
            && Direction::from_u8(key.direction) == Direction::Egress
    });
    let filtered = filtered.fold(Amount::default(), |mut sum, (_, amount)| {
        sum.add(amount);
        sum
    });
    assert_eq!(filtered.wire_bytes, filtered.packets * (22 + HEADERS));
    [flows.map(|flow| flow.counters.packets).sum(), filtered.packets]
}

fn send(packets: u64) {
    let socket = socket().unwrap();
    for _ in 0..packets {
        socket.send_to(&[0; 22], far(1001)).unwrap();
    }
}

#[test]
fn a_filter_changes_with_an_interval_and_the_programs_stay() {
    if !can_load() {
        return;
    }
    for hook in [Hook::Tc, Hook::Clsact, Hook::Xdp] {
        namespace().run(move || {
            let settings = LiveSettings { filter: without("192.0.2.0/24"), ..settings(hook) };
            let mut backend = ebpf::start(&settings).unwrap();
            let programs = || chain(index(NEAR), Way::Egress).unwrap().into_iter().map(|program| program.id);
            let before: Vec<_> = programs().collect();
            let mut poll = |packets, next: &str| {
                send(packets);
                backend.replace_filter(&without(next)).unwrap();
                // Until the interval ends the old filter holds.
                send(1);
                counted(&backend.poll().unwrap().unwrap())
            };
            assert_eq!(poll(100, "198.51.100.0/24"), [0, 101], "{hook:?}, from the first packet on");
            assert_eq!(poll(200, "198.51.100.0/24"), [201, 0], "{hook:?}, another network");
            assert_eq!(poll(300, "192.0.2.2/32"), [301, 0], "{hook:?}, still");
            assert_eq!(poll(400, "192.0.2.3/32"), [0, 401], "{hook:?}, this host");
            assert_eq!(poll(500, "192.0.2.3/32"), [501, 0], "{hook:?}, its neighbour");
            assert!(programs().eq(before));
        });
    }
}

#[test]
fn both_backends_filter_alike() {
    if !can_load() {
        return;
    }
    for choice in [Choice::Ebpf, Choice::Pcap] {
        namespace().run(move || {
            let include = Prefixes { dst: vec!["192.0.2.2/31".parse().unwrap()], ..Prefixes::default() };
            let exclude = Prefixes { src: vec!["192.0.2.1/32".parse().unwrap()], ..Prefixes::default() };
            for (filter, expected) in [
                (CidrFilter { include: include.clone(), ..CidrFilter::default() }, [70, 0]),
                (CidrFilter { include, exclude }, [0, 70]),
            ] {
                let settings = LiveSettings { filter, ..only(NEAR, Hook::Tc) };
                let mut backend = live::start(choice, "asked for", &settings).unwrap();
                send(70);
                assert_eq!(counted(&backend.stop().unwrap().unwrap()), expected, "{choice:?}");
            }
        });
    }
}
