//! What a series is about, and its name.

use std::{fmt, net::IpAddr};

use arrayvec::ArrayString;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use wherefore_common::Direction;

/// How closely traffic is looked at, the finest first.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// One protocol and pair of ports of a pair of addresses.
    Flow,
    /// All traffic from one address to another.
    Pair,
    /// All that goes to a remote network, or comes from it.
    Net,
    /// All that passes an interface one way.
    Interface,
}

impl Level {
    /// `flow`, `pair`, `net`, `interface`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Pair => "pair",
            Self::Net => "net",
            Self::Interface => "interface",
        }
    }

    /// Few series are of such a level: there may be more of each in memory.
    #[must_use]
    pub const fn is_coarse(self) -> bool {
        matches!(self, Self::Net | Self::Interface)
    }

    /// What is measured of each key of this level.
    #[must_use]
    pub const fn metrics(self) -> &'static [Metric] {
        if self.is_coarse() { &[Metric::Bytes, Metric::Flows] } else { &[Metric::Bytes] }
    }

    /// Whether the largest among newcomers of this level is a series of its own.
    #[must_use]
    pub const fn has_newcomers(self) -> bool {
        matches!(self, Self::Pair | Self::Net)
    }
}

/// What is measured of a series in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Its bytes.
    #[default]
    Bytes,
    /// Distinct flows: a scan of ports, or a flood of short flows, carries hardly any bytes.
    Flows,
}

impl Metric {
    /// `bytes`, `flows`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Flows => "flows",
        }
    }
}

/// Which bytes a series holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// IP packets' bytes.
    #[default]
    Ip,
    /// Frames' bytes on the wire.
    Wire,
}

/// An interface's name, cut to 32 bytes: Linux takes 15, a capture may have any.
pub type InterfaceName = ArrayString<32>;

/// Prefix lengths of a remote network: what is commonly given to one site, and the longest that are routed.
const NET_V4: u8 = 24;
const NET_V6: u8 = 48;

/// The network of a remote address: /24, or /48 of IPv6.
#[must_use]
pub fn network(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(address) => IpNet::V4(Ipv4Net::new_assert(address, NET_V4).trunc()),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::new_assert(address, NET_V6).trunc()),
    }
}

/// Names a series: stable as long as what it is about goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeriesKey {
    /// One flow.
    Flow {
        /// Sender.
        src: IpAddr,
        /// Receiver.
        dst: IpAddr,
        /// Protocol and ports.
        transport: Transport,
    },
    /// All flows between two addresses, one way.
    Pair {
        /// Sender.
        src: IpAddr,
        /// Receiver.
        dst: IpAddr,
    },
    /// All flows to or from a remote network.
    Net {
        /// The network: /24, or /48 of IPv6.
        net: IpNet,
        /// To it, else from it.
        toward: bool,
    },
    /// All that passes an interface one way. By its name: an interface that comes back has another number.
    Interface {
        /// Its name.
        name: InterfaceName,
        /// Which way.
        #[serde(serialize_with = "number_of", deserialize_with = "of_number")]
        direction: Direction,
    },
}

/// Protocol and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Transport {
    /// IP protocol number.
    pub proto: u8,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
}

impl SeriesKey {
    /// The network of a remote address, `toward` it or from it.
    #[must_use]
    pub fn net(address: IpAddr, toward: bool) -> Self {
        Self::Net { net: network(address), toward }
    }

    /// An interface of this name, one way.
    #[must_use]
    pub fn interface(name: &str, direction: Direction) -> Self {
        let mut end = name.len().min(InterfaceName::new_const().capacity());
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self::Interface { name: InterfaceName::from(&name[..end]).unwrap_or_default(), direction }
    }

    /// Its level.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Flow { .. } => Level::Flow,
            Self::Pair { .. } => Level::Pair,
            Self::Net { .. } => Level::Net,
            Self::Interface { .. } => Level::Interface,
        }
    }

    /// Sender and receiver, of a flow or pair.
    #[must_use]
    pub const fn ends(&self) -> Option<(IpAddr, IpAddr)> {
        match self {
            Self::Flow { src, dst, .. } | Self::Pair { src, dst } => Some((*src, *dst)),
            Self::Net { .. } | Self::Interface { .. } => None,
        }
    }

    /// Protocol and ports, of a flow.
    #[must_use]
    pub const fn transport(&self) -> Option<Transport> {
        match self {
            Self::Flow { transport, .. } => Some(*transport),
            _ => None,
        }
    }

    /// The other direction of the same conversation, network or interface.
    #[must_use]
    pub const fn reverse(&self) -> Option<Self> {
        match *self {
            Self::Flow { src, dst, transport: Transport { proto, sport, dport } } => Some(Self::Flow {
                src: dst,
                dst: src,
                transport: Transport { proto, sport: dport, dport: sport },
            }),
            Self::Pair { src, dst } => Some(Self::Pair { src: dst, dst: src }),
            Self::Net { net, toward } => Some(Self::Net { net, toward: !toward }),
            Self::Interface { name, direction } => match direction {
                Direction::Ingress => Some(Self::Interface { name, direction: Direction::Egress }),
                Direction::Egress => Some(Self::Interface { name, direction: Direction::Ingress }),
                Direction::Unknown => None,
            },
        }
    }

    /// Whether a pair or flow is part of what a network's series holds.
    #[must_use]
    pub fn is_within(&self, net: &Self) -> bool {
        match (self.ends(), net) {
            (Some((_, dst)), Self::Net { net, toward: true }) => net.contains(&dst),
            (Some((src, _)), Self::Net { net, toward: false }) => net.contains(&src),
            _ => false,
        }
    }
}

