//! Word of what changes about links, addresses, routes and forwarding, by rtnetlink(7).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use super::netlink::{Listener, Message, attribute};

/// Which lists are no longer true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The links.
    pub links: bool,
    /// The addresses.
    pub addresses: bool,
    /// The default routes.
    pub routes: bool,
    /// The nexthop objects, by which default routes may lead.
    pub nexthops: bool,
}

impl Seen {
    /// All of them.
    pub const ALL: Self = Self { links: true, addresses: true, routes: true, nexthops: true };

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
            nexthops: self.nexthops | other.nexthops,
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
            // One that goes takes IPv4 routes along without a word.
            RTM_NEWNEXTHOP | RTM_DELNEXTHOP => self.nexthops = true,
            // Forwarding is told with the link; other settings do not matter.
            RTM_NEWNETCONF => {
                let settings = message.body.get(NETCONFMSG..).unwrap_or_default();
                self.links |= attribute(settings, NETCONFA_FORWARDING).is_some();
            }
            _ => {}
        }
    }
}

/// Of `linux/rtnetlink.h`.
const RTM_NEWNETCONF: u16 = 80;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
/// Of `linux/netconf.h`; struct netconfmsg is the family, with three bytes of padding.
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFMSG: usize = 4;

/// The bit of a multicast group (`RTNLGRP_…` of `linux/rtnetlink.h`) that has no `RTMGRP_…`.
const fn group(number: u32) -> u32 {
    1 << (number - 1)
}
const RTNLGRP_IPV4_NETCONF: u32 = 24;
const RTNLGRP_IPV6_NETCONF: u32 = 25;
/// Kernels before 5.3 have no such group, and ignore the bit.
const RTNLGRP_NEXTHOP: u32 = 32;

/// Bytes of messages that may wait. A thousand new interfaces are some 2 MB.
const WAITING: usize = 4 << 20;

/// Hears of changes in the network namespace of the thread that made it, whoever asks.
pub struct Changes(Listener);

impl Changes {
    /// Of links, addresses, routes and forwarding. Listened to from now on: whoever lists afterwards misses nothing.
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
        let newer = [RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF, RTNLGRP_NEXTHOP];
        let groups = newer.into_iter().fold(groups.cast_unsigned(), |groups, number| groups | group(number));
        Listener::open(groups, waiting).map(Self)
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

#[cfg(test)]
mod tests {
    use super::{super::netlink::encode_attribute, *};

    #[test]
    fn only_default_routes_are_worth_a_look() {
        let seen = |kind, prefix: u8| {
            let mut seen = Seen::default();
            seen.add(&Message { kind, body: vec![2, prefix, 0, 0] });
            seen
        };
        assert_eq!(seen(libc::RTM_NEWROUTE, 24), Seen::default());
        assert_eq!(seen(libc::RTM_DELROUTE, 0), Seen { routes: true, ..Seen::default() });
        assert_eq!(seen(libc::RTM_DELADDR, 24), Seen { addresses: true, routes: true, ..Seen::default() });
    }

    #[test]
    fn of_an_interface_s_settings_only_forwarding_matters() {
        let seen = |setting: u16| {
            let mut seen = Seen::default();
            let attributes = [(1u16, 7u32), (setting, 1)]
                .map(|(kind, value)| encode_attribute(kind, &value.to_ne_bytes()));
            seen.add(&Message {
                kind: RTM_NEWNETCONF,
                body: [vec![2, 0, 0, 0], attributes.concat()].concat(),
            });
            seen
        };
        assert_eq!(seen(NETCONFA_FORWARDING), Seen { links: true, ..Seen::default() });
        // `NETCONFA_RP_FILTER`.
        assert_eq!(seen(3), Seen::default());
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
}
