//! Which interfaces carry packets that another one carries as well.
//!
//! The one rule: a packet of the host counts where it enters or leaves the host. So of two interfaces that the same
//! packet passes, one counts:
//! * a bridge, bond or team counts, its ports do not: what ports of a bridge exchange with each other is not this
//!   host's, and everything else passes the bridge;
//! * what stands on another interface (VLAN, macvlan, ipvlan, DSA port, VRF) does not count beside it;
//! * a tunnel does not count beside the uplink that carries it;
//! * of a veth pair with both ends in this network namespace one end counts;
//! * a link to the inside of the host (veth into another network namespace, tap, a bridge of only such) does not
//!   count beside an uplink if this host forwards packets between them;
//! * an ifb repeats what other interfaces carry.

use std::collections::{BTreeMap, BTreeSet};

use super::{Interface, LinkKind};

/// Kinds that send what they carry once more, in other packets, by another interface.
const TUNNELS: [&str; 20] = [
    "amt",
    "bareudp",
    "erspan",
    "geneve",
    "gre",
    "gretap",
    "gtp",
    "ip6erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "l2tpeth",
    "ovpn",
    "sit",
    "vti",
    "vti6",
    "vxlan",
    "wireguard",
    "xfrm",
];
/// Kinds of links to another network namespace or a program.
const LINKS_INSIDE: [&str; 3] = ["netkit", "tun", "veth"];

/// Of `candidates`, those whose packets another candidate carries as well: by index, with the reason in words.
pub(super) fn stacked(all: &[Interface], candidates: &BTreeSet<u32>) -> BTreeMap<u32, String> {
    let host = Host { all: all.iter().map(|i| (i.index, i)).collect(), candidates };
    let edges: BTreeMap<u32, (u32, String)> = candidates
        .iter()
        .filter_map(|index| host.all.get(index))
        .filter_map(|interface| Some((interface.index, host.carried(interface)?)))
        .collect();
    let found = edges.iter().filter_map(|(&index, (_, how))| {
        let counted = root(&edges, index);
        (counted != index).then(|| {
            let name = host.all.get(&counted).map(|i| i.name.as_str()).unwrap_or_default();
            (index, format!("{how}; counted on {name}"))
        })
    });
    found.collect()
}

/// The interface on which the packets of `index` count: the end of the way, or the least of a ring.
fn root(edges: &BTreeMap<u32, (u32, String)>, index: u32) -> u32 {
    let mut way = vec![index];
    let mut at = index;
    while let Some((next, _)) = edges.get(&at) {
        if let Some(begin) = way.iter().position(|seen| seen == next) {
            return way[begin..].iter().copied().min().unwrap_or(*next);
        }
        way.push(*next);
        at = *next;
    }
    at
}

struct Host<'a> {
    all: BTreeMap<u32, &'a Interface>,
    candidates: &'a BTreeSet<u32>,
}

impl<'a> Host<'a> {
    /// The candidate that carries the packets of `interface` as well, and how the two are related.
    fn carried(&self, interface: &Interface) -> Option<(u32, String)> {
        if self.is_switched(interface) {
            let host = self.candidates().find(|other| other.is_kind(&["openvswitch"]) && other.default_route);
            if let Some(host) = host.filter(|host| host.index != interface.index) {
                return Some((host.index, "port of Open vSwitch".to_owned()));
            }
        }
        if let Some(master) = interface.master.and_then(|master| self.candidate(master)) {
            if master.is_kind(&["bridge"]) {
                return Some((master.index, format!("port of {}", master.name)));
            }
            if master.is_kind(&["bond", "team"]) {
                return Some((master.index, format!("member of {}", master.name)));
            }
        }
        if interface.is_kind(&["veth"]) {
            // Both ends here; the one that a route leads to, else the older one.
            if let Some(peer) = interface.lower.and_then(|peer| self.candidate(peer))
                && (!peer.default_route, peer.index) < (!interface.default_route, interface.index)
            {
                return Some((peer.index, format!("other end of {}", peer.name)));
            }
        } else if let Some(beneath) = self.beneath(interface) {
            let kind = interface.kind.as_deref().unwrap_or("stacked");
            return Some((beneath.index, format!("{kind} on {}", beneath.name)));
        }
        if is_tunnel(interface) {
            let uplink = self.uplink(interface)?;
            return Some((uplink.index, format!("{} tunnel", interface.kind.as_deref().unwrap_or_default())));
        }
        if self.leads_inside(interface) && (interface.forwarding || self.is_switched(interface)) {
            let uplink = self.uplink(interface)?;
            return Some((uplink.index, "leads into this host".to_owned()));
        }
        if interface.is_kind(&["ifb"]) {
            let other = self.candidates().find(|other| !other.is_kind(&["ifb"]))?;
            return Some((other.index, "ifb, which repeats others".to_owned()));
        }
        None
    }

