//! Links, addresses and default routes as rtnetlink(7) lists them, and word of their changes.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::socket::SockProtocol;

use super::netlink::{Ask, Listener, Message, Socket, attribute, text, u16_at, u32_at};

/// A link, as `RTM_NEWLINK` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Number by which the kernel knows it.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `IFF_…` of `linux/if.h`.
    pub flags: u32,
    /// `ARPHRD_…` of `linux/if_arp.h`.
    pub hardware: u16,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Kind of a virtual device (`veth`, `bridge`, …).
    pub kind: Option<String>,
    /// The device it is a port of (`IFLA_MASTER`).
    pub master: Option<u32>,
    /// The device it stands on, or the other end of a veth (`IFLA_LINK`, for VXLAN `IFLA_VXLAN_LINK`), if that is in
    /// the same network namespace.
    pub lower: Option<u32>,
    /// That device is in another network namespace (`IFLA_LINK_NETNSID`).
    pub lower_elsewhere: bool,
    /// Packets that arrive here are passed on to other interfaces (`net.ipv4.conf.NAME.forwarding` or IPv6's).
    pub forwarding: bool,
}

/// An address of an interface, as `RTM_NEWADDR` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub index: u32,
    /// The host's own end, of a point-to-point link too.
    pub ip: IpAddr,
    /// Length of the prefix that is reached there.
    pub prefix: u8,
}

/// Asks for the lists of the calling thread's network namespace.
pub struct Routing(Socket);

impl Routing {
    /// # Errors
    /// What socket(2) says.
    pub fn open() -> io::Result<Self> {
        Socket::open(SockProtocol::NetlinkRoute).map(Self)
    }

    /// All links, by index.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn links(&self) -> io::Result<Vec<Link>> {
        // struct ifinfomsg: all zeros means every link.
        let answer = self.0.ask(libc::RTM_GETLINK, Ask::All, &[0; IFINFOMSG])?;
        let mut links: Vec<Link> = answer.iter().filter_map(|message| link(&message.body)).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// All addresses of IPv4 and IPv6, in the kernel's order.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn addresses(&self) -> io::Result<Vec<Address>> {
        let answer = self.0.ask(libc::RTM_GETADDR, Ask::All, &[0; IFADDRMSG])?;
        Ok(answer.iter().filter_map(|message| address(&message.body)).collect())
    }

    /// The interfaces of the default routes in the main table, with all paths of each.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn default_routes(&self) -> io::Result<BTreeSet<u32>> {
        let answer = self.0.ask(libc::RTM_GETROUTE, Ask::All, &[0; RTMSG])?;
        let routes = answer.iter().filter(|message| message.kind == libc::RTM_NEWROUTE);
        Ok(routes.filter_map(|message| default_route(&message.body)).flatten().collect())
    }
}

/// Which lists are no longer true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The links.
    pub links: bool,
    /// The addresses.
    pub addresses: bool,
    /// The default routes.
    pub routes: bool,
}

impl Seen {
    /// All of them.
    pub const ALL: Self = Self { links: true, addresses: true, routes: true };

    /// Nothing changed.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            links: self.links | other.links,
            addresses: self.addresses | other.addresses,
            routes: self.routes | other.routes,
        }
    }

    fn add(&mut self, message: &Message) {
        match message.kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => self.links = true,
            libc::RTM_NEWADDR => self.addresses = true,
            // With an address the kernel drops the IPv4 routes that need it, without a word.
            libc::RTM_DELADDR => (self.addresses, self.routes) = (true, true),
            // A router's table changes all the time; only the default routes matter.
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                self.routes |= message.body.get(1).is_none_or(|prefix| *prefix == 0);
            }
            _ => {}
        }
    }
}

/// Bytes of messages that may wait. A thousand new interfaces are some 2 MB.
const WAITING: usize = 4 << 20;

/// Hears of changes in the network namespace of the thread that made it, whoever asks.
pub struct Changes(Listener);

impl Changes {
    /// Of links, addresses and routes. Listened to from now on: whoever lists afterwards misses nothing.
    ///
    /// # Errors
    /// What socket(2) or bind(2) says.
    pub fn listen() -> io::Result<Self> {
        Self::with_room(WAITING)
    }

    fn with_room(waiting: usize) -> io::Result<Self> {
        let groups = libc::RTMGRP_LINK
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV6_ROUTE;
        Listener::open(groups.cast_unsigned(), waiting).map(Self)
    }

