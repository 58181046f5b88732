//! Which flows a rule or an override is about.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use wherefore_common::Direction;

use crate::{backend::interfaces::Pattern, filter, locality::Locality, series::SeriesKey, snapshot::Flow};

/// What a flow must have. Of several values of one kind any will do; what is empty asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Either address is in one of these.
    pub prefix: Vec<IpNet>,
    /// The address of the local end is ([`Locality::ends`]).
    pub local: Vec<IpNet>,
    /// The address of the remote end is.
    pub remote: Vec<IpNet>,
    /// Either port is in one of these ranges.
    pub port: Vec<RangeInclusive<u16>>,
    /// The local end's port is.
    pub local_port: Vec<RangeInclusive<u16>>,
    /// The remote end's port is.
    pub remote_port: Vec<RangeInclusive<u16>>,
    /// IP protocol numbers.
    pub proto: Vec<u8>,
    /// Which way it crosses the interface.
    pub direction: Vec<Direction>,
    /// Which end is this host.
    pub locality: Vec<Locality>,
    /// Names of the interface, or globs.
    pub interface: Vec<Pattern>,
}

/// IP protocols with ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
pub const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

impl Match {
    /// Whether a flow has all of it but the interface.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        let (src, dst) = (flow.src(), flow.dst());
        let (local, remote) = flow.locality.ends((src, flow.key.sport), (dst, flow.key.dport));
        let has = |nets: &[IpNet], ip: IpAddr| nets.iter().any(|net| filter::contains(*net, ip));
        let holds = |ranges: &[RangeInclusive<u16>], port| ranges.iter().any(|range| range.contains(&port));
        (self.prefix.is_empty() || has(&self.prefix, src) || has(&self.prefix, dst))
            && (self.local.is_empty() || has(&self.local, local.0))
            && (self.remote.is_empty() || has(&self.remote, remote.0))
            && (self.port.is_empty() || holds(&self.port, local.1) || holds(&self.port, remote.1))
            && (self.local_port.is_empty() || holds(&self.local_port, local.1))
            && (self.remote_port.is_empty() || holds(&self.remote_port, remote.1))
            && (self.proto.is_empty() || self.proto.contains(&flow.key.proto))
            && (self.direction.is_empty() || self.direction.contains(&flow.direction()))
            && (self.locality.is_empty() || self.locality.contains(&flow.locality))
    }

    /// Whether all that a series is about has all of it but the interface. A network is its remote end, and of an
    /// interface no end is known. Ports and protocols are not asked for.
    #[must_use]
    pub fn holds(&self, series: &SeriesKey, locality: Locality, direction: Direction) -> bool {
        let (local, remote) = match *series {
            SeriesKey::Flow { src, dst, .. } | SeriesKey::Pair { src, dst } => {
                let (local, remote) = locality.ends(src, dst);
                (Some(IpNet::from(local)), Some(IpNet::from(remote)))
            }
            SeriesKey::Net { net, .. } => (None, Some(net)),
            SeriesKey::Interface { .. } => (None, None),
        };
        let has = |nets: &[IpNet], end: Option<IpNet>| {
            end.is_some_and(|end| nets.iter().any(|net| net.contains(&end)))
        };
        (self.prefix.is_empty() || has(&self.prefix, local) || has(&self.prefix, remote))
            && (self.local.is_empty() || has(&self.local, local))
            && (self.remote.is_empty() || has(&self.remote, remote))
            && (self.direction.is_empty() || self.direction.contains(&direction))
            && (self.locality.is_empty() || self.locality.contains(&locality))
    }

    /// The key that asks for a port or protocol.
    #[must_use]
    pub fn transport_key(&self) -> Option<&'static str> {
        let keys = [
            ("port", self.port.is_empty()),
            ("local_port", self.local_port.is_empty()),
            ("remote_port", self.remote_port.is_empty()),
            ("proto", self.proto.is_empty()),
        ];
        keys.into_iter().find(|(_, empty)| !empty).map(|(key, _)| key)
    }

    /// Whether an interface of this name is one of those asked for.
    #[must_use]
    pub fn on(&self, interface: &str) -> bool {
        self.interface.is_empty() || self.interface.iter().any(|pattern| pattern.matches(interface))
    }

    /// Whether every flow that has all of this has all of `other`. Told by comparing like with like, so a "no" may
    /// be wrong, a "yes" never.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        fn within<T>(ours: &[T], theirs: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
            let covered = |our: &T| theirs.iter().any(|their| covers(their, our));
            theirs.is_empty() || (!ours.is_empty() && ours.iter().all(covered))
        }
        let nets = |ours: &[IpNet], theirs: &[IpNet]| within(ours, theirs, |a, b| a.contains(b));
        let ranges = |ours: &[RangeInclusive<u16>], theirs: &[RangeInclusive<u16>]| {
            within(ours, theirs, |a, b| a.contains(b.start()) && a.contains(b.end()))
        };
        nets(&self.prefix, &other.prefix)
            && nets(&self.local, &other.local)
            && nets(&self.remote, &other.remote)
            && ranges(&self.port, &other.port)
            && ranges(&self.local_port, &other.local_port)
            && ranges(&self.remote_port, &other.remote_port)
            && within(&self.proto, &other.proto, PartialEq::eq)
            && within(&self.direction, &other.direction, PartialEq::eq)
            && within(&self.locality, &other.locality, PartialEq::eq)
            && within(&self.interface, &other.interface, |a, b| {
                a == b || (!b.is_glob() && a.matches(&b.to_string()))
            })
    }

    /// Why no flow can have all of it.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        let ports =
            [("port", &self.port), ("local_port", &self.local_port), ("remote_port", &self.remote_port)];
        if let Some((key, _)) = ports.iter().find(|(_, ranges)| !ranges.is_empty())
            && !self.proto.is_empty()
            && let Some(number) = self.proto.iter().find(|proto| !WITH_PORTS.contains(proto))
        {
            return Some(format!("{key} with proto {}, which has no ports", proto_name(*number)));
        }
        let ends = [("prefix", &self.prefix), ("local", &self.local), ("remote", &self.remote)];
        let given: Vec<_> = ends.iter().filter(|(_, nets)| !nets.is_empty()).collect();
        let lacks = |family: fn(&IpNet) -> bool| given.iter().find(|(_, nets)| !nets.iter().any(family));
        let (no_v4, no_v6) = (lacks(is_v4), lacks(is_v6));
        if let (Some((v6, _)), Some((v4, _))) = (no_v4, no_v6) {
            return Some(format!("{v4} is of IPv4 and {v6} of IPv6, but a flow has one family"));
        }
        if let (Some((v6, _)), [ICMP]) = (no_v4, &self.proto[..]) {
            return Some(format!("{v6} is of IPv6, but proto icmp of IPv4: icmpv6 is that of IPv6"));
        }
        if let (Some((v4, _)), [ICMPV6]) = (no_v6, &self.proto[..]) {
            return Some(format!("{v4} is of IPv4, but proto icmpv6 of IPv6: icmp is that of IPv4"));
        }
        let apart = |nets: &[IpNet]| {
            let meet = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
            !nets.is_empty() && !nets.iter().any(|a| self.prefix.iter().any(|b| meet(a, b)))
        };
        if !self.prefix.is_empty() && apart(&self.local) && apart(&self.remote) {
            return Some("neither local nor remote has an address of prefix".to_owned());
        }
        let apart = |ranges: &[RangeInclusive<u16>]| {
            let meet = |a: &RangeInclusive<u16>, b: &RangeInclusive<u16>| {
                a.start() <= b.end() && b.start() <= a.end()
            };
            !ranges.is_empty() && !ranges.iter().any(|a| self.port.iter().any(|b| meet(a, b)))
        };
        if !self.port.is_empty() && apart(&self.local_port) && apart(&self.remote_port) {
            return Some("neither local_port nor remote_port is one of port".to_owned());
        }
        None
    }
}

