//! CIDR filters: which flows are wanted. Pure.
//!
//! IPv4 prefixes are held against IPv4 addresses, IPv6 prefixes against IPv6 addresses: `::/0` says nothing
//! about IPv4. An IPv4-mapped IPv6 prefix (`::ffff:192.0.2.0/120`) means the IPv4 prefix it maps, and an
//! IPv4-mapped IPv6 address on the wire is held against prefixes of both kinds.

mod compiled;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
use wherefore_common::cidr::{EXCLUDE_DST, EXCLUDE_SRC, FAMILY_BITS, INCLUDE_DST, INCLUDE_SRC, Prefix};

pub use compiled::CompiledFilter;

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
        CompiledFilter::new(self)
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

/// Whether a prefix has an address, as this room holds them against each other.
pub(crate) fn contains(prefix: IpNet, address: IpAddr) -> bool {
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
mod tests;
