//! CIDR filters: which flows are wanted. Pure.
//!
//! IPv4 prefixes are held against IPv4 addresses, IPv6 prefixes against IPv6 addresses: `::/0` says nothing
//! about IPv4. An IPv4-mapped IPv6 prefix (`::ffff:192.0.2.0/120`) means the IPv4 prefix it maps, and an
//! IPv4-mapped IPv6 address on the wire is held against prefixes of both kinds.

use std::{
    collections::BTreeMap,
    mem,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
use wherefore_common::{
    Amount, Reason, UnaccountedKey,
    cidr::{EXCLUDE_DST, EXCLUDE_SRC, FAMILY_BITS, INCLUDE_DST, INCLUDE_SRC, Prefix},
};

use crate::snapshot::Snapshot;

/// Include and exclude prefixes. Excluded beats included; empty include lists include everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrFilter {
    /// Prefixes by the side they apply to. A flow is included when any list has one of its addresses.
    pub include: Prefixes,
    /// Likewise.
    pub exclude: Prefixes,
}

/// Prefixes by the side of a flow they are held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// The source address.
    pub src: Vec<IpNet>,
    /// The destination address.
    pub dst: Vec<IpNet>,
    /// Either address.
    pub either: Vec<IpNet>,
}

impl Prefixes {
    /// True when there is no prefix.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.src.is_empty() && self.dst.is_empty() && self.either.is_empty()
    }

    fn matches(&self, src: IpAddr, dst: IpAddr) -> bool {
        let has = |list: &[IpNet], address| list.iter().any(|prefix| contains(*prefix, address));
        has(&self.src, src) || has(&self.dst, dst) || has(&self.either, src) || has(&self.either, dst)
    }
}

impl CidrFilter {
    /// True when everything is wanted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether a flow between these addresses is wanted. Looks at every prefix: for many flows, see
    /// [`CidrFilter::compile`].
    #[must_use]
    pub fn wants(&self, src: IpAddr, dst: IpAddr) -> bool {
        (self.include.is_empty() || self.include.matches(src, dst)) && !self.exclude.matches(src, dst)
    }

    /// The same filter in a form that takes a few comparisons a flow, however many prefixes there are.
    #[must_use]
    pub fn compile(&self) -> CompiledFilter {
        CompiledFilter {
            include: (!self.include.is_empty()).then(|| Sides::new(&self.include)),
            exclude: (!self.exclude.is_empty()).then(|| Sides::new(&self.exclude)),
        }
    }

    /// The same filter as the entries of a trie, each with the lists that hold its prefix or one around it: the
    /// longest prefix of an address tells all there is to know about it.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut lists = BTreeMap::<(Prefix, u32), u32>::new();
        let sides = [(&self.include, INCLUDE_SRC, INCLUDE_DST), (&self.exclude, EXCLUDE_SRC, EXCLUDE_DST)];
        for (prefixes, src, dst) in sides {
            let held = [(&prefixes.src, src), (&prefixes.dst, dst), (&prefixes.either, src | dst)];
            for (nets, bits) in held {
                for place in nets.iter().flat_map(|net| places(*net)) {
                    *lists.entry(place).or_default() |= bits;
                }
            }
        }
        // In this order a prefix comes behind those around it.
        let mut around: Vec<Entry> = Vec::new();
        let mut entries = Vec::with_capacity(lists.len());
        for ((prefix, length), bits) in lists {
            while around.last().is_some_and(|outer| !outer.contains(&prefix)) {
                around.pop();
            }
            let lists = bits | around.last().map_or(0, |outer| outer.lists);
            let entry = Entry { length, prefix, lists };
            around.push(entry);
            entries.push(entry);
        }
        entries
    }
}

/// An entry of the kernel's trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bits of `prefix` that count.
    pub length: u32,
    /// Family and address, zero behind those bits.
    pub prefix: Prefix,
    /// Lists that hold it, as bits of [`wherefore_common::cidr`].
    pub lists: u32,
}

impl Entry {
    fn contains(&self, prefix: &Prefix) -> bool {
        let number = |prefix: &Prefix| u128::from_be_bytes(prefix.address);
        let bits = 128 - (self.length - FAMILY_BITS);
        let differ = number(&self.prefix) ^ number(prefix);
        self.prefix.family == prefix.family && differ.checked_shr(bits).unwrap_or(0) == 0
    }
}

