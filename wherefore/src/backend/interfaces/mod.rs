//! Which interfaces the host has, which of them to watch, and how they come and go.
//!
//! Everything comes from rtnetlink(7), in the network namespace of the calling thread. Not from `/sys/class/net`,
//! which shows the namespace it was mounted in.

mod choose;
mod follow;
mod list;
mod request;
mod stacking;

use std::net::IpAddr;

pub use choose::{Memory, Plan, Verdict, choose};
pub use request::{Pattern, PatternError, Request};

pub(in crate::backend) use follow::{Attach, Follower};
use list::Listing;
pub(in crate::backend) use list::failed;

use super::Error;

/// `ARPHRD_RAWIP` of `linux/if_arp.h`: modems and other devices without a link header.
const ARPHRD_RAWIP: u16 = 519;

/// What a frame of an interface begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkKind {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// The IP header itself: tun, WireGuard, PPP, IP tunnels.
    Ip,
    /// The loopback device; its frames look like Ethernet with zero addresses.
    Loopback,
    /// Another `ARPHRD_` number of `linux/if_arp.h`.
    Other(u16),
}

impl LinkKind {
    /// The kind that a hardware type of `linux/if_arp.h` stands for.
    #[must_use]
    pub const fn from_arphrd(hardware: u16) -> Self {
        match hardware {
            libc::ARPHRD_ETHER => Self::Ethernet,
            libc::ARPHRD_LOOPBACK => Self::Loopback,
            libc::ARPHRD_NONE
            | ARPHRD_RAWIP
            | libc::ARPHRD_PPP
            | libc::ARPHRD_TUNNEL
            | libc::ARPHRD_TUNNEL6
            | libc::ARPHRD_SIT => Self::Ip,
            other => Self::Other(other),
        }
    }
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Number by which the kernel knows it.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Switched on by the administrator (`IFF_UP`); says nothing about the cable.
    pub up: bool,
    /// The loopback device.
    pub loopback: bool,
    /// What its frames begin with.
    pub link: LinkKind,
    /// Addresses with the length of their prefix, in the kernel's order.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Largest IP packet in bytes, where the kernel says.
    pub mtu: Option<u32>,
    /// Carries a default route of the main table, IPv4 or IPv6.
    pub default_route: bool,
    /// Kind of a virtual device (`veth`, `bridge`, …); `None` for hardware and the loopback device.
    pub kind: Option<String>,
    /// The interface it is a port or member of.
    pub master: Option<u32>,
    /// The interface it stands on, or the other end of a veth, where that is in this network namespace.
    pub lower: Option<u32>,
    /// That one is in another network namespace.
    pub lower_elsewhere: bool,
    /// The host passes packets that arrive here on to other interfaces.
    pub forwarding: bool,
}

impl Interface {
    fn is_kind(&self, kinds: &[&str]) -> bool {
        self.kind.as_deref().is_some_and(|kind| kinds.contains(&kind))
    }
}

/// All interfaces of the calling thread's network namespace, by index.
///
/// # Errors
/// [`Error::System`] when the kernel does not list them.
pub fn list() -> Result<Vec<Interface>, Error> {
    Ok(Listing::new().map_err(|error| failed(&error))?.interfaces())
}

/// What the rule says about the interfaces of the calling thread's network namespace as they are now.
///
/// # Errors
/// As [`list`].
pub fn plan(request: &Request) -> Result<Plan, Error> {
    Ok(choose(&list()?, request, &Memory::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_loopback_device() {
        let all = list().unwrap();
        let lo = all.iter().find(|i| i.loopback).unwrap();
        assert_eq!((lo.name.as_str(), lo.link, lo.default_route), ("lo", LinkKind::Loopback, false));
        assert!(lo.index > 0 && lo.mtu.is_some());
        if lo.up {
            assert!(lo.addresses.contains(&(IpAddr::from([127, 0, 0, 1]), 8)), "{:?}", lo.addresses);
        }
    }
}