    fn candidate(&self, index: u32) -> Option<&'a Interface> {
        self.candidates.contains(&index).then(|| self.all.get(&index).copied())?
    }

    fn candidates(&self) -> impl Iterator<Item = &'a Interface> {
        self.candidates.iter().filter_map(|index| self.all.get(index).copied())
    }

    fn ports(&self, master: u32) -> impl Iterator<Item = &'a Interface> {
        self.all.values().copied().filter(move |interface| interface.master == Some(master))
    }

    /// The nearest candidate that `interface` stands on. The way there may lead through others that are none, and
    /// from such a bridge or bond to its ports.
    fn beneath(&self, interface: &Interface) -> Option<&'a Interface> {
        let mut seen = BTreeSet::from([interface.index]);
        let mut next: Vec<u32> = interface.lower.into_iter().collect();
        if interface.is_kind(&["vrf"]) {
            next.extend(self.ports(interface.index).map(|port| port.index));
        }
        while let Some(index) = next.pop() {
            if !seen.insert(index) {
                continue;
            }
            if let Some(candidate) = self.candidate(index) {
                return Some(candidate);
            }
            if let Some(passed) = self.all.get(&index)
                && !passed.is_kind(&["veth"])
            {
                next.extend(passed.lower);
                next.extend(self.ports(index).map(|port| port.index));
            }
        }
        None
    }

    /// The candidate by which packets leave the host: with a default route, else hardware.
    fn uplink(&self, besides: &Interface) -> Option<&'a Interface> {
        let mut out: Vec<_> = self
            .candidates()
            .filter(|other| other.index != besides.index && other.up && !other.loopback)
            .filter(|other| !is_tunnel(other) && !self.leads_inside(other))
            .filter(|other| other.default_route || other.kind.is_none())
            .collect();
        out.sort_by_key(|other| (!other.default_route, other.index));
        out.first().copied()
    }

    /// A link to another network namespace or to a program, or a bridge of only such; not the one that the default
    /// route leads to.
    fn leads_inside(&self, interface: &Interface) -> bool {
        if interface.default_route {
            return false;
        }
        let link = |i: &Interface| i.is_kind(&LINKS_INSIDE) && !is_tunnel(i);
        let mut ports = self.ports(interface.index);
        link(interface) || (interface.is_kind(&["bridge"]) && ports.all(|port| link(port) || is_tunnel(port)))
    }

    /// A port of Open vSwitch, which joins its ports without a forwarding host. Their master carries nothing; what
    /// is this host's passes an interface of the same kind that has its address.
    fn is_switched(&self, interface: &Interface) -> bool {
        let master = interface.master.and_then(|master| self.all.get(&master));
        master.is_some_and(|master| master.is_kind(&["openvswitch"]))
    }
}

/// A tun device without link header is a program's tunnel (VPN); with one (tap) it leads to a virtual machine.
fn is_tunnel(interface: &Interface) -> bool {
    interface.is_kind(&TUNNELS) || (interface.is_kind(&["tun"]) && interface.link == LinkKind::Ip)
}