/// `remote 198.51.100.0/24, port 443 or 8000-8999`, with the keys of the file; nothing where it asks for nothing.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn any<T>(values: &[T], shown: impl Fn(&T) -> String) -> String {
            values.iter().map(shown).collect::<Vec<_>>().join(" or ")
        }
        let range = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let keys = [
            ("prefix", any(&self.prefix, IpNet::to_string)),
            ("local", any(&self.local, IpNet::to_string)),
            ("remote", any(&self.remote, IpNet::to_string)),
            ("port", any(&self.port, range)),
            ("local_port", any(&self.local_port, range)),
            ("remote_port", any(&self.remote_port, range)),
            ("proto", any(&self.proto, |number| proto_name(*number))),
            ("direction", any(&self.direction, |direction| direction.name().to_owned())),
            ("locality", any(&self.locality, |locality| locality.name().to_owned())),
            ("interface", any(&self.interface, Pattern::to_string)),
        ];
        let given = keys.iter().filter(|(_, values)| !values.is_empty());
        f.write_str(&given.map(|(key, values)| format!("{key} {values}")).collect::<Vec<_>>().join(", "))
    }
}

/// Whether an IPv4 address can be in it; an IPv4-mapped prefix holds them.
fn is_v4(net: &IpNet) -> bool {
    match net {
        IpNet::V4(_) => true,
        // ::ffff:0:0, where IPv4 is mapped to.
        IpNet::V6(net) => net.addr().to_ipv4_mapped().is_some() && net.prefix_len() >= 96,
    }
}

