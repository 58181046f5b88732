//! The CIDR filter in the kernel rejects what the same filter rejects in user space, and changes with an interval.
//!
//! Needs root and eBPF.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aya::programs::{Program, TestRun as _, TestRunOptions};
use ipnet::IpNet;
use wherefore::{
    backend::ebpf::bench::{Bench, Features},
    filter::{CidrFilter, Prefixes},
    snapshot::Snapshot,
};
use wherefore_common::{Amount, Reason};
use wherefore_tests::{Random, can_load};

/// Few networks, so that prefixes nest and hit: documentation networks, and IPv4-mapped IPv6 addresses.
fn address(random: &mut Random) -> IpAddr {
    let host = random.below(8) as u8;
    let net = random.below(3) as u8;
    let v4 = Ipv4Addr::new(
        [192, 198, 203][usize::from(net)],
        [0, 51, 0][usize::from(net)],
        [2, 100, 113][usize::from(net)],
        host,
    );
    match random.below(3) {
        0 => IpAddr::V4(v4),
        1 => IpAddr::V6(v4.to_ipv6_mapped()),
        _ => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, u16::from(net), 0, 0, 0, 0, u16::from(host))),
    }
}

fn prefixes(random: &mut Random) -> Prefixes {
    let mut list = || -> Vec<IpNet> {
        (0..random.below(3))
            .map(|_| {
                let address = address(random);
                let most = if address.is_ipv4() { 33 } else { 129 };
                // Mostly long ones: short ones hold everything.
                let len = if random.below(4) == 0 { random.below(most) } else { most - 1 - random.below(6) };
                IpNet::new(address, len as u8).unwrap()
            })
            .collect()
    };
    Prefixes { src: list(), dst: list(), either: list() }
}

/// A UDP frame between the addresses, of one family.
fn frame(src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            frame.extend([8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 30, 17, 64]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        _ => unreachable!("addresses of one family"),
    }
    frame.extend([0, 9, 0x10, 0x04, 0, 30, 0, 0]);
    frame.resize(frame.len() + 22, 0);
    frame
}

fn run(bench: &Bench, program: &str, frame: &[u8]) {
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    match bench.ebpf.program(program).unwrap() {
        Program::SchedClassifier(program) => program.test_run(options).unwrap(),
        Program::Xdp(program) => program.test_run(options).unwrap(),
        other => panic!("a program of type {:?}", other.prog_type()),
    };
}

/// Packets of each pair of addresses, and of what is filtered.
fn counted(snapshot: &Snapshot) -> (BTreeMap<(IpAddr, IpAddr), u64>, Amount) {
    let mut flows = BTreeMap::new();
    for flow in &snapshot.flows {
        *flows.entry((flow.src(), flow.dst())).or_insert(0) += flow.counters.packets;
    }
    (flows, snapshot.unaccounted_by_reason().get(&Reason::Filtered).copied().unwrap_or_default())
}

#[test]
fn the_kernel_filters_like_user_space_and_changes_with_an_interval() {
    if !can_load() {
        return;
    }
    // With the caches of the CPUs, and where every packet goes to the table.
    for cache in [true, false] {
        let mut bench = Bench::with(1 << 12, &Features { cache, ..Features::default() }).unwrap();
        for program in ["wherefore_in", "wherefore_out", "wherefore_xdp"] {
            bench.load(program).unwrap();
        }
        let mut random = Random::new(41);
        let mut rejections = 0;
        let mut filter = CidrFilter::default();
        for round in 0..60 {
            let (mut wanted, mut rejected) = (BTreeMap::new(), Amount::default());
            for _ in 0..60 {
                let (src, dst) = (address(&mut random), address(&mut random));
                if src.is_ipv4() != dst.is_ipv4() {
                    continue;
                }
                let frame = frame(src, dst);
                for program in ["wherefore_in", "wherefore_out", "wherefore_xdp"] {
                    run(&bench, program, &frame);
                    if filter.wants(src, dst) {
                        *wanted.entry((src, dst)).or_insert(0) += 1;
                    } else {
                        rejected.add(&Amount { packets: 1, wire_bytes: frame.len() as u64 });
                    }
                }
            }
            // What comes until the poll is judged by the old one, whenever the new one was given.
            let next = CidrFilter { include: prefixes(&mut random), exclude: prefixes(&mut random) };
            bench.filter(&next).unwrap();
            let snapshot = bench.poll().unwrap();
            assert_eq!(counted(&snapshot), (wanted, rejected), "round {round}, {filter:?}");
            rejections += rejected.packets;
            filter = next;
        }
        assert!(rejections > 1000, "{rejections} rejected");
    }
}