/// Where a prefix is in the trie: an IPv4 prefix under both families, as IPv4-mapped IPv6 addresses on the wire are
/// held against it too.
fn places(net: IpNet) -> Vec<(Prefix, u32)> {
    match unmapped(net) {
        IpNet::V4(net) => {
            let address = net.network().to_ipv6_mapped().octets();
            let length = FAMILY_BITS + MAPPED + u32::from(net.prefix_len());
            [4, 6].map(|family| (Prefix { family, address }, length)).to_vec()
        }
        IpNet::V6(net) => {
            let prefix = Prefix { family: 6, address: net.network().octets() };
            vec![(prefix, FAMILY_BITS + u32::from(net.prefix_len()))]
        }
    }
}

/// Length of the prefix of all IPv4-mapped IPv6 addresses.
const MAPPED: u32 = 96;

/// A [`CidrFilter`] made ready for many flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledFilter {
    include: Option<Sides>,
    exclude: Option<Sides>,
}

impl CompiledFilter {
    /// As [`CidrFilter::wants`].
    #[must_use]
    pub fn wants(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.include.as_ref().is_none_or(|sides| sides.matches(src, dst))
            && !self.exclude.as_ref().is_some_and(|sides| sides.matches(src, dst))
    }

    /// Moves the flows that are not wanted to `unaccounted` as [`Reason::Filtered`].
    pub fn apply(&self, snapshot: &mut Snapshot) {
        if self.include.is_none() && self.exclude.is_none() {
            return;
        }
        let flows = mem::take(&mut snapshot.flows);
        let (wanted, unwanted): (Vec<_>, Vec<_>) =
            flows.into_iter().partition(|flow| self.wants(flow.src(), flow.dst()));
        snapshot.flows = wanted;
        for flow in unwanted {
            let key = UnaccountedKey {
                ifindex: flow.key.ifindex,
                direction: flow.key.direction,
                reason: Reason::Filtered as u8,
                proto: 0,
                pad: 0,
            };
            let (packets, wire_bytes) = (flow.counters.packets, flow.counters.wire_bytes);
            snapshot.add_unaccounted(key, Amount { packets, wire_bytes });
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sides {
    src: Ranges,
    dst: Ranges,
}

impl Sides {
    fn new(prefixes: &Prefixes) -> Self {
        let side = |list: &[IpNet]| Ranges::new(list.iter().chain(&prefixes.either).copied());
        Self { src: side(&prefixes.src), dst: side(&prefixes.dst) }
    }

    fn matches(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.src.contains(src) || self.dst.contains(dst)
    }
}

/// Addresses as sorted ranges that neither overlap nor touch, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    fn new(prefixes: impl Iterator<Item = IpNet>) -> Self {
        let mut ranges = Self::default();
        for prefix in prefixes {
            match unmapped(prefix) {
                IpNet::V4(net) => ranges.v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => ranges.v6.push((net.network().into(), net.broadcast().into())),
            }
        }
        Self {
            v4: merged(ranges.v4, |end| end.checked_add(1)),
            v6: merged(ranges.v6, |end| end.checked_add(1)),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => within(&self.v4, v4.into()),
            IpAddr::V6(v6) => {
                within(&self.v6, v6.into())
                    || v6.to_ipv4_mapped().is_some_and(|v4| within(&self.v4, v4.into()))
            }
        }
    }
}

fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            // Without a number after the last range's end, everything greater is in it.
            Some(last) if after(last.1).is_none_or(|next| start <= next) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|range| range.0 <= address);
    after.checked_sub(1).is_some_and(|place| address <= ranges[place].1)
}

/// The IPv4 prefix that an IPv4-mapped IPv6 prefix maps; any other as it is.
fn unmapped(prefix: IpNet) -> IpNet {
    if let IpNet::V6(net) = prefix
        && let Some(len) = net.prefix_len().checked_sub(MAPPED as u8)
        && let Some(v4) = net.addr().to_ipv4_mapped()
        && let Ok(net) = Ipv4Net::new(v4, len)
    {
        return IpNet::V4(net);
    }
    prefix
}

fn contains(prefix: IpNet, address: IpAddr) -> bool {
    let mapped = |address: IpAddr| match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
        IpAddr::V4(v4) => Some::<Ipv4Addr>(v4),
    };
    match unmapped(prefix) {
        IpNet::V4(net) => mapped(address).is_some_and(|v4| net.contains(&v4)),
        net @ IpNet::V6(_) => net.contains(&address),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use ipnet::Ipv6Net;
    use proptest::prelude::*;
    use wherefore_common::{FlowCounters, FlowKey};

    use super::*;
    use crate::snapshot::Flow;

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
        let filter =
            CidrFilter { exclude: either(&["192.0.2.2/31", "192.0.2.4/32"]), ..CidrFilter::default() };
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
            (0_u128..4, any::<u128>())
                .prop_map(|(high, low)| IpAddr::V6(Ipv6Addr::from(high << 126 | low >> 2))),
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
}