/// Whether an IPv6 address can be in it: an IPv4-mapped one on the wire is held against IPv4 prefixes too.
fn is_v6(net: &IpNet) -> bool {
    match net {
        IpNet::V4(_) => false,
        IpNet::V6(_) => !is_v4(net),
    }
}

/// The protocols that have names here.
pub const PROTOCOLS: [(&str, u8); 8] = [
    ("tcp", 6),
    ("udp", 17),
    ("icmp", ICMP),
    ("icmpv6", ICMPV6),
    ("sctp", 132),
    ("gre", 47),
    ("esp", 50),
    ("dccp", 33),
];

/// `tcp`, or the number.
fn proto_name(number: u8) -> String {
    let named = PROTOCOLS.iter().find(|(_, named)| *named == number);
    named.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use wherefore_common::{FlowCounters, FlowKey};

    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    fn ports(ranges: &[(u16, u16)]) -> Vec<RangeInclusive<u16>> {
        ranges.iter().map(|(first, last)| *first..=*last).collect()
    }

    /// 192.0.2.7:40000 to 198.51.100.9:443 over TCP.
    fn flow(locality: Locality) -> Flow {
        let address = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped().octets();
        let key = FlowKey {
            src: address("192.0.2.7"),
            dst: address("198.51.100.9"),
            sport: 40_000,
            dport: 443,
            proto: 6,
            family: 4,
            direction: Direction::Egress as u8,
            ..FlowKey::default()
        };
        Flow { locality, ..Flow::new(key, FlowCounters::default()) }
    }

    #[test]
    fn each_key_asks_for_its_own() {
        use Locality::{Incoming, Outgoing, Unknown};
        let empty = Match::default;
        let outgoing = flow(Outgoing);
        for (wanted, matches) in [
            (empty(), true),
            (Match { prefix: nets("198.51.100.0/24"), ..empty() }, true),
            (Match { prefix: nets("203.0.113.0/24 192.0.2.7/32"), ..empty() }, true),
            (Match { prefix: nets("203.0.113.0/24"), ..empty() }, false),
            (Match { local: nets("192.0.2.0/24"), remote: nets("198.51.100.9/32"), ..empty() }, true),
            (Match { remote: nets("192.0.2.0/24"), ..empty() }, false),
            (Match { port: ports(&[(40_000, 40_000)]), ..empty() }, true),
            (Match { local_port: ports(&[(443, 443)]), ..empty() }, false),
            (Match { remote_port: ports(&[(1, 442), (443, 500)]), ..empty() }, true),
            (Match { proto: vec![17, 6], ..empty() }, true),
            (Match { proto: vec![17], ..empty() }, false),
            (Match { direction: vec![Direction::Ingress], ..empty() }, false),
            (Match { locality: vec![Incoming], ..empty() }, false),
            (Match { locality: vec![Outgoing], direction: vec![Direction::Egress], ..empty() }, true),
        ] {
            assert_eq!(wanted.matches(&outgoing), matches, "{wanted:?}");
        }
        let remote = Match { remote: nets("192.0.2.0/24"), ..empty() };
        assert!(remote.matches(&flow(Incoming)) && !remote.matches(&flow(Unknown)));
        let on = Match { interface: vec!["veth*".parse().unwrap(), Pattern::name("eth0")], ..empty() };
        assert!(on.on("veth7") && on.on("eth0") && !on.on("eth1") && empty().on("eth1"));
    }

    #[test]
    fn a_series_is_held_against_what_it_is_about() {
        let empty = Match::default;
        let pair =
            SeriesKey::Pair { src: "192.0.2.7".parse().unwrap(), dst: "198.51.100.9".parse().unwrap() };
        let net = SeriesKey::net("198.51.100.9".parse().unwrap(), true);
        let eth0 = SeriesKey::interface("eth0", Direction::Egress);
        for (wanted, expected) in [
            (empty(), [true, true, true]),
            (Match { prefix: nets("198.51.100.0/24"), ..empty() }, [true, true, false]),
            (Match { prefix: nets("198.51.100.9/32"), ..empty() }, [true, false, false]),
            (Match { local: nets("192.0.2.0/24"), ..empty() }, [true, false, false]),
            (Match { remote: nets("192.0.2.0/24"), ..empty() }, [false, false, false]),
            (Match { direction: vec![Direction::Egress], ..empty() }, [true, true, true]),
            (Match { locality: vec![Locality::Incoming], ..empty() }, [false, false, false]),
        ] {
            let holds = |key: SeriesKey| wanted.holds(&key, Locality::Outgoing, Direction::Egress);
            assert_eq!([pair, net, eth0].map(holds), expected, "{wanted:?}");
        }
    }

    #[test]
    fn one_is_within_another_where_every_key_is() {
        let empty = Match::default;
        let pattern = |text: &str| vec![text.parse::<Pattern>().unwrap()];
        for (inner, outer, expected) in [
            (empty(), empty(), true),
            (Match { proto: vec![6], ..empty() }, empty(), true),
            (empty(), Match { proto: vec![6], ..empty() }, false),
            (
                Match { remote: nets("192.0.2.0/25"), ..empty() },
                Match { remote: nets("192.0.2.0/24"), ..empty() },
                true,
            ),
            (
                Match { remote: nets("192.0.2.0/25 203.0.113.0/24"), ..empty() },
                Match { remote: nets("192.0.2.0/24"), ..empty() },
                false,
            ),
            (Match { port: ports(&[(5, 9)]), ..empty() }, Match { port: ports(&[(1, 9)]), ..empty() }, true),
            (
                Match { port: ports(&[(5, 10)]), ..empty() },
                Match { port: ports(&[(1, 9)]), ..empty() },
                false,
            ),
            (
                Match { interface: pattern("veth1"), ..empty() },
                Match { interface: pattern("veth*"), ..empty() },
                true,
            ),
            (
                Match { interface: pattern("v*"), ..empty() },
                Match { interface: pattern("veth*"), ..empty() },
                false,
            ),
        ] {
            assert_eq!(inner.is_within(&outer), expected, "{inner:?} {outer:?}");
        }
    }

    #[test]
    fn what_no_flow_can_have_is_found() {
        let empty = Match::default;
        for (wanted, reason) in [
            (Match { proto: vec![1], port: ports(&[(53, 53)]), ..empty() }, "port with proto icmp"),
            (
                Match { local: nets("192.0.2.0/24"), remote: nets("2001:db8::/32"), ..empty() },
                "local is of IPv4 and remote of IPv6",
            ),
            (Match { proto: vec![58], prefix: nets("192.0.2.0/24"), ..empty() }, "icmpv6"),
            (Match { proto: vec![1], prefix: nets("2001:db8::/32"), ..empty() }, "icmp"),
            (
                Match {
                    prefix: nets("203.0.113.0/24"),
                    local: nets("192.0.2.0/24"),
                    remote: nets("198.51.100.0/24"),
                    ..empty()
                },
                "neither local nor remote",
            ),
            (
                Match {
                    port: ports(&[(1, 9)]),
                    local_port: ports(&[(10, 20)]),
                    remote_port: ports(&[(30, 40)]),
                    ..empty()
                },
                "neither local_port nor remote_port",
            ),
        ] {
            let said = wanted.contradiction().unwrap_or_default();
            assert!(said.contains(reason), "{wanted:?}: {said}");
        }
        for wanted in [
            empty(),
            Match { prefix: nets("192.0.2.0/24 2001:db8::/32"), ..empty() },
            Match { local: nets("192.0.2.0/24 2001:db8::/32"), remote: nets("2001:db8::/32"), ..empty() },
            Match { prefix: nets("192.0.2.0/24"), remote: nets("192.0.2.0/25"), ..empty() },
            Match { prefix: nets("::ffff:192.0.2.0/120"), local: nets("192.0.2.0/24"), ..empty() },
            Match { proto: vec![6, 17], port: ports(&[(53, 53)]), ..empty() },
        ] {
            assert_eq!(wanted.contradiction(), None, "{wanted:?}");
        }
    }
}