/// `192.0.2.7:443 → 198.51.100.9:51234`, `192.0.2.7 → 198.51.100.9`, `to 203.0.113.0/24`, `eth0 egress`.
impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow { src, dst, transport } => {
                write!(f, "{} → {}", endpoint(*src, transport.sport), endpoint(*dst, transport.dport))
            }
            Self::Pair { src, dst } => write!(f, "{src} → {dst}"),
            Self::Net { net, toward } => write!(f, "{} {net}", if *toward { "to" } else { "from" }),
            Self::Interface { name, direction: Direction::Unknown } => {
                f.write_str(&crate::clean::clean(name))
            }
            Self::Interface { name, direction } => {
                write!(f, "{} {}", crate::clean::clean(name), direction.name())
            }
        }
    }
}

/// An address with a port.
#[must_use]
pub fn endpoint(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn number_of<S: serde::Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*direction as u8)
}

fn of_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Direction, D::Error> {
    u8::deserialize(deserializer).map(Direction::from_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_24_and_48_bits_long() {
        assert_eq!(SeriesKey::net(ip("203.0.113.77"), true).to_string(), "to 203.0.113.0/24");
        assert_eq!(SeriesKey::net(ip("2001:db8:1:2::3"), false).to_string(), "from 2001:db8:1::/48");
        let pair = SeriesKey::Pair { src: ip("192.0.2.1"), dst: ip("203.0.113.77") };
        assert!(pair.is_within(&SeriesKey::net(ip("203.0.113.1"), true)));
        assert!(!pair.is_within(&SeriesKey::net(ip("203.0.113.1"), false)));
        assert!(pair.is_within(&SeriesKey::net(ip("192.0.2.9"), false)));
    }

    #[test]
    fn a_reverse_of_a_reverse_is_itself() {
        let flow = SeriesKey::Flow {
            src: ip("2001:db8::1"),
            dst: ip("2001:db8::2"),
            transport: Transport { proto: 6, sport: 1, dport: 2 },
        };
        assert_eq!(flow.reverse().unwrap().to_string(), "[2001:db8::2]:2 → [2001:db8::1]:1");
        let pair = SeriesKey::Pair { src: ip("192.0.2.1"), dst: ip("192.0.2.2") };
        let eth0 = SeriesKey::interface("eth0", Direction::Egress);
        for key in [flow, pair, SeriesKey::net(ip("192.0.2.1"), true), eth0] {
            assert_ne!(key.reverse(), Some(key));
            assert_eq!(key.reverse().and_then(|key| key.reverse()), Some(key));
        }
        assert_eq!(SeriesKey::interface("eth0", Direction::Unknown).reverse(), None);
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let key = SeriesKey::interface(&"ä".repeat(20), Direction::Egress);
        assert_eq!(key.to_string(), format!("{} egress", "ä".repeat(16)));
        let key = SeriesKey::interface(&format!("x{}", "ä".repeat(20)), Direction::Unknown);
        assert_eq!(key.to_string(), format!("x{}", "ä".repeat(15)));
    }

    #[test]
    fn a_key_is_small_and_survives_json() {
        assert!(size_of::<SeriesKey>() <= 44, "{}", size_of::<SeriesKey>());
        for key in [
            SeriesKey::interface("eth0", Direction::Ingress),
            SeriesKey::net(ip("2001:db8::1"), true),
            SeriesKey::Flow {
                src: ip("192.0.2.1"),
                dst: ip("192.0.2.2"),
                transport: Transport { proto: 17, sport: 53, dport: 4444 },
            },
        ] {
            let text = serde_json::to_string(&key).unwrap();
            assert_eq!(serde_json::from_str::<SeriesKey>(&text).unwrap(), key, "{text}");
        }
    }
}
