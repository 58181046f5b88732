//! Links, addresses and default routes as rtnetlink(7) lists them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use nix::sys::socket::SockProtocol;

use super::{
    netlink::{Ask, Socket, attribute, text, u16_at, u32_at},
    routes::{self, DefaultRoutes, default_route},
};

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

    /// One link; none has that number: `None`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn link(&self, index: u32) -> io::Result<Option<Link>> {
        let mut request = [0; IFINFOMSG];
        request[4..8].copy_from_slice(&index.to_ne_bytes());
        match self.0.ask(libc::RTM_GETLINK, Ask::One, &request) {
            Ok(answer) => Ok(answer.first().and_then(|message| link(&message.body))),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The default routes of the main table, with all paths of each.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn default_routes(&self) -> io::Result<DefaultRoutes> {
        let answer = self.0.ask(libc::RTM_GETROUTE, Ask::All, &[0; RTMSG])?;
        let listed = answer.iter().filter(|message| message.kind == libc::RTM_NEWROUTE);
        let listed: Vec<_> = listed.filter_map(|message| default_route(&message.body)).collect();
        let nexthops = if listed.iter().any(|route| route.is_by_nexthop_alone()) {
            self.0.ask(routes::RTM_GETNEXTHOP, Ask::All, &[0; NHMSG])?
        } else {
            Vec::new()
        };
        Ok(DefaultRoutes::new(&listed, nexthops.iter().map(|message| message.body.as_slice())))
    }
}

/// Lengths of struct ifinfomsg, ifaddrmsg and rtmsg of `linux/rtnetlink.h`, and of struct nhmsg of `linux/nexthop.h`.
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
pub(super) const RTMSG: usize = 12;
pub(super) const NHMSG: usize = 8;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::netlink::encode_attribute, *};

    #[test]
    fn a_point_to_point_address_is_the_near_end() {
        let attributes =
            [encode_attribute(1, &[192, 0, 2, 9]), encode_attribute(libc::IFA_LOCAL, &[192, 0, 2, 1])];
        let body = [vec![2, 32, 0, 0, 5, 0, 0, 0], attributes.concat()].concat();
        let ip = Ipv4Addr::new(192, 0, 2, 1).into();
        assert_eq!(address(&body), Some(Address { index: u32_at(&body, 4).unwrap(), ip, prefix: 32 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (link(&bytes), address(&bytes));
        }
    }
}
