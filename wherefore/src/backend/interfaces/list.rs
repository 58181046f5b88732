//! The interfaces as rtnetlink lists them, put together, and kept current list by list.

use std::io;

use super::{Interface, LinkKind};
use crate::{
    backend::{
        Error,
        probe::{Address, DefaultRoutes, Link, Routing, Seen},
    },
    locality::HostAddresses,
};

/// What the kernel listed last.
#[derive(Debug, Default)]
pub(super) struct Listing {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: DefaultRoutes,
}

impl Listing {
    /// Everything, of the calling thread's network namespace.
    pub fn new() -> io::Result<Self> {
        let mut this = Self::default();
        this.renew(Seen::ALL)?;
        Ok(this)
    }

    /// Lists anew what is no longer true. A router's table of a million routes takes the kernel a second to list, so
    /// that is done only when a default route, an address, a link, or a nexthop object of a default route went.
    pub fn renew(&mut self, mut seen: Seen) -> io::Result<()> {
        let routing = Routing::open()?;
        if seen.links {
            let links = routing.links()?;
            // With a link that goes down the kernel drops its IPv4 routes without a word.
            seen.routes |= states(&links) != states(&self.links);
            self.links = links;
        }
        seen.routes |= seen.nexthops && self.routes.by_nexthop;
        if seen.addresses {
            self.addresses = routing.addresses()?;
        }
        if seen.routes {
            self.routes = routing.default_routes()?;
        }
        Ok(())
    }

    /// By index.
    pub fn interfaces(&self) -> Vec<Interface> {
        self.links.iter().map(|link| self.interface(link)).collect()
    }

    fn interface(&self, link: &Link) -> Interface {
        let addresses = self.addresses.iter().filter(|address| address.index == link.index);
        let loopback = has(link, libc::IFF_LOOPBACK);
        Interface {
            index: link.index,
            name: link.name.clone(),
            up: has(link, libc::IFF_UP),
            loopback,
            link: LinkKind::from_arphrd(link.hardware),
            addresses: addresses.map(|address| (address.ip, address.prefix)).collect(),
            mtu: link.mtu,
            // Unreachable destinations are routed to the loopback device.
            default_route: !loopback && self.routes.interfaces.contains(&link.index),
            kind: link.kind.clone(),
            master: link.master,
            lower: link.lower,
            lower_elsewhere: link.lower_elsewhere,
            forwarding: link.forwarding,
        }
    }

    /// The addresses of all interfaces.
    pub fn host_addresses(&self) -> HostAddresses {
        HostAddresses::new(self.addresses.iter().map(|address| (address.ip, address.prefix)))
    }
}

fn has(link: &Link, flag: libc::c_int) -> bool {
    link.flags & flag.cast_unsigned() != 0
}

fn states(links: &[Link]) -> Vec<(u32, bool)> {
    links.iter().map(|link| (link.index, has(link, libc::IFF_UP))).collect()
}

/// The error of a kernel that does not list its interfaces.
pub(in crate::backend) fn failed(error: &io::Error) -> Error {
    Error::System { action: "listing the network interfaces".into(), reason: error.to_string() }
}
