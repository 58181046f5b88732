use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use proptest::prelude::*;
use wherefore_common::{Amount, FlowCounters, FlowKey, Reason, UnaccountedKey};

use super::*;
use crate::snapshot::{Flow, Snapshot};

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|text| text.parse().expect(text)).collect()
}

fn either(list: &[&str]) -> Prefixes {
    Prefixes { either: nets(list), ..Prefixes::default() }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

#[test]
fn families_and_mapped_addresses() {
    let cases = [
        ("0.0.0.0/0", "192.0.2.1", true),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("::/0", "192.0.2.1", false),
        ("::/0", "::ffff:192.0.2.1", true),
        ("192.0.2.0/24", "::ffff:192.0.2.1", true),
        ("192.0.2.77/24", "192.0.2.1", true),
        ("::ffff:192.0.2.0/120", "192.0.2.1", true),
        ("::ffff:192.0.2.0/120", "192.0.3.1", false),
        ("::ffff:0:0/96", "203.0.113.9", true),
        ("::ffff:0:0/95", "203.0.113.9", false),
        ("::ffff:0:0/95", "::ffff:203.0.113.9", true),
        ("255.255.255.255/32", "255.255.255.255", true),
    ];
    for (prefix, one, expected) in cases {
        let filter = CidrFilter { include: either(&[prefix]), ..CidrFilter::default() };
        let other = address("100::1");
        assert_eq!(filter.wants(address(one), other), expected || prefix == "::/0", "{prefix} {one}");
        let filter = CidrFilter {
            include: Prefixes { src: nets(&[prefix]), ..Prefixes::default() },
            ..CidrFilter::default()
        };
        assert_eq!(filter.wants(address(one), other), expected, "{prefix} {one}");
        assert_eq!(filter.compile().wants(address(one), other), expected, "{prefix} {one}");
    }
}

#[test]
fn unwanted_flows_become_unaccounted() {
    let flow = |last: u8, direction: u8, packets: u64| {
        let mut src = [0; 16];
        src[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, last]);
        let key = FlowKey { src, dst: src, ifindex: 7, family: 4, direction, ..FlowKey::default() };
        let counters = FlowCounters { packets, wire_bytes: packets * 100, ..FlowCounters::default() };
        Flow::new(key, counters)
    };
    let mut snapshot = Snapshot {
        flows: vec![flow(1, 0, 1), flow(2, 0, 2), flow(3, 0, 4), flow(4, 1, 8)],
        ..Snapshot::default()
    };
    let before = snapshot.total();
    let filter = CidrFilter { exclude: either(&["192.0.2.2/31", "192.0.2.4/32"]), ..CidrFilter::default() };
    filter.compile().apply(&mut snapshot);
    assert_eq!(snapshot.flows, [flow(1, 0, 1)]);
    let key = |direction| UnaccountedKey {
        ifindex: 7,
        direction,
        reason: Reason::Filtered as u8,
        ..UnaccountedKey::default()
    };
    assert_eq!(snapshot.unaccounted[&key(0)], Amount { packets: 6, wire_bytes: 600 });
    assert_eq!(snapshot.unaccounted[&key(1)], Amount { packets: 8, wire_bytes: 800 });
    assert_eq!(snapshot.total(), before);
}

/// Few distinct high bits and ends, so that prefixes nest, touch and hit addresses.
fn v4() -> impl Strategy<Value = Ipv4Addr> {
    (0_u32..4, prop_oneof![Just(0_u32), Just(0x3fff_ffff), 0_u32..0x4000_0000])
        .prop_map(|(high, low)| Ipv4Addr::from(high << 30 | low))
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        v4().prop_map(IpAddr::V4),
        v4().prop_map(|v4| IpAddr::V6(v4.to_ipv6_mapped())),
        (0_u128..4, any::<u128>()).prop_map(|(high, low)| IpAddr::V6(Ipv6Addr::from(high << 126 | low >> 2))),
    ]
}

fn any_prefix() -> impl Strategy<Value = IpNet> {
    (any_address(), any::<u8>()).prop_map(|(address, len)| match address {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::new(v4, len % 33).expect("length in range")),
        IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new(v6, len % 129).expect("length in range")),
    })
}

fn any_prefixes() -> impl Strategy<Value = Prefixes> {
    let list = || prop::collection::vec(any_prefix(), 0..6);
    (list(), list(), list()).prop_map(|(src, dst, either)| Prefixes { src, dst, either })
}

/// The lists of the longest prefix that holds an address.
fn longest(entries: &[Entry], address: IpAddr) -> u32 {
    let address = match address {
        IpAddr::V4(v4) => Prefix { family: 4, address: v4.to_ipv6_mapped().octets() },
        IpAddr::V6(v6) => Prefix { family: 6, address: v6.octets() },
    };
    let held = entries.iter().filter(|entry| entry.contains(&address));
    held.max_by_key(|entry| entry.length).map_or(0, |entry| entry.lists)
}

proptest! {
    #[test]
    fn compiled_means_the_same(
        include in any_prefixes(),
        exclude in any_prefixes(),
        pairs in prop::collection::vec((any_address(), any_address()), 30),
    ) {
        let filter = CidrFilter { include, exclude };
        let compiled = filter.compile();
        for (src, dst) in pairs {
            prop_assert_eq!(compiled.wants(src, dst), filter.wants(src, dst), "{} > {}", src, dst);
        }
    }

    #[test]
    fn entries_mean_the_same(
        include in any_prefixes(),
        exclude in any_prefixes(),
        pairs in prop::collection::vec((any_address(), any_address()), 30),
    ) {
        let filter = CidrFilter { include, exclude };
        let entries = filter.entries();
        for (src, dst) in pairs.into_iter().filter(|(src, dst)| src.is_ipv4() == dst.is_ipv4()) {
            let (src_lists, dst_lists) = (longest(&entries, src), longest(&entries, dst));
            let excluded = src_lists & EXCLUDE_SRC != 0 || dst_lists & EXCLUDE_DST != 0;
            let included = src_lists & INCLUDE_SRC != 0 || dst_lists & INCLUDE_DST != 0;
            let wanted = !excluded && (filter.include.is_empty() || included);
            prop_assert_eq!(wanted, filter.wants(src, dst), "{} > {}", src, dst);
        }
    }

    #[test]
    fn excluded_beats_included(prefix in any_prefix(), include in any_prefixes(), other in any_address()) {
        let filter = CidrFilter {
            include,
            exclude: Prefixes { either: vec![prefix], ..Prefixes::default() },
        };
        prop_assert!(!filter.wants(prefix.addr(), other));
        prop_assert!(!filter.wants(other, prefix.addr()));
    }
}