    /// What changed since the last call; everything where messages were missed. Never waits.
    ///
    /// # Errors
    /// What recv(2) says.
    pub fn take(&self) -> io::Result<Seen> {
        let heard = self.0.take()?;
        if heard.missed {
            tracing::debug!("missed what changed about interfaces; listing them anew");
            return Ok(Seen::ALL);
        }
        let mut seen = Seen::default();
        heard.messages.iter().for_each(|message| seen.add(message));
        Ok(seen)
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lengths of struct ifinfomsg, ifaddrmsg and rtmsg of `linux/rtnetlink.h`.
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;

/// struct ifinfomsg (type at 2, index at 4, flags at 8), then attributes.
fn link(body: &[u8]) -> Option<Link> {
    const INFO_KIND: u16 = 1;
    const INFO_DATA: u16 = 2;
    const VXLAN_LINK: u16 = 3;
    let index = u32_at(body, 4)?;
    let attrs = body.get(IFINFOMSG..)?;
    let number = |attrs, kind| attribute(attrs, kind).and_then(|value| u32_at(value, 0));
    let info = attribute(attrs, libc::IFLA_LINKINFO).unwrap_or_default();
    let kind = attribute(info, INFO_KIND).map(text);
    let elsewhere = attribute(attrs, libc::IFLA_LINK_NETNSID).is_some();
    let mut lower = number(attrs, libc::IFLA_LINK);
    if kind.as_deref() == Some("vxlan") {
        lower = attribute(info, INFO_DATA).and_then(|data| number(data, VXLAN_LINK)).or(lower);
    }
    Some(Link {
        index,
        name: text(attribute(attrs, libc::IFLA_IFNAME)?),
        flags: u32_at(body, 8)?,
        hardware: u16_at(body, 2)?,
        mtu: number(attrs, libc::IFLA_MTU),
        kind,
        master: number(attrs, libc::IFLA_MASTER),
        // 0: a tunnel that is not bound to a device; its own number: nothing beneath.
        lower: lower.filter(|lower| !elsewhere && *lower != 0 && *lower != index),
        lower_elsewhere: elsewhere,
        forwarding: attribute(attrs, libc::IFLA_AF_SPEC).is_some_and(forwarding),
    })
}

/// `IFLA_AF_SPEC`: by family, the interface's settings as numbers, of which forwarding is the first
/// (`IPV4_DEVCONF_FORWARDING` of `linux/ip.h` counts from 1, `DEVCONF_FORWARDING` of `linux/ipv6.h` from 0).
fn forwarding(families: &[u8]) -> bool {
    const INET_CONF: u16 = 1;
    const INET6_CONF: u16 = 2;
    [(libc::AF_INET, INET_CONF), (libc::AF_INET6, INET6_CONF)].into_iter().any(|(family, settings)| {
        attribute(families, family as u16)
            .and_then(|family| attribute(family, settings))
            .and_then(|numbers| u32_at(numbers, 0))
            .is_some_and(|forwarding| forwarding != 0)
    })
}

/// struct ifaddrmsg (family at 0, length of the prefix at 1, index at 4), then attributes.
fn address(body: &[u8]) -> Option<Address> {
    const IFA_ADDRESS: u16 = 1;
    let family = *body.first()?;
    let attrs = body.get(IFADDRMSG..)?;
    // Of a point-to-point link `IFA_ADDRESS` is the other end.
    let bytes = attribute(attrs, libc::IFA_LOCAL).or_else(|| attribute(attrs, IFA_ADDRESS))?;
    let ip = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        _ => return None,
    };
    Some(Address { index: u32_at(body, 4)?, ip, prefix: *body.get(1)? })
}

/// The interfaces of a route that leads anywhere from anywhere, if it is one: struct rtmsg (lengths of destination
/// and source at 1 and 2, table at 4, type at 7, flags at 8), then attributes.
fn default_route(body: &[u8]) -> Option<Vec<u32>> {
    /// `RTNH_F_DEAD` of `linux/rtnetlink.h`: the link is down.
    const DEAD: u32 = 1;
    /// struct rtnexthop: length at 0, flags at 2, index at 4.
    const RTNEXTHOP: usize = 8;
    let attrs = body.get(RTMSG..)?;
    let number = |kind| attribute(attrs, kind).and_then(|value| u32_at(value, 0));
    let flags = u32_at(body, 8)?;
    let table = number(libc::RTA_TABLE).unwrap_or_else(|| u32::from(body[4]));
    if body[1] != 0
        || body[2] != 0
        || table != u32::from(libc::RT_TABLE_MAIN)
        || body[7] != libc::RTN_UNICAST
        || flags & libc::RTM_F_CLONED != 0
    {
        return None;
    }
    let mut out = Vec::new();
    if flags & DEAD == 0 {
        out.extend(number(libc::RTA_OIF));
    }
    let mut paths = attribute(attrs, libc::RTA_MULTIPATH).unwrap_or_default();
    while let (Some(length), Some(flags), Some(index)) = (u16_at(paths, 0), paths.get(2), u32_at(paths, 4)) {
        if u32::from(*flags) & DEAD == 0 {
            out.push(index);
        }
        let length = usize::from(length).max(RTNEXTHOP).next_multiple_of(4);
        paths = paths.get(length..).unwrap_or_default();
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::netlink::encode_attribute, *};

    fn route(head: [u8; 12], attributes: &[Vec<u8>]) -> Vec<u8> {
        [head.to_vec(), attributes.concat()].concat()
    }

    const MAIN: [u8; 12] = [2, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];

    #[test]
    fn default_routes_with_all_their_paths_and_no_other() {
        let oif = encode_attribute(libc::RTA_OIF, &7u32.to_ne_bytes());
        assert_eq!(default_route(&route(MAIN, std::slice::from_ref(&oif))), Some(vec![7]));
        // Prefix, source, table, type, flags.
        for (at, value) in [(1, 8), (2, 8), (4, 255), (7, 7), (9, 2)] {
            let mut head = MAIN;
            head[at] = value;
            assert_eq!(default_route(&route(head, std::slice::from_ref(&oif))), None, "{at}");
        }
        let other = encode_attribute(libc::RTA_TABLE, &1000u32.to_ne_bytes());
        assert_eq!(default_route(&route(MAIN, &[oif, other])), None);

        let path = |flags, index: u32| [&[8, 0, flags, 0][..], &index.to_ne_bytes()].concat();
        let paths = [path(0, 3), path(1, 4), path(0, 5)].concat();
        let multipath = encode_attribute(libc::RTA_MULTIPATH, &paths);
        assert_eq!(default_route(&route(MAIN, &[multipath])), Some(vec![3, 5]));
    }

    #[test]
    fn only_default_routes_are_worth_a_look() {
        let seen = |kind, prefix: u8| {
            let mut seen = Seen::default();
            seen.add(&Message { kind, body: vec![2, prefix, 0, 0] });
            seen
        };
        assert_eq!(seen(libc::RTM_NEWROUTE, 24), Seen::default());
        assert_eq!(seen(libc::RTM_DELROUTE, 0), Seen { routes: true, ..Seen::default() });
        assert_eq!(seen(libc::RTM_DELADDR, 24), Seen { links: false, ..Seen::ALL });
    }

    #[test]
    fn a_point_to_point_address_is_the_near_end() {
        let attributes =
            [encode_attribute(1, &[192, 0, 2, 9]), encode_attribute(libc::IFA_LOCAL, &[192, 0, 2, 1])];
        let body = [vec![2, 32, 0, 0, 5, 0, 0, 0], attributes.concat()].concat();
        let ip = Ipv4Addr::new(192, 0, 2, 1).into();
        assert_eq!(address(&body), Some(Address { index: u32_at(&body, 4).unwrap(), ip, prefix: 32 }));
    }

    /// In a network namespace of its own, which ends with the thread.
    #[test]
    fn whoever_missed_something_lists_everything() {
        let required = std::env::var_os("WHEREFORE_REQUIRE_BPF").is_some_and(|value| value == "1");
        let heard = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
            let ip = |arguments: &str| {
                std::process::Command::new("ip").args(arguments.split(' ')).status().map(drop)
            };
            let (changes, tight) = (Changes::listen()?, Changes::with_room(1)?);
            ip("link set lo up")?;
            for number in 0..20 {
                ip(&format!("address add 192.0.2.{number}/32 dev lo"))?;
            }
            io::Result::Ok((changes.take()?, changes.take()?, tight.take()?))
        });
        let (heard, again, missed) = match heard.join() {
            Ok(Ok(seen)) => seen,
            other => {
                assert!(!required, "{other:?}");
                eprintln!("skipped: needs root to make a network namespace, and ip: {other:?}");
                return;
            }
        };
        assert!(heard.links && heard.addresses && !heard.routes, "{heard:?}");
        assert!(again.is_nothing(), "{again:?}");
        assert_eq!(missed, Seen::ALL);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (link(&bytes), address(&bytes), default_route(&bytes));
            let _ = default_route(&route(MAIN, &[encode_attribute(libc::RTA_MULTIPATH, &bytes)]));
        }
    }
}
