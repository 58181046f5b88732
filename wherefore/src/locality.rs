//! Which end of a flow is this host: decided by its own addresses. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};
use wherefore_common::Direction;

/// Which end of a flow is this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Locality {
    /// Nothing to decide by: a capture file.
    #[default]
    Unknown,
    /// Neither: the host passes on what others send to each other.
    Forwarded,
    /// The destination, or a member of the group it is sent to.
    Incoming,
    /// The source.
    Outgoing,
    /// Both.
    Local,
}

impl Locality {
    /// `outgoing`, `incoming`, `local`, `forwarded`, `unknown`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Forwarded => "forwarded",
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
            Self::Local => "local",
        }
    }

    /// As [`Self::name`], in five columns.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Unknown => "?",
            Self::Forwarded => "fwd",
            Self::Incoming => "in",
            Self::Outgoing => "out",
            Self::Local => "local",
        }
    }

    /// The local and the remote end of what goes from `src` to `dst`. Where this host is neither end, or that is not
    /// known, the sender counts as local and the receiver as remote.
    #[must_use]
    pub fn ends<T>(self, src: T, dst: T) -> (T, T) {
        match self {
            Self::Incoming => (dst, src),
            Self::Outgoing | Self::Local | Self::Forwarded | Self::Unknown => (src, dst),
        }
    }

    /// It was decided.
    #[must_use]
    pub const fn is_known(self) -> bool {
        !matches!(self, Self::Unknown)
    }
}

/// The addresses of all interfaces of a host's network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAddresses {
    own: BTreeSet<IpAddr>,
    /// The last address of each IPv4 network, to which everybody there listens (RFC 919).
    broadcast: BTreeSet<Ipv4Addr>,
}

impl HostAddresses {
    /// Those of addresses with the length of their prefix.
    #[must_use]
    pub fn new(addresses: impl IntoIterator<Item = (IpAddr, u8)>) -> Self {
        let mut this = Self::default();
        for (ip, prefix) in addresses {
            this.own.insert(ip);
            // Two addresses (RFC 3021) or one are no network with a broadcast.
            if let (IpAddr::V4(ip), 0..=30) = (ip, prefix) {
                let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                this.broadcast.insert(Ipv4Addr::from_bits(ip.to_bits() | host));
            }
        }
        this
    }

    /// Takes in those of another moment.
    pub fn extend(&mut self, other: &Self) {
        self.own.extend(&other.own);
        self.broadcast.extend(&other.broadcast);
    }

    /// This host's own; every loopback address is.
    fn owns(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.own.contains(&ip)
    }

    /// For many: a multicast group, or everybody of a network.
    fn is_group(&self, ip: IpAddr) -> bool {
        ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast() || self.broadcast.contains(&ip))
    }

    /// Which end of a flow is this host; `direction` as its packets cross an interface, seen from the host.
    ///
    /// A host that asks for its address sends from the unspecified one: what leaves with it is ours. What is sent to
    /// a group and arrives, arrives for us too. A link-local address is told by its number alone, on whatever
    /// interface.
    #[must_use]
    pub fn locality(&self, src: IpAddr, dst: IpAddr, direction: Direction) -> Locality {
        let leaves = direction == Direction::Egress;
        let from_us = self.owns(src) || (src.is_unspecified() && leaves);
        let to_us = self.owns(dst) || (self.is_group(dst) && !leaves && !from_us);
        match (from_us, to_us) {
            (true, true) => Locality::Local,
            (true, false) => Locality::Outgoing,
            (false, true) => Locality::Incoming,
            (false, false) => Locality::Forwarded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_end_is_ours() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let host = HostAddresses::new([
            (ip("192.0.2.1"), 24),
            (ip("198.51.100.1"), 31),
            (ip("2001:db8::1"), 64),
            (ip("fe80::1"), 64),
        ]);
        use Direction::{Egress, Ingress};
        use Locality::{Forwarded, Incoming, Local, Outgoing};
        for (src, dst, direction, expected) in [
            ("192.0.2.1", "203.0.113.9", Egress, Outgoing),
            ("203.0.113.9", "192.0.2.1", Ingress, Incoming),
            ("203.0.113.9", "192.0.2.7", Ingress, Forwarded),
            ("203.0.113.9", "192.0.2.7", Egress, Forwarded),
            ("192.0.2.1", "198.51.100.1", Ingress, Local),
            ("127.0.0.1", "127.0.0.53", Ingress, Local),
            ("::1", "::1", Ingress, Local),
            ("2001:db8::1", "2001:db8:1::1", Egress, Outgoing),
            ("2001:db8:1::1", "2001:db8::2", Ingress, Forwarded),
            // Groups: ours when sent, for us when heard, somebody else's when passed on.
            ("192.0.2.1", "224.0.0.251", Egress, Outgoing),
            ("192.0.2.7", "224.0.0.251", Ingress, Incoming),
            ("192.0.2.7", "224.0.0.251", Egress, Forwarded),
            ("192.0.2.7", "192.0.2.255", Ingress, Incoming),
            ("192.0.2.7", "255.255.255.255", Ingress, Incoming),
            ("203.0.113.7", "203.0.113.255", Ingress, Forwarded),
            ("192.0.2.7", "198.51.100.0", Ingress, Forwarded),
            ("fe80::2", "ff02::fb", Ingress, Incoming),
            ("fe80::2", "fe80::1", Ingress, Incoming),
            ("fe80::2", "fe80::3", Ingress, Forwarded),
            // Asking for an address.
            ("0.0.0.0", "255.255.255.255", Egress, Outgoing),
            ("0.0.0.0", "255.255.255.255", Ingress, Incoming),
            ("::", "ff02::16", Egress, Outgoing),
            ("192.0.2.1", "192.0.2.255", Ingress, Outgoing),
        ] {
            assert_eq!(host.locality(ip(src), ip(dst), direction), expected, "{src} {dst} {direction:?}");
        }
        let everything = HostAddresses::new([(ip("192.0.2.1"), 0), (ip("192.0.2.2"), 32)]);
        assert!(everything.is_group(ip("255.255.255.255")) && !everything.is_group(ip("192.0.2.2")));
    }
}
